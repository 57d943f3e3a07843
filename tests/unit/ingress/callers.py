"""One endpoint of ada's, and a token for each way to have rights on it, or none: the token's text is the role's name."""

from hashlib import sha256

from services.shared.control_events import ControlEvent, Grant, GroupChanged, PermissionsChanged, PrincipalKind, TokenCreated
from services.shared.rights import Level
from tests.unit.shared.control_log import config, created, fold, ready

USER, GROUP, ROBOT = PrincipalKind.USER, PrincipalKind.GROUP, PrincipalKind.SERVICE_PRINCIPAL
LEVELS: dict[str, Level | None] = {
    "admin": Level.CAN_MANAGE,
    "ada": Level.CAN_MANAGE,
    "manager": Level.CAN_MANAGE,
    "querier": Level.CAN_QUERY,
    "viewer": Level.CAN_VIEW,
    "member": Level.CAN_QUERY,
    "robot": Level.CAN_QUERY,
    "stranger": None,
}


def token(name: str, kind: PrincipalKind = USER, expires_ms: int | None = None) -> TokenCreated:
    digest = sha256(name.encode()).hexdigest()
    return TokenCreated(token_id=name, sha256=digest, principal=name, kind=kind, expires_ms=expires_ms, at_ms=1)


GRANTS = (
    Grant(kind=USER, name="manager", level="CAN_MANAGE"),
    Grant(kind=USER, name="querier", level="CAN_QUERY"),
    Grant(kind=USER, name="viewer", level="CAN_VIEW"),
    Grant(kind=GROUP, name="team", level="CAN_QUERY"),
    Grant(kind=USER, name="member", level="CAN_VIEW"),
    Grant(kind=ROBOT, name="robot", level="CAN_QUERY"),
    Grant(kind=ROBOT, name="stranger", level="CAN_MANAGE"),
)
_EVENTS: tuple[ControlEvent, ...] = (
    *(token(name, ROBOT if name == "robot" else USER) for name in LEVELS),
    GroupChanged(name="team", members=("member",), at_ms=1),
    created(config("1")),
    ready("a"),
    PermissionsChanged(endpoint_id="e1", grants=GRANTS, replaces=True, at_ms=2),
)
STATE = fold(*_EVENTS)
TOKENS = {t.principal: t for t in STATE.tokens.values()}
