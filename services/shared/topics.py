"""Every topic, consumer group and Redis key name, and the making of the topics that always exist."""

from dataclasses import dataclass
from zlib import crc32

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from services.shared.errors import SettingsInvalid
from services.shared.settings import MIB, KafkaSettings

CONTROL = "penstock.control"
OUTCOMES = "penstock.outcomes"
EVENTS = "penstock.events"
DEAD_LETTERS = "penstock.dead-letters"
BATCH_RESULTS = "penstock.batch-results"

SCALER_GROUP = "penstock.scaler"  # its one member that owns the control log's partition leads
SUBMITTED_GROUP = "penstock.submitted"  # how far the public topics were read; it has no members
SUBMISSIONS_GROUP = "penstock.submissions"  # as the scaler's
BATCHES_GROUP = "penstock.batches"  # how far the results of batches were read; it has no members
LOGGER_GROUP = "penstock.logger"

KEPT_ROOM = "penstock:kept-room"  # hash: how much is kept of answers, and until when (`kept_answers.py`)
INGRESSES_KEY = "penstock:ingresses"  # hash: ingress id → IngressReport
TABLE_FAULTS_KEY = "penstock:table-faults"  # hash: catalog.schema.table → why it cannot be written
NUDGE_CHANNEL = "penstock:nudge"  # pub/sub, best effort: pool ids with a request and no replica; lag stays the truth

# A 16 MiB body, base64 growth of nothing (bytes stay bytes), plus headers; one number for topic, producer and consumer (traps H4).
MAX_RECORD_BYTES = 18 * MIB
HOUR_MS = 3_600_000
MIN_PARTITIONS = 4
PUBLIC_PARTITIONS = 4  # to begin with; whoever needs more adds them by Kafka's tools


def online_topic(pool_id: str) -> str:
    return f"penstock.pool.{pool_id}.online"


def bulk_topic(pool_id: str) -> str:
    return f"penstock.pool.{pool_id}.bulk"


@dataclass(frozen=True, slots=True)
class Queue:
    """Where requests of a pool wait, and the consumer group by which its replicas take them."""

    topic: str
    group: str


def online_queue(pool_id: str) -> Queue:
    return Queue(online_topic(pool_id), f"penstock.pool.{pool_id}")


def bulk_queue(pool_id: str) -> Queue:
    return Queue(bulk_topic(pool_id), f"penstock.pool.{pool_id}.bulk")


def queues_of(pool_id: str) -> tuple[Queue, Queue]:
    return online_queue(pool_id), bulk_queue(pool_id)


def partitions_for(max_replicas: int) -> int:
    """Of a pool's topic: at least as many as the pool may have replicas, so that none of them sits idle (design §3)."""
    return max(MIN_PARTITIONS, max_replicas)


def requests_topic(endpoint: str) -> str:
    return f"penstock.endpoint.{endpoint}.requests"


def results_topic(endpoint: str) -> str:
    return f"penstock.endpoint.{endpoint}.results"


def reply_stream(ingress_id: str) -> str:
    return f"penstock:replies:{ingress_id}"


def spent_key(limit: str, window: int) -> str:
    return f"penstock:spent:{limit}:{window}"


def tally_key(endpoint_id: str) -> str:
    return f"penstock:tally:{endpoint_id}"


def recent_key(endpoint_id: str, record: int) -> str:
    return f"penstock:recent:{endpoint_id}:{record}"


def cancelled_stream(pool_id: str) -> str:
    return f"penstock:cancelled:{pool_id}"


def replica_key(replica_id: str) -> str:
    return f"penstock:replica:{replica_id}"


def pool_key(pool_id: str) -> str:
    return f"penstock:pool:{pool_id}"


def pool_events_key(pool_id: str) -> str:
    return f"penstock:pool-events:{pool_id}"


def kept_answer(request_id: str) -> str:
    return f"penstock:answer:{request_id}"


def kept_room_of(digest: str) -> str:
    return f"{KEPT_ROOM}:{digest}"


def idempotency_key(digest: str) -> str:
    return f"penstock:idempotency:{digest}"


def attempts_key(request_id: str) -> str:
    return f"penstock:attempts:{request_id}"


def outcome_partition(pool_id: str, partitions: int) -> int:
    """R4: stable over restarts and machines, so that every delivery of one id is logged by one writer.

    By pool alone: what is settled together is one record, which costs the logger as much as its rows do.
    """
    return crc32(pool_id.encode()) % partitions


async def ensure_topics(settings: KafkaSettings) -> None:
    """Make the topics that always exist. A repeat changes nothing; any refusal other than «exists already» is raised.

    Raises SettingsInvalid when the outcomes topic has another number of partitions: with it, a request delivered again would
    meet another writer (R4).
    """
    copies = settings.replication_factor
    topics = [
        NewTopic(CONTROL, 1, copies, topic_configs=_kept(None)),
        NewTopic(OUTCOMES, settings.outcome_partitions, copies, topic_configs=_kept(settings.outcome_retention_h)),
        NewTopic(EVENTS, 1, copies, topic_configs=_kept(settings.event_retention_h)),
        NewTopic(DEAD_LETTERS, 1, copies, topic_configs=_kept(settings.dead_letter_retention_h)),
        NewTopic(BATCH_RESULTS, 1, copies, topic_configs=_kept(settings.pool_retention_h)),
    ]
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
    await admin.start()
    try:
        await create_topics(admin, topics)
        [outcomes] = await admin.describe_topics([OUTCOMES])
    finally:
        await admin.close()
    there = len(outcomes["partitions"])
    if there not in (0, settings.outcome_partitions):  # 0: made a moment ago, and not every broker has heard of it
        raise SettingsInvalid(
            f"PENSTOCK_KAFKA_OUTCOME_PARTITIONS is {settings.outcome_partitions}, but {OUTCOMES} has {there} partitions: set {there}"
        )


def pool_topic(queue: Queue, partitions: int, settings: KafkaSettings) -> NewTopic:
    return NewTopic(queue.topic, partitions, settings.replication_factor, topic_configs=_kept(settings.pool_retention_h))


async def make_public_topics(endpoint: str, settings: KafkaSettings) -> None:
    """A repeat changes nothing; raises KafkaError."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
    try:
        await admin.start()
        await create_topics(admin, public_topics(endpoint, settings))
    finally:
        await admin.close()


def public_topics(endpoint: str, settings: KafkaSettings) -> list[NewTopic]:
    """Of an endpoint: where others submit, and where they read what came of it. The broker's clock says when that was (R5)."""
    kept, copies = _kept(settings.pool_retention_h), settings.replication_factor
    return [
        NewTopic(requests_topic(endpoint), PUBLIC_PARTITIONS, copies, topic_configs=kept | {"message.timestamp.type": "LogAppendTime"}),
        NewTopic(results_topic(endpoint), PUBLIC_PARTITIONS, copies, topic_configs=kept),
    ]


async def create_topics(admin: AIOKafkaAdminClient, topics: list[NewTopic]) -> None:
    """Create what is not there yet; raises the broker's error for any other refusal."""
    response = await admin.create_topics(topics)
    for name, code, *rest in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise error(f"{name}: {rest[0] if rest else ''}")


def _kept(hours: float | None) -> dict[str, str]:
    """Topic configuration: kept for `hours` (None: for ever), large enough for the largest request."""
    return {
        "cleanup.policy": "delete",
        "retention.ms": "-1" if hours is None else str(int(hours * HOUR_MS)),
        "max.message.bytes": str(MAX_RECORD_BYTES),
    }
