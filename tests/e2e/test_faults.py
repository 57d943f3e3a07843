"""Faults under load: nothing accepted is lost, no answer is wrong, every request is one row."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from bench.penstock import answers_everywhere
from bench.table_watch import TableWatch
from tests.e2e.conftest import COMPACT_COMMITS, Deployed, Models, Stack, eventually, wait_for_update
from tests.e2e.load import Ledger, Load, Sent, judge, score

Deploy = Callable[..., Deployed]
READABLE_WITHIN_S = 10.0  # what is promised of the slowest row in a hundred


def double(x: float) -> set[float]:
    return {2 * x}


def say(capsys: pytest.CaptureFixture[str], text: object) -> None:
    with capsys.disabled():
        print(f"\n  {os.environ.get('PYTEST_CURRENT_TEST', '').split('::')[-1].split(' ')[0]}: {text}")


async def test_steady_load_can_be_read_in_seconds_from_few_files(stack: Stack, deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = deploy()
    with TableWatch(endpoint.table) as watch:
        async with Load(endpoint.invocations, stack.token, clients=8, pause_s=0.15) as load:
            await load.answers(1_000)
        verdict = await judge(load.ledger, endpoint.table, double)
    ages_s = np.concatenate(watch.ages_s)
    p99_s = float(np.quantile(ages_s, 0.99))
    say(capsys, f"{verdict}; rows read after {p99_s:.1f} s (p99), {watch.most_files} files at most in {watch.versions} versions")
    assert verdict.clean
    assert not load.ledger.not_ok()
    assert len(ages_s) == verdict.answered
    assert p99_s < READABLE_WITHIN_S
    assert watch.most_files <= COMPACT_COMMITS + 2 < watch.versions  # what is merged is a file of each day


async def test_killed_model_workers_cost_no_request(stack: Stack, deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = deploy()
    async with Load(endpoint.invocations, stack.token) as load:
        for _ in range(4):
            await load.answers(50)
            for worker in stack.workers(endpoint.id):
                _kill(worker)
            await asyncio.sleep(2)
        await load.answers(50)
    forked_by = {psutil.Process(worker).ppid() for worker in stack.workers(endpoint.id)}
    assert forked_by
    assert forked_by <= set(stack.pids("warm")), "those that came back were forked"
    verdict = await judge(load.ledger, endpoint.table, double)
    say(capsys, verdict)
    assert verdict.clean
    assert not load.ledger.not_ok()


async def test_a_killed_host_costs_only_time(stack: Stack, deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = deploy()
    async with Load(endpoint.invocations, stack.token) as load:
        await load.answers(50)
        for host in stack.pids(f"scorer-{endpoint.id}"):
            _kill(host)
        await load.answers(100)
    verdict = await judge(load.ledger, endpoint.table, double)
    say(capsys, verdict)
    assert verdict.clean
    assert not load.ledger.not_ok()


async def test_a_host_that_dies_each_time_it_is_ready_is_told_of_until_it_stays_up(stack: Stack, deploy: Deploy) -> None:
    """It answers between its deaths, so that by its reports alone nothing was ever wrong."""
    endpoint, neighbour = deploy(), deploy()

    def state() -> tuple[str, str]:
        [entity] = _state_of(stack, endpoint)["config"]["served_entities"]
        return entity["state"]["deployment"], entity["state"]["deployment_state_message"]

    def dies_until(deployment: str) -> bool:
        for process in stack.status()["processes"]:
            if process["name"].startswith(f"scorer-{endpoint.id}") and process["state"] == "ready":
                _kill(process["pid"])
        return state()[0] == deployment

    async with Load(neighbour.invocations, stack.token, clients=1, pause_s=0.2) as load:
        for told in ("DEPLOYMENT_RECOVERING", "DEPLOYMENT_FAILED"):
            await eventually(partial(dies_until, told))
            assert "dies again and again; its log" in state()[1]
    assert load.ledger.answered()
    assert not load.ledger.not_ok()
    await eventually(lambda: state() == ("DEPLOYMENT_READY", ""), timeout_s=120)


async def test_a_logger_killed_every_three_seconds(stack: Stack, deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = deploy()
    async with Load(endpoint.invocations, stack.token) as load:
        for _ in range(4):
            await load.answers(50)
            for logger in stack.pids("logger"):
                _kill(logger)
            await asyncio.sleep(3)
    verdict = await judge(load.ledger, endpoint.table, double)
    say(capsys, verdict)
    assert verdict.clean
    assert not load.ledger.not_ok()


async def test_rolling_restart_of_two_ingress_processes(stack: Stack, deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = deploy()
    async with Load(endpoint.invocations, stack.token) as load:
        for name in ("ingress-0", "ingress-1"):
            await load.answers(50)
            [old] = stack.pids(name)
            os.kill(old, signal.SIGTERM)
            await eventually(partial(_is_replaced, stack, name, old))
        await load.answers(50)
    verdict = await judge(load.ledger, endpoint.table, double, may_break=True)
    say(capsys, f"{verdict}; broken connections {len(load.ledger.broken())}")
    assert verdict.clean
    assert not load.ledger.not_ok()


async def test_kill_of_one_of_two_ingress_processes(stack: Stack, deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = deploy()
    async with Load(endpoint.invocations, stack.token) as load:
        await load.answers(50)
        [old] = stack.pids("ingress-0")
        _kill(old)
        await load.answers(100)
        await eventually(partial(_is_replaced, stack, "ingress-0", old))
    verdict = await judge(load.ledger, endpoint.table, double, may_break=True)
    say(capsys, f"{verdict}; broken connections {len(load.ledger.broken())}")
    assert verdict.clean
    assert not load.ledger.not_ok()


async def test_redis_restart(stack: Stack, deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = deploy()
    async with Load(endpoint.invocations, stack.token) as load:
        await load.answers(50)
        [redis] = stack.pids("redis")
        _kill(redis)
        await load.answers(200)
    verdict = await judge(load.ledger, endpoint.table, double)
    say(capsys, verdict)
    assert verdict.clean
    assert not load.ledger.not_ok()


async def test_update_under_load_costs_no_request(stack: Stack, deploy: Deploy, models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = deploy()
    async with Load(endpoint.invocations, stack.token) as load:
        await load.answers(50)
        await asyncio.to_thread(_update, stack, endpoint, models, models.triple)
        await load.answers(100)
    verdict = await judge(load.ledger, endpoint.table, lambda x: {2 * x, 3 * x})
    say(capsys, verdict)
    assert verdict.clean
    assert not load.ledger.not_ok()
    last = [s for s in load.ledger.sent if s.status == 200][-20:]
    assert all(s.prediction == 3 * s.x for s in last), "the new version answers after the switch"


async def test_a_failing_update_leaves_the_old_config_serving(
    stack: Stack, deploy: Deploy, models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = deploy()
    async with Load(endpoint.invocations, stack.token) as load:
        await load.answers(50)
        found = await asyncio.to_thread(_update, stack, endpoint, models, models.unloadable)
        await load.answers(50)
    verdict = await judge(load.ledger, endpoint.table, double)
    say(capsys, verdict)
    assert verdict.clean
    assert not load.ledger.not_ok()
    assert found["state"]["ready"] == "READY"
    assert found["state"]["config_update"] == "UPDATE_FAILED"
    assert found["config"]["config_version"] == 1
    [culprit] = found["pending_config"]["served_entities"]
    assert culprit["state"]["deployment"] == "DEPLOYMENT_FAILED"
    assert "the weights are not here" in culprit["state"]["deployment_state_message"]


async def test_a_burst_at_zero_is_answered_without_an_error(stack: Stack, deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = deploy(scale_to_zero_enabled=True)
    await eventually(lambda: not stack.pids(f"scorer-{endpoint.id}"))
    asleep = {"deployment": "DEPLOYMENT_READY", "deployment_state_message": "Scaled to zero"}
    await eventually(lambda: _state_of(stack, endpoint)["config"]["served_entities"][0]["state"] == asleep)
    assert _state_of(stack, endpoint)["state"]["ready"] == "READY"
    ledger = Ledger([Sent(f"burst-{i}", float(i + 1)) for i in range(100)])
    async with _http(stack) as http:
        await asyncio.gather(*(score(http, endpoint.invocations, sent) for sent in ledger.sent))
    verdict = await judge(ledger, endpoint.table, double)
    slowest = max(sent.latency_s for sent in ledger.sent)
    say(capsys, f"{verdict}; slowest {slowest:.1f} s")
    assert verdict.clean
    assert not ledger.not_ok()


async def test_a_poison_request_never_costs_its_neighbours(stack: Stack, deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = deploy()
    poison = Ledger([Sent("poison", 666.0)])
    async with Load(endpoint.invocations, stack.token) as load:
        await load.answers(50)
        async with _http(stack) as http:
            await score(http, endpoint.invocations, poison.sent[0])
        await load.answers(50)
    load.ledger.sent += poison.sent
    verdict = await judge(load.ledger, endpoint.table, double)
    say(capsys, verdict)
    assert verdict.clean
    assert [s.client_request_id for s in load.ledger.not_ok()] == ["poison"]
    assert poison.sent[0].status == 500


async def test_a_slow_evaluation_is_a_504_and_its_neighbours_are_answered(
    stack: Stack, deploy: Deploy, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = deploy()
    slow = Sent("slow", 1.0)
    async with Load(endpoint.invocations, stack.token) as load, _http(stack) as http:
        await load.answers(20)
        await score(http, endpoint.invocations, slow, {"sleep_s": 60.0})
        await load.answers(20)
    load.ledger.sent.append(slow)
    verdict = await judge(load.ledger, endpoint.table, double)
    say(capsys, verdict)
    assert verdict.clean
    assert load.ledger.not_ok() == [slow]
    assert (slow.status, json.loads(slow.body)["error_code"]) == (504, "DEADLINE_EXCEEDED")


async def test_what_would_wait_too_long_is_refused_with_a_time_to_come_back(stack: Stack, deploy: Deploy) -> None:
    """Four lanes of half a second are 8 requests/s; 3 s of queue are 24, and in a burst each of the two ingress processes sees its own."""
    endpoint = deploy()
    body = {"inputs": {"x": [1.0]}, "params": {"sleep_s": 0.5}}
    async with _http(stack) as http:
        for _ in range(4):
            await asyncio.gather(*(http.post(endpoint.invocations, json=body) for _ in range(8)))
        answers = await asyncio.gather(*(http.post(endpoint.invocations, json=body) for _ in range(300)))
    assert {a.status_code for a in answers} == {200, 429}
    refused = [a for a in answers if a.status_code == 429]
    assert {a.json()["error_code"] for a in refused} == {"REQUEST_LIMIT_EXCEEDED"}
    assert all(int(a.headers["retry-after"]) >= 1 for a in refused)


async def test_a_pool_grows_under_load_and_shrinks_after_it(stack: Stack, deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = deploy(min_provisioned_concurrency=4, max_provisioned_concurrency=12)
    hosts = f"scorer-{endpoint.id}"
    async with Load(endpoint.invocations, stack.token, clients=20, pause_s=0.0, params={"sleep_s": 0.3}) as load:
        await eventually(lambda: len(stack.pids(hosts)) == 3)  # long evaluations: two replicas are full however slow the rest of the way is
        await load.answers(100)
    await eventually(lambda: len(stack.pids(hosts)) == 1)
    verdict = await judge(load.ledger, endpoint.table, double)
    say(capsys, verdict)
    assert verdict.clean
    assert not load.ledger.not_ok()


async def test_a_killed_scaler_leaves_serving_untouched(stack: Stack, deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = deploy()
    before = stack.pids(f"scorer-{endpoint.id}")
    async with Load(endpoint.invocations, stack.token) as load:
        [scaler] = stack.pids("scaler")
        _kill(scaler)
        await load.answers(200)
        await eventually(partial(_is_replaced, stack, "scaler", scaler))
    verdict = await judge(load.ledger, endpoint.table, double)
    say(capsys, verdict)
    assert verdict.clean
    assert not load.ledger.not_ok()
    assert stack.pids(f"scorer-{endpoint.id}") == before


async def test_a_killed_broker_costs_only_time(stack: Stack, deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = deploy()
    async with Load(endpoint.invocations, stack.token) as load:
        await load.answers(50)
        [broker] = stack.pids("kafka")
        _kill(broker)
        await eventually(partial(_is_replaced, stack, "kafka", broker))
        await load.answers(100)
    verdict = await judge(load.ledger, endpoint.table, double)
    refused = {s.status for s in load.ledger.not_ok()}
    say(capsys, f"{verdict}; refused while the broker was away: {len(load.ledger.not_ok())}")
    assert verdict.clean
    assert refused <= {503}
    await eventually(lambda: answers_everywhere(stack.host, stack.token))  # an ingress process may take seconds longer than the other


def _http(stack: Stack) -> httpx.AsyncClient:
    return httpx.AsyncClient(headers={"Authorization": f"Bearer {stack.token}"}, timeout=150, limits=httpx.Limits(max_connections=None))


def _state_of(stack: Stack, endpoint: Deployed) -> Any:
    with stack.client() as client:
        return client.get(f"/api/2.0/serving-endpoints/{endpoint.name}").json()


def _kill(pid: int) -> None:
    """SIGKILL a process of the stack; one that ended by itself meanwhile is no fault of the test."""
    try:
        psutil.Process(pid).kill()
    except psutil.NoSuchProcess:
        return


def _is_replaced(stack: Stack, name: str, old: int) -> bool:
    return any(p["name"] == name and p["state"] == "ready" and p["pid"] != old for p in stack.status()["processes"])


def _update(stack: Stack, endpoint: Deployed, models: Models, version: str) -> dict[str, Any]:
    with stack.client() as client:
        body = {"served_entities": [endpoint.entity(models, version)]}
        sent = client.put(f"/api/2.0/serving-endpoints/{endpoint.name}/config", json=body)
        assert sent.status_code == 200, sent.text
        assert sent.json()["state"]["config_update"] == "IN_PROGRESS"
        return wait_for_update(client, endpoint.name)
