"""One invocation: what was asked, and what goes out."""

from dataclasses import dataclass

from starlette.types import Scope

from services.ingress.connections import Headers
from services.shared.endpoints import Token
from services.shared.envelope import ScoringReply


@dataclass(frozen=True, slots=True)
class Invoked:
    """What an invocation's path says; `served` names a served entity, or is None."""

    name: str
    served: str | None


@dataclass(frozen=True, slots=True)
class Asking:
    """An invocation, read and with its caller known."""

    invoked: Invoked
    caller: Token
    content_type: str
    traceparent: str
    body: bytes
    scope: Scope


@dataclass(frozen=True, slots=True)
class Answered:
    """What goes out. `is_scored`: it was scored for this very call, so that its time and status count."""

    request_id: str
    endpoint_id: str
    entity: str
    reply: ScoringReply
    headers: Headers = ()
    is_scored: bool = True
