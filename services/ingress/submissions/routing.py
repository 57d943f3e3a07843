"""Whom a bulk request goes to: as over HTTP by the traffic split, but by a draw that is its id's own."""

from services.ingress.destinations import Destinations, addressed_to
from services.ingress.rate_limiter import RateLimiter
from services.ingress.submissions.record_ids import draw_of
from services.shared.endpoints import ControlState, Token
from services.shared.envelope import ScoringRequest
from services.shared.errors import EndpointNotFound


class Routing:
    def __init__(self, limiter: RateLimiter, caller: Token) -> None:
        self._limiter = limiter
        self._caller = caller
        self._destinations = Destinations()

    def address(self, request: ScoringRequest, state: ControlState) -> tuple[str, ScoringRequest]:
        """The pool, and the request as its hosts need it; counted against the endpoint's own limits.

        Raises RateLimited, EndpointNotFound (also where another endpoint has the name now), PoolNotReady or NotServing.
        """
        to = self._destinations.choose(state, request.endpoint, None, draw_of(request.request_id))
        if to.endpoint_id != request.endpoint_id:
            raise EndpointNotFound(request.endpoint)
        self._limiter.spend_own(to, self._caller)
        return to.pool_id, addressed_to(to, request)
