"""Tokens over HTTP and without a broker: one's own, and everybody's for admins."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from services.ingress.payloads import MAX_LIFETIME_S
from services.ingress.tokens import MANAGED, MAX_TOKENS, ON_BEHALF, ONE_MANAGED, TOKENS
from services.shared.control_events import PrincipalKind
from tests.unit.ingress.callers import STATE, token
from tests.unit.ingress.test_api_document import DOCUMENT
from tests.unit.ingress.test_permissions import called_by
from tests.unit.shared.control_log import fold

CREATE, LIST, DELETE = f"{TOKENS}/create", f"{TOKENS}/list", f"{TOKENS}/delete"
ME = "/api/2.0/preview/scim/v2/Me"


def told(answer: httpx.Response, path: str, status: int = 200) -> dict[str, Any]:
    DOCUMENT[path][answer.request.method].validate_response(answer)
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def who(http: httpx.AsyncClient, value: str) -> str | None:
    """Whose token it is; None: nobody's."""
    name: str | None = (await http.get(ME, headers={"Authorization": f"Bearer {value}"})).json().get("userName")
    return name


async def test_a_token_of_ones_own_from_its_making_to_its_end(tmp_path: Path) -> None:
    async with called_by("ada", tmp_path) as http:
        made = told(await http.post(CREATE, json={"comment": "laptop", "lifetime_seconds": 60}), CREATE)
        value, info = made["token_value"], made["token_info"]
        assert await who(http, value) == "ada"
        assert (info["comment"], info["expiry_time"] - info["creation_time"]) == ("laptop", 60_000)
        listed = told(await http.get(LIST), LIST)["token_infos"]
        assert [each["token_id"] for each in listed] == ["ada", info["token_id"]]
        assert listed[0]["expiry_time"] == -1, "made without an end"
        assert value not in str(listed)
        assert told(await http.post(DELETE, json={"token_id": info["token_id"]}), DELETE) == {}
        assert await who(http, value) is None
        assert told(await http.post(DELETE, json={"token_id": info["token_id"]}), DELETE, 404)["error_code"] == "RESOURCE_DOES_NOT_EXIST"


async def test_a_token_lives_two_years_unless_it_is_said(tmp_path: Path) -> None:
    async with called_by("ada", tmp_path) as http:
        info = told(await http.post(CREATE, json={}), CREATE)["token_info"]
    assert info["expiry_time"] - info["creation_time"] == MAX_LIFETIME_S * 1000


async def test_a_service_principals_token_is_its_own_not_that_of_a_user_of_the_same_name(tmp_path: Path) -> None:
    state = fold(token("other"), token("second", PrincipalKind.SERVICE_PRINCIPAL), state=STATE)
    async with called_by("robot", tmp_path, state) as http:
        made = told(await http.post(CREATE, json={}), CREATE)["token_info"]
        assert [each["token_id"] for each in told(await http.get(LIST), LIST)["token_infos"]] == ["robot", made["token_id"]]


@pytest.mark.parametrize("token_id", ["viewer", "admin", "nobody"])
async def test_nobody_ends_anothers_token_nor_learns_that_it_is_there(token_id: str, tmp_path: Path) -> None:
    async with called_by("ada", tmp_path) as http:
        refused = told(await http.post(DELETE, json={"token_id": token_id}), DELETE, 404)
    assert refused == {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No token with that id exists.", "details": []}


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param({"scopes": ["sql"]}, id="limited to scopes"),
        pytest.param({"autoscope_enabled": True}, id="limited to what it is used for"),
        pytest.param({"lifetime_seconds": 0}, id="no time at all"),
        pytest.param({"lifetime_seconds": MAX_LIFETIME_S + 1}, id="more than two years"),
        pytest.param({"comment": 1}, id="a comment that is none"),
    ],
)
async def test_tokens_that_are_not_made(sent: dict[str, Any], tmp_path: Path) -> None:
    async with called_by("ada", tmp_path) as http:
        assert told(await http.post(CREATE, json=sent), CREATE, 400)["error_code"] == "INVALID_PARAMETER_VALUE"
        assert len(told(await http.get(LIST), LIST)["token_infos"]) == 1


async def test_one_has_so_many_tokens_that_have_not_expired(tmp_path: Path) -> None:
    tokens = [token(f"t{i}").model_copy(update={"principal": "ada"}) for i in range(MAX_TOKENS - 2)]
    expired = [token(f"old{i}", expires_ms=1).model_copy(update={"principal": "ada"}) for i in range(3)]
    async with called_by("ada", tmp_path, fold(*tokens, *expired, state=STATE)) as http:
        told(await http.post(CREATE, json={}), CREATE)
        assert told(await http.post(CREATE, json={}), CREATE, 400)["error_code"] == "QUOTA_EXCEEDED"


async def test_admins_see_and_end_everybodys_and_make_those_of_service_principals(tmp_path: Path) -> None:
    async with called_by("admin", tmp_path) as http:
        made = told(await http.post(ON_BEHALF, json={"application_id": "crawler", "lifetime_seconds": 60}), ON_BEHALF)
        assert await who(http, made["token_value"]) == "crawler"
        info = made["token_info"]
        assert info["created_by_username"] == "crawler"
        everybody = told(await http.get(MANAGED), MANAGED)["token_infos"]
        assert {"ada", "robot", "crawler"} <= {each["created_by_username"] for each in everybody}
        assert told(await http.get(MANAGED, params={"created_by_username": "crawler"}), MANAGED)["token_infos"] == [info]
        at = f"{MANAGED}/{info['token_id']}"
        assert told(await http.get(at), ONE_MANAGED) == {"token_info": info}
        assert told(await http.delete(at), ONE_MANAGED) == {}
        assert await who(http, made["token_value"]) is None
        for answer in (await http.get(at), await http.delete(at)):
            assert told(answer, ONE_MANAGED, 404)["error_code"] == "RESOURCE_DOES_NOT_EXIST"


@pytest.mark.parametrize("caller", ["ada", "manager", "robot"])
async def test_others_tokens_are_for_admins_alone(caller: str, tmp_path: Path) -> None:
    async with called_by(caller, tmp_path) as http:
        for method, path in (("GET", MANAGED), ("GET", f"{MANAGED}/ada"), ("DELETE", f"{MANAGED}/viewer"), ("POST", ON_BEHALF)):
            answer = await http.request(method, path, json={"application_id": "x"})
            assert (answer.status_code, answer.json()["error_code"]) == (403, "PERMISSION_DENIED"), (method, path)
