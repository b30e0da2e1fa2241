"""The invariants: what must hold in every run, whatever went wrong in it.

name        what must hold
----------  ------------------------------------------------------------------------------------------------------
log         every record that a producer was answered for is in the log
states      the stored states, wakes and offsets are those of one undisturbed pass over the log
decided     what was decided for good is what that pass decides, in its order: no timer early, twice or lost
oracle      the same, for simple customers, as worked out by a program that shares nothing with the engine
published   what was published is what was decided for good, at least once, first in the order decided;
            and was so when it was published                                          (with every append)
letters     every poison record is dead-lettered once, and nothing else is
delivered   every decided action has its last word, by which receiver and ledger agree; nothing else was received
verdict     every last word is what receivers, policies and the true time allow (see ``verdicts``)
withdrawn   what is withdrawn gets its last word, and nobody is given it to send after that
taken       what is acknowledged is in the queue or has its last word
receipts    every last word came back into the log as an event, and nothing came back that is not one
erased      of who was forgotten nothing is left but a tombstone, and who was merged is one
owner       only the owner of a partition writes it                                   (with every write)
sequence    offsets and commit numbers of a partition only grow, without a gap        (with every write)
clock       a partition's clock passes neither the log's time nor an unread record    (with every write)
lease       nobody is given an action that another one holds                          (with every claim)
slots       never more claims at once than slots, over all dispatchers                (with every claim)
rate        never more claims in a window than the rate, over all dispatchers         (with every claim)
word        nothing is sent after its last word                                       (with every send)
errors      the engine reports no fault of its own
rulebook    an invalid rulebook is refused
rest        when everything is mended, everything comes to rest: outboxes, wakes, queues and topics are empty
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from connectors.protocol import Delivery, Result
from load_tests.simulation.network import Peer
from load_tests.simulation.oracle_check import check_oracle
from load_tests.simulation.receiver import Receiver
from load_tests.simulation.reference import Reference, pass_over
from load_tests.simulation.story import RING
from load_tests.simulation.verdicts import check_words
from orchestrator.core.action import Action
from orchestrator.core.seen import mark_of
from orchestrator.core.state import CustomerState, decode_state
from orchestrator.runtime.partition import MODEL
from orchestrator.runtime.ports import ACTIONS, DEAD_LETTERS, DECISIONS, EVENTS, LedgerEntry, Outgoing, Record

if TYPE_CHECKING:
    from load_tests.simulation.world import World

_decode_action = msgspec.json.Decoder(Action).decode


class Checks:
    """Checks one world. What is found is told to ``World.violated``."""

    def __init__(self, world: World) -> None:
        self._world = world
        # Commits that split the timers of a moment are compared with an undivided pass, which has one version.
        self.may_edit = world.chance.random() < 0.4
        self.wakes_max = 1_000 if self.may_edit else world.chance.choice([1_000, 1_000, 1, 2])

    def _violated(self, invariant: str, message: str) -> None:
        self._world.violated(invariant, message)

    # --------------------------------------------------------------------------------------- during the run

    def send_begins(self, receiver: Receiver, delivery: Delivery, process: Peer) -> None:
        """Object to a send of what is known to be delivered, unless the sender may have slept over its lease."""
        world = self._world
        word = world.queue.words().get(delivery.id)
        slept = world.counts["fault: dispatcher stopped"] or world.counts["queue slow"]
        if word is not None and world.clocks_agree and not slept:
            self._violated("word", f"{process.name} sends {delivery.id} by {receiver.name}: it is {word.outcome}")
        withdrawn_ms = world.queue.withdrawn.get(delivery.id)
        if withdrawn_ms is not None and world.queue.given.get((delivery.id, process), 0) > withdrawn_ms:
            self._violated("withdrawn", f"{process.name} was given {delivery.id} after its withdrawal, and sends it")

    def taken(self, records: Sequence[Record]) -> None:
        """Object to an acknowledgement of records that have not been taken into the queue."""
        queue = self._world.queue
        for action in (_decode_action(record.value or b"") for record in records):
            if action.cancel and not queue.heeded(action.id):
                self._violated("withdrawn", f"the withdrawal of {action.id} is acknowledged and was not heeded")
            if not queue.taken(action.id):
                self._violated("taken", f"{action.id} is acknowledged and nobody has it")

    def appended(self, process: Peer, records: Sequence[Outgoing]) -> None:
        """Object to what a worker publishes that no commit has made durable."""
        for record in records:
            if process.role == "worker" and (record.topic, record.value) not in self._world.store.durable:
                self._violated("published", f"{process.name} publishes to {record.topic} what no commit holds")

    def left(self) -> list[str]:
        """Return what is still to be done, in words."""
        world, left = self._world, []
        for partition in range(world.workers._partitions):
            kept = world.store._of(partition)
            end = world.log._of(EVENTS, partition).end
            if (kept.next_offset or 0) != end:
                left.append(f"events of partition {partition}: read to {kept.next_offset} of {end}")
            if kept.outbox:
                left.append(f"outbox of partition {partition}: {len(kept.outbox)}")
            if kept.wakes:
                left.append(f"timers of partition {partition}: {len(kept.wakes)}")
            end = world.log._of(ACTIONS, partition).end
            if world.dispatchers.positions.get(partition, 0) != end:
                reached = world.dispatchers.positions.get(partition)
                left.append(f"actions of partition {partition}: acknowledged to {reached} of {end}")
        if undelivered := world.queue.undelivered():
            left.append(f"dispatch queue: {undelivered}")
        return left

    # ------------------------------------------------------------------------------------------ at rest

    def at_rest(self) -> None:
        """Check what must hold once everything has come to rest."""
        self._log()
        passes = [pass_over(self._world, partition) for partition in range(self._world.workers._partitions)]
        for partition, reference in enumerate(passes):
            self._states(partition, reference)
            self._decided(partition, reference)
            self._letters(partition)
        self._published()
        if not self._world.edited:
            check_oracle(self._world, len(passes))
        self._delivered()
        check_words(self._world)
        self._dead_letters()
        self._erased()

    def _log(self) -> None:
        kept = {(record.key, record.value) for record in self._world.records_of(EVENTS)}
        missing = [one.what for one in self._world.acknowledged if (one.key, one.value) not in kept]
        if missing or len(self._world.acknowledged) != len(self._world.story.messages):
            self._violated("log", f"acknowledged and not there: {missing}")

    def _states(self, partition: int, reference: Reference) -> None:
        stored = self._world.store._of(partition).states
        states = {one: decode_state(value) for one, value in stored.items() if one != MODEL}
        for customer in states.keys() | reference.states.keys():
            if states.get(customer) != reference.states.get(customer):
                self._violated(
                    "states", f"{customer}: {states.get(customer)} instead of {reference.states.get(customer)}"
                )

    def _decided(self, partition: int, reference: Reference) -> None:
        decided = [one for commit in self._world.store.applied[partition] for one in commit.outbox]
        for topic in (ACTIONS, DECISIONS, EVENTS):
            got = [one.value for one in decided if one.topic == topic]
            wanted = reference.decided[topic]
            if got != wanted:
                self._violated("decided", f"partition {partition}, {topic}: {_difference(got, wanted)}")

    def _letters(self, partition: int) -> None:
        letters = [
            msgspec.json.decode(one.value)["offset"]
            for commit in self._world.store.applied[partition]
            for one in commit.outbox
            if one.topic == DEAD_LETTERS
        ]
        self._world.counts["poison record"] += len(letters)
        poison = [one.offset for one in self._world.records_from(partition, 0) if self._world.refused(one)]
        if letters != poison:
            self._violated("letters", f"partition {partition}: of {letters} instead of {poison}")

    def _published(self) -> None:
        """Compare what is in the topics with what each partition decided, in its order; among partitions is none."""
        store = self._world.store
        for topic in (ACTIONS, DECISIONS, EVENTS, DEAD_LETTERS):
            decided: dict[tuple[bytes, int], list[bytes]] = {}
            for partition in sorted(store.applied):
                for one in (one for commit in store.applied[partition] for one in commit.outbox if one.topic == topic):
                    decided.setdefault((one.key, partition), []).append(one.value)
            wanted = {value for values in decided.values() for value in values}
            there: dict[bytes, list[bytes]] = {}
            for record in self._world.records_of(topic):
                if topic not in {EVENTS, DEAD_LETTERS} or record.value in wanted:
                    there.setdefault(record.key or b"", []).append(record.value or b"")
            for (key, _), values in decided.items():
                due = dict.fromkeys(values)
                got = [value for value in dict.fromkeys(there.get(key, ())) if value in due]
                if got != list(due):
                    self._violated("published", f"{topic} of {key!r}: {_difference(got, list(due))}")
            for key, values in there.items():
                if undecided := [value for value in values if value not in wanted]:
                    self._violated("published", f"{topic} of {key!r}: nobody decided {undecided[0].decode()}")
                self._world.counts["record published again"] += len(values) - len(set(values))

    # ---------------------------------------------------------------------------------------- deliveries

    def _delivered(self) -> None:
        actions = [_decode_action(record.value or b"") for record in self._world.records_of(ACTIONS)]
        decided = {one.id: one for one in actions if not one.cancel}
        known = decided.keys() | {each.id for one in decided.values() for each in one.fallback}
        words = self._world.queue.words()
        due = set(decided) | {
            word.detail["fallback"] for one in decided if (word := words.get(one)) and "fallback" in word.detail
        }
        for action_id in sorted(due - words.keys()):
            self._violated("delivered", f"{action_id} has no last word")
        effects: dict[str, Receiver] = {}
        for receiver in self._world.receivers.values():
            for action_id in receiver.effects:
                if action_id in effects or action_id not in known:
                    self._violated("delivered", f"{action_id} was received and never decided, or twice")
                effects[action_id] = receiver
        for action_id, word in words.items():
            self._world.counts[f"action {word.outcome}"] += 1
            self._agrees(action_id, word, effects.get(action_id))

    def _agrees(self, action_id: str, word: LedgerEntry, receiver: Receiver | None) -> None:
        """Check that the last word is what the receiver knows, as far as anybody can have known it."""
        if word.outcome == "delivered":
            if receiver is None:
                self._violated("delivered", f"{action_id} is called delivered and was never received")
            return
        if receiver is None:
            return
        sends = receiver.sends[action_id]
        for sent in sends:
            # A sender that died may have taken the answer with it; one that is sent again may end otherwise.
            knew = sent.heard is Result.DELIVERED and not sent.process.dead
            if knew and action_id not in self._world.queue.redriven:
                self._violated(
                    "delivered", f"{action_id} was received, {sent.process.name} heard it, and it is {word.outcome}"
                )

    def _dead_letters(self) -> None:
        letters = {
            letter["action"]["id"]
            for record in self._world.records_of(DEAD_LETTERS)
            if (letter := msgspec.json.decode(record.value or b"")).get("origin") == "dispatcher"
        }
        failed = {one.id for one in self._world.queue.words().values() if one.outcome == "failed"}
        if failed - letters:
            self._violated("receipts", f"failed without a dead letter: {sorted(failed - letters)}")

    def _erased(self) -> None:
        said = {one.what for one in self._world.story.messages}
        if "erasure" in said:
            self._tombstone()
        if "merge" in said and self._state("anon").merged_into != "known":
            self._violated("erased", "the anonymous customer was not merged")
        if "ring" in said:
            self._ring()

    def _ring(self) -> None:
        """Whatever order the requests met in, one id is left, and the others end there."""
        onward = {one: self._state(one).merged_into for one in RING}
        left = [one for one, other in onward.items() if not other]
        for begun in RING:
            end = begun
            for _ in RING:
                end = onward.get(end) or end
            if [end] != left:
                self._violated("erased", f"of a ring of ids not one is left: {onward}")

    def _tombstone(self) -> None:
        """Compare what is left of who was forgotten with what may be; who comes back begins anew."""
        state, messages = self._state("gone"), self._world.story.by_value
        partition = self._world.log._partitions.of_key(EVENTS, b"gone")
        told = [
            (record.stamp_ms, one)
            for record in self._world.records_from(partition, 0)
            for one in (messages[record.value].told if record.value in messages else ())
            if one.customer == "gone"
        ]
        erased_ms, erasure = next((stamp_ms, one) for stamp_ms, one in told if one.type == "customer_erased")
        after = told[told.index((erased_ms, erasure)) + 1 :]
        back = any(min(stamp_ms, one.occurred_ms) > erased_ms for stamp_ms, one in after)
        if back:
            if state.erased_at_ms != erased_ms or 0 < state.first_seen_ms <= erased_ms:
                self._violated("erased", f"the customer who was forgotten came back with a past: {state}")
            return
        self._world.counts["customer forgotten for good"] += 1
        tombstone = CustomerState(clock_ms=erased_ms, seen=mark_of(erasure.id), erased_at_ms=erased_ms)
        if state != tombstone:
            self._violated("erased", f"of the customer who was to be forgotten is left {state}")

    def _state(self, customer: str) -> CustomerState:
        partition = self._world.log._partitions.of_key(EVENTS, customer.encode())
        return decode_state(self._world.store._of(partition).states.get(customer))


def _difference(got: list[bytes], wanted: list[bytes]) -> str:
    for number, (one, other) in enumerate(zip(got, wanted, strict=False)):
        if one != other:
            return f"number {number} is {one.decode()} instead of {other.decode()}"
    if len(got) > len(wanted):
        return f"{len(got) - len(wanted)} too many, first {got[len(wanted)].decode()}"
    return f"{len(wanted) - len(got)} missing, first {wanted[len(got)].decode()}"
