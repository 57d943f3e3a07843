from collections.abc import AsyncIterator
from pathlib import Path

import mlflow.pyfunc
import pytest

from services.shared.settings import KafkaSettings, RedisSettings
from tests.integration.scorer.bench import Bench, open_bench


@pytest.fixture(scope="session")
def scripted_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "m"
    script = Path(__file__).with_name("scripted_model.py")
    mlflow.pyfunc.save_model(folder, python_model=str(script), pip_requirements=["mlflow-skinny", "pandas"])
    return folder


@pytest.fixture
async def bench(kafka: KafkaSettings, redis_settings: RedisSettings, tmp_path: Path, scripted_model: Path) -> AsyncIterator[Bench]:
    async with open_bench(kafka, redis_settings, tmp_path, scripted_model) as bench:
        yield bench
