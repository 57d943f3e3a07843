from collections.abc import Iterator

import pytest

from services.shared.settings import KafkaSettings, RedisSettings
from tests.integration.ingress.ingresses import Ingresses, running_ingresses


@pytest.fixture(scope="session")
def ingresses(kafka: KafkaSettings, redis_settings: RedisSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingresses]:
    with running_ingresses(2, kafka, redis_settings, tmp_path_factory.mktemp("ingresses")) as running:
        yield running
