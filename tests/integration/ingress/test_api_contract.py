"""Schemathesis over Penstock's own OpenAPI document, against running ingress processes, as an admin and as somebody with few rights.

All its checks: no 5xx, no answer the document does not say, nothing taken that it refuses, no route without its token, no method
that is not there. Scoring is left out, since nothing scores here: `tests/conformance` holds it against MLflow.
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.shared.clock import now_ms
from services.shared.control_events import EntityReady
from services.shared.presence import PoolEvent, keep_pool_event
from services.shared.redis_clients import new_redis
from services.shared.settings import RedisSettings
from tests.integration.ingress.ingresses import MODEL, Ingresses

ENDPOINTS = "/api/2.0/serving-endpoints"
SCHEMATHESIS = str(Path(sys.executable).with_name("schemathesis"))
EXAMPLES = 8  # a route and principal, beside the edges of each parameter
REVOKING = r"/token/delete$|/tokens/\{token_id\}$"  # tried last: with the caller's own token they end all else
SCORING = "/invocations$"
ONE_SPELLING, BOTH = "/sql/statements$", "/sql/statements/?$"  # a process for each statement: tried with the slash, as an admin
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "401", "403", "404", "409"]  # shares sum to 100, names differ: no schema can say it
[dictionaries]
names = {{ values = {names} }}
ids = {{ values = {ids} }}
[parameters]
"path.name" = {{ dictionary = "names", probability = 0.5 }}
"path.endpoint_id" = {{ dictionary = "ids", probability = 0.5 }}
[[operations]]  # a process for each statement, and a hundred edges of its parameters
include-path = "/api/2.0/sql/statements/"
include-method = "POST"
phases.coverage.enabled = false
"""


def made_endpoints(ingresses: Ingresses, redis_settings: RedisSettings, who: str) -> dict[str, str]:
    """One that serves, one that is being made; ids by name. Everybody may see the first, of whose pool there is something to tell."""
    headers = {"Authorization": f"Bearer {ingresses.token('admin')}"}
    made = {}
    with httpx.Client(base_url=ingresses.hosts[0], headers=headers, trust_env=False) as http:
        for name in (f"{who}-serves", f"{who}-begins"):
            entity = {"name": "a", "entity_name": MODEL, "entity_version": "1"}
            made[name] = http.post(ENDPOINTS, json={"name": name, "config": {"served_entities": [entity]}}).json()["id"]
        first = made[f"{who}-serves"]
        ingresses.log.append(EntityReady(at_ms=now_ms(), endpoint_id=first, version=1, entity="a"))
        entry: dict[str, Any] = {"group_name": "users", "permission_level": "CAN_VIEW"}
        http.patch(f"/api/2.0/permissions/serving-endpoints/{first}", json={"access_control_list": [entry]}).raise_for_status()
    asyncio.run(tell_of(redis_settings, f"{first}-a-1"))
    return made


async def tell_of(redis_settings: RedisSettings, pool_id: str) -> None:
    redis = new_redis(redis_settings)
    for event_type in ("POOL_RESIZED", "REPLICA_FAILED", "WORKERS_NOT_FORKED"):
        await keep_pool_event(redis, pool_id, PoolEvent(event_type=event_type, message="so it is", at_ms=now_ms()))
    await redis.aclose()


@pytest.mark.parametrize(("who", "left_out"), [("admin", ONE_SPELLING), ("visitor", BOTH)], ids=["admin", "visitor"])
def test_what_the_document_says_holds(who: str, left_out: str, ingresses: Ingresses, redis_settings: RedisSettings, tmp_path: Path) -> None:
    made = made_endpoints(ingresses, redis_settings, who)
    config, token = tmp_path / "schemathesis.toml", ingresses.token(who)
    config.write_text(CONFIG.format(names=json.dumps(list(made)), ids=json.dumps(list(made.values()))))
    ran_clean(ingresses.hosts[1], config, token, f"--exclude-path-regex={SCORING}|{left_out}|{REVOKING}")
    me = httpx.get(f"{ingresses.hosts[0]}/api/2.0/preview/scim/v2/Me", headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    assert me.status_code == 200, "else most of what was tried met nothing but a closed door"
    ran_clean(ingresses.hosts[1], config, token, f"--include-path-regex={REVOKING}")


def ran_clean(host: str, config: Path, token: str, routes: str) -> None:
    options = ["--checks=all", routes, "--generation-deterministic", "--no-shrink", "--no-color"]
    options += ["--max-examples", str(EXAMPLES), "--continue-on-failure", "--warnings=off"]
    header = f"Authorization: Bearer {token}"
    command = [SCHEMATHESIS, "--config-file", str(config), "run", f"{host}/openapi.json", *options, "--header", header]
    done = subprocess.run(command, cwd=config.parent, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
