"""Tokens by the unmodified SDK: made, used, seen and ended, on every ingress process."""

from databricks.sdk import WorkspaceClient

from tests.e2e.conftest import Stack, eventually

ENOUGH_TRIES = 16  # to meet both ingress processes, whichever takes a connection


def statuses(stack: Stack, token: str) -> set[int]:
    found = set()
    for _ in range(ENOUGH_TRIES):
        with stack.client() as http:
            found.add(http.get("/api/2.0/serving-endpoints", headers={"Authorization": f"Bearer {token}"}).status_code)
    return found


async def test_a_token_works_until_it_is_ended(stack: Stack) -> None:
    admin = WorkspaceClient(host=stack.host, token=stack.token)
    robot = admin.token_management.create_obo_token("e2e-robot", comment="the tokens test", lifetime_seconds=600)
    assert robot.token_value
    assert robot.token_info
    client = WorkspaceClient(host=stack.host, token=robot.token_value)
    assert client.current_user.me().user_name == "e2e-robot"

    own = client.tokens.create(comment="its own", lifetime_seconds=600)
    assert own.token_value
    assert own.token_info
    assert sorted(str(each.comment) for each in client.tokens.list()) == ["its own", "the tokens test"]
    assert statuses(stack, own.token_value) == {200}
    client.tokens.delete(str(own.token_info.token_id))
    value = own.token_value
    await eventually(lambda: statuses(stack, value) == {401}, timeout_s=5)

    assert [each.token_id for each in admin.token_management.list(created_by_username="e2e-robot")] == [robot.token_info.token_id]
    admin.token_management.delete(str(robot.token_info.token_id))
    value = robot.token_value
    await eventually(lambda: statuses(stack, value) == {401}, timeout_s=5)
