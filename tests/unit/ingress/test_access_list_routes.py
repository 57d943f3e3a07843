"""IP access lists over HTTP and without a broker: the routes, what they answer, and to whom."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from services.ingress.access_lists import CONF, LISTS
from tests.unit.ingress.callers import STATE
from tests.unit.ingress.test_api_document import DOCUMENT
from tests.unit.ingress.test_permissions import called_by

HERE = "127.0.0.1"
OURS = {"label": "ours", "list_type": "ALLOW", "ip_addresses": [HERE, "10.0.0.0/8"]}


def told(answer: httpx.Response, path: str, status: int = 200) -> dict[str, Any]:
    DOCUMENT[path][answer.request.method].validate_response(answer)
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_list_from_its_creation_to_its_end(tmp_path: Path) -> None:
    one = f"{LISTS}/{{list_id}}"
    async with called_by("admin", tmp_path) as http:
        made = told(await http.post(LISTS, json=OURS), LISTS)["ip_access_list"]
        assert made == OURS | {k: made[k] for k in ("list_id", "created_at", "updated_at")} | {"address_count": 2, "enabled": True}
        at = f"{LISTS}/{made['list_id']}"
        assert told(await http.get(at), one) == {"ip_access_list": made}
        assert told(await http.get(LISTS), LISTS) == {"ip_access_lists": [made]}
        changed = told(await http.patch(at, json={"label": "all of us"}), one)["ip_access_list"]
        assert (changed["label"], changed["ip_addresses"]) == ("all of us", OURS["ip_addresses"])
        put = {"label": "x", "list_type": "BLOCK", "enabled": False}
        replaced = told(await http.put(at, json=put), one)["ip_access_list"]
        assert (replaced["list_type"], replaced["ip_addresses"], replaced["enabled"]) == ("BLOCK", [], False)
        assert told(await http.delete(at), one) == {}
        for answer in (await http.get(at), await http.delete(at), await http.patch(at, json={}), await http.put(at, json=put)):
            assert told(answer, one, 404)["error_code"] == "RESOURCE_DOES_NOT_EXIST"


async def test_the_lists_hold_once_they_are_switched_on(tmp_path: Path) -> None:
    keys = {"keys": "enableIpAccessLists"}
    async with called_by("admin", tmp_path) as http:
        assert told(await http.get(CONF, params=keys), CONF) == {"enableIpAccessLists": "false"}
        assert told(await http.patch(CONF, json={"enableIpAccessLists": "true"}), CONF) == {}
        assert told(await http.get(CONF, params=keys), CONF) == {"enableIpAccessLists": "true"}
        assert told(await http.get(CONF, params={"keys": "maxTokenLifetimeDays"}), CONF, 400)["error_code"] == "INVALID_PARAMETER_VALUE"
        assert told(await http.patch(CONF, json={"maxTokenLifetimeDays": "1"}), CONF, 400)["error_code"] == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        pytest.param({"ip_addresses": ["10.0.0.0/8"]}, "INVALID_STATE", id="a list that locks its author out"),
        pytest.param({"ip_addresses": [HERE] * 1_001}, "QUOTA_EXCEEDED", id="more values than a workspace may have"),
        pytest.param({"ip_addresses": ["10.0.0.300"]}, "INVALID_PARAMETER_VALUE", id="no address"),
        pytest.param({"list_type": "allow"}, "INVALID_PARAMETER_VALUE", id="no type of a list"),
        pytest.param({"label": ""}, "INVALID_PARAMETER_VALUE", id="no label"),
    ],
)
async def test_lists_that_are_refused(changed: dict[str, Any], code: str, tmp_path: Path) -> None:
    async with called_by("admin", tmp_path) as http:
        assert told(await http.post(LISTS, json=OURS | changed), LISTS, 400)["error_code"] == code


@pytest.mark.parametrize("who", ["ada", "manager", "stranger", "robot"])
async def test_they_are_for_admins_alone(who: str, tmp_path: Path) -> None:
    async with called_by(who, tmp_path, STATE) as http:
        for method, path, body in (
            ("GET", LISTS, None),
            ("POST", LISTS, OURS),
            ("GET", f"{LISTS}/absent", None),
            ("PUT", f"{LISTS}/absent", OURS | {"enabled": True}),
            ("PATCH", f"{LISTS}/absent", {}),
            ("DELETE", f"{LISTS}/absent", None),
            ("GET", f"{CONF}?keys=enableIpAccessLists", None),
            ("PATCH", CONF, {"enableIpAccessLists": True}),
        ):
            answer = await http.request(method, path, json=body)
            assert (answer.status_code, answer.json()["error_code"]) == (403, "PERMISSION_DENIED"), (method, path)


async def test_whose_own_address_cannot_be_told_changes_nothing(tmp_path: Path) -> None:
    async with called_by("admin", tmp_path, STATE) as http:
        transport = http._transport
        assert isinstance(transport, httpx.ASGITransport)
        transport.client = ("unknown", 1)
        assert (await http.post(LISTS, json=OURS)).json()["error_code"] == "INVALID_STATE"
        assert (await http.get(LISTS)).json() == {"ip_access_lists": []}
