"""Where things lie: what the project ships, and the folders and files inside a state folder."""

from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
LOCAL = PROJECT / "infra" / "local"
KAFKA_JARS = LOCAL / "target" / "kafka"


@dataclass(frozen=True, slots=True)
class StatePlaces:
    """Everything one stack keeps, below its state folder."""

    root: Path

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def journal(self) -> Path:
        """The process groups that are alive, in the keeper's own lines."""
        return self.root / "processes"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def kafka(self) -> Path:
        return self.root / "kafka"

    @property
    def redis(self) -> Path:
        return self.root / "redis"

    @property
    def mlflow(self) -> Path:
        return self.root / "mlflow"

    @property
    def config_file(self) -> Path:
        """Host and admin token in Databricks' own profile format."""
        return self.root / "databrickscfg"

    @property
    def ca_bundle(self) -> Path:
        """What clients on this machine trust, where the ingress has TLS."""
        return self.root / "ca.pem"

    def log_of(self, process: str) -> Path:
        return self.logs / f"{process}.log"
