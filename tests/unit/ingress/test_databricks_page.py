"""The page «Coming from Databricks» has a row for each route there is, and for no other."""

import re
from pathlib import Path

from services.ingress.api_document import api_document
from services.ingress.unsupported import ROUTES

PAGE = Path(__file__).parents[3] / "docs" / "coming_from_databricks.md"
ROW = re.compile(r"\| (`[^|]+`) \| (works|differs|ours|refused) \|")
SHORT = {"P": "/api/2.0/serving-endpoints", "S": "/serving-endpoints"}


def rows() -> dict[str, str]:
    """`METHOD path` → what the page says of it."""
    found = [(routes, verdict) for routes, verdict in ROW.findall(PAGE.read_text())]
    return {_long(route): verdict for routes, verdict in found for route in re.findall("`([^`]+)`", routes)}


def _long(route: str) -> str:
    method, path = route.split(" ")
    first, slash, rest = path.partition("/")
    return f"{method} {SHORT.get(first, first)}{slash}{rest}"


def test_each_route_has_a_row_and_each_row_a_route() -> None:
    paths = api_document()["paths"]
    assert sorted(rows()) == sorted(f"{method.upper()} {path}" for path, methods in paths.items() for method in methods)


def test_what_is_refused_is_said_to_be() -> None:
    refused = {route for route, verdict in rows().items() if verdict == "refused"}
    assert refused == {f"{method} {path}" for method, path, _ in ROUTES} | {"GET /api/2.0/secrets/get"}
