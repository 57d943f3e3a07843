"""IP access lists by the unmodified SDK: they hold on every ingress process and route, and nobody locks themselves out."""

from collections.abc import Iterator

import httpx
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.service.settings import ListType

from tests.e2e.conftest import Stack, eventually

HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"  # of one machine, and two callers to the ingress
ENOUGH_TRIES = 16  # to meet both ingress processes, whichever takes a connection


@pytest.fixture
def workspace(stack: Stack) -> Iterator[WorkspaceClient]:
    """What it did to the lists is undone from the machine, whoever may call by then."""
    yield WorkspaceClient(host=stack.host, token=stack.token)
    assert stack.penstock("allowlist", "off").returncode == 0


def statuses(stack: Stack, path: str, method: str = "GET", caller: str = ELSEWHERE) -> set[int]:
    found = set()
    for _ in range(ENOUGH_TRIES):
        with httpx.Client(base_url=stack.host, transport=httpx.HTTPTransport(local_address=caller)) as http:
            answer = http.request(method, path, headers={"Authorization": f"Bearer {stack.token}"})
            found.add(answer.status_code)
            assert answer.status_code != 403 or answer.json()["error_code"] == "PERMISSION_DENIED"
    return found


async def test_lists_hold_on_every_route_and_process_and_never_lock_out_their_author(stack: Stack, workspace: WorkspaceClient) -> None:
    lists = workspace.ip_access_lists
    made = lists.create("here", ListType.ALLOW, ip_addresses=[HERE]).ip_access_list
    assert made is not None
    assert made.list_id is not None
    assert [(each.label, each.ip_addresses, each.enabled) for each in lists.list()] == [("here", [HERE], True)]
    endpoints, invocations = "/api/2.0/serving-endpoints", "/serving-endpoints/nobody/invocations"
    assert statuses(stack, endpoints) == {200}, "nothing is enforced yet"

    workspace.workspace_conf.set_status({"enableIpAccessLists": "true"})
    assert workspace.workspace_conf.get_status("enableIpAccessLists") == {"enableIpAccessLists": "true"}
    await eventually(lambda: statuses(stack, endpoints) == {403}, timeout_s=5)
    for path, method in ((invocations, "POST"), ("/metrics", "GET"), ("/.well-known/databricks-config", "GET"), ("/nowhere", "GET")):
        assert statuses(stack, path, method) == {403}, path
    assert statuses(stack, "/health/live") == {200}
    assert statuses(stack, invocations, "POST", HERE) == {404}

    for label, list_type, addresses in (("all", ListType.BLOCK, ["127.0.0.0/8"]), ("me", ListType.BLOCK, [f"::ffff:{HERE}"])):
        with pytest.raises(DatabricksError) as refused:
            lists.create(label, list_type, ip_addresses=addresses)
        assert refused.value.error_code == "INVALID_STATE"
    lists.update(made.list_id, ip_addresses=[HERE, ELSEWHERE])
    await eventually(lambda: statuses(stack, endpoints) == {200}, timeout_s=5)
    lists.delete(made.list_id)
    assert list(lists.list()) == []


def test_the_machine_itself_is_never_locked_out(stack: Stack, workspace: WorkspaceClient) -> None:
    made = stack.penstock("allowlist", "allow", "elsewhere", ELSEWHERE, "10.0.0.0/8")
    assert made.returncode == 0, made.stderr
    assert "not enforced" in made.stderr
    assert stack.penstock("allowlist", "on").returncode == 0
    with pytest.raises(DatabricksError, match="is blocked by the IP access lists"):
        workspace.current_user.me()
    shown = stack.penstock("allowlist", "list").stdout
    assert "127.0.0.2 10.0.0.0/8" in shown
    assert stack.penstock("allowlist", "remove", made.stdout.strip()).returncode == 0
    assert workspace.current_user.me().user_name == "admin"
    assert stack.penstock("allowlist", "allow", "bad", "10.0.0.300").returncode == 2
