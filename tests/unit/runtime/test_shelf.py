"""The shelf: what the records of ``journey.rulebooks`` say, in whatever form compaction has left them."""

from __future__ import annotations

import zlib
from dataclasses import replace

import msgspec
import pytest

from orchestrator.errors import RulebookRefused
from orchestrator.rulebook.load import Loaded, load_rulebook_files
from orchestrator.runtime.ports import RULEBOOKS, Outgoing, Record
from orchestrator.runtime.shelf import ACTIVATIONS_MAX, FILES_BYTES_MAX, SWITCH_WITHIN_MS, Shelf

PLAN = b"""
events:
  lead_submitted: {properties: {lead_id: string}}
  lead_won: {}
consents: {marketing: Offers}
"""
CONNECTORS = b"""
connectors:
  sms: {type: webhook, kind: sms, settings: {url: "http://127.0.0.1:1"}}
"""
JOURNEY = """
journey: lead
title: Lead
stages:
  new: {on: {event: lead_submitted}}
  won: {on: {event: lead_won}, goal: true}
rules:
  - id: nudge
    title: Nudge
    on: {event: lead_submitted}
    when: {count: lead_submitted, within: %s, op: gte, value: 2}
    do: [{send: {connector: sms, params: {text: hello}}}]
    limits: {consent: [marketing]}
"""


def version(window: str) -> Loaded:
    files = {"tracking_plan.yaml": PLAN, "connectors.yaml": CONNECTORS, "lead.yaml": (JOURNEY % window).encode()}
    loaded = load_rulebook_files(files)
    assert loaded.ok, loaded.problems
    return loaded


WEEK, MONTH = version("7d"), version("30d")
[WEEKLY], [MONTHLY] = WEEK.aggregates, MONTH.aggregates


class Topic:
    """Appends records with the next offset and a stamp of the test's choice, and shows them to shelves."""

    def __init__(self, *shelves: Shelf) -> None:
        self.shelves = shelves
        self.records: list[Record] = []

    def append(self, outgoing: Outgoing, stamp_ms: int) -> None:
        assert outgoing.topic == RULEBOOKS
        self.records.append(Record(0, len(self.records), stamp_ms, outgoing.key, outgoing.value))
        for shelf in self.shelves:
            shelf.apply(self.records[-1])

    def publish(self, loaded: Loaded, stamp_ms: int) -> None:
        shelf = self.shelves[0]
        self.append(shelf.edition(loaded, author="ann", note="why"), stamp_ms)
        self.append(shelf.activation(loaded.version, author="ann"), stamp_ms)

    def compacted(self) -> list[Record]:
        newest = {record.key: record for record in self.records}
        return sorted(newest.values(), key=lambda record: record.offset)


def test_an_empty_shelf_has_no_versions_and_none_in_force() -> None:
    shelf = Shelf("default")
    assert (shelf.published(), shelf.active, shelf.find("v")) == ([], None, None)


def test_a_published_version_has_its_files_author_note_and_stamp() -> None:
    shelf = Shelf("default")
    Topic(shelf).publish(WEEK, 1_000)
    [published] = shelf.published()
    assert published.files() == WEEK.files
    assert replace(published, packed=b"", aggregates=()) == replace(
        published,
        version=WEEK.version,
        published_at_ms=1_000,
        author="ann",
        note="why",
        journeys=("lead",),
        packed=b"",
        aggregates=(),
    )
    assert shelf.active is not None
    assert (shelf.active.version, shelf.active.since_ms, shelf.active.author) == (WEEK.version, 1_000, "ann")


def test_an_edition_alone_is_not_in_force() -> None:
    shelf = Shelf("default")
    Topic(shelf).append(shelf.edition(WEEK, author="", note=""), 1_000)
    assert shelf.active is None
    assert shelf.find(WEEK.version) is not None


def test_the_first_version_has_kept_its_aggregates_from_the_beginning() -> None:
    shelf = Shelf("default")
    Topic(shelf).publish(WEEK, 1_000)
    assert shelf.active is not None
    assert shelf.active.aggregates_since == {WEEKLY.name: 0}


@pytest.mark.parametrize(
    ("history", "since"),
    [
        ([(WEEK, 1_000), (MONTH, 5_000)], {MONTHLY.name: 5_000 + SWITCH_WITHIN_MS}),
        ([(WEEK, 1_000), (WEEK, 5_000)], {WEEKLY.name: 0}),
        ([(WEEK, 1_000), (MONTH, 5_000), (MONTH, 9_000)], {MONTHLY.name: 5_000 + SWITCH_WITHIN_MS}),
        ([(WEEK, 1_000), (MONTH, 5_000), (WEEK, 9_000)], {WEEKLY.name: 9_000 + SWITCH_WITHIN_MS}),
    ],
    ids=["new", "kept", "kept since it was new", "interrupted"],
)
def test_an_aggregate_is_kept_since_it_last_came_into_force_without_a_gap(
    history: list[tuple[Loaded, int]], since: dict[str, int]
) -> None:
    shelf = Shelf("default")
    topic = Topic(shelf)
    for loaded, stamp_ms in history:
        topic.publish(loaded, stamp_ms)
    assert shelf.active is not None
    assert shelf.active.aggregates_since == since


def test_a_reader_of_the_compacted_topic_comes_to_the_same_shelf() -> None:
    writer = Shelf("default")
    topic = Topic(writer)
    for loaded, stamp_ms in ((WEEK, 1_000), (MONTH, 5_000), (WEEK, 9_000), (MONTH, 12_000)):
        topic.publish(loaded, stamp_ms)
    reader = Shelf("default")
    for record in topic.compacted():
        reader.apply(record)
    assert len(topic.compacted()) == 3
    assert reader.active == writer.active
    assert {one.version: one.files() for one in reader.published()} == {
        one.version: one.files() for one in writer.published()
    }


def test_a_record_that_is_read_twice_changes_nothing() -> None:
    shelf = Shelf("default")
    topic = Topic(shelf)
    topic.publish(WEEK, 1_000)
    topic.publish(MONTH, 2_000)
    for record in topic.records:
        shelf.apply(record)
    assert shelf.active is not None
    assert shelf.active.version == MONTH.version


def test_publishing_again_keeps_the_first_stamp() -> None:
    shelf = Shelf("default")
    topic = Topic(shelf)
    topic.publish(WEEK, 1_000)
    topic.publish(MONTH, 2_000)
    topic.publish(WEEK, 3_000)
    assert [(one.version, one.published_at_ms) for one in shelf.published()] == [
        (MONTH.version, 2_000),
        (WEEK.version, 1_000),
    ]


def test_workspaces_do_not_see_each_other() -> None:
    one, other, default = Shelf("one"), Shelf("other"), Shelf("default")
    topic = Topic(one, other, default)
    topic.publish(WEEK, 1_000)
    assert [one.key for one in topic.records] == [f"one:{WEEK.version}".encode(), b"one:active"]
    assert one.active is not None
    assert (other.active, default.active, other.published(), default.published()) == (None, None, [], [])


def test_the_version_of_the_watched_folder_is_carried_on() -> None:
    shelf = Shelf("default")
    topic = Topic(shelf)
    topic.append(shelf.edition(WEEK, author="folder", note=""), 1_000)
    topic.append(shelf.activation(WEEK.version, author="folder", folder=WEEK.version), 1_000)
    topic.publish(MONTH, 2_000)
    assert shelf.active is not None
    assert (shelf.active.version, shelf.active.folder) == (MONTH.version, WEEK.version)


@pytest.mark.parametrize(
    "value",
    [
        b"no such thing",
        zlib.compress(b"no msgpack"),
        zlib.compress(msgspec.msgpack.encode({"version": "never-published"})),
        zlib.compress(bytes(3 * FILES_BYTES_MAX)),
    ],
    ids=["not compressed", "not msgpack", "an activation of nothing", "a bomb"],
)
def test_a_record_that_makes_no_sense_is_reported_and_changes_nothing(
    value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf("default")
    topic = Topic(shelf)
    topic.publish(WEEK, 1_000)
    topic.append(Outgoing(RULEBOOKS, b"active", value), 2_000)
    topic.append(Outgoing(RULEBOOKS, b"0123456789ab", value[:-4]), 2_000)
    assert shelf.active is not None
    assert shelf.active.version == WEEK.version
    assert len(shelf.published()) == 1
    assert [one.getMessage().partition(":")[0] for one in caplog.records] == [
        "record 2 of journey.rulebooks cannot be used, the rulebook in force stays",
        "record 3 of journey.rulebooks cannot be used, the rulebook in force stays",
    ]


def test_files_that_are_too_large_are_refused() -> None:
    large = replace(WEEK, files={"large.yaml": bytes(FILES_BYTES_MAX + 1)})
    with pytest.raises(RulebookRefused) as refused:
        Shelf("default").edition(large, author="", note="")
    assert str(refused.value) == (
        "The files have 6000001 bytes together; a version has at most 6000000. Leave out what is no rule."
    )


def told(shelf: Shelf) -> list[tuple[str, int, dict[str, int]]]:
    return [(one.version, one.since_ms, dict(one.aggregates_since)) for one in shelf.activations()]


def test_what_was_in_force_before_is_remembered_through_compaction() -> None:
    """Compaction leaves one activation; it tells of those before it, and from when each version counted what."""
    shelf = Shelf("default")
    topic = Topic(shelf)
    for loaded, stamp_ms in ((WEEK, 1_000), (MONTH, 5_000), (WEEK, 9_000), (MONTH, 12_000)):
        topic.publish(loaded, stamp_ms)
    expected = [
        (WEEK.version, 1_000, {WEEKLY.name: 0}),
        (MONTH.version, 5_000, {MONTHLY.name: 5_000 + SWITCH_WITHIN_MS}),
        (WEEK.version, 9_000, {WEEKLY.name: 9_000 + SWITCH_WITHIN_MS}),
        (MONTH.version, 12_000, {MONTHLY.name: 12_000 + SWITCH_WITHIN_MS}),
    ]
    assert told(shelf) == expected
    late = Shelf("default")
    for record in topic.compacted():
        late.apply(record)
    assert told(late) == expected


def test_activations_of_an_earlier_release_count_as_far_as_the_topic_still_has_them() -> None:
    shelf = Shelf("default")
    topic = Topic(shelf)
    topic.publish(WEEK, 1_000)
    bare = zlib.compress(msgspec.msgpack.encode({"version": WEEK.version, "since": {WEEKLY.name: 0}}))
    topic.append(Outgoing(RULEBOOKS, b"active", bare), 2_000)
    topic.publish(MONTH, 5_000)
    assert [(version, at_ms) for version, at_ms, _ in told(shelf)] == [
        (WEEK.version, 1_000),
        (WEEK.version, 2_000),
        (MONTH.version, 5_000),
    ]


def test_of_very_many_activations_the_newest_are_remembered() -> None:
    shelf = Shelf("default")
    topic = Topic(shelf)
    topic.publish(WEEK, 1)
    for number in range(2, ACTIVATIONS_MAX + 10):
        topic.append(shelf.activation(WEEK.version, author="ann"), number)
    assert [at_ms for _, at_ms, _ in told(shelf)] == list(range(9, ACTIVATIONS_MAX + 10))
