"""Who may come in at all, by the address they call from: asked before every request, so it remembers what it worked out."""

from functools import lru_cache

from starlette.types import Scope

from services.shared.access_lists import AccessLists, AccessRules
from services.shared.addresses import AddressSet, parse_address
from services.shared.errors import RequestRejected
from services.shared.event_log import EventLog

REMEMBERED_ADDRESSES = 10_000
OPEN_TO_ALL = ("/health/live", "/health/ready")  # those who watch over this process are no callers, and learn nothing of the workspace


class AddressBlocked(RequestRejected):
    """The IP access lists of the workspace do not let this address in."""

    code = "PERMISSION_DENIED"


class Gate:
    def __init__(self, events: EventLog, proxies: AddressSet) -> None:
        self._events = events
        self._proxies = proxies
        self._is_proxy = lru_cache(1_000)(self._look_up_proxy)
        self._access = AccessLists()
        self._rules: AccessRules = self._access.rules()
        self._admitted: dict[str, bool] = {}  # by address, as long as the lists are these

    def enter(self, scope: Scope) -> None:
        """Raises AddressBlocked. What comes by a trusted proxy gets its caller's address and scheme instead of the proxy's."""
        if self._proxies:
            self._see_behind_proxies(scope)
        access = self._events.snapshot().access
        if not access.enforced:
            return
        if access is not self._access or len(self._admitted) > REMEMBERED_ADDRESSES:
            self._access, self._rules, self._admitted = access, access.rules(), {}
        address = scope["client"][0] if scope["client"] else ""
        admitted = self._admitted.get(address)
        if admitted is None:
            admitted = self._admitted[address] = self._admits(address)
        if not admitted and scope["path"] not in OPEN_TO_ALL:
            raise AddressBlocked(f"Source IP address {address} is blocked by the IP access lists of this workspace.")

    def _admits(self, address: str) -> bool:
        """An address that cannot be read is on no allow list, and may be on any block list."""
        try:
            return self._rules.admit(parse_address(address))
        except ValueError:
            return False

    def _see_behind_proxies(self, scope: Scope) -> None:
        peer = scope["client"]
        if peer is None or not self._is_proxy(peer[0]):
            return
        forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        if forwarded:
            scope["client"] = (self._caller_of(peer[0], b",".join(forwarded)), 0)
        scheme = next((value for name, value in scope["headers"] if name == b"x-forwarded-proto"), b"")
        if scheme in (b"http", b"https"):
            scope["scheme"] = scheme.decode()

    def _caller_of(self, peer: str, forwarded: bytes) -> str:
        """The first from the right that is no proxy of ours: each adds whom it hears, and what stands before that is anybody's word."""
        address, others, more = peer, forwarded.decode("latin-1"), True
        while more and self._is_proxy(address):
            others, comma, entry = others.rpartition(",")
            address, more = without_port(entry.strip()), bool(comma)
        return address

    def _look_up_proxy(self, address: str) -> bool:
        try:
            return parse_address(address) in self._proxies
        except ValueError:
            return False


def without_port(entry: str) -> str:
    """The address in an entry of X-Forwarded-For, where some proxies put a port: `10.0.0.1:80`, `[2001:db8::1]:80`."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry
