"""Mutants of the dispatcher: when and how often is sent, what is called the outcome, and who hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgspec

from load_tests.simulation.mutant import Mutant, replaced
from load_tests.simulation.network import Link
from orchestrator.core.action import Action
from orchestrator.core.event import ACTION_DELIVERED
from orchestrator.runtime.dispatch import DeliveryPolicy, Dispatcher
from orchestrator.runtime.dispatch import lane as lane_module
from orchestrator.runtime.dispatch import receipt as receipt_module
from orchestrator.runtime.dispatch import settlement as settlement_module
from orchestrator.runtime.dispatch import step as step_module
from orchestrator.runtime.dispatch.attempt import in_doubt, is_mark
from orchestrator.runtime.dispatch.lane import Lane
from orchestrator.runtime.dispatch.meter import Meter
from orchestrator.runtime.dispatch.patience import patiently
from orchestrator.runtime.dispatch.queue import LEASE_ENDED
from orchestrator.runtime.dispatch.rate import Bucket, Rate
from orchestrator.runtime.dispatch.receipt import ledger_entry
from orchestrator.runtime.dispatch.settlement import Settlement, successor
from orchestrator.runtime.dispatch.step import Cause, Outcome, Settle, Step, gives_way, next_step
from orchestrator.runtime.dispatch.withdrawal import Withdrawal
from orchestrator.runtime.ports import Queued, Quota, Record

# ---------------------------------------------------------------------------------------- the dispatcher


class LedgerFirst(Mutant):
    """The ledger is written before the receipt: a crash between the two leaves a last word that nobody hears."""

    name = "ledger before receipt"
    caught_by = frozenset({"receipts"})

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Settle the other way round."""

        async def ledger_first(
            self: Settlement, action: Action, queued: Queued, word: Settle, meter: Meter, **more: Any
        ) -> None:
            if gives_way(action, queued.history, word):
                await patiently(self.clock, "dispatch_queue", lambda: self._enqueue([successor(action)]))
            entry = ledger_entry(action, queued, word, self.clock.now_ms())
            await patiently(self.clock, "dispatch_queue", lambda: self._queue.settle(entry, **more))
            await patiently(self.clock, "event_log", lambda: self._report(action, queued, word))

        with replaced(Settlement, "conclude", ledger_first):
            yield


class AcknowledgesFirst(Mutant):
    """Records of actions are acknowledged before they are queued."""

    name = "acknowledged before queued"
    caught_by = frozenset({"taken", "withdrawn"})

    async def taken(
        self, dispatcher: Dispatcher, records: Sequence[Record], acknowledge: Callable[[int], None]
    ) -> None:
        """Acknowledge, then take."""
        acknowledge(records[-1].offset + 1)
        await asyncio.sleep(0.01)
        await dispatcher.accept(records)


class ClaimsWithoutLease(Mutant):
    """A claimed action stays where it is, for anybody to claim."""

    name = "claim without lease"
    caught_by = frozenset({"lease", "slots"})

    def queue(self, link: Link, queue: Any) -> Any:
        """Claim for no time at all."""

        class Leaseless:
            def __getattr__(self, name: str) -> Any:
                return getattr(queue, name)

            async def claim(self, connector: str, quota: Quota, limit: int, now_ms: int, lease_ms: int) -> Any:
                return await queue.claim(connector, quota, limit, now_ms, 1)

        return Leaseless()


class RateOfItsOwn(Mutant):
    """Every dispatcher keeps to the rate by itself, and all of them together do not."""

    name = "rate token not shared"
    caught_by = frozenset({"rate"})

    def queue(self, link: Link, queue: Any) -> Any:
        """Claim by a bucket of this process."""
        buckets: dict[str, Bucket] = {}

        class Selfish:
            def __getattr__(self, name: str) -> Any:
                return getattr(queue, name)

            async def claim(self, connector: str, quota: Quota, limit: int, now_ms: int, lease_ms: int) -> Any:
                rate = Rate.of(quota)
                if rate is None:
                    return await queue.claim(connector, quota, limit, now_ms, lease_ms)
                bucket = buckets.setdefault(connector, Bucket.fresh(rate, now_ms))
                limit = min(limit, bucket.room(rate, now_ms))
                free = msgspec.structs.replace(quota, rate_max=None)
                claim = await queue.claim(connector, free, limit, now_ms, lease_ms)
                for _ in claim.actions:
                    bucket.take(rate, now_ms)
                again_ms = max(bucket.next_at_ms(rate, now_ms), claim.again_at_ms or 0)
                return msgspec.structs.replace(claim, again_at_ms=again_ms)

        return Selfish()


# ------------------------------------------------------------------------------------ steps and outcomes


class _StepMutant(Mutant):
    """Takes other steps than the table says."""

    caught_by = frozenset({"verdict"})

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Ask this mutant for the next step."""
        with replaced(lane_module, "next_step", self.step):
            yield

    def step(self, queued: Queued, action: Action, policy: DeliveryPolicy, now_ms: int) -> Step:
        """Return the step that this mutant takes."""
        raise NotImplementedError


class GivesUpAtOnce(_StepMutant):
    """One attempt is all."""

    name = "gives up after one attempt"

    def step(self, queued: Queued, action: Action, policy: DeliveryPolicy, now_ms: int) -> Step:
        """Allow one."""
        return next_step(queued, action, replace(policy, attempts_max=1), now_ms)


class ExpiresEarly(_StepMutant):
    """The deadline comes four seconds before it does."""

    name = "deadline early"

    def step(self, queued: Queued, action: Action, policy: DeliveryPolicy, now_ms: int) -> Step:
        """Move the deadline."""
        early_ms = None if queued.deadline_at is None else queued.deadline_at - 4_000
        return next_step(msgspec.structs.replace(queued, deadline_at=early_ms), action, policy, now_ms)


class ForgetsDeadlines(_StepMutant):
    """Nothing is too late to be sent."""

    name = "deadlines ignored"

    def step(self, queued: Queued, action: Action, policy: DeliveryPolicy, now_ms: int) -> Step:
        """Forget the deadline."""
        return next_step(msgspec.structs.replace(queued, deadline_at=None), action, policy, now_ms)


class AlwaysRetries(_StepMutant):
    """What nobody answered is sent again, whatever the policy says."""

    name = "on_unknown ignored"

    def step(self, queued: Queued, action: Action, policy: DeliveryPolicy, now_ms: int) -> Step:
        """Retry."""
        return next_step(queued, action, replace(policy, on_unknown="retry"), now_ms)


class AlwaysDrops(_StepMutant):
    """What nobody answered is dropped, whatever the policy says."""

    name = "always drops"

    def step(self, queued: Queued, action: Action, policy: DeliveryPolicy, now_ms: int) -> Step:
        """Drop."""
        return next_step(queued, action, replace(policy, on_unknown="drop"), now_ms)


class SendsNothing(_StepMutant):
    """Everything is called expired and nothing is ever sent."""

    name = "expires everything"

    def step(self, queued: Queued, action: Action, policy: DeliveryPolicy, now_ms: int) -> Step:
        """Expire."""
        return Settle(Outcome.EXPIRED, Cause.DEADLINE_PASSED)


class KeepsAsking(Mutant):
    """Neither back-off nor ``Retry-After`` is waited for."""

    name = "back-off ignored"
    caught_by = frozenset({"verdict"})

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Wait for nothing."""
        with replaced(step_module, "backoff_ms", lambda policy, action_id, attempts, wish_s=None: 0):
            yield


class NeverFallsBack(Mutant):
    """An action that could not be delivered takes its fallback with it."""

    name = "never falls back"
    caught_by = frozenset({"verdict"})

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Fall back from nothing."""
        never = lambda action, history, word: False  # noqa: E731 - it stands in for two names at once.
        with replaced(settlement_module, "gives_way", never), replaced(receipt_module, "gives_way", never):
            yield


class FallsBackInDoubt(Mutant):
    """An action that may have arrived gives way to its fallback like any other."""

    name = "falls back in doubt"
    caught_by = frozenset({"verdict"})

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Doubt nothing."""
        with replaced(step_module, "in_doubt", lambda history: False):
            yield


class BelievesTheLastAttempt(Mutant):
    """What became of the last attempt is taken for what became of all."""

    name = "last attempt alone decides"
    caught_by = frozenset({"verdict"})

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Look at the last attempt."""

        def last_in_doubt(history: Sequence[str]) -> bool:
            tried = [line for line in history if line == LEASE_ENDED or not is_mark(line)]
            return in_doubt(tried[-1:])

        with replaced(step_module, "in_doubt", last_in_doubt):
            yield


class TellsNoDoubt(Mutant):
    """The receipt of an action that may have arrived says that it certainly did not."""

    name = "doubt not told"
    caught_by = frozenset({"receipts"})

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Tell of no doubt."""
        with replaced(receipt_module, "in_doubt", lambda history: False):
            yield


class WatchesNoDeadline(Mutant):
    """A missed deadline is found out when the action is claimed, and not before."""

    name = "no deadline watch"
    caught_by = frozenset({"verdict"})

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Watch nothing."""

        async def asleep(self: Lane) -> None:
            await self._missed.wait()
            while not self._stopping:
                self._missed.clear()
                await self._missed.wait()

        with replaced(Lane, "watch", asleep):
            yield


class TellsOfDelivery(Mutant):
    """The receipt of an action that failed says that it was delivered."""

    name = "failure told as delivery"
    caught_by = frozenset({"receipts"})

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Tell the wrong thing."""
        types = {**receipt_module._EVENT_TYPES, "failed": ACTION_DELIVERED}
        with replaced(receipt_module, "_EVENT_TYPES", types):
            yield


class IgnoresWithdrawals(Mutant):
    """What is taken back is sent all the same."""

    name = "withdrawals ignored"
    caught_by = frozenset({"withdrawn"})

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Withdraw nothing."""

        async def nothing(self: Withdrawal, wanted: Sequence[Action]) -> None:
            pass

        with replaced(Withdrawal, "withdraw", nothing):
            yield
