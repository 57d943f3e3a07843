"""Texts with SQL types as values."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from services.ingress.statement_parameters import ParameterInput, values_of
from services.shared.errors import ParameterInvalid


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        pytest.param("a", "STRING", "a", id="a text"),
        pytest.param("7", "bigint", 7, id="types in any case"),
        pytest.param("-9223372036854775808", "BIGINT", -(2**63), id="the least of its type"),
        pytest.param("9" * 38, "DECIMAL", Decimal("9" * 38), id="a decimal of all its digits"),
        pytest.param("0.5", "DOUBLE", 0.5, id="a double"),
        pytest.param("1.10", "DECIMAL(10, 2)", Decimal("1.10"), id="a decimal, whatever its width"),
        pytest.param("TRUE", "BOOLEAN", True, id="a boolean"),
        pytest.param("2026-02-10", "DATE", date(2026, 2, 10), id="a date"),
        pytest.param("2026-02-10 12:00:00", "TIMESTAMP", datetime(2026, 2, 10, 12, tzinfo=UTC), id="a time is UTC"),
        pytest.param("2026-02-10T12:00:00+00:00", "TIMESTAMP", datetime(2026, 2, 10, 12, tzinfo=UTC), id="unless it says where"),
        pytest.param(None, "INT", None, id="NULL"),
    ],
)
def test_a_value(text: str | None, kind: str, value: object) -> None:
    assert values_of([ParameterInput(name="p", value=text, type=kind)]) == {"p": value}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        pytest.param([ParameterInput(name="p", value="x", type="INT")], "'p' is no INT", id="no number"),
        pytest.param([ParameterInput(name="p", value="128", type="TINYINT")], "'p' is no TINYINT", id="a number too large for its type"),
        pytest.param([ParameterInput(name="p", value="-2147483649", type="INT")], "'p' is no INT", id="or too small"),
        pytest.param([ParameterInput(name="p", value="NaN", type="DECIMAL")], "'p' is no DECIMAL", id="a decimal that is no number"),
        pytest.param([ParameterInput(name="p", value="9" * 39, type="DECIMAL")], "'p' is no DECIMAL", id="a decimal of too many digits"),
        pytest.param([ParameterInput(name="p", value="1e38", type="DECIMAL")], "'p' is no DECIMAL", id="however they are written"),
        pytest.param([ParameterInput(name="p", value="yes", type="BOOLEAN")], "'p' is no BOOLEAN", id="no boolean"),
        pytest.param([ParameterInput(name="p", value="x", type="MAP")], "has the type 'MAP'; there are STRING", id="no such type"),
        pytest.param([ParameterInput(name="p"), ParameterInput(name="p")], "'p' comes twice", id="a name that comes twice"),
    ],
)
def test_what_is_wrong_is_named(parameters: list[ParameterInput], message: str) -> None:
    with pytest.raises(ParameterInvalid, match=message):
        values_of(parameters)
