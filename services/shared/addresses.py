"""IP addresses and networks, and sets of them. Pure.

An IPv4 address may come as an IPv6 one (`::ffff:10.0.0.1`, as a socket for both says it): it is the same address everywhere here.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAPPED = IPv6Network("::ffff:0:0/96")


def parse_address(text: str) -> Address:
    """Raises ValueError. A zone (`fe80::1%eth0`) says which cable, not who calls: it is left out."""
    address = ip_address(text.partition("%")[0])
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def parse_network(text: str) -> Network:
    """A network, or the one of a single address; `10.1.2.3/8` is `10.0.0.0/8`. Raises ValueError."""
    network = ip_network(text, strict=False)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def parse_networks(text: str) -> "AddressSet":
    """Of a list with commas in it. Raises ValueError."""
    return AddressSet(parse_network(part.strip()) for part in text.split(",") if part.strip())


class AddressSet:
    """Looked up by prefix: as many probes as there are lengths of prefixes, however many networks there are."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._by_length: dict[tuple[int, int], set[int]] = {}  # (version, bits that tell hosts apart) → prefixes
        for network in networks:
            host_bits = network.max_prefixlen - network.prefixlen
            self._by_length.setdefault((network.version, host_bits), set()).add(int(network.network_address) >> host_bits)

    def __contains__(self, address: Address) -> bool:
        number, version = int(address), address.version
        return any(version == of and number >> host_bits in prefixes for (of, host_bits), prefixes in self._by_length.items())

    def __bool__(self) -> bool:
        return bool(self._by_length)
