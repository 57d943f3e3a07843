"""The REST API of a stack, as the commands ask it: where it is, whose token asks, and what it says when it refuses."""

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import IO, Annotated, Any, Self
from urllib.parse import quote

import httpx
import typer

from services.cli.admin_token import read_profile
from services.cli.certificate import trusting
from services.cli.failures import ApiRefusal, StackFailure
from services.cli.settings import load_stack_settings

ENDPOINTS = "/api/2.0/serving-endpoints"
TIMEOUT = httpx.Timeout(150, connect=5)  # a query may take its deadline of 120 s and the wake of its pool
HOST_VARIABLE, TOKEN_VARIABLE = "DATABRICKS_HOST", "DATABRICKS_TOKEN"

Host = Annotated[str | None, typer.Option(envvar=HOST_VARIABLE, help="where to ask; without it the stack of the state folder")]
ApiToken = Annotated[
    str | None,
    typer.Option(
        envvar=TOKEN_VARIABLE, help="whose call it is; without it the admin's of that stack. Others see arguments: prefer the variable"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="for programs")]


class Workspace:
    """A context manager; every call is made once."""

    def __init__(self, host: str | None = None, token: str | None = None) -> None:
        """Raises StackFailure where there is no stack to ask, and typer.BadParameter for a host without a token."""
        self.host, bearer = find_stack(host, token)
        self.is_local = host is None
        self.token_in_shell = f"${TOKEN_VARIABLE}" if token else token_from_file()
        has_own_tls = self.is_local and self.host.startswith("https:")
        self.ca_bundle = load_stack_settings().places.ca_bundle if has_own_tls else None  # None: whom this machine trusts
        self._client = httpx.Client(
            base_url=self.host,
            headers={"Authorization": f"Bearer {bearer}"},
            timeout=TIMEOUT,
            trust_env=not self.is_local,  # no proxy stands before this machine
            verify=trusting(self.ca_bundle) if self.ca_bundle else True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client.close()

    def endpoints(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.get(ENDPOINTS)["endpoints"]
        return listed

    def endpoint(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(path_of(name))
        return found

    def get(self, path: str, **parameters: str | int | None) -> Any:
        return self.call("GET", path, params={key: value for key, value in parameters.items() if value is not None})

    def call(self, method: str, path: str, **sent: Any) -> Any:
        """The JSON that was answered. Raises as `ask`, and StackFailure for an answer that is none: another server is asked."""
        try:
            return self.ask(method, path, **sent).json()
        except ValueError as error:
            raise StackFailure(f"{self.host} is no Penstock: what it answers is no JSON") from error

    def ask(self, method: str, path: str, **sent: Any) -> httpx.Response:
        """Raises ApiRefusal with the words of the API, or StackFailure when nobody answers."""
        with self._answering():
            answer = self._client.request(method, path, **sent)
        return accepted(answer)

    def download(self, path: str, file: IO[bytes], **parameters: str) -> None:
        """What lies there, as it comes. Raises as `ask`."""
        with self._answering(), self._client.stream("GET", path, params=parameters) as answer:
            if not answer.is_success:
                answer.read()
            for piece in accepted(answer).iter_bytes():
                file.write(piece)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            hint = "; `penstock status` says what runs here" if self.is_local else ""
            raise StackFailure(f"{self.host} does not answer: {str(error) or type(error).__name__}{hint}") from error


def accepted(answer: httpx.Response) -> httpx.Response:
    """Raises ApiRefusal."""
    if not answer.is_success:
        raise refusal_of(answer.status_code, answer.text, answer.headers.get("Retry-After"))
    return answer


def path_of(endpoint: str, *rest: str) -> str:
    """Of an endpoint, or of what lies below it."""
    return "/".join([ENDPOINTS, *map(_quoted, (endpoint, *rest))])


def scoring_path(endpoint: str, served: str | None = None) -> str:
    parts = (endpoint, "invocations") if served is None else (endpoint, "served-models", served, "invocations")
    return "/".join(["/serving-endpoints", *map(_quoted, parts)])


def _quoted(part: str) -> str:
    return quote(part, safe=":")


def find_stack(host: str | None, token: str | None) -> tuple[str, str]:
    """Host and token. The admin's token is sent to its own stack alone, never to a host that was named."""
    if token is not None and not (token.isascii() and token.isprintable()):
        raise typer.BadParameter("the token holds letters that no token has")  # which the HTTP library would print with it
    if host is not None:
        if token is None:
            raise typer.BadParameter(f"a host needs its token: --token or {TOKEN_VARIABLE}")
        return to_url(host), token
    places = load_stack_settings().places
    profile = read_profile(places.config_file)
    if profile is None:
        raise StackFailure(f"no stack has run in {places.root}: `penstock up` starts one; --host and --token name another")
    return profile[0], token or profile[1]


def token_from_file() -> str:
    """How a shell reads the admin's token, so that no line shows it."""
    return f"$(sed -n 's/^token = //p' {shlex.quote(str(load_stack_settings().places.config_file))})"


def to_url(host: str) -> str:
    """As Databricks' clients read it: without a scheme it is https. Raises typer.BadParameter."""
    url = (host if "://" in host else f"https://{host}").rstrip("/")
    try:
        is_web = httpx.URL(url).scheme in ("http", "https") and httpx.URL(url).host != ""
    except httpx.InvalidURL:
        is_web = False
    if not is_web:
        raise typer.BadParameter(f"'{host}' is no address of a host")
    return url


def refusal_of(status: int, body: str, retry_after: str | None) -> ApiRefusal:
    try:
        told = json.loads(body)
        code, message = str(told["error_code"]), str(told["message"])
    except (ValueError, TypeError, KeyError):  # not from Penstock: a proxy before it, or another server
        code, message = "", f"the answer was status {status} without a message"
    return ApiRefusal(
        message, code=code, status=status, retry_after_s=float(retry_after) if retry_after and retry_after.isdigit() else None
    )


def complete_endpoint(incomplete: str) -> list[str]:
    """For the shell: the endpoints whose names begin so. Without a stack there are none, and nothing may be said about it."""
    try:
        with Workspace(os.environ.get(HOST_VARIABLE) or None, os.environ.get(TOKEN_VARIABLE) or None) as workspace:
            return [endpoint["name"] for endpoint in workspace.endpoints() if endpoint["name"].startswith(incomplete)]
    except Exception:  # noqa: BLE001  in the middle of a line that is being typed there is no place for an error
        return []
