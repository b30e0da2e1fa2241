"""A world of merges: ids on several partitions, whose workers read, publish and crash in any order.

The states are the core's and what travels goes through the real codec and intake; only the workers are told step by
step, so that every order of reading and publishing can be tried. A crash is one between publishing and trimming: the
outbox is published again.
"""

from __future__ import annotations

import textwrap
from collections import defaultdict, deque
from collections.abc import Iterable
from functools import lru_cache

from hypothesis import strategies as st

from orchestrator.core.decide import decide
from orchestrator.core.decision import DecisionRecord
from orchestrator.core.event import Event
from orchestrator.core.reason import Reason
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.state import CustomerState, decode_state, encode_state
from orchestrator.rulebook.load import Loaded, load_rulebook_files
from orchestrator.runtime.intake import Intake, Limits, encode_event
from orchestrator.runtime.ports import Record
from orchestrator.runtime.rulebooks import compile_loaded

START_MS = 1_772_425_800_000
IDS = ("a", "b", "c", "d", "e", "f")
FILES = {
    "tracking_plan.yaml": """
        events: {failed: {}}
        traits: {plan: string}
        consents: {service: Service}
    """,
    "connectors.yaml": """
        connectors: {push: {type: webhook, kind: push, settings: {url: "http://127.0.0.1:1/push"}}}
    """,
    "templates.yaml": """
        templates: {note: {kind: push, params: {title: "hello"}}}
    """,
    "rules.yaml": """
        journey: care
        title: Counts what fails
        stages: {begun: {on: {event: failed}}}
        rules:
          - id: help
            title: Help
            on: {event: failed}
            when: {count: failed, within: 30d, op: gte, value: 500}
            do: [{send: {connector: push, template: note}}]
            limits: {consent: [service]}
    """,
}


@lru_cache
def loaded() -> Loaded:
    loaded = load_rulebook_files({name: textwrap.dedent(text).encode() for name, text in FILES.items()})
    assert loaded.ok, loaded.problems
    return loaded


@lru_cache
def rulebook() -> Rulebook:
    return compile_loaded(loaded(), "default")


class MergeWorld:
    """Ids, spread over partitions in their order; ``queues`` are what the partitions' workers have not read yet."""

    def __init__(self, partitions: int = 3) -> None:
        self.states: dict[str, CustomerState] = {}
        self.queues: list[deque[Record]] = [deque() for _ in range(partitions)]
        self.outboxes: list[list[Event]] = [[] for _ in range(partitions)]
        self.records: list[DecisionRecord] = []
        self.facts: defaultdict[str, list[int]] = defaultdict(list)
        self._intake = Intake(loaded().plan, "default", Limits())
        self._appended = 0
        self._ticks = True

    def stop_the_clock(self) -> None:
        """Let everything from here on happen at one moment, so that worlds that differ by nothing else are equal."""
        self._ticks = False

    def fingerprint(self) -> tuple[object, ...]:
        """Return what tells worlds apart whose clocks have stopped."""
        states = frozenset((one, encode_state(state)) for one, state in self.states.items())
        queues = tuple(tuple(record.value for record in queue) for queue in self.queues)
        return states, queues, tuple(tuple(one.id for one in outbox) for outbox in self.outboxes)

    def copy(self) -> MergeWorld:
        """Return a world that goes its own way from here on."""
        other = MergeWorld(len(self.queues))
        other.states = self.states.copy()
        other.queues = [queue.copy() for queue in self.queues]
        other.outboxes = [outbox.copy() for outbox in self.outboxes]
        other.records = self.records.copy()
        other.facts = defaultdict(list, {one: facts.copy() for one, facts in self.facts.items()})
        other._appended, other._ticks = self._appended, self._ticks
        return other

    # ------------------------------------------------------------------------------------------- producers

    def alias(self, customer: str, previous: str, *, granted: bool = True) -> None:
        self._send(customer, "alias", {"previous_id": previous}, granted="ops" if granted else "")

    def identify(self, customer: str, anonymous: str = "") -> None:
        self._send(customer, "identify", {}, {"anonymous_id": anonymous} if anonymous else {})

    def fact(self, customer: str) -> int:
        """Something happens to an id, at a moment by which it is known again."""
        self._send(customer, "failed", {})
        self.facts[customer].append(self._now_ms)
        return self._now_ms

    def erase(self, customer: str) -> None:
        self._send(customer, "customer_erased", {})

    def _send(self, customer: str, event_type: str, properties: dict, context: dict | None = None, granted="") -> None:
        event = Event(
            id=f"e{self._appended}",
            type=event_type,
            customer_id=customer,
            occurred_at_ms=self._now_ms + 1,
            received_at_ms=0,
            properties=properties,
            context=context or {},
            granted=granted,
        )
        self._append(event)

    # --------------------------------------------------------------------------------------------- workers

    @property
    def _now_ms(self) -> int:
        return START_MS + self._appended

    def partition_of(self, customer: str) -> int:
        return IDS.index(customer) % len(self.queues)

    def _append(self, event: Event) -> None:
        self._appended += self._ticks
        partition, key = self.partition_of(event.customer_id), event.customer_id.encode()
        self.queues[partition].append(Record(partition, self._appended, self._now_ms, key, encode_event(event)))

    def read(self, partition: int) -> None:
        """Decide the next record of a partition; what it brings about waits in the outbox."""
        event = self._intake.from_record(self.queues[partition].popleft())
        state = self.states.get(event.customer_id) or CustomerState()
        decision = decide(rulebook(), state, event, event.received_at_ms)
        self.states[event.customer_id] = decode_state(encode_state(decision.state))
        self.records += decision.records
        self.outboxes[partition] += decision.events

    def publish(self, partition: int, *, crashes: bool = False) -> None:
        """Publish a partition's outbox, twice where the worker crashes in between."""
        outbox, self.outboxes[partition] = self.outboxes[partition], []
        for event in outbox * (1 + crashes):
            self._append(event)

    def steps(self) -> list[tuple[str, int]]:
        """Return what workers can do now."""
        numbers = range(len(self.queues))
        return [("read", one) for one in numbers if self.queues[one] and not self.outboxes[one]] + [
            ("publish", one) for one in numbers if self.outboxes[one]
        ]

    def take(self, what: str, partition: int) -> None:
        """Take a step, if it can be taken."""
        if what == "read" and self.queues[partition]:
            self.read(partition)
        elif what in {"publish", "crash"} and self.outboxes[partition]:
            self.publish(partition, crashes=what == "crash")

    def settle(self) -> None:
        """Let the workers go on until nothing is left to do."""
        for _ in range(20_000):
            if not (steps := self.steps()):
                return
            self.take(*steps[0])
        raise AssertionError("merges never come to rest")

    # ------------------------------------------------------------------------------------------- the result

    def root(self, customer: str) -> str:
        """Return whom an id has become; fails on a ring."""
        seen = []
        while (state := self.states.get(customer)) is not None and state.merged_into:
            assert customer not in seen, f"a ring of tombstones: {seen}"
            seen.append(customer)
            customer = state.merged_into
        return customer

    def kept(self, customer: str) -> list[int]:
        """Return the facts that the customer of an id has."""
        state = self.states.get(self.root(customer)) or CustomerState()
        return [moment for stamps in state.aggregates.values() for moment in stamps]

    def told_of(self, customers: Iterable[str]) -> list[int]:
        """Return the facts that were told of some ids."""
        return sorted(moment for one in customers for moment in self.facts[one])

    def refused(self, why: str = "") -> list[DecisionRecord]:
        """Return the ledger lines that say that ids stay apart."""
        lines = [one for one in self.records if one.reason is Reason.MERGE_REFUSED]
        return [one for one in lines if not why or one.detail["why"] == why]


def components(edges: Iterable[tuple[str, str]]) -> list[set[str]]:
    """Return the sets of ids that the edges make one."""
    found: list[set[str]] = []
    for edge in edges:
        joined = set(edge)
        for one in [one for one in found if one & joined]:
            joined |= one
            found.remove(one)
        found.append(joined)
    return found


ids = st.sampled_from(IDS)
pairs = st.tuples(ids, ids).filter(lambda pair: pair[0] != pair[1])
steps = st.tuples(st.sampled_from(["read", "read", "publish", "crash"]), st.integers(0, 2))
