"""The management routes over a control log without a broker, as tests of routes call them."""

from pathlib import Path

from fastapi import FastAPI

from services.ingress.kept_answers import KeptAnswers
from services.ingress.management import Management, management_app
from services.ingress.observability import Observability
from services.ingress.pool_watch import PoolWatch
from services.ingress.rate_limiter import RateLimiter
from services.ingress.registry import Registry
from services.ingress.request_log import RequestLog
from services.ingress.settings import IngressServiceSettings, IngressSettings
from services.shared.endpoints import Endpoint
from services.shared.event_log import EventLog
from services.shared.presence import PoolEvent, PoolReport
from services.shared.redis_clients import new_redis
from services.shared.settings import KafkaSettings, RedisSettings

QUOTA = 8


class NoReports(PoolWatch):
    def __init__(self) -> None:
        """Nothing was ever heard from the scaler."""

    def reports(self) -> dict[str, PoolReport]:
        return {}

    def table_faults(self) -> dict[str, str]:
        return {}

    async def told(self, endpoint: Endpoint) -> list[PoolEvent]:
        return []


def app_over(log: EventLog, registry: Registry, folder: Path, changes: int = 1_000) -> FastAPI:
    """Redis cannot be reached, and there is no producer."""
    pools, redis = NoReports(), new_redis(RedisSettings(url="redis://127.0.0.1:1"))
    settings = IngressServiceSettings(state=folder, ingress=IngressSettings(max_provisioned_concurrency=QUOTA))
    management = Management(settings, log, registry, pools, RateLimiter(redis, 200, changes), KeptAnswers(redis, settings.ingress))
    return management_app(management, Observability(redis, log, pools, RequestLog(KafkaSettings())))
