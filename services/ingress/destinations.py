"""Where an endpoint's requests go, and what they all carry: worked out once for a snapshot of the control log."""

from dataclasses import dataclass, replace

from services.ingress.sampling import is_logged
from services.ingress.traffic import choose_entity, named_entity
from services.shared.control_events import RateLimit
from services.shared.endpoints import Config, ConfigUpdate, ControlState, Endpoint, served_entity_id
from services.shared.envelope import ScoringRequest
from services.shared.errors import PoolNotReady, RequestRejected


class NotServing(RequestRejected):
    """The endpoint is stopped, or nothing of it was ever deployed."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A served entity as its requests see it."""

    endpoint_id: str
    endpoint: str
    entity: str
    served_entity_id: str
    pool_id: str
    table: str  # catalog.schema.table, or "" for none
    rate_limits: tuple[RateLimit, ...]
    legacy_model: str = ""  # as the envelope's
    sampling_fraction: float = 1.0

    def table_of(self, request_id: str) -> str:
        """The table this request is logged to, or "" for none."""
        return self.table if is_logged(request_id, self.sampling_fraction) else ""


def addressed_to(to: Destination, request: ScoringRequest) -> ScoringRequest:
    """A request that was made before its served entity was chosen."""
    return replace(
        request,
        entity=to.entity,
        served_entity_id=to.served_entity_id,
        table=to.table_of(request.request_id),
        legacy_model=to.legacy_model,
        sampling_fraction=to.sampling_fraction,
    )


class Destinations:
    """Remembers the destinations of the newest snapshot: a table's config alone takes longer to read than all else here."""

    def __init__(self) -> None:
        self._state = ControlState()
        self._known: dict[str, Destination] = {}  # by pool id

    def choose(self, state: ControlState, name: str, served: str | None, draw: float) -> Destination:
        """The destination drawn by its share of the traffic (0 ≤ draw < 1), or the one `served` names.

        Raises EndpointNotFound, PoolNotReady, NotServing or RequestRejected.
        """
        if state is not self._state:
            self._state, self._known = state, {}
        endpoint = state.endpoint(name)
        config = _serving_config(endpoint)
        entity = named_entity(config, name, served) if served else choose_entity(config, draw)
        known = self._known.get(entity.pool_id)
        if known is None:
            table = endpoint.table.full_name if endpoint.table else ""
            served_id, limits = served_entity_id(entity.pool_id), endpoint.rate_limits
            spec = entity.spec
            legacy_model = f"{spec.model_name}/{spec.model_version}" if endpoint.logs_legacy_rows else ""
            sampled = 1.0 if endpoint.sampling_fraction is None else endpoint.sampling_fraction
            known = Destination(endpoint.endpoint_id, name, spec.name, served_id, entity.pool_id, table, limits, legacy_model, sampled)
            self._known[entity.pool_id] = known
        return known


def _serving_config(endpoint: Endpoint) -> Config:
    if endpoint.serving:
        return endpoint.serving
    if endpoint.update is ConfigUpdate.IN_PROGRESS:
        doing = "started" if endpoint.stopped else "created"
        raise PoolNotReady(f"Endpoint '{endpoint.name}' is not ready yet: it is being {doing}.", retry_after_s=2)
    if endpoint.stopped:
        raise NotServing(f"Endpoint '{endpoint.name}' is stopped; start it to query it.")
    raise NotServing(f"Endpoint '{endpoint.name}' is not ready: its creation failed or was canceled.")
