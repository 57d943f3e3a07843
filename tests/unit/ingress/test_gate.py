"""Who may come in by their address, directly or behind a proxy."""

from typing import Any

import pytest

from services.ingress.gate import AddressBlocked, Gate, without_port
from services.shared.addresses import AddressSet, parse_networks
from services.shared.control_events import AccessListChanged, AccessListCreated, AccessListsSwitched
from services.shared.endpoints import ControlState
from tests.unit.ingress.folding_log import FoldingLog
from tests.unit.shared.control_log import fold

NO_PROXIES = AddressSet()
PROXIES = parse_networks("127.0.0.1, 172.16.0.0/12, fd00::/8")
ENFORCED = fold(
    AccessListCreated(list_id="a", label="us", list_type="ALLOW", addresses=("10.0.0.0/8", "2001:db8::/32", "127.0.0.1"), at_ms=1),
    AccessListCreated(list_id="b", label="not you", list_type="BLOCK", addresses=("10.6.6.6",), at_ms=1),
    AccessListsSwitched(enforced=True, at_ms=1),
)
FOR, PROTO = b"x-forwarded-for", b"x-forwarded-proto"


def request(peer: str | None, *headers: tuple[bytes, bytes], path: str = "/") -> dict[str, Any]:
    return {"type": "http", "client": (peer, 1) if peer is not None else None, "headers": list(headers), "path": path, "scheme": "http"}


def enters(gate: Gate, scope: dict[str, Any]) -> bool:
    try:
        gate.enter(scope)
    except AddressBlocked:
        return False
    return True


@pytest.mark.parametrize(
    ("peer", "may"),
    [
        pytest.param("10.1.1.1", True, id="on the allow list"),
        pytest.param("::ffff:10.1.1.1", True, id="on it, by a socket for both kinds"),
        pytest.param("2001:db8::5", True, id="on it by IPv6"),
        pytest.param("10.6.6.6", False, id="on the block list"),
        pytest.param("::ffff:10.6.6.6", False, id="on the block list, by a socket for both kinds"),
        pytest.param("192.168.1.1", False, id="on none"),
        pytest.param("testclient", False, id="no address at all"),
        pytest.param(None, False, id="a peer that cannot be told"),
    ],
)
def test_who_may_come_in(peer: str | None, may: bool) -> None:
    gate = Gate(FoldingLog(ENFORCED), NO_PROXIES)
    assert [enters(gate, request(peer)) for _ in range(2)] == [may, may], "asked for, and remembered"
    assert enters(Gate(FoldingLog(ControlState()), NO_PROXIES), request(peer)), "nothing is enforced"


def test_who_watches_over_the_process_is_no_caller() -> None:
    gate = Gate(FoldingLog(ENFORCED), NO_PROXIES)
    assert enters(gate, request("192.168.1.1", path="/health/ready"))
    for path in ("/health/ready/", "/metrics", "/openapi.json", "/.well-known/databricks-config", "/serving-endpoints/churn/invocations"):
        assert not enters(gate, request("192.168.1.1", path=path))


async def test_a_change_of_the_lists_holds_from_the_next_request_on() -> None:
    log = FoldingLog(ENFORCED)
    gate = Gate(log, NO_PROXIES)
    assert enters(gate, request("10.1.1.1"))
    await log.publish(AccessListChanged(list_id="b", addresses=("10.0.0.0/8",), at_ms=2))
    assert not enters(gate, request("10.1.1.1"))
    await log.publish(AccessListsSwitched(enforced=False, at_ms=3))
    assert enters(gate, request("10.1.1.1"))


@pytest.mark.parametrize(
    ("peer", "headers", "caller"),
    [
        pytest.param("10.1.1.1", [(FOR, b"2.2.2.2")], "10.1.1.1", id="a caller may say what it wants"),
        pytest.param("172.16.0.1", [(FOR, b"2.2.2.2")], "2.2.2.2", id="a proxy of ours is believed"),
        pytest.param("::ffff:172.16.0.1", [(FOR, b"2.2.2.2")], "2.2.2.2", id="also by a socket for both kinds"),
        pytest.param("fd00::1", [(FOR, b"2001:db8::9")], "2001:db8::9", id="also by IPv6"),
        pytest.param("172.16.0.1", [], "172.16.0.1", id="a proxy that calls by itself"),
        pytest.param("172.16.0.1", [(FOR, b"10.1.1.1, 2.2.2.2")], "2.2.2.2", id="what stands before its own address is a caller's word"),
        pytest.param("172.16.0.1", [(FOR, b"2.2.2.2, 172.16.0.9")], "2.2.2.2", id="a proxy behind a proxy"),
        pytest.param("172.16.0.1", [(FOR, b"10.1.1.1"), (FOR, b"2.2.2.2")], "2.2.2.2", id="two headers are one list"),
        pytest.param("172.16.0.1", [(FOR, b"172.16.0.8, 172.16.0.9")], "172.16.0.8", id="proxies all the way"),
        pytest.param("172.16.0.1", [(FOR, b"2.2.2.2:4711")], "2.2.2.2", id="with a port"),
        pytest.param("172.16.0.1", [(FOR, b"10.1.1.1, unknown")], "unknown", id="a proxy that does not tell"),
        pytest.param("172.16.0.1", [(FOR, b"")], "", id="a proxy that tells nothing"),
    ],
)
def test_whose_address_counts(peer: str, headers: list[tuple[bytes, bytes]], caller: str) -> None:
    scope = request(peer, *headers, (PROTO, b"https"))
    Gate(FoldingLog(ControlState()), PROXIES).enter(scope)
    assert scope["client"][0] == caller
    assert scope["scheme"] == ("http" if peer == "10.1.1.1" else "https")


def test_the_caller_behind_a_proxy_is_the_one_who_may_or_may_not() -> None:
    gate = Gate(FoldingLog(ENFORCED), PROXIES)
    assert enters(gate, request("172.16.0.1", (FOR, b"10.1.1.1")))
    assert not enters(gate, request("172.16.0.1", (FOR, b"10.6.6.6")))
    assert not enters(gate, request("172.16.0.1", (FOR, b"10.1.1.1, unknown")))
    assert not enters(gate, request("127.0.0.2", (FOR, b"10.1.1.1"))), "no proxy of ours"


@pytest.mark.parametrize(
    ("entry", "address"),
    [("1.2.3.4", "1.2.3.4"), ("1.2.3.4:5", "1.2.3.4"), ("2001:db8::1", "2001:db8::1"), ("[2001:db8::1]:5", "2001:db8::1"), ("", "")],
)
def test_entries_with_a_port(entry: str, address: str) -> None:
    assert without_port(entry) == address
