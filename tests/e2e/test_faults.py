"""Faults under load: nothing accepted is lost, no answer is wrong, every request is one row."""

import asyncio
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.conftest import Deployed, Models, Stack, eventually, wait_for_update
from tests.e2e.load import Ledger, Load, Sent, judge, score

Deploy = Callable[..., Deployed]


def double(x: float) -> set[float]:
    return {2 * x}


def say(capsys: pytest.CaptureFixture[str], text: object) -> None:
    with capsys.disabled():
        print(f"\n  {os.environ.get('PYTEST_CURRENT_TEST', '').split('::')[-1].split(' ')[0]}: {text}")


async def test_steady_load(stack: Stack, deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = deploy()
    async with Load(endpoint.invocations, stack.token, clients=8) as load:
        await load.answers(1_000)
    verdict = await judge(load.ledger, endpoint.table, double)
    say(capsys, verdict)
    assert verdict.clean
    assert not load.ledger.not_ok()


async def test_killed_model_workers_cost_no_request(stack: Stack, deploy: Deploy, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = deploy()
    async with Load(endpoint.invocations, stack.token) as load:
        for _ in range(4):
            await load.answers(50)
            for worker in stack.workers(endpoint.id):
                _kill(worker)
            await asyncio.sleep(2)
        await load.answers(50)
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
    with stack.client() as client:
        found = client.get(f"/api/2.0/serving-endpoints/{endpoint.name}").json()
    assert found["state"]["ready"] == "READY"
    assert found["config"]["served_entities"][0]["state"] == {
        "deployment": "DEPLOYMENT_READY",
        "deployment_state_message": "Scaled to zero",
    }
    ledger = Ledger([Sent(f"burst-{i}", float(i + 1)) for i in range(100)])
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {stack.token}"}, timeout=150) as http:
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
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {stack.token}"}, timeout=150) as http:
            await score(http, endpoint.invocations, poison.sent[0])
        await load.answers(50)
    load.ledger.sent += poison.sent
    verdict = await judge(load.ledger, endpoint.table, double)
    say(capsys, verdict)
    assert verdict.clean
    assert [s.client_request_id for s in load.ledger.not_ok()] == ["poison"]
    assert poison.sent[0].status == 500


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
