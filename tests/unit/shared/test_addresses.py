"""Addresses as they come, and sets of them."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared.addresses import Address, AddressSet, parse_address, parse_network, parse_networks

V4 = st.ip_addresses(v=4, network="10.0.0.0/24")
V6 = st.ip_addresses(v=6, network="2001:db8::/120")
NETWORKS = st.builds(lambda address, bits: f"{address}/{address.max_prefixlen - bits}", V4 | V6, st.integers(0, 10))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        pytest.param("10.0.0.1", IPv4Address("10.0.0.1"), id="IPv4"),
        pytest.param("::ffff:10.0.0.1", IPv4Address("10.0.0.1"), id="IPv4, as a socket for both kinds says it"),
        pytest.param("::FFFF:0a00:0001", IPv4Address("10.0.0.1"), id="the same in hex"),
        pytest.param("2001:db8::1", IPv6Address("2001:db8::1"), id="IPv6"),
        pytest.param("fe80::1%eth0", IPv6Address("fe80::1"), id="with the zone it was heard in"),
    ],
)
def test_an_address_is_one_address_however_it_is_written(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "unknown", "10.0.0", "010.0.0.1", "10.0.0.1:80", "[::1]", "10.0.0.0/8"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        parse_address(text)


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        pytest.param("10.1.2.3", ["10.1.2.3", "::ffff:10.1.2.3"], ["10.1.2.4"], id="one address"),
        pytest.param("10.1.2.3/8", ["10.255.0.0"], ["11.0.0.0"], id="a network, named by an address within it"),
        pytest.param("0.0.0.0/0", ["1.2.3.4"], ["2001:db8::1"], id="all of IPv4"),
        pytest.param("::/0", ["2001:db8::1"], ["1.2.3.4"], id="all of IPv6"),
        pytest.param("::ffff:10.0.0.0/104", ["10.9.9.9"], ["11.0.0.0", "::a09:909"], id="a network of IPv4 written as IPv6"),
    ],
)
def test_who_is_in_a_network(network: str, inside: list[str], outside: list[str]) -> None:
    found = AddressSet([parse_network(network)])
    assert [address for address in [*inside, *outside] if parse_address(address) in found] == inside


@given(st.lists(NETWORKS, max_size=8), V4 | V6)
def test_a_set_holds_what_one_of_its_networks_holds(networks: list[str], address: Address) -> None:
    parsed = [parse_network(network) for network in networks]
    assert (address in AddressSet(parsed)) == any(address in network for network in parsed)


def test_networks_in_a_line() -> None:
    assert not parse_networks("")
    assert ip_address("10.0.0.1") in parse_networks("127.0.0.1, 10.0.0.0/8,")
    with pytest.raises(ValueError, match="nobody"):
        parse_networks("nobody")
