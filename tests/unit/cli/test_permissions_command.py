import pytest
import typer

from services.cli.permissions import parse_entry
from services.ingress.permissions import parse_grants


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        pytest.param("ada@example.org=CAN_QUERY", {"user_name": "ada@example.org", "permission_level": "CAN_QUERY"}, id="a user"),
        pytest.param("user:a:b=CAN_VIEW", {"user_name": "a:b", "permission_level": "CAN_VIEW"}, id="a user whose name has a colon"),
        pytest.param("group:readers=CAN_VIEW", {"group_name": "readers", "permission_level": "CAN_VIEW"}, id="a group"),
        pytest.param("group:a=b=CAN_VIEW", {"group_name": "a=b", "permission_level": "CAN_VIEW"}, id="a group whose name has a sign"),
        pytest.param(
            "service-principal:robot=CAN_MANAGE",
            {"service_principal_name": "robot", "permission_level": "CAN_MANAGE"},
            id="a service principal",
        ),
    ],
)
def test_an_entry_is_what_the_api_takes(text: str, entry: dict[str, str]) -> None:
    assert parse_entry(text).body == entry
    assert len(parse_grants({"access_control_list": [entry]})) == 1


@pytest.mark.parametrize("text", ["", "ada", "ada=CAN_RUN", "=CAN_VIEW", "group:=CAN_VIEW", "robot:x=CAN_VIEW", "ada:CAN_VIEW"])
def test_anything_else_is_no_entry(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no entry"):
        parse_entry(text)
