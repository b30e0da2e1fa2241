"""The table of next steps, and the spans it is computed from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from connectors.protocol import Receipt, Result
from orchestrator.core.action import Action, QuietWindow
from orchestrator.core.opening import OpeningHours, Window
from orchestrator.rulebook.capacity import Capacity
from orchestrator.runtime.dispatch.attempt import (
    UNKEEPABLE,
    attempts_of,
    in_doubt,
    is_kept,
    last_attempt,
    unreported,
    with_attempt,
)
from orchestrator.runtime.dispatch.intake import queued_of
from orchestrator.runtime.dispatch.policy import DeliveryPolicy, backoff_ms
from orchestrator.runtime.dispatch.queue import GIVEN_UP, LEASE_ENDED, TAKEN, TRIED_BEFORE, WITHDRAWN
from orchestrator.runtime.dispatch.step import (
    Book,
    Cause,
    Outcome,
    Send,
    Settle,
    Step,
    Wait,
    given_up,
    gives_way,
    next_step,
    word_given,
)
from orchestrator.runtime.ports import Queued

NOON = int(datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp() * 1000)
MINUTE = 60_000
HOUR = 60 * MINUTE

RETRY = DeliveryPolicy(attempts_max=3, budget_s=600, on_unknown="retry")
DROP = DeliveryPolicy(attempts_max=3, budget_s=600, on_unknown="drop")


def entry(history: tuple[str | Receipt, ...] = (), **fields: Any) -> tuple[Queued, Action]:
    """An action whose history is made of marks of the queue and of receipts that came at noon."""
    action = Action(**({"id": "a", "customer_id": "c", "connector": "sms"} | fields))
    queued = queued_of(action)
    for item in history:
        if isinstance(item, Receipt):
            queued = with_attempt(queued, item, NOON)
        else:
            # The queue counts a lease that ended; a withdrawal is not an attempt.
            queued = Queued(
                **{name: getattr(queued, name) for name in queued.__struct_fields__}
                | {"attempts": queued.attempts + (item == LEASE_ENDED), "history": (*queued.history, item)}
            )
    return queued, action


def said(result: Result, **fields: Any) -> Receipt:
    return Receipt(result=result, detail=f"the {result.value} of a test", **fields)


DELIVERED, REFUSED, AGAIN, UNKNOWN = (
    said(result) for result in (Result.DELIVERED, Result.REFUSED, Result.RETRY, Result.UNKNOWN)
)
FIRST_BACKOFF = backoff_ms(RETRY, "a", 1)

# Open from noon to one, and from five to six.
HOURS = OpeningHours((Window(frozenset(range(7)), 720, 780), Window(frozenset(range(7)), 1020, 1080)), "UTC")
STAFFED = DeliveryPolicy(attempts_max=3, budget_s=36_000, capacity=Capacity(lines=1, hours=HOURS))

# Each line: what the history holds, the policy, the moment, and the step.
TABLE: list[tuple[str, tuple[str | Receipt, ...], DeliveryPolicy, int, dict[str, Any], Step]] = [
    ("nothing yet", (), RETRY, NOON, {}, Send()),
    (
        "delivered, even when withdrawn and too late",
        (DELIVERED, WITHDRAWN),
        RETRY,
        NOON + HOUR,
        {"deadline_at": NOON},
        Settle(Outcome.DELIVERED, Cause.TAKEN, "the delivered of a test"),
    ),
    ("withdrawn", (AGAIN, WITHDRAWN), RETRY, NOON, {}, Settle(Outcome.CANCELLED, Cause.WITHDRAWN)),
    (
        "given up by one that died, and withdrawn",
        (AGAIN, "given_up: failed budget_exhausted 503: a detail: of words", LEASE_ENDED, WITHDRAWN),
        DROP,
        NOON,
        {},
        Settle(Outcome.FAILED, Cause.BUDGET_EXHAUSTED, "503: a detail: of words"),
    ),
    (
        "given up, and delivered by one that slept over its lease",
        ("given_up: expired deadline_passed ", DELIVERED),
        RETRY,
        NOON,
        {},
        Settle(Outcome.DELIVERED, Cause.TAKEN, "the delivered of a test"),
    ),
    (
        "withdrawn after a silent lease",
        (LEASE_ENDED, WITHDRAWN),
        DROP,
        NOON,
        {},
        Settle(Outcome.CANCELLED, Cause.WITHDRAWN, "An attempt whose result nobody knows came first."),
    ),
    (
        "withdrawn after an unknown attempt and another that was not taken",
        (UNKNOWN, AGAIN, WITHDRAWN),
        RETRY,
        NOON,
        {},
        Settle(Outcome.CANCELLED, Cause.WITHDRAWN, "An attempt whose result nobody knows came first."),
    ),
    (
        "refused",
        (REFUSED,),
        RETRY,
        NOON,
        {"deadline_at": NOON},
        Settle(Outcome.FAILED, Cause.REFUSED, "the refused of a test"),
    ),
    (
        "unknown, drop",
        (UNKNOWN,),
        DROP,
        NOON,
        {},
        Settle(Outcome.DROPPED, Cause.OUTCOME_UNKNOWN, "the unknown of a test"),
    ),
    (
        "silent lease, drop",
        (AGAIN, LEASE_ENDED),
        DROP,
        NOON,
        {},
        Settle(Outcome.DROPPED, Cause.OUTCOME_UNKNOWN, "The dispatcher stopped while the attempt was under way."),
    ),
    ("unknown, retry", (UNKNOWN,), RETRY, NOON, {}, Wait(NOON + FIRST_BACKOFF)),
    ("silent lease, retry", (LEASE_ENDED,), RETRY, NOON, {}, Send()),
    ("back-off not over", (AGAIN,), RETRY, NOON + FIRST_BACKOFF - 1, {}, Wait(NOON + FIRST_BACKOFF)),
    ("back-off over", (AGAIN,), RETRY, NOON + FIRST_BACKOFF, {}, Send()),
    (
        "deadline has come",
        (),
        RETRY,
        NOON,
        {"deadline_at": NOON},
        Settle(Outcome.EXPIRED, Cause.DEADLINE_PASSED),
    ),
    ("deadline to come", (), RETRY, NOON, {"deadline_at": NOON + 1}, Send()),
    (
        "deadline within the back-off",
        (AGAIN,),
        RETRY,
        NOON,
        {"deadline_at": NOON + FIRST_BACKOFF},
        Settle(Outcome.EXPIRED, Cause.DEADLINE_UNREACHABLE, "retry: the retry of a test"),
    ),
    (
        "attempts used up",
        (AGAIN, AGAIN, AGAIN),
        RETRY,
        NOON,
        {},
        Settle(Outcome.FAILED, Cause.ATTEMPTS_EXHAUSTED, "retry: the retry of a test"),
    ),
    (
        "leases that ended use attempts up",
        (LEASE_ENDED, LEASE_ENDED, LEASE_ENDED),
        RETRY,
        NOON,
        {},
        Settle(Outcome.FAILED, Cause.ATTEMPTS_EXHAUSTED),
    ),
    (
        "attempts used up and too late: the deadline speaks first, for its fallback's sake",
        (AGAIN, AGAIN, AGAIN),
        RETRY,
        NOON,
        {"deadline_at": NOON},
        Settle(Outcome.EXPIRED, Cause.DEADLINE_PASSED, "retry: the retry of a test"),
    ),
    ("Retry-After is a floor", (said(Result.RETRY, retry_after_s=90),), RETRY, NOON, {}, Wait(NOON + 90_000)),
    (
        "Retry-After beyond the budget",
        (said(Result.RETRY, retry_after_s=600.1),),
        RETRY,
        NOON,
        {},
        Settle(Outcome.FAILED, Cause.BUDGET_EXHAUSTED, "retry: the retry of a test"),
    ),
    (
        "Retry-After of an endless time",
        (said(Result.RETRY, retry_after_s=1e300),),
        RETRY,
        NOON,
        {},
        Settle(Outcome.FAILED, Cause.BUDGET_EXHAUSTED, "retry: the retry of a test"),
    ),
    (
        "quiet hours",
        (),
        RETRY,
        NOON,
        {"quiet_hours": QuietWindow(11 * 60, 13 * 60, "UTC")},
        Wait(NOON + HOUR),
    ),
    ("quiet hours over", (), RETRY, NOON, {"quiet_hours": QuietWindow(11 * 60, 12 * 60, "UTC")}, Send()),
    (
        "quiet hours past midnight, in the customer's zone",
        (),
        RETRY,
        NOON + 4 * HOUR,  # 21:30 in Kolkata.
        {"quiet_hours": QuietWindow(21 * 60, 8 * 60, "Asia/Kolkata")},
        Wait(NOON + 14 * HOUR + 30 * MINUTE),
    ),
    (
        "quiet hours beyond the deadline",
        (),
        RETRY,
        NOON,
        {"quiet_hours": QuietWindow(11 * 60, 13 * 60, "UTC"), "deadline_at": NOON + HOUR},
        Settle(Outcome.EXPIRED, Cause.DEADLINE_UNREACHABLE),
    ),
    (
        "a back-off that ends in quiet hours",
        (said(Result.RETRY, retry_after_s=60),),
        RETRY,
        NOON,
        {"quiet_hours": QuietWindow(12 * 60 + 1, 13 * 60, "UTC")},
        Wait(NOON + HOUR),
    ),
    ("somebody is there", (), STAFFED, NOON, {}, Send()),
    ("nobody is there", (), STAFFED, NOON + HOUR, {}, Book(NOON + HOUR)),
    (
        "nobody is there when the back-off ends",
        (said(Result.RETRY, retry_after_s=2 * 3600),),
        STAFFED,
        NOON,
        {},
        Book(NOON + 2 * HOUR),
    ),
    (
        "nobody is there when the quiet hours end",
        (),
        STAFFED,
        NOON,
        {"quiet_hours": QuietWindow(11 * 60, 14 * 60, "UTC")},
        Book(NOON + 2 * HOUR),
    ),
    (
        "the deadline passes before anybody could be there",
        (),
        STAFFED,
        NOON + HOUR,
        {"deadline_at": NOON + HOUR},
        Settle(Outcome.EXPIRED, Cause.DEADLINE_PASSED),
    ),
    (
        "known on arrival to miss its deadline",
        ("promise_unkeepable: a wait of 720 s at least",),
        RETRY,
        NOON,
        {},
        Settle(Outcome.EXPIRED, Cause.PROMISE_UNKEEPABLE, "a wait of 720 s at least"),
    ),
    (
        "known to miss its deadline, and withdrawn",
        ("promise_unkeepable: a wait of 720 s at least", WITHDRAWN),
        RETRY,
        NOON,
        {},
        Settle(Outcome.CANCELLED, Cause.WITHDRAWN),
    ),
    (
        "zone unknown",
        (),
        RETRY,
        NOON,
        {"quiet_hours": QuietWindow(11 * 60, 13 * 60, "Mars/Olympus")},
        Settle(
            Outcome.FAILED,
            Cause.ZONE_UNKNOWN,
            "The quiet hours name the zone 'Mars/Olympus', which is not an IANA zone.",
        ),
    ),
]


@pytest.mark.parametrize(
    ("history", "policy", "now_ms", "fields", "step"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_the_next_step_follows_the_table(
    history: tuple[str | Receipt, ...], policy: DeliveryPolicy, now_ms: int, fields: dict[str, Any], step: Step
) -> None:
    queued, action = entry(history, **fields)
    assert next_step(queued, action, policy, now_ms) == step


@pytest.mark.parametrize("detail", ["", "503", "refused: a b  c: d", " two\nlines "])
def test_a_word_that_is_noted_is_read_as_it_was(detail: str) -> None:
    word = Settle(Outcome.EXPIRED, Cause.DEADLINE_UNREACHABLE, detail)
    queued, action = entry((AGAIN,))

    assert word_given(queued.history) is None
    noted = given_up(queued, word)
    assert word_given(noted.history) == next_step(noted, action, RETRY, NOON + HOUR) == word
    assert noted.history[:-1] == queued.history


def test_quiet_hours_end_at_the_right_instant_when_the_clocks_are_put_forward() -> None:
    before = int(datetime(2026, 3, 28, 22, tzinfo=UTC).timestamp() * 1000)  # 23:00 in Berlin, the night of the change.
    queued, action = entry(quiet_hours=QuietWindow(21 * 60, 8 * 60, "Europe/Berlin"))

    eight_in_summer_time = int(datetime(2026, 3, 29, 6, tzinfo=UTC).timestamp() * 1000)
    assert next_step(queued, action, RETRY, before) == Wait(eight_in_summer_time)


# ------------------------------------------------------------------------------------------------ in doubt

GAVE_UP = f"{GIVEN_UP}failed refused no"
NEVER_SENT = f"{UNKEEPABLE}: nobody is there before the deadline"

# Each line: what the history holds, and whether an attempt may have arrived without anybody knowing it.
DOUBTS: list[tuple[str, tuple[str | Receipt, ...], bool]] = [
    ("never tried", (), False),
    ("not taken", (AGAIN, AGAIN), False),
    ("refused", (AGAIN, REFUSED), False),
    ("no answer", (UNKNOWN,), True),
    ("no answer, then not taken", (UNKNOWN, AGAIN), True),
    ("no answer, then refused, as a receiver does that has it already", (UNKNOWN, REFUSED), True),
    ("no answer, then a lease that ended", (UNKNOWN, LEASE_ENDED), True),
    ("a dispatcher died with it", (LEASE_ENDED,), True),
    ("a dispatcher died with it, then refused", (LEASE_ENDED, REFUSED), True),
    ("a dispatcher died with its refusal", (REFUSED, LEASE_ENDED), False),
    ("a dispatcher died that had given it up", (AGAIN, GAVE_UP, LEASE_ENDED), False),
    ("given up without knowing", (UNKNOWN, GAVE_UP, LEASE_ENDED), True),
    ("a dispatcher died that was to settle it", (NEVER_SENT, LEASE_ENDED), False),
    ("a dispatcher died that was to cancel it", (AGAIN, WITHDRAWN, LEASE_ENDED), False),
    ("sent again by an operator who does not know", (TRIED_BEFORE, REFUSED), True),
    ("taken, in the end", (AGAIN, DELIVERED, TAKEN), False),
]


@pytest.mark.parametrize(("history", "doubt"), [row[1:] for row in DOUBTS], ids=[row[0] for row in DOUBTS])
def test_the_whole_history_says_whether_an_action_may_have_arrived(
    history: tuple[str | Receipt, ...], doubt: bool
) -> None:
    queued, _ = entry(history)
    assert in_doubt(queued.history) is doubt
    assert is_kept(queued.history) is (doubt or GAVE_UP in history or TAKEN in history)


@pytest.mark.parametrize("outcome", [Outcome.EXPIRED, Outcome.FAILED, Outcome.DROPPED])
@pytest.mark.parametrize(("history", "doubt"), [row[1:] for row in DOUBTS], ids=[row[0] for row in DOUBTS])
def test_a_fallback_follows_what_certainly_was_not_delivered_unless_its_author_wants_both(
    history: tuple[str | Receipt, ...], doubt: bool, outcome: Outcome
) -> None:
    queued, action = entry(history, fallback=(Action(id="f", customer_id="c", connector="sms"),))
    word = Settle(outcome, Cause.TAKEN)

    assert gives_way(action, queued.history, word) is not doubt
    assert gives_way(replace(action, fallback_on_unknown=True), queued.history, word)
    assert not gives_way(replace(action, fallback=()), queued.history, word)


@pytest.mark.parametrize("outcome", [Outcome.DELIVERED, Outcome.CANCELLED])
def test_no_fallback_follows_what_arrived_or_is_not_wanted_any_more(outcome: Outcome) -> None:
    fallback = Action(id="f", customer_id="c", connector="sms")
    queued, action = entry((UNKNOWN,), fallback=(fallback,), fallback_on_unknown=True)
    assert not gives_way(action, queued.history, Settle(outcome, Cause.TAKEN))


# --------------------------------------------------------------------------------------------- back-off


def test_back_off_doubles_its_ceiling_up_to_the_longest() -> None:
    policy = DeliveryPolicy(backoff_first_s=0.5, backoff_max_s=60)
    ids = [f"action-{number}" for number in range(2_000)]

    for attempts, ceiling_ms in [(1, 500), (2, 1_000), (3, 2_000), (7, 32_000), (8, 60_000), (1_000, 60_000)]:
        spans = [backoff_ms(policy, one, attempts) for one in ids]
        assert 0 <= min(spans) < 0.01 * ceiling_ms
        assert 0.99 * ceiling_ms < max(spans) <= ceiling_ms
        assert 0.47 * ceiling_ms < sum(spans) / len(spans) < 0.53 * ceiling_ms


def test_back_off_is_the_same_for_whoever_computes_it() -> None:
    policy = DeliveryPolicy()
    spans = [backoff_ms(policy, "a", attempts) for attempts in (1, 2, 3)]

    assert spans == [backoff_ms(policy, "a", attempts) for attempts in (1, 2, 3)]
    assert spans != [backoff_ms(policy, "b", attempts) for attempts in (1, 2, 3)]


def test_back_off_is_never_shorter_than_the_other_side_asked_for() -> None:
    assert backoff_ms(DeliveryPolicy(backoff_max_s=1), "a", 1, retry_after_s=120) == 120_000
    assert backoff_ms(DeliveryPolicy(), "a", 5, retry_after_s=0) == backoff_ms(DeliveryPolicy(), "a", 5)


# ---------------------------------------------------------------------------------------------- history


def test_an_attempt_is_counted_and_kept_with_what_the_other_side_said() -> None:
    queued, _ = entry()
    receipt = Receipt(result=Result.RETRY, detail="x" * 600, status=503, retry_after_s=2.5, reference="r")
    (attempt,) = attempts_of(with_attempt(queued, receipt, NOON).history)

    assert with_attempt(queued, receipt, NOON).attempts == 1
    assert (attempt.at_ms, attempt.result, attempt.status) == (NOON, Result.RETRY, 503)
    assert (attempt.retry_after_s, attempt.reference, attempt.detail) == (2.5, "r", "x" * 500)


def test_a_lease_that_ended_hides_the_attempts_before_it() -> None:
    queued, _ = entry((AGAIN, LEASE_ENDED, WITHDRAWN))
    assert last_attempt(queued.history) is None
    assert unreported(queued.history)

    queued, _ = entry((LEASE_ENDED, AGAIN, WITHDRAWN))
    assert last_attempt(queued.history) == attempts_of(queued.history)[-1]
    assert not unreported(queued.history)
    assert not unreported(())


@pytest.mark.parametrize("conclusive", [Result.DELIVERED, Result.REFUSED])
def test_a_lease_that_ended_hides_no_attempt_that_was_taken_or_refused(conclusive: Result) -> None:
    """Nothing is sent after it: the dispatcher died while the receipt waited for the log."""
    queued, _ = entry((AGAIN, Receipt(result=conclusive), LEASE_ENDED, LEASE_ENDED))
    last = last_attempt(queued.history)
    assert last is not None
    assert last.result is conclusive
    assert not unreported(queued.history)
