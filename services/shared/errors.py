"""The error tree. `code` is the `error_code` word clients see; HTTP statuses are known to `services/ingress/http_errors.py` alone."""


class ServingError(Exception):
    """Anything a caller may be told about. `message` is shown to the caller as it is, so it holds no secret and no payload."""

    code = "INTERNAL_ERROR"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __eq__(self, other: object) -> bool:
        """Equal when both tell the caller the same: a verdict of the fold is a value, the same in every process."""
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), self.message))


class RequestRejected(ServingError):
    """The caller can fix it: the same request will be refused again."""

    code = "BAD_REQUEST"


class ParameterInvalid(RequestRejected):
    """A management field is missing, malformed or out of its bounds."""

    code = "INVALID_PARAMETER_VALUE"


class Unauthenticated(RequestRejected):
    """No credential came, or one that no live token matches."""

    code = "UNAUTHENTICATED"


class PermissionDenied(RequestRejected):
    """The caller may see what it is about, but not do this."""

    code = "PERMISSION_DENIED"


class EndpointNotFound(RequestRejected):
    """No endpoint of that name, or none the caller may see."""

    code = "RESOURCE_DOES_NOT_EXIST"

    def __init__(self, name: str) -> None:
        super().__init__(f"Endpoint with name '{name}' does not exist.")
        self.name = name


class SecretNotFound(RequestRejected):
    """No secret scope, secret or access control entry of that name, or none the caller may see."""

    code = "RESOURCE_DOES_NOT_EXIST"


class AlreadyExists(RequestRejected):
    """A create lost against an endpoint, or a secret scope, of the same name."""

    code = "RESOURCE_ALREADY_EXISTS"


class Conflict(RequestRejected):
    """The fold refused an event: decided on a stale version, or an update is running."""

    code = "RESOURCE_CONFLICT"


class QuotaExceeded(RequestRejected):
    """A create or update would provision more than the workspace may. A 400: waiting cures no quota, and clients repeat a 429."""

    code = "INVALID_PARAMETER_VALUE"


class LimitExceeded(RequestRejected):
    """The workspace, or a secret scope, holds as many of them as it may."""

    code = "RESOURCE_LIMIT_EXCEEDED"


class KeyReused(RequestRejected):
    """An `Idempotency-Key` came again, with something else than the first time."""

    code = "IDEMPOTENCY_KEY_REUSED"


class PayloadTooLarge(RequestRejected):
    """The body is longer than the limit. A 400 by decision: a 413 makes mlflow upload the body eight times."""


class BodyTooSlow(RequestRejected):
    """The body did not arrive in the time it is given. A 400: mlflow takes a 408 for a 500 and sends the body eight times."""


class ContentTypeUnsupported(RequestRejected):
    """Neither JSON nor CSV, or no content type at all."""

    code = "UNSUPPORTED_MEDIA_TYPE"


class TryAgainLater(ServingError):
    """Nothing is wrong with the request. `retry_after_s` is a true estimate, in whole seconds on the wire."""

    code = "TEMPORARILY_UNAVAILABLE"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PoolNotReady(TryAgainLater):
    """The endpoint has no active config yet, or this process cannot vouch for its view of it."""


class QueueFull(TryAgainLater):
    """Admission: the estimated wait exceeds what the endpoint allows."""

    code = "REQUEST_LIMIT_EXCEEDED"


class RateLimited(TryAgainLater):
    """The workspace, the endpoint or the caller has made as many calls as it may until `retry_after_s` from now."""

    code = "REQUEST_LIMIT_EXCEEDED"


class DeadlineExceeded(ServingError):
    """Nobody waits any more: what is not scored yet is dropped."""

    code = "DEADLINE_EXCEEDED"


class DependencyLost(ServingError):
    """Kafka, Redis or a table is out of reach: retried with backoff by the loop that owns the client."""

    code = "TEMPORARILY_UNAVAILABLE"


class EnvelopeInvalid(ServingError):
    """A record that does not carry what the envelope promises: it goes to the dead letters, never to a model."""

    code = "INTERNAL_ERROR"


class SettingsInvalid(Exception):
    """The settings stop the start. `str()` is one line for the person who wrote them."""
