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
KEY_REFUSALS = Counter(
    "journey_key_refusals_total",
    "Requests refused for who calls: missing, unknown, expired, role, workspace, origin, rate.",
    ["reason"],
)
KEY_FILE_BROKEN = Gauge(
    "journey_key_file_broken", "1 while the key file cannot be read and the keys stay as they were before."
)
OUTCOMES = Counter(
    "journey_outcomes_total",
    "Reports of providers that the log has acknowledged as events.",
    ["connector", "type"],
)
CALLBACKS_REFUSED = Counter(
    "journey_callbacks_refused_total",
    "Callbacks of providers not believed or not read: unsigned, forged, not_understood, unreadable.",
    ["connector", "reason"],
)

# ---------------------------------------------------------------------------------------------- worker
EVENTS_PROCESSED = Counter("journey_events_processed_total", "Events applied to a customer's state, once each.")
RECORDS_FOREIGN = Counter(
    "journey_records_foreign_total", "Records of journey.events that belong to other workspaces, left alone."
)
PRODUCER_REFUSED_SHARE = Gauge(
    "journey_producer_refused_share",
    "Share of a producer's latest events on the topic that is refused; only of those whose share is, or just was, too "
    "large. The producer is the name of the key; (direct) without gateway, (other) beyond 200.",
    ["producer"],
)
OWN_RECORDS_REFUSED = Counter(
    "journey_own_records_refused_total",
    "Events that the engine itself had put on the topic (merges, receipts, outcomes) and then refused: a fault of it.",
)
EVENTS_DUPLICATE = Counter("journey_events_duplicate_total", "Events whose id had been applied before.")
EVENTS_CROWDED = Counter(
    "journey_events_crowded_total",
    "Events of customers with so many events in a day that an older one, sent again, might count twice.",
)
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
CALLBACK_WAIT_SECONDS = Histogram(
    "journey_callback_wait_seconds",
    "From the decision to the first call, of connectors with lines.",
    ["connector", "group"],
    buckets=(1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14_400, 43_200, 86_400),
)
PROMISES = Counter(
    "journey_promises_total",
    "Deadlines of settled actions: kept, broken (passed while it waited) or unkeepable (given up before).",
    ["connector", "group", "outcome"],
)
SLOTS_BOOKED = Counter(
    "journey_slots_booked_total", "Places given in the slots of a next opening.", ["connector", "group"]
)
# Those of a queue are one figure that every dispatcher reports alike. The group '' is the whole connector.
LINES = Gauge("journey_lines", "How many calls there may be at once.", ["connector", "group"])
LINES_BUSY = Gauge("journey_lines_busy", "Lines taken by calls, in flight or talking.", ["connector", "group"])
QUEUE_DEPTH = Gauge("journey_queue_depth", "Actions that wait in the queue, due or not.", ["connector"])
QUEUE_OLDEST_READY_SECONDS = Gauge(
    "journey_queue_oldest_ready_seconds", "How long the oldest of the actions that are due has waited.", ["connector"]
)
CONNECTORS_UNSTARTABLE = Gauge(
    "journey_connectors_unstartable",
    "Connectors of the rulebook in force that this process could not start with; it goes on with the earlier ones.",
)
IN_FLIGHT = Gauge("journey_in_flight", "Calls under way.", ["connector"])
DEAD_LETTERS = Counter("journey_dead_letters_total", "Records moved to journey.dead-letters.", ["origin"])
