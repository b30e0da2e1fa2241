"""The catalogue of metrics: closed, commented, the same on every role.

A dashboard or an alert may name nothing that is not here, and everything here is emitted by some role;
``tests/project`` checks both. Spans are seconds; counters end in ``_total``.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, Info

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SLOW = (*_FAST, 30, 60, 300, 1800)

# ------------------------------------------------------------------------------------------ every role
PROCESS = Info("journey_process", "Role, version and workspace of this process.")

# --------------------------------------------------------------------------------------------- gateway
EVENTS_INGESTED = Counter(
    "journey_events_ingested_total",
    "Events that the log has acknowledged, by the form they came in.",
    ["form"],
)
EVENTS_REFUSED = Counter(
    "journey_events_refused_total",
    "Events refused, at HTTP (origin gateway) or on the topic (worker).",
    ["origin", "code"],
)
INGEST_SECONDS = Histogram(
    "journey_ingest_seconds",
    "From the request's arrival to the log's acknowledgement.",
    ["route"],
    buckets=_FAST,
)
HTTP_RESPONSES = Counter("journey_http_responses_total", "Answers of the gateway.", ["route", "status"])

# ---------------------------------------------------------------------------------------------- worker
EVENTS_PROCESSED = Counter("journey_events_processed_total", "Events applied to a customer's state, once each.")
EVENTS_DUPLICATE = Counter("journey_events_duplicate_total", "Events whose id had been applied before.")
TIMERS_FIRED = Counter("journey_timers_fired_total", "Timers that came due and were decided.")
TIMER_ERROR_SECONDS = Histogram(
    "journey_timer_error_seconds", "From a timer's due time to its decision.", buckets=_SLOW
)
DECISIONS = Counter("journey_decisions_total", "Decisions about rules.", ["rule", "outcome", "reason"])
ACTIONS_EMITTED = Counter("journey_actions_emitted_total", "Actions published.", ["connector", "kind"])
EVENT_TO_ACTION_SECONDS = Histogram(
    "journey_event_to_action_seconds",
    "From the log's stamp of an event to its published actions.",
    buckets=_SLOW,
)
BATCH_EVENTS = Histogram("journey_batch_events", "Records per commit.", buckets=(1, 5, 10, 25, 50, 100, 250, 500, 1000))
COMMIT_SECONDS = Histogram("journey_commit_seconds", "One atomic write of a batch (P1).", buckets=_FAST)
PUBLISH_SECONDS = Histogram("journey_publish_seconds", "Publishing a batch's outbox, acknowledged (P2).", buckets=_FAST)
PARTITION_LAG = Gauge("journey_partition_lag_records", "Records of the partition not yet applied.", ["partition"])
PARTITION_CLOCK_LAG = Gauge(
    "journey_partition_clock_lag_seconds", "How far the partition's clock trails the present.", ["partition"]
)
PARTITIONS_OWNED = Gauge("journey_partitions_owned", "Partitions that this worker owns.")
FENCED = Counter("journey_fenced_total", "Writes refused because another process owns the partition.")
STORE_RETRIES = Counter("journey_store_retries_total", "Calls repeated because a dependency did not answer.", ["port"])
RULEBOOK = Info("journey_rulebook", "The rulebook in force.")
RULEBOOK_LOADS = Counter("journey_rulebook_loads_total", "Attempts to switch the rulebook.", ["outcome"])

# ------------------------------------------------------------------------------------------ dispatcher
DELIVERIES = Counter("journey_deliveries_total", "Actions settled.", ["connector", "outcome"])
DELIVERY_ATTEMPTS = Counter("journey_delivery_attempts_total", "Calls to a connector.", ["connector", "result"])
DELIVERY_SECONDS = Histogram("journey_delivery_seconds", "One call to a connector.", ["connector"], buckets=_SLOW)
DECISION_TO_DELIVERY_SECONDS = Histogram(
    "journey_decision_to_delivery_seconds",
    "From the decision (or not_before) to the receipt.",
    ["connector"],
    buckets=_SLOW,
)
QUEUE_DEPTH = Gauge("journey_queue_depth", "Actions queued or leased.", ["connector"])
IN_FLIGHT = Gauge("journey_in_flight", "Calls under way.", ["connector"])
DEAD_LETTERS = Counter("journey_dead_letters_total", "Records moved to journey.dead-letters.", ["origin"])
