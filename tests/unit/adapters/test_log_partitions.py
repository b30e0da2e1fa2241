"""Partitions of keys, and refusals of positions."""

from __future__ import annotations

import pytest

from orchestrator.adapters.log_partitions import Partitions, check_position
from orchestrator.errors import ConfigurationError, PositionLost


@pytest.mark.parametrize(
    ("counts", "topic", "count"), [(3, "any", 3), ({"a": 4}, "a", 4), ({"a": 4}, "b", 1), ({}, "a", 1)]
)
def test_a_number_holds_for_all_topics_and_a_mapping_for_those_it_names(
    counts: dict[str, int] | int, topic: str, count: int
) -> None:
    assert Partitions(counts).count(topic) == count


@pytest.mark.parametrize("counts", [0, -1, {"a": 0}])
def test_a_topic_has_at_least_one_partition(counts: dict[str, int] | int) -> None:
    with pytest.raises(ConfigurationError, match=r"^A topic cannot have -?\d partitions; give it 1 or more\.$"):
        Partitions(counts)


def test_the_partition_of_a_key_is_fixed_for_good() -> None:
    partitions = Partitions(8)
    assert [partitions.of_key("t", key) for key in (b"", b"customer-1", b"customer-2", b"\xff")] == [0, 5, 7, 0]


def test_keys_spread_evenly_over_partitions() -> None:
    partitions = Partitions(8)
    taken = [partitions.of_key("t", f"customer-{n}".encode()) for n in range(8_000)]
    assert all(800 < taken.count(partition) < 1_200 for partition in range(8))


@pytest.mark.parametrize("offset", [5, 7, 9])
def test_every_offset_from_the_first_to_the_end_is_a_position(offset: int) -> None:
    assert check_position("t", 0, offset, first=5, end=9) is None


@pytest.mark.parametrize(("offset", "because"), [(4, "is out of retention"), (10, "lies beyond the end of the log")])
def test_other_offsets_are_lost_positions(offset: int, because: str) -> None:
    with pytest.raises(PositionLost, match=rf"^Offset {offset} of t, partition 0, {because}"):
        check_position("t", 0, offset, first=5, end=9)
