"""Ten times what a pool can score, through the whole stack: what is too much is refused, and costs the others nothing."""

import asyncio
import json
import time
from collections.abc import Callable
from statistics import median

import aiohttp
import pytest

from services.shared.control_events import LANES_PER_REPLICA
from tests.e2e.conftest import Deployed, Stack
from tests.e2e.load import Ledger, Sent, judge
from tests.e2e.test_faults import double, say

SLEEP_S = 0.2
CAPACITY_PER_S = LANES_PER_REPLICA / SLEEP_S
FILLING_S, FULL_S = 1.0, 6.0
BACK_WITHIN_S = 5.0


async def test_ten_times_the_capacity_is_refused_at_once_and_the_pool_scores_on(
    stack: Stack, deploy: Callable[..., Deployed], capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = deploy()  # one replica at most
    calm, overload, after = Ledger(), Ledger(), Ledger()
    connections = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {stack.token}"}, connector=connections) as client:
        await _arrive(client, endpoint, calm, CAPACITY_PER_S / 4, 3.0)  # long enough for the ingresses to know what an evaluation takes
        usual_s = median(s.latency_s for s in calm.sent)

        ended_at = time.monotonic() + FILLING_S + FULL_S
        arrivals = asyncio.create_task(_arrive(client, endpoint, overload, 10 * CAPACITY_PER_S, FILLING_S + FULL_S), name="arrivals")
        await asyncio.sleep(FILLING_S)
        scored = -len(_scored(overload))
        await asyncio.sleep(ended_at - time.monotonic())
        scored += len(_scored(overload))

        while not (after.sent and after.sent[-1].status == 200 and after.sent[-1].latency_s < 2 * usual_s):
            await asyncio.sleep(0.05)
            after.sent.append(Sent(f"after-{len(after.sent)}", 1.0))
            await _score(client, endpoint, after.sent[-1])
        back_s = time.monotonic() - ended_at
        await arrivals

    refused = overload.not_ok()
    refusal_s = median(s.latency_s for s in refused)
    verdict = await judge(Ledger(calm.sent + overload.sent + after.sent), endpoint.table, double)
    say(
        capsys,
        f"{verdict}; {scored / FULL_S:.1f} of {CAPACITY_PER_S:g}/s scored, {len(refused)} refused in {refusal_s * 1000:.1f} ms, "
        f"longest {max(s.latency_s for s in _scored(overload)):.1f} s, back after {back_s:.1f} s",
    )
    assert verdict.clean
    assert not calm.not_ok()
    codes = {(s.status, json.loads(s.body)["error_code"]) for s in refused}
    assert codes == {(429, "REQUEST_LIMIT_EXCEEDED")}, {s.body for s in refused if s.status != 429}
    assert all(json.loads(s.body).keys() == {"error_code", "message", "details"} and int(s.retry_after or 0) >= 1 for s in refused)
    assert scored >= 0.9 * CAPACITY_PER_S * FULL_S
    assert refusal_s < SLEEP_S, "a refusal waits for no lane"
    assert back_s < BACK_WITHIN_S


async def _arrive(client: aiohttp.ClientSession, endpoint: Deployed, ledger: Ledger, per_s: float, during_s: float) -> None:
    """An open loop: requests come when they are due, whatever became of those before. Returns when all are answered."""
    started_at = time.monotonic()
    async with asyncio.TaskGroup() as requests:
        for turn in range(round(per_s * during_s)):
            await asyncio.sleep(started_at + turn / per_s - time.monotonic())
            sent = Sent(f"{id(ledger)}-{turn}", float(turn % 600))
            ledger.sent.append(sent)
            requests.create_task(_score(client, endpoint, sent))


async def _score(client: aiohttp.ClientSession, endpoint: Deployed, sent: Sent) -> None:
    """With aiohttp, since httpx cannot send as much from one process."""
    body = {"client_request_id": sent.client_request_id, "inputs": {"x": [sent.x]}, "params": {"sleep_s": SLEEP_S}}
    started_at = time.monotonic()
    async with client.post(endpoint.invocations, json=body) as answer:
        sent.body = await answer.text()
    sent.latency_s = time.monotonic() - started_at
    sent.status, sent.request_id, sent.retry_after = answer.status, answer.headers.get("x-request-id"), answer.headers.get("retry-after")
    if sent.status == 200:
        sent.prediction = json.loads(sent.body)["predictions"][0]


def _scored(ledger: Ledger) -> list[Sent]:
    return [s for s in ledger.sent if s.status == 200]
