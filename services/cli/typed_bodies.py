"""What a call carries, as it is typed or lies in a file."""

import json
from pathlib import Path
from typing import Any

import typer

from services.cli.failures import StackFailure
from services.cli.served_models import ModelVersion, Sizing, to_config


def config_of(models: list[ModelVersion] | None, traffic: str | None, sizing: Sizing) -> dict[str, Any]:
    """Raises typer.BadParameter."""
    if not models:
        raise typer.BadParameter("name a model, as models:/churn/3, or a body with --file")
    return to_config(models, traffic, sizing)


def read_body(file: typer.FileText, models: list[ModelVersion] | None, traffic: str | None, sizing: Sizing) -> dict[str, Any]:
    """Raises typer.BadParameter for what is no JSON object, and for options that it would leave unheard."""
    if models or traffic or sizing != Sizing():
        raise typer.BadParameter("--file is the whole body: neither model nor option goes with it")
    try:
        body = json.load(file)
    except ValueError as error:
        raise typer.BadParameter(f"{file.name} is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise typer.BadParameter(f"{file.name} holds no JSON object")
    return body


def read_query(body: str) -> tuple[bytes, str]:
    """What is sent, untouched, and its media type. Raises StackFailure for a file that cannot be read."""
    if body == "-":
        return typer.get_binary_stream("stdin").read(), "application/json"
    if not body.startswith("@"):
        return body.encode(), "application/json"
    file = Path(body[1:])
    try:
        return file.read_bytes(), "text/csv" if file.suffix == ".csv" else "application/json"
    except OSError as error:
        raise StackFailure(f"{file} cannot be read: {error.strerror}") from error
