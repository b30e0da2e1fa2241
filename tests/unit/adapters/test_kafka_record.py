"""What becomes of a record of Kafka, with what others may have written into its headers."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from orchestrator.adapters.kafka_log import PRODUCER, record_of

Headers = tuple[tuple[str, bytes | None], ...]


class Taken(NamedTuple):
    """A record as aiokafka gives it."""

    headers: Headers
    partition: int = 2
    offset: int = 7
    timestamp: int = 1_772_000_000_000
    key: bytes = b"c1"
    value: bytes = b"{}"


@pytest.mark.parametrize(
    ("headers", "producer", "left"),
    [
        ((), "", ()),
        (((PRODUCER, b"shop"),), "shop", ()),
        (((PRODUCER, b"(engine)"),), "(engine)", ()),
        ((("ce_id", b"e1"), (PRODUCER, b"shop"), ("trace", b"1")), "shop", (("ce_id", b"e1"), ("trace", b"1"))),
        ((("producer", b"shop"),), "", (("producer", b"shop"),)),
        (((PRODUCER, b""),), "", ()),
        (((PRODUCER, None),), "", ()),
        (((PRODUCER, b"two\nlines"),), "", ()),
        (((PRODUCER, b"shop\n"),), "", ()),
        (((PRODUCER, b"\xff\xfe"),), "", ()),
        (((PRODUCER, b"(direct)"),), "", ()),
        (((PRODUCER, b"k" * 65),), "", ()),
    ],
)
def test_the_producer_is_a_name_or_nobody(headers: Headers, producer: str, left: Headers) -> None:
    record = record_of(Taken(headers))
    assert (record.producer, record.headers) == (producer, left)
    assert (record.partition, record.offset, record.stamp_ms) == (2, 7, 1_772_000_000_000)
