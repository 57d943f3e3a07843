"""A body that an endpoint takes, made up from its OpenAPI description. Pure."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

MOST_ITEMS = 16  # of an array that has to have so many: a picture is no example
MOST_CHARS = 2_000  # of a line to paste
_WORDS = {"date-time": "2026-01-31T12:00:00"}


def example_body(description: Mapping[str, Any], entity: str) -> str | None:
    """JSON with one row for that served entity. None where the description does not tell it, or it were too long."""
    try:
        post = description["paths"][f"/served-models/{entity}/invocations"]["post"]
        forms = post["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    except KeyError:
        return None
    by_key = {form["required"][0]: form["properties"][form["required"][0]] for form in forms}
    key = next((key for key in ("dataframe_records", "inputs") if key in by_key), None)
    if key is None or any(size > MOST_ITEMS for size in _sizes(by_key[key])):
        return None
    body = json.dumps({key: _value(by_key[key])})
    return body if len(body) <= MOST_CHARS else None


def _value(schema: Mapping[str, Any]) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):  # or null
        kind = kind[0]
    if kind == "object":
        return {name: _value(part) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [_value(schema.get("items", {}))] * max(1, schema.get("minItems", 1))
    if kind == "string":
        return "" if "contentEncoding" in schema else _WORDS.get(schema.get("format", ""), "text")
    return {"boolean": True, "integer": 1}.get(kind or "", 1.0)


def _sizes(schema: Any) -> Iterator[int]:
    if isinstance(schema, Mapping):
        yield schema.get("minItems", 0)
        for part in (schema.get("items"), *schema.get("properties", {}).values()):
            yield from _sizes(part)
