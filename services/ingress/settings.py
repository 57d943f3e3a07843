"""Settings of one ingress process."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from services.shared.addresses import parse_networks
from services.shared.settings import GIB, MIB, Section, ServiceSettings


def _networks(text: str) -> str:
    parse_networks(text)
    return text


class IngressSettings(Section):
    host: str = Field("127.0.0.1", description="address the REST API listens on")
    port: int = Field(8080, ge=0, le=65535, description="port the REST API listens on; 0: any free one")
    tls_certificate: Path | None = Field(
        None, description="PEM file of the certificate and those between it and its root; none: plain HTTP"
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key, without a password")
    allow_plain_http: bool = Field(
        False, description="listen without TLS where other machines reach it, as behind a proxy that has it; else that is refused"
    )
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = Field(
        "",
        description="addresses and networks, with commas between them, of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed",
    )
    processes: int = Field(1, ge=1, le=64, description="ingress processes that share the port")
    max_body_bytes: int = Field(16 * MIB, ge=1024, le=16 * MIB, description="largest scoring body, in bytes")
    body_timeout_s: float = Field(60, gt=0, le=600, description="seconds a request body may take to arrive, from its headers on")
    head_timeout_s: float = Field(
        30, gt=0, le=600, description="seconds a new connection, or a request begun, may take to send all its headers"
    )
    deadline_s: float = Field(
        120, gt=0, le=600, description="seconds from acceptance to the last moment an answer counts, queueing included"
    )
    wake_allowance_s: float = Field(60, ge=0, description="seconds added to the deadline of a request that meets a pool at zero replicas")
    max_queue_wait_s: float = Field(10, gt=0, description="estimated seconds in the queue above which a request is refused with 429")
    max_queries_per_second: int = Field(200, ge=1, le=1_000_000, description="scoring requests a second of the whole workspace")
    max_changes_per_5_minutes: int = Field(50, ge=1, description="management calls that change something, by the whole workspace")
    max_provisioned_concurrency: int = Field(200, ge=4, description="provisioned concurrency of the workspace, each entity by its maximum")
    max_batch_bytes: int = Field(GIB, ge=1024, description="largest file a batch is submitted with, in bytes")
    batches_disk_bytes: int = Field(
        20 * GIB, ge=1024, description="bytes that the inputs and results of batches may take on a node; more are refused"
    )
    batches_kept_h: float = Field(168, gt=0, description="hours a batch and its results are kept after its end; tables of results stay")
    async_deadline_s: float = Field(
        3600, gt=0, le=86_400, description="seconds from acceptance to the last moment an answer counts, where 'Prefer: respond-async' asks"
    )
    answer_kept_s: float = Field(
        86_400, ge=60, le=604_800, description="seconds an answer is kept that was asked for with respond-async or an Idempotency-Key"
    )
    max_kept_answers: int = Field(
        100_000, ge=1, description="answers kept in Redis at most, by the whole workspace, some 1 KiB each beside theirs"
    )
    max_kept_bytes: int = Field(
        GIB, ge=1, description="bytes of kept answers in Redis at most, by the whole workspace; one answer may exceed it"
    )
    kept_share: float = Field(0.25, gt=0, le=1, description="share of max_kept_answers and of max_kept_bytes that one caller may take")
    max_in_flight: int = Field(4096, ge=1, description="requests one process keeps waiting at most, whatever the estimate says")


class IngressServiceSettings(ServiceSettings):
    ingress: IngressSettings = IngressSettings()

    @property
    def workspace_folder(self) -> Path:
        """What users keep by the workspace API."""
        return self.state.absolute() / "workspace"

    @property
    def statements_folder(self) -> Path:
        """SQL statements and their results, for an hour each."""
        return self.state.absolute() / "statements"

    @property
    def batches_folder(self) -> Path:
        """Batches: their orders, inputs and results."""
        return self.state.absolute() / "batches"
