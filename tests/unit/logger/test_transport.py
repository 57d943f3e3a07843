from pathlib import Path

from aiokafka import AIOKafkaConsumer

from services.logger.app import new_faust_app
from services.logger.settings import LoggerServiceSettings
from services.logger.transport import FETCH_BYTES, FETCH_WAIT_MS
from services.shared.settings import KafkaSettings


async def test_fausts_consumer_waits_for_more(tmp_path: Path) -> None:
    """By names that are aiokafka's own: should they change, this says so."""
    app = new_faust_app(LoggerServiceSettings(state=tmp_path, kafka=KafkaSettings(bootstrap="127.0.0.1:1")))
    thread = app.consumer._thread
    consumer = thread._create_worker_consumer(app.transport)
    thread.thread_loop.close()
    plain = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    assert (plain._fetch_min_bytes, plain._fetch_max_wait_ms) == (1, 500)
    assert (consumer._fetch_min_bytes, consumer._fetch_max_wait_ms) == (FETCH_BYTES, FETCH_WAIT_MS)
    assert consumer._group_id == app.conf.id
    await plain.stop()
    await consumer.stop()
