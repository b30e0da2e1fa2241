"""Settlement: giving an action its last word so that a crash at any point loses none of it.

The order is word, fallback, receipt, ledger:

1. the word of an action that is given up is noted in its history, unless the action was withdrawn meanwhile: then it
   is cancelled, and neither its fallback nor an operator sends it any more,
2. the fallback is queued (its id is its own, so a repeated put is recognised), unless the action may have arrived and
   its author does not want both,
3. the receipt, and the dead letter if there is one, are appended to the log,
4. the ledger entry is written and the action leaves its queue, in one atomic step.

Until the fourth step the action is still claimed, so whoever takes over after a crash reads the same facts, comes to
the same word and repeats the two before, which are recognised by their ids. Without the first, what the last attempt
came to would be known to the dead alone, and both the action and its fallback could arrive. The other order would
have to remember elsewhere which settled actions are still unreported; a receipt lost there would leave a reservation
or a waiting play open for ever. The price: a dispatcher that dies between the other side's answer and the ledger
sends again under the same id (or drops it, by policy), and the append makes that moment a few milliseconds longer.

When the log cannot take the receipt, or not within what the lease leaves, the action goes back to its queue with
what is known in its history. So an outage of the log never makes a delivery that succeeded be sent again, and no lease
ends over a delivery that only this process knows of: a withdrawal would take it for one that was never sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from orchestrator.core.action import Action
from orchestrator.errors import LogUnavailable
from orchestrator.metrics import DEAD_LETTERS, DELIVERIES, OUTCOMES, STORE_RETRIES
from orchestrator.runtime.dispatch.attempt import last_attempt
from orchestrator.runtime.dispatch.meter import Meter
from orchestrator.runtime.dispatch.patience import patiently
from orchestrator.runtime.dispatch.queue import TAKEN
from orchestrator.runtime.dispatch.receipt import DISPATCHER, dead_letter, finding_event, ledger_entry, settled_event
from orchestrator.runtime.dispatch.step import Outcome, Settle, given_up, gives_way, word_given, word_of_withdrawal
from orchestrator.runtime.dispatch.watchdog import Watchdog
from orchestrator.runtime.ports import Clock, DispatchQueue, EventLog, Noted, Queued

#: How long an action rests whose receipt the log could not take.
REPORT_AGAIN_MS = 1000

#: The share of a lease in which the log has to take the receipt; a send has most of it, the queue the rest.
REPORT_SHARE = 0.1

Enqueue = Callable[[Sequence[Action]], Awaitable[None]]


class Settlement:
    """Writes last words. ``enqueue`` queues the fallbacks of actions that could not be sent.

    For the receipt of a claimed action the log has ``REPORT_SHARE`` of the lease of its connector in ``leases_s``.
    """

    def __init__(
        self, queue: DispatchQueue, log: EventLog, clock: Clock, enqueue: Enqueue, leases_s: Mapping[str, float]
    ) -> None:
        self._queue = queue
        self.log = log
        self.clock = clock
        self._enqueue = enqueue
        self._watchdogs = {name: Watchdog(lease_s * REPORT_SHARE) for name, lease_s in leases_s.items()}

    async def conclude(
        self,
        action: Action,
        queued: Queued,
        word: Settle,
        meter: Meter,
        *,
        hold_until_ms: int | None = None,
        unspent: bool = False,
    ) -> None:
        """Settle a claimed action; return when that is done, or given back because the log is not there.

        ``hold_until_ms`` keeps its slot beyond the settlement; ``unspent`` says that this claim sent nothing. Waits
        for the queue as long as it takes. May be repeated.
        """
        if word.gives_up and word_given(queued.history) is None:
            noted = given_up(queued, word)
            match await patiently(self.clock, "dispatch_queue", lambda: self._queue.note(noted)):
                case Noted.WRITTEN:
                    queued = noted
                case Noted.WITHDRAWN:
                    word = word_of_withdrawal(queued.history)
                case Noted.GONE:
                    return  # Settled by another, who took this one for dead.
        if gives_way(action, queued.history, word):
            fallback = successor(action)
            await patiently(self.clock, "dispatch_queue", lambda: self._enqueue([fallback]))
        if not await self._reported(action, queued, word):
            STORE_RETRIES.labels("event_log").inc()
            again_ms = self.clock.now_ms() + REPORT_AGAIN_MS
            if word.outcome is Outcome.DELIVERED and TAKEN not in queued.history:
                queued = msgspec.structs.replace(queued, history=(*queued.history, TAKEN))
            await patiently(self.clock, "dispatch_queue", lambda: self._queue.retry(queued, again_ms, unspent=unspent))
            return
        entry = ledger_entry(action, queued, word, self.clock.now_ms())
        await patiently(
            self.clock,
            "dispatch_queue",
            lambda: self._queue.settle(entry, hold_until_ms=hold_until_ms, unspent=unspent),
        )
        meter.settled(queued, word)

    async def refuse(self, action: Action, queued: Queued, word: Settle) -> None:
        """Settle an action that never entered a queue. Raises ``LogUnavailable`` or ``StoreUnavailable``."""
        if gives_way(action, queued.history, word):
            await self._enqueue([successor(action)])
        await self._report(action, queued, word)
        await self._queue.settle(ledger_entry(action, queued, word, self.clock.now_ms()))
        DELIVERIES.labels(action.connector, word.outcome.value).inc()

    async def _reported(self, action: Action, queued: Queued, word: Settle) -> bool:
        """Report a word; return False when the log is not there, or takes longer than the lease leaves."""
        try:
            with self._watchdogs[action.connector].watching():
                await self._report(action, queued, word)
        except (LogUnavailable, TimeoutError):
            return False
        return True

    async def _report(self, action: Action, queued: Queued, word: Settle) -> None:
        now_ms = self.clock.now_ms()
        records = [settled_event(action, queued, word, now_ms)]
        last = last_attempt(queued.history)
        finding = last.finding if last is not None else None
        if last is not None and finding is not None:
            # Before the receipt, so that no rule that hears of the failure sends into the closed channel.
            records.insert(0, finding_event(action, finding, last.at_ms))
        if word.outcome is Outcome.FAILED:
            records.append(dead_letter(action, queued, word, now_ms))
        await self.log.append(records)
        if finding is not None:
            OUTCOMES.labels(action.connector, finding.type.value).inc()
        if word.outcome is Outcome.FAILED:
            DEAD_LETTERS.labels(DISPATCHER).inc()


def successor(action: Action) -> Action:
    """Return the first fallback of an action. When it names none of its own, the others stand behind it."""
    first, *others = action.fallback
    return first if first.fallback else msgspec.structs.replace(first, fallback=tuple(others))
