"""The first model's bodies through the whole stack: ingress, log and host add nothing to the worker's answer, and take nothing away."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import mlflow
import pytest

from tests.conformance.bodies import AFFINE, AT_THE_DOOR, Case
from tests.conformance.deviations import check
from tests.conformance.oracle import Seen, ask_mlflow, headers_of, seen
from tests.e2e.conftest import Models, Stack, wait_for_update

CASES = [*AFFINE, *AT_THE_DOOR]
ENDPOINT = "/serving-endpoints/fidelity"


@dataclass(frozen=True)
class Served:
    client: httpx.Client
    mlflow: dict[str, Seen]


@pytest.fixture(scope="module")
def served(stack: Stack, models: Models) -> Iterator[Served]:
    mlflow.set_tracking_uri(stack.mlflow)  # tests with a stack of their own set theirs
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")  # MLflow's server sets it for good
        theirs = asyncio.run(ask_mlflow(f"models:/{models.name}/{models.double}", CASES))
    entity = {"entity_name": models.name, "entity_version": models.double, "workload_size": "Small"}
    with stack.client() as client:
        made = client.post("/api/2.0/serving-endpoints", json={"name": "fidelity", "config": {"served_entities": [entity]}})
        assert made.status_code == 200, made.text
        wait_for_update(client, "fidelity")
        yield Served(client, theirs)
        client.delete(f"/api/2.0{ENDPOINT}")


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_the_stack_answers_as_mlflow_does(served: Served, case: Case) -> None:
    answer = served.client.request(case.method, f"{ENDPOINT}/invocations", content=case.body, headers=headers_of(case))
    check(case.deviation, served.mlflow[case.id], seen(answer.status_code, answer.headers["content-type"], answer.content))
