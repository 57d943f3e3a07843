"""What one stack consists of: its addresses, and how each of its processes is run."""

import errno
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from uuid import NAMESPACE_URL, uuid5

from services.cli import spare_replica
from services.cli.certificate import choose_name, names_in, write_ca_bundle
from services.cli.child import ChildSpec
from services.cli.failures import StackFailure
from services.cli.kafka_broker import CONFIG_NAME, broker_command, prepare_storage
from services.cli.keeper_link import KeeperLink
from services.cli.mlflow_server import mlflow_command
from services.cli.ports import LOOPBACK, claim_port, free_port
from services.cli.preflight import find_java, require_disk, require_storage
from services.cli.probes import kafka_answers, mlflow_answers, redis_answers
from services.cli.redis_server import find_redis, prepare_redis, redis_command
from services.cli.settings import StackSettings
from services.cli.spare_replica import LONG_REST_S, REST_S, SpareReplica, SpareReplicas
from services.ingress.listening import require_safe
from services.shared.health import HEALTH_VARIABLE
from services.shared.readiness import LISTEN_VARIABLE
from services.shared.settings import PREFIX

GRACE_S = 10.0  # on top of what a process may have to finish
KAFKA_GRACE_S = 30.0


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the parts of this stack are reached, whether started here or external."""

    host: str
    kafka: str
    redis: str
    mlflow: str


class Stack:
    """Claims what the stack needs before anything starts: disk, ports, Java. Raises StackFailure for what is missing."""

    def __init__(self, settings: StackSettings) -> None:
        self.settings = settings
        self.places = settings.places
        require_safe(settings.ingress)
        require_disk(self.places.root)
        require_storage(settings.tables_place)
        kafka, redis, mlflow = settings.kafka, settings.redis, settings.mlflow
        self._kafka_port = None if kafka.bootstrap else claim_port(kafka.port, "Kafka", f"{PREFIX}KAFKA_PORT")
        self._redis_port = None if redis.url else claim_port(redis.port, "Redis", f"{PREFIX}REDIS_PORT")
        self._mlflow_port = None if mlflow.tracking_uri else claim_port(mlflow.port, "MLflow", f"{PREFIX}MLFLOW_PORT")
        self._java = "" if kafka.bootstrap else find_java()
        self._redis_server = "" if redis.url else find_redis()
        self.listening = bind_ingress(settings)
        if settings.ingress.tls_certificate:
            write_ca_bundle(self.places.ca_bundle, settings.ingress.tls_certificate)
        self.addresses = Addresses(
            host=ingress_url(self.listening.getsockname()[:2], settings.ingress.tls_certificate),
            kafka=kafka.bootstrap or f"{LOOPBACK}:{self._kafka_port}",
            redis=redis.url or f"redis://{LOOPBACK}:{self._redis_port}/0",
            mlflow=mlflow.tracking_uri or f"http://{LOOPBACK}:{self._mlflow_port}",
        )
        self._environment = child_environment(os.environ, settings, self.addresses)

    def server_specs(self) -> list[ChildSpec]:
        """The servers that are started here; an external one has no process."""
        return [spec for spec in (self._kafka(), self._redis(), self._mlflow()) if spec is not None]

    def service_specs(self) -> list[ChildSpec]:
        ingress = self.settings.ingress
        answers_s = ingress.deadline_s + ingress.wake_allowance_s + GRACE_S
        return [
            *(
                self._service(f"ingress-{i}", "ingress", answers_s, descriptors={LISTEN_VARIABLE: self.listening.fileno()})
                for i in range(ingress.processes)
            ),
            self._service("submissions", "ingress.submissions", GRACE_S),
            self._service(
                "scaler", "scaler", GRACE_S, {f"{PREFIX}SCALER_INSTANCE": self.settings.scaler.instance or self._scaler_instance}
            ),
            self._service("logger", "logger", self.settings.logger.drain_s + GRACE_S),
        ]

    @property
    def _scaler_instance(self) -> str:
        """The same at each start of this stack, and of no other."""
        return f"scaler-{uuid5(NAMESPACE_URL, f'{socket.gethostname()}/{self.places.root.resolve()}').hex}"

    def replica_spec(self, replica_id: str, pool_id: str, refusing: bool) -> ChildSpec:
        variables = {
            f"{PREFIX}SCORER_REPLICA_ID": replica_id,
            f"{PREFIX}SCORER_POOL_ID": pool_id,
            f"{PREFIX}SCORER_REFUSING": str(int(refusing)),
        }
        spec = self._service(f"scorer-{replica_id}", "scorer", self.settings.scorer.evaluation_limit_s + GRACE_S, variables)
        return replace(spec, may_leave=True, must_start=False)

    def spare_replicas(self, keeper: KeeperLink) -> SpareReplicas:
        log_file = self.places.log_of(spare_replica.NAME)
        rests_s = [REST_S, *(LONG_REST_S * place for place in range(1, self.settings.scorer.spare_replicas))]
        return SpareReplicas([SpareReplica(self._environment, log_file, keeper, rest_s) for rest_s in rests_s])

    def _service(
        self,
        name: str,
        module: str,
        grace_s: float,
        variables: Mapping[str, str] = MappingProxyType({}),
        descriptors: Mapping[str, int] = MappingProxyType({}),
    ) -> ChildSpec:
        health = socket.create_server((LOOPBACK, 0))
        return ChildSpec(
            name=name,
            command=[sys.executable, "-m", f"services.{module}"],
            environment={**self._environment, **variables},
            log_file=self.places.log_of(name),
            grace_s=grace_s,
            descriptors={**descriptors, HEALTH_VARIABLE: health.fileno()},
            health=health,
        )

    def _kafka(self) -> ChildSpec | None:
        if self._kafka_port is None:
            return None
        folder, port, controller_port = self.places.kafka, self._kafka_port, free_port()
        return ChildSpec(
            name="kafka",
            command=broker_command(self._java, folder / CONFIG_NAME),
            environment=self._environment,
            log_file=self.places.log_of("kafka"),
            grace_s=KAFKA_GRACE_S,
            prepare=lambda: prepare_storage(self._java, folder, port, controller_port),
            probe=lambda: kafka_answers(self.addresses.kafka),
        )

    def _redis(self) -> ChildSpec | None:
        if self._redis_port is None:
            return None
        folder, port = self.places.redis, self._redis_port
        return ChildSpec(
            name="redis",
            command=redis_command(self._redis_server, folder / "redis.conf"),
            environment=self._environment,
            log_file=self.places.log_of("redis"),
            grace_s=GRACE_S,
            prepare=lambda: prepare_redis(folder, port),
            probe=lambda: redis_answers(self.addresses.redis),
        )

    def _mlflow(self) -> ChildSpec | None:
        if self._mlflow_port is None:
            return None
        return ChildSpec(
            name="mlflow",
            command=mlflow_command(self.places.mlflow, self._mlflow_port),
            environment=self._environment,
            log_file=self.places.log_of("mlflow"),
            grace_s=GRACE_S,
            probe=lambda: mlflow_answers(self.addresses.mlflow),
        )


def child_environment(environ: Mapping[str, str], settings: StackSettings, addresses: Addresses) -> dict[str, str]:
    """What every process gets: the user's variables, with the addresses and folders of this stack made definite."""
    kept = {key: value for key, value in environ.items() if key != "PYTHONDONTWRITEBYTECODE"}  # 8 s an import of MLflow (traps A1)
    kept |= {
        "PYTHONUNBUFFERED": "1",
        f"{PREFIX}STATE": str(settings.places.root),
        f"{PREFIX}KAFKA_BOOTSTRAP": addresses.kafka,
        f"{PREFIX}REDIS_URL": addresses.redis,
        f"{PREFIX}MLFLOW_TRACKING_URI": addresses.mlflow,
    }
    if settings.config:
        kept[f"{PREFIX}CONFIG"] = str(settings.config.absolute())
    if settings.ingress.tls_certificate and settings.ingress.tls_key:
        kept[f"{PREFIX}INGRESS_TLS_CERTIFICATE"] = str(settings.ingress.tls_certificate.absolute())
        kept[f"{PREFIX}INGRESS_TLS_KEY"] = str(settings.ingress.tls_key.absolute())
    return kept


def bind_ingress(settings: StackSettings) -> socket.socket:
    """The listening socket all ingress processes share; bound here, so that a restart of one refuses nobody."""
    host, port = settings.ingress.host, settings.ingress.port
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StackFailure(
                f"port {port} for the REST API is in use; set {PREFIX}INGRESS_PORT to another one (0: any free one)"
            ) from error
        raise StackFailure(f"the REST API cannot listen on {host} port {port}: {error.strerror}") from error


def ingress_url(bound: tuple[str, int], certificate: Path | None) -> str:
    """What a client on this machine uses; a socket on all addresses is reached by loopback, one with a certificate by a name in it."""
    host, port = bound
    if host in ("0.0.0.0", "::"):
        host = LOOPBACK
    if certificate:
        host = choose_name(host, names_in(certificate))
    return f"{'https' if certificate else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
