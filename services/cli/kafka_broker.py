"""Apache Kafka as one local KRaft node: its configuration, its storage and its command line."""

import base64
import subprocess
from pathlib import Path
from uuid import uuid4

from services.cli.failures import StackFailure
from services.cli.places import KAFKA_JARS, LOCAL
from services.cli.ports import LOOPBACK
from services.shared.topics import MAX_RECORD_BYTES

CONFIG_NAME = "server.properties"
FORMAT_TIMEOUT_S = 60
# Both compilers, although C1 alone (`TieredStopAtLevel=1`) is ready a second earlier: after half a minute of load C2's code takes
# 0.6 ms of CPU for a request that is alone instead of 1.1, and 18 µs instead of 28 in a crowd.
# No performance data: it would be a folder in /tmp that stays.
_JVM = (
    "-Xms96m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-Xshare:auto",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
)


def server_properties(port: int, controller_port: int, data: Path) -> str:
    """The broker's configuration. Static quorum voters, so that both ports may change from one start to the next."""
    properties = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": data,
        "auto.create.topics.enable": "false",  # a deleted pool's topic must not come back by being asked for (R10)
        "message.max.bytes": MAX_RECORD_BYTES,
        "replica.fetch.max.bytes": MAX_RECORD_BYTES,
        "group.initial.rebalance.delay.ms": 0,
        "offsets.topic.num.partitions": 8,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,  # the default is a quarter of the heap given above
    }
    return "".join(f"{key}={value}\n" for key, value in properties.items())


def prepare_storage(java: str, folder: Path, port: int, controller_port: int) -> Path:
    """Write the configuration and, the first time, format the storage. Returns the configuration file."""
    data, config = folder / "data", folder / CONFIG_NAME
    data.mkdir(parents=True, exist_ok=True)
    config.write_text(server_properties(port, controller_port, data))
    if not (data / "meta.properties").exists():
        _format(java, config)
    return config


def broker_command(java: str, config: Path) -> list[str]:
    return [*_java(java), "kafka.Kafka", str(config)]


def _format(java: str, config: Path) -> None:
    cluster_id = _new_cluster_id()
    command = [*_java(java), "kafka.tools.StorageTool", "format", "--cluster-id", cluster_id, "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise StackFailure(f"Kafka's storage could not be formatted: {said[-1]}")


def _new_cluster_id() -> str:
    """A random Kafka Uuid; like Kafka's own, none that starts with a dash, which its tools take for an option."""
    while True:
        cluster_id = base64.urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")
        if not cluster_id.startswith("-"):
            return cluster_id


def _java(java: str) -> list[str]:
    return [java, *_JVM, f"-Dlog4j2.configurationFile={LOCAL / 'log4j2.properties'}", "-cp", f"{KAFKA_JARS}/*"]
