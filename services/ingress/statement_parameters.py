"""Parameters of a statement as the API has them, texts with SQL types, and as values of these types. Pure."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import Field

from services.ingress.payloads import Input
from services.shared.errors import ParameterInvalid

DECIMAL_DIGITS = 38


class ParameterInput(Input):
    """`value` None is NULL, whatever the type."""

    name: str = Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")
    value: str | None = None
    type: str = "STRING"


def _to_bool(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _whole(bits: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
            raise ValueError(f"more than {bits} bits")
        return number

    return parse


def _to_decimal(text: str) -> Decimal:
    """DuckDB takes what no decimal can hold as a float, without a word."""
    number = Decimal(text)
    _, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int) or max(len(digits) + exponent, len(digits), -exponent) > DECIMAL_DIGITS:
        raise ValueError(f"no number, or more than {DECIMAL_DIGITS} digits")
    return number


def _to_instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


_TYPES: dict[str, Callable[[str], Any]] = {
    "STRING": str,
    **dict.fromkeys(("TINYINT", "BYTE"), _whole(8)),
    **dict.fromkeys(("SMALLINT", "SHORT"), _whole(16)),
    **dict.fromkeys(("INT", "INTEGER"), _whole(32)),
    **dict.fromkeys(("BIGINT", "LONG"), _whole(64)),
    **dict.fromkeys(("FLOAT", "REAL", "DOUBLE"), float),
    **dict.fromkeys(("DECIMAL", "DEC", "NUMERIC"), _to_decimal),
    "BOOLEAN": _to_bool,
    "DATE": date.fromisoformat,
    "TIMESTAMP": _to_instant,
}


def values_of(parameters: Sequence[ParameterInput]) -> dict[str, Any]:
    """By name. Raises ParameterInvalid for a type there is not, a value that is none of its type, and a name that comes twice."""
    values: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.name in values:
            raise ParameterInvalid(f"The parameter '{parameter.name}' comes twice.")
        values[parameter.name] = None if parameter.value is None else _value(parameter.name, parameter.value, parameter.type)
    return values


def _value(name: str, text: str, of: str) -> Any:
    kind = re.sub(r"\(.*\)$", "", of.strip()).upper()  # DECIMAL(10, 2): the query's own arithmetic keeps its digits
    if kind not in _TYPES:
        raise ParameterInvalid(f"The parameter '{name}' has the type '{of}'; there are {', '.join(_TYPES)}.")
    try:
        return _TYPES[kind](text)
    except (ValueError, KeyError, InvalidOperation) as error:
        raise ParameterInvalid(f"The parameter '{name}' is no {kind}.") from error
