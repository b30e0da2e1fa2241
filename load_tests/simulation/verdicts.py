"""Last words, judged by what the receivers saw, what the policies say and the true time; none is believed.

word       may be said
---------  ---------------------------------------------------------------------------------------------------------
delivered  when the receiver has taken it
failed     when it was refused, all attempts have been made, or the next would be beyond the budget
expired    at the deadline, or when the longest back-off after the latest attempt reaches to it; and soon after
dropped    when the policy says ``drop`` and an attempt was made, or may have been, that nobody answered
cancelled  when the log holds a withdrawal of it, or of the action that it stands in for

A send may begin before the deadline, while attempts are left, not before the receiver wants it again, and not after an
attempt that nobody answered when the policy says ``drop``. A lease that ended may hide an attempt. A fallback is sent
when its action has been given up, and has not been withdrawn before; but of one that may have arrived, since an attempt
was not answered or is hidden by a lease, only where the rule wants both. So an action and its fallback never both
arrive against the rule's will, and what is called certain is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from connectors.protocol import Result
from load_tests.simulation.receiver import Sent
from load_tests.simulation.witness import Word
from orchestrator.core.action import Action
from orchestrator.runtime.dispatch import DeliveryPolicy
from orchestrator.runtime.ports import ACTIONS, EVENTS

if TYPE_CHECKING:
    from load_tests.simulation.world import World

#: The receipt of every last word.
RECEIPTS = {
    "delivered": "action_delivered",
    "failed": "action_failed",
    "expired": "action_expired",
    "cancelled": "action_cancelled",
    "dropped": "action_failed",
}
#: A missed deadline is found out within this span after the latest trouble: a lease, a rest of the watch, and a moment.
NOTICED_MS = 13_000
_decode_action = msgspec.json.Decoder(Action).decode


@dataclass(slots=True)
class _Asked:
    """What the topic of actions asks for: actions with their fallbacks, and withdrawals with their moments."""

    actions: dict[str, Action] = field(default_factory=dict)
    stamps: dict[str, int] = field(default_factory=dict)
    primary: dict[str, str] = field(default_factory=dict)  # of a fallback
    withdrawn: dict[str, int] = field(default_factory=dict)
    # Whom an action concerns: a withdrawal after a merge names who the customer is now.
    customers: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


def check_words(world: World) -> None:
    """Judge every last word that was ever written, and every send."""
    _Court(world).sit()


class _Court:
    def __init__(self, world: World) -> None:
        self._world = world
        self._asked = _asked(world)
        self._receipts = _receipts(world)
        # A sender that slept over its lease does what it should not, and cannot know it.
        self._slept = bool(world.counts["fault: dispatcher stopped"] or world.counts["queue slow"])

    def sit(self) -> None:
        world, asked = self._world, self._asked
        for action_id, words in world.queue.said.items():
            action = asked.actions.get(action_id)
            for word in words if action is not None else ():
                assert action is not None
                world.counts[f"word {word.entry.outcome}"] += 1
                self._judge(action, word)
                self._receipt(action, word)
                self._fallback(action, word)
        for action in asked.actions.values():
            sends = world.receivers[action.connector].sends.get(action.id, [])
            self._both(action)
            self._sends(action, sends)
            self._undue(action, sends)
        self._claims_of_delivery()
        self._answers()

    def _wrong(self, action: Action, what: str) -> None:
        self._world.violated("verdict", f"{action.id} by {action.connector} {what}")

    # ------------------------------------------------------------------------------------------- words

    def _judge(self, action: Action, word: Word) -> None:
        policy = self._world.policies[action.connector]
        receiver = self._world.receivers[action.connector]
        sends = [one for one in receiver.sends.get(action.id, ()) if word.since_ms <= one.begun_ms <= word.at_ms]
        match word.entry.outcome:
            case "delivered":
                if receiver.effects.get(action.id, word.at_ms + 1) > word.at_ms:
                    self._wrong(action, "is called delivered and was not received by then")
            case "failed":
                tries = len(sends) + word.lapses
                refused = any(one.heard is Result.REFUSED for one in sends)
                if not refused and tries < policy.attempts_max and not self._beyond_budget(policy, word, sends):
                    self._wrong(action, f"is called failed after {tries} attempts of {policy.attempts_max}")
            case "expired":
                self._expired(action, word, sends, policy)
            case "dropped":
                unanswered = word.lapses or any(one.heard is None for one in sends)
                if policy.on_unknown != "drop" or not unanswered:
                    self._wrong(action, f"is dropped: unknown outcomes {policy.on_unknown}, unanswered {unanswered}")
            case "cancelled":
                if self._withdrawn_ms(action.id) > word.at_ms:
                    self._wrong(action, "is called cancelled and was not withdrawn by then")
            case other:
                self._wrong(action, f"is called {other}, which is no last word")

    def _beyond_budget(self, policy: DeliveryPolicy, word: Word, sends: Sequence[Sent]) -> bool:
        """Return whether the next attempt may have come too long after the first; by which clock, nobody knows."""
        if not sends or not self._world.clocks_agree:
            return bool(sends)
        due_ms = max(word.at_ms, _again_ms(policy, sends[-1], len(sends) + word.lapses))
        return due_ms > min(one.end_ms for one in sends) + policy.budget_s * 1000

    def _expired(self, action: Action, word: Word, sends: Sequence[Sent], policy: DeliveryPolicy) -> None:
        deadline_ms = action.deadline_at
        if deadline_ms is None:
            self._wrong(action, "is called expired and has no deadline")
            return
        if not self._world.clocks_agree:
            return
        reached_ms = max([word.at_ms, *(_again_ms(policy, one, len(sends) + word.lapses) for one in sends[-1:])])
        if reached_ms < deadline_ms:
            self._wrong(action, f"is called expired {deadline_ms - word.at_ms} ms before its deadline")
        troubles = [until_ms for since_ms, until_ms in self._world.troubles if since_ms <= word.at_ms]
        since_ms = max([deadline_ms, word.since_ms, self._asked.stamps[action.id], *troubles])
        if word.at_ms > since_ms + NOTICED_MS:
            self._wrong(action, f"is called expired {word.at_ms - deadline_ms} ms after its deadline")

    def _withdrawn_ms(self, action_id: str) -> float:
        """Return when an action was withdrawn, or the one that it stands in for; infinity for never."""
        withdrawn = self._asked.withdrawn
        named = (action_id, self._asked.primary.get(action_id, ""))
        return min((withdrawn[one] for one in named if one in withdrawn), default=float("inf"))

    def _receipt(self, action: Action, word: Word) -> None:
        """Check that a word has come back into the log, and before it was written down unless it was a withdrawal."""
        outcome = word.entry.outcome
        if outcome not in RECEIPTS or "before" in word.entry.detail or not word.entry.connector:
            return  # What had failed before it was withdrawn has told of it already, and tells nothing more.
        concerned = self._asked.customers[action.id] | self._asked.customers[self._asked.primary.get(action.id, "")]
        stamp_ms, receipt = self._receipts.get(f"{action.id}:{RECEIPTS[outcome]}", (0, None))
        if receipt is None or receipt["type"] != RECEIPTS[outcome] or receipt["customer_id"] not in concerned:
            self._world.violated("receipts", f"{action.id} is {outcome}, and no event says so")
        elif receipt["properties"]["action_id"] != action.id:
            self._world.violated("receipts", f"the receipt of {action.id} is about another one")
        elif stamp_ms > word.at_ms and outcome != "cancelled":
            self._world.violated("receipts", f"{action.id} was {outcome} before the log was told")

        elif "certain" in receipt["properties"] and action.id not in self._world.queue.redriven:
            self._certain(action, word, told=receipt["properties"]["certain"])

    def _certain(self, action: Action, word: Word, *, told: bool) -> None:
        """Check that what is told of an action that was not delivered is as certain as it can be, and no more."""
        if told and self._unanswered(action, word) and not self._disturbed():
            self._world.violated("receipts", f"{action.id} is certainly {word.entry.outcome}, and nobody answered")
        elif not told and not self._may_be_in_doubt(action, word):
            self._world.violated("receipts", f"{action.id} may have arrived, and every attempt was answered")

    # --------------------------------------------------------------------------------------- fallbacks

    def _unanswered(self, action: Action, word: Word) -> bool:
        """Return whether an attempt before the word, also before it was redriven, brought its sender no answer."""
        sends = self._world.receivers[action.connector].sends.get(action.id, ())
        return any(one.heard is None and one.begun_ms <= word.at_ms for one in sends)

    def _may_be_in_doubt(self, action: Action, word: Word) -> bool:
        return self._unanswered(action, word) or action.id in self._world.queue.silent or self._disturbed()

    def _disturbed(self) -> bool:
        """Return whether somebody may have been led to believe what is not so: a sleeper, a clock, a queue."""
        return self._slept or self._world.queue_cut or not self._world.clocks_agree

    def _fallback(self, action: Action, word: Word) -> None:
        if word.entry.outcome not in {"failed", "expired", "dropped"} or not action.fallback:
            return
        counts, outcome = self._world.counts, word.entry.outcome
        if action.fallback_on_unknown or not self._may_be_in_doubt(action, word):
            counts["fallback due"] += 1
            counts["fallback due in doubt"] += self._unanswered(action, word)
            if action.fallback[0].id not in self._world.queue.words():
                self._wrong(action, f"is {outcome}, and its fallback never came")
        elif self._unanswered(action, word) and not self._disturbed():
            counts["fallback withheld"] += 1
            if "fallback" in word.entry.detail:
                self._wrong(action, f"is {outcome}, may have arrived, and gives way to its fallback")

    def _both(self, action: Action) -> None:
        """Check that an action and its fallback arrive only where the rule wants both, or an operator sent it again."""
        effects = {one for receiver in self._world.receivers.values() for one in receiver.effects}
        if action.id not in effects or not any(one.id in effects for one in action.fallback):
            return
        if action.fallback_on_unknown:
            self._world.counts["action and fallback as wanted"] += 1
        elif action.id not in self._world.queue.redriven and not self._disturbed():
            self._wrong(action, "has arrived, and its fallback as well")

    def _undue(self, action: Action, sends: Sequence[Sent]) -> None:
        primary = self._asked.primary.get(action.id)
        # By another clock than that of who queued the fallback, the deadline may be still to come.
        if primary is None or not sends or not self._world.clocks_agree:
            return
        words = self._world.queue.said[primary]
        wanted = {"failed", "expired"} | ({"dropped"} if self._asked.actions[primary].fallback_on_unknown else set())
        gave_way = any(one.entry.outcome in wanted for one in words)
        if not gave_way and primary not in self._asked.withdrawn:
            self._wrong(action, f"was sent in place of {primary}, which had not been given up")
        tried = self._world.receivers[self._asked.actions[primary].connector].sends.get(primary, ())
        withdrawn_ms = self._world.queue.withdrawn.get(primary)
        if withdrawn_ms is not None and not self._slept and any(one.end_ms > withdrawn_ms for one in tried):
            self._wrong(action, f"was sent in place of {primary}, which was withdrawn before it had failed")

    # ------------------------------------------------------------------------------------------- sends

    def _sends(self, action: Action, sends: Sequence[Sent]) -> None:
        world, policy = self._world, self._world.policies[action.connector]
        again_ms = world.queue.redriven.get(action.id, 0)
        disturbed = self._slept or not world.clocks_agree
        for sent in sends:
            if not disturbed and action.deadline_at is not None and sent.begun_ms >= action.deadline_at:
                self._wrong(action, f"is sent {sent.begun_ms - action.deadline_at} ms after its deadline")
        if not disturbed and sum(one.begun_ms >= again_ms for one in sends) > policy.attempts_max:
            self._wrong(action, f"is sent more often than {policy.attempts_max} times")
        for one, other in pairwise(sends):
            if one.begun_ms < again_ms <= other.begun_ms:
                continue
            if policy.on_unknown == "drop" and one.heard is None and not world.queue_cut:
                self._wrong(action, "is sent again although nobody knows what became of it")
            wanted_ms = one.end_ms + round((one.wish_s or 0) * 1000)
            if not disturbed and not world.queue.lapses[action.id] and other.begun_ms < wanted_ms - 1:
                self._wrong(action, f"is sent again {wanted_ms - other.begun_ms} ms before the receiver wants it")

    # --------------------------------------------------------------------------------- the other way round

    def _claims_of_delivery(self) -> None:
        for stamp_ms, receipt in self._receipts.values():
            action = self._asked.actions.get(receipt.get("properties", {}).get("action_id", ""))
            if action is None or receipt["type"] != "action_delivered":
                continue
            if self._world.receivers[action.connector].effects.get(action.id, stamp_ms + 1) > stamp_ms:
                self._wrong(action, "is told to be delivered and was not received by then")

    def _answers(self) -> None:
        """Check that a withdrawal that came too late was answered."""
        for action_id in self._asked.withdrawn:
            word = self._world.queue.words().get(action_id)
            if word is None:
                self._world.violated("withdrawn", f"{action_id} was withdrawn and has no last word")
            elif word.outcome == "delivered" and f"{action_id}:action_cancel_too_late" not in self._receipts:
                self._world.violated("receipts", f"{action_id} was withdrawn too late, and no event says so")


def _again_ms(policy: DeliveryPolicy, sent: Sent, tries: int) -> int:
    """Return the latest moment to which the back-off after an attempt can reach."""
    ceiling_s = min(policy.backoff_max_s, policy.backoff_first_s * 2.0 ** max(0, tries - 1))
    return sent.end_ms + round(1000 * max(ceiling_s, sent.wish_s or 0))


def _asked(world: World) -> _Asked:
    asked = _Asked()
    for record in world.records_of(ACTIONS):
        action = _decode_action(record.value or b"")
        asked.customers[action.id].add(action.customer_id)
        if action.cancel:
            asked.withdrawn.setdefault(action.id, record.stamp_ms)
            continue
        for one in (action, *action.fallback):
            asked.actions[one.id] = one
            asked.stamps.setdefault(one.id, record.stamp_ms)
        asked.primary.update((one.id, action.id) for one in action.fallback)
    return asked


def _receipts(world: World) -> dict[str, tuple[int, dict[str, Any]]]:
    """Return the events that the engine wrote, with their stamps; of those alike, as after a merge, the first."""
    story, told = world.story.by_value, dict[str, tuple[int, dict[str, Any]]]()
    for record in world.records_of(EVENTS):
        if record.value not in story:
            event = msgspec.json.decode(record.value or b"")
            if record.stamp_ms < told.get(event["id"], (record.stamp_ms + 1, None))[0]:
                told[event["id"]] = (record.stamp_ms, event)
    return told
