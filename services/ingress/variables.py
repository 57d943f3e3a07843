"""Environment variables of a served entity, sealed before they are logged; `{{secrets/scope/key}}` stands for a secret. Pure."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from services.shared.errors import ParameterInvalid

MAX_ENVIRONMENT_VARS = 30
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"\{\{secrets/([^/{}]+)/([^/{}]+)\}\}")
_LIKE_A_REFERENCE = re.compile(r"\{\{\s*secrets/")


@dataclass(frozen=True, slots=True)
class Sealing:
    """How one caller's variables are sealed."""

    seal: Callable[[str], str]
    find_secret: Callable[[str, str], str | None]  # (scope, key) → its sealed value as of now; None: none that the caller may read


@dataclass(frozen=True, slots=True)
class Variables:
    """Both by the name of the variable."""

    sealed: dict[str, str]
    references: dict[str, str]  # as they were sent; the value of each is in `sealed` too


def to_variables(sent: dict[str, str], sealing: Sealing) -> Variables:
    """A secret is taken as it is now, sealed: the pool never sees one that the caller could not read.

    Raises ParameterInvalid, also for a reference to what is not there or not the caller's to read: it does not say which.
    """
    if len(sent) > MAX_ENVIRONMENT_VARS:
        raise ParameterInvalid(f"A served entity takes at most {MAX_ENVIRONMENT_VARS} environment variables; {len(sent)} were given.")
    variables = Variables({}, {})
    for name, value in sent.items():
        if not VARIABLE.fullmatch(name):
            raise ParameterInvalid(f"'{name}' is no name of an environment variable.")
        if _LIKE_A_REFERENCE.search(value):
            variables.sealed[name] = _secret(name, value, sealing)
            variables.references[name] = value
        elif "\0" in value:
            raise ParameterInvalid(f"Environment variable '{name}' holds a NUL character, which no process can be given.")
        else:
            variables.sealed[name] = sealing.seal(value)
    return variables


def _secret(name: str, value: str, sealing: Sealing) -> str:
    reference = _REFERENCE.fullmatch(value)
    if reference is None:  # it may hold more than the reference, so it is not repeated
        raise ParameterInvalid(f"Environment variable '{name}' refers to a secret in another form than '{{{{secrets/scope/key}}}}'.")
    sealed = sealing.find_secret(*reference.groups())
    if sealed is None:
        raise ParameterInvalid(f"Environment variable '{name}' refers to '{value}', but there is no such secret that you may read.")
    return sealed
