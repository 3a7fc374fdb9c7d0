"""The metrics of the core, in Prometheus' terms: base units, `_total` for counters."""

from prometheus_client import Counter, Gauge, Histogram

TRANSACTION_RETRIES = Counter(
    "kgl_transaction_retries_total",
    "Transactions tried again after a conflict or a lost connection",
    ["service"],
)
RELAYED = Counter("kgl_outbox_relayed_events_total", "Events acknowledged by the bus", ["service"])
OUTBOX_PENDING = Gauge("kgl_outbox_pending_events", "Events committed and not yet acknowledged", ["service"])
OUTBOX_OLDEST = Gauge(
    "kgl_outbox_oldest_seconds", "Seconds that the oldest event in the outbox has waited", ["service"]
)
RELAY_LOST = Gauge("kgl_outbox_broker_lost_data", "1 while the bus lacks what it had acknowledged", ["service"])
RELAY_REFUSED = Counter("kgl_outbox_refused_events_total", "Events that the bus will never take", ["service"])
RELAY_LATENCY = Histogram(
    "kgl_outbox_relay_seconds",
    "Seconds from the commit of an event to its acknowledgement",
    ["service"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1, 5, 30),
)
CONSUMED = Counter(
    "kgl_consumer_events_total",
    "Events settled, by how: done, superseded, duplicate, unwanted, refused (by us), held (behind another)",
    ["subscription", "outcome"],
)
CONSUMER_BATCH_SECONDS = Histogram(
    "kgl_consumer_batch_seconds", "Seconds that one poll's transaction took", ["subscription"]
)
CONSUMER_LAG = Gauge(
    "kgl_consumer_lag_events",
    "Events of its topic that a subscription has not settled, over all its processes, by a sample every 15 seconds",
    ["subscription"],
)
CONSUMER_STANDS_STILL = Gauge(
    "kgl_consumer_stands_still_events",
    "Events in partitions in which a subscription has not moved for two minutes",
    ["subscription"],
)
CONSUMER_PAUSED = Gauge(
    "kgl_consumer_paused", "1 while a subscription waits for something that is out", ["subscription"]
)
CONSUMER_BREAKER = Gauge(
    "kgl_consumer_breaker_open",
    "1 while a subscription stands still because it refused too many events",
    ["subscription"],
)
HELD_EVENTS = Gauge(
    "kgl_held_events", "Events that are retried or wait behind one, by a sample every 15 seconds", ["subscription"]
)
DEAD_LETTERS = Gauge(
    "kgl_dead_letters", "Events that wait for a decision, by a sample every 15 seconds", ["subscription", "reason"]
)
DEAD_LETTER_OLDEST = Gauge(
    "kgl_dead_letter_oldest_seconds", "For how long the oldest of them has been dead", ["subscription"]
)
DEAD_LETTER_ACTS = Counter(
    "kgl_dead_letter_acts_total",
    "Decisions about dead letters that were carried out (done), or came too late (refused)",
    ["subscription", "act", "outcome"],
)
JOBS_ENDED = Counter("kgl_jobs_total", "Job attempts by outcome", ["kind", "outcome"])
JOB_SECONDS = Histogram("kgl_job_seconds", "Seconds that one attempt took", ["kind"])
CACHE_REQUESTS = Counter(
    "kgl_cache_requests_total",
    "Questions to a cache: hit, miss, or shared with the same question that was under way",
    ["cache", "outcome"],
)
CACHE_INVALIDATIONS = Counter(
    "kgl_cache_invalidations_total",
    "Times that a whole cache was dropped because of an event",
    ["cache"],
)
CACHE_ENTRIES = Gauge("kgl_cache_entries", "Entries that a cache holds", ["cache"])
JOB_QUEUE_DEPTH = Gauge("kgl_job_queue_depth", "Jobs that wait, by a sample every 15 seconds", ["kind", "job_class"])
JOB_QUEUE_OLDEST = Gauge(
    "kgl_job_queue_oldest_seconds", "For how long the oldest waiting job has been due", ["kind", "job_class"]
)
DRIFT_ITEMS = Gauge(
    "kgl_drift_items", "What is derived and was not what its source says, in the last look of this check", ["check"]
)
