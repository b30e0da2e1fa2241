"""Why an action was or was not sent: a closed list, so that ledgers, metrics and people share the words."""

from __future__ import annotations

from enum import Enum


class Outcome(Enum):
    """What a decision about one rule came to."""

    SENT = "sent"
    BLOCKED = "blocked"
    DEFERRED = "deferred"
    WAITING = "waiting"
    LOST = "lost"
    ENDED = "ended"
    WITHDRAWN = "withdrawn"
    NOTED = "noted"


class Reason(Enum):
    """The one cause that settled a decision."""

    TRIGGERED = "triggered"  # nothing stood in the way
    RESUMED = "resumed"  # a wait was over
    REVALIDATED = "revalidated"  # a deferred action woke and still holds
    FALLBACK = "fallback"  # sent in place of an action that could not be
    CONSENT_MISSING = "consent_missing"
    CHANNEL_WITHDRAWN = "channel_withdrawn"  # the customer unsubscribed from it, or their address bounced
    COOLDOWN = "cooldown"
    CAP_REACHED = "cap_reached"
    QUIET_HOURS = "quiet_hours"
    ZONE_UNKNOWN = "zone_unknown"  # what goes by local time fails closed
    MOMENT_UNKNOWN = "moment_unknown"  # what a wait is to last until is missing or no moment
    MOMENT_PASSED = "moment_passed"  # what a wait is to last until has passed; its ``if_past`` says what follows
    HOLDOUT = "holdout"
    ARBITRATION_LOST = "arbitration_lost"
    ALREADY_IN_PLAY = "already_in_play"
    RUN_NOT_OPEN = "run_not_open"  # the rule acts while its run is open, and none is
    TOO_LATE = "too_late"  # the event came later than the rule tolerates
    TEMPLATE_VALUE_MISSING = "template_value_missing"
    STEP_CEILING = "step_ceiling"
    INSTANCE_CEILING = "instance_ceiling"
    WAITING_FOR_TIME = "waiting_for_time"
    WAITING_FOR_EVENT = "waiting_for_event"
    EXITED = "exited"  # exit_when happened
    GOAL_REACHED = "goal_reached"
    RUN_ENDED = "run_ended"
    RESTARTED = "restarted"  # a newer trigger of the same rule and run took its place
    COMPLETED = "completed"
    TRAIT_SET = "trait_set"
    CONSENT_SET = "consent_set"
    STAGE_SET = "stage_set"
    STEP_GONE = "step_gone"  # the version in force no longer has the step that the play would go on at
    CONSENT_WITHDRAWN = "consent_withdrawn"
    LATE_EVENT = "late_event"  # an event of the past that would have prevented the decision
    REENTRY_WAIT = "reentry_wait"
    DUPLICATE_EVENT = "duplicate_event"
    EXECUTION_FAILED = (
        "execution_failed"  # the connector's receipt says that it was not, or may not have been, delivered
    )
    ARRIVED_LATE = "arrived_late"  # a late receipt: the action that a fallback took the place of has arrived
    MERGED = "merged"  # the customer was united with another id of theirs
    MERGE_REFUSED = "merge_refused"  # two ids stay two customers; the detail says why
    ERASED = "erased"  # the customer was erased; the line is the only one that stays
