"""Ids, fuzzed: hostile ones in every place where one can stand, and merges of every shape in every order.

What a door takes, the core decides; and what the core emits, the worker that reads it takes, whatever was named and
however large. Nobody but who may makes one customer of two known people, and no graph of aliases loses anybody.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.decide import decide
from orchestrator.core.event import Event
from orchestrator.core.identity import CARRIED_BYTES_MAX
from orchestrator.core.state import CustomerState, decode_state, encode_state
from orchestrator.errors import EventRefused
from orchestrator.runtime.intake import HttpIntake, Intake, Limits, encode_event
from orchestrator.runtime.ports import Record
from tests.fuzz.test_intake import assert_refusal
from tests.simulation import test_merge_graphs as graphs
from tests.simulation.merge_world import IDS, START_MS, ids, loaded, rulebook

Effort = Callable[[int], settings]
NEIGHBOURS = ("acme", "globex")

GOOD = [*IDS, "c-1042", "Jürgen", "a|b/c:d", "x" * 200, "\U0001f600" * 200, '"' * 200, "\\" * 200, "a b", "\u202ex"]
BAD = [
    *("", " ", "\t", "a\u0001", "a\x00b", "\x1f", "\x7f", "x\n", "x" * 201, "\U0001f600" * 201),
    *("acme:c1", "acme:", "globex:acme:x", "undefined", "NULL", "None", "nan", "[object Object]", " guest ", "0"),
    *("00000000-0000-0000-0000-000000000000", "Anonymous", None, 7, 1.5, True, [], {}, ["a"], {"a": 1}),
]
NUMBERS = [1e15, 1e-7, 5e-324, 1.7976931348623157e308, 2**62]
values = st.one_of(
    st.sampled_from([*GOOD, *BAD, *NUMBERS]),
    st.text(max_size=6),
    st.tuples(st.sampled_from(NUMBERS), st.integers(1, 1_500)).map(lambda pair: [pair[0]] * pair[1]),
    st.integers(28_000, 32_000).map(lambda size: "x" * size),
)
some_id = st.sampled_from(GOOD) | st.sampled_from([*GOOD, *BAD])


@st.composite
def sent_events(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A route and an event for it, with ids of every kind in every place that can have one."""
    one, other, third = draw(some_id), draw(some_id), draw(some_id)
    named = {"previous_id": other, "into": third, "asked": other, "by": other, "x": draw(values)}
    properties = draw(st.fixed_dictionaries({}, optional={key: st.just(value) for key, value in named.items()}))
    keys = {"anonymous_id": other, "user_id": third, "anonymousId": other, "granted": "x", "via": "x"}
    context = draw(st.fixed_dictionaries({}, optional={key: st.just(value) for key, value in keys.items()}))
    kind = draw(
        st.sampled_from(["alias", "identify", "failed", "merge_requested", "profile_merged", "customer_erased"])
    )
    form = draw(st.sampled_from(["normal", "normal", "cloud", "segment"]))
    event_id = draw(st.sampled_from(["e1", "e2", "e3", "merge_requested:1", "profile_merged:1"]))
    own = draw(st.fixed_dictionaries({}, optional={"granted": st.just("me"), "via": st.just("a")}))
    match form:
        case "normal":
            event = {"id": event_id, "type": kind, "customer_id": one, "occurred_at": START_MS, **own}
            return "/v1/events", {**event, "properties": properties, "context": context}
        case "cloud":
            event = {"specversion": "1.0", "id": event_id, "source": "/f", "type": kind, "subject": one}
            return "/v1/events", {**event, **context, "data": properties}
    call = draw(st.sampled_from(["alias", "identify", "track", "page", "group"]))
    event = {"type": call, "messageId": event_id, "event": kind, "traits": properties, "properties": properties, **own}
    ids_sent = {"userId": one, "anonymousId": other, "previousId": third, "groupId": "g"}
    chosen = draw(st.fixed_dictionaries({}, optional={key: st.just(value) for key, value in ids_sent.items()}))
    return f"/v1/{call}", {**event, **chosen, "context": context}


def admitted(http: HttpIntake, route: str, event: dict[str, Any], granted: str, now_ms: int) -> list[Record]:
    body = json.dumps(event).encode()
    try:
        if route == "/v1/events":
            parcel = http.events(body, [("content-type", b"application/json")], now_ms, granted)
        else:
            parcel = http.call(route.removeprefix("/v1/"), body, now_ms, granted)
        admission = parcel.admission()
    except EventRefused as refused:
        assert_refusal(refused)
        return []
    for each in admission.refused:
        assert_refusal(each.error)
    return [Record(0, 0, now_ms, record.key, record.value) for record in admission.records]


def _large(size: int) -> CustomerState:
    return CustomerState(first_seen_ms=1, known=False, traits={"about": ("\u00e9" * (size // 2), 1)})


class Engine:
    """One worker over all ids; what it emits it reads again, as every worker would."""

    def __init__(self, states: dict[str, CustomerState] | None = None) -> None:
        self.intake = Intake(loaded().plan, "default", Limits(), NEIGHBOURS)
        self.states = dict(states or {})
        self.emitted = 0

    def take(self, record: Record) -> None:
        waiting = self.intake.events_from_record(record)
        while waiting:
            event = waiting.pop(0)
            state = self.states.get(event.customer_id) or CustomerState()
            decision = decide(rulebook(), state, event, record.stamp_ms)
            self.states[event.customer_id] = decode_state(encode_state(decision.state))
            waiting += [self.read_again(one, record.stamp_ms) for one in decision.events]

    def read_again(self, event: Event, stamp_ms: int) -> Event:
        self.emitted += 1
        assert self.emitted < 10_000, "the engine never comes to rest"
        key = self.intake.key(event.customer_id)
        assert not key.startswith(tuple(f"{one}:".encode() for one in NEIGHBOURS)), key
        return self.intake.from_record(Record(0, 0, stamp_ms, key, encode_event(event)))


def test_what_the_engine_makes_of_what_a_door_takes_it_takes_itself(effort: Effort) -> None:
    emitted = 0

    @effort(200)
    @given(
        sent=st.lists(st.tuples(sent_events(), st.sampled_from(["", "ops"])), min_size=1, max_size=8),
        # Large states take their time, so only some examples have them.
        size=st.sampled_from([*[None] * 15, -2_000, -1, 0, 1, 2_000]),
    )
    def holds(sent: list[tuple[tuple[str, dict[str, Any]], str]], size: int | None) -> None:
        nonlocal emitted
        large = [] if size is None else [IDS[0], GOOD[11]]
        engine = Engine({one: _large(CARRIED_BYTES_MAX + (size or 0)) for one in large})
        http = HttpIntake(engine.intake)
        for number, ((route, event), granted) in enumerate(sent):
            for record in admitted(http, route, event, granted, START_MS + number):
                engine.take(record)
        emitted += engine.emitted

    holds()
    assert emitted > 20


def test_an_event_on_the_topic_is_taken_or_refused_and_what_follows_is_taken(effort: Effort) -> None:
    """Who writes to the topic may say whatever the engine says, and still nothing of it comes back refused."""

    @effort(200)
    @given(sent=st.lists(sent_events(), min_size=1, max_size=8))
    def holds(sent: list[tuple[str, dict[str, Any]]]) -> None:
        engine = Engine()
        for number, (_, event) in enumerate(sent):
            value = json.dumps(event).encode()
            names = [event.get(name) for name in ("customer_id", "subject", "userId", "anonymousId")]
            for name in dict.fromkeys(one for one in names if isinstance(one, str)):
                try:
                    engine.take(Record(0, 0, START_MS + number, name.encode(), value))
                except EventRefused as refused:
                    assert_refusal(refused)

    holds()


# --------------------------------------------------------------------------------------------------------- merges


def test_any_graph_of_aliases_ends_in_one_customer(effort: Effort) -> None:
    effort(60)(given(story=graphs.stories(), partitions=st.integers(1, 4))(graphs.ends_in_one))()


def test_erasures_among_merges_leave_no_ring(effort: Effort) -> None:
    story = graphs.stories(ids.map(lambda one: ("erase", one)))
    effort(60)(given(story=story)(graphs.leaves_no_ring))()


def test_an_erasure_reaches_the_whole_customer(effort: Effort) -> None:
    effort(60)(given(story=graphs.stories(), erased=ids)(graphs.reaches_all))()


def test_a_write_key_takes_nobody_over(effort: Effort) -> None:
    effort(60)(given(story=st.lists(graphs.HOSTILE, max_size=40))(graphs.takes_nobody_over))()


# -------------------------------------------------------------------------------------------------- the whole engine


@pytest.fixture(scope="module")
def client(engine: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=engine.url, timeout=30) as connected:
        yield connected


def refused_by_worker(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    counts = [line for line in lines if line.startswith("journey_events_refused_total{") and 'origin="worker"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in counts)


def test_a_gateway_answers_to_any_id_and_its_worker_refuses_nothing_of_it(client: httpx.Client, effort: Effort) -> None:
    refused = refused_by_worker(client)

    @effort(60)
    @given(sent=sent_events())
    def answers(sent: tuple[str, dict[str, Any]]) -> None:
        route, event = sent
        answer = client.post(route, json=event)
        assert answer.status_code in {200, 202, 400, 413}, answer.text
        assert answer.is_success or answer.json()["detail"]

    answers()
    # In the embedded log a worker reads what comes last after all else.
    last = {"id": "last", "type": "page", "customer_id": "who-comes-last", "occurred_at": START_MS, "properties": {}}
    assert client.post("/v1/events", json=last).status_code == 202
    known = (client.get("/v1/customers/who-comes-last").status_code for _ in range(2_000))
    assert any(status == 200 for status in known), "the worker has stopped"
    assert refused_by_worker(client) == refused
