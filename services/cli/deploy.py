"""`penstock deploy models:/churn/3`: the common case as one line."""

import re
import shlex
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from services.cli.example_input import example_body
from services.cli.failures import ApiRefusal, StackFailure
from services.cli.layout import console, print_json
from services.cli.rollout import follow
from services.cli.served_models import Model, ModelVersion, Size, Sizing, ToZero, Variables, entity_of
from services.cli.workspace import ENDPOINTS, ApiToken, AsJson, Host, Workspace, complete_endpoint, path_of, scoring_path

SIZES = ("workload_size", "min_provisioned_concurrency", "max_provisioned_concurrency")
KEPT = (*SIZES, "workload_type", "scale_to_zero_enabled", "environment_vars")
SECRET = re.compile(r"\{\{\s*secrets/")  # a reference is shown, any other value is not


def deploy(
    model: Model,
    endpoint: Annotated[str | None, typer.Option(help="its name; without it the model's", autocompletion=complete_endpoint)] = None,
    workload_size: Size = None,
    scale_to_zero: ToZero = None,
    env: Variables = None,
    as_json: AsJson = False,
    host: Host = None,
    token: ApiToken = None,
) -> None:
    """Serve a registered model: make its endpoint or update it, wait until it serves, and say how to ask it.

    An endpoint that is there serves this version alone from then on, sized as before unless an option says otherwise.
    """
    name, began_at = endpoint or model.leaf, time.monotonic()
    sizing = Sizing(workload_size, scale_to_zero, tuple(env or ()))
    with Workspace(host, token) as workspace:
        before = existing(workspace, name)
        if before is None:
            changed = workspace.call(
                "POST", ENDPOINTS, json={"name": name, "config": {"served_entities": [next_entity(model, None, sizing)]}}
            )
        else:
            changed = workspace.call("PUT", path_of(name, "config"), json=next_config(model, before, sizing))
        serving = follow(workspace, changed)
        if as_json:
            print_json(serving)
            return
        console().print(f"[bold green]{name} serves {model}[/] after {time.monotonic() - began_at:.0f} s\n")
        for line in ways_to_ask(workspace, name, model.entity):
            console().print(line, markup=False, soft_wrap=True)


def existing(workspace: Workspace, name: str) -> dict[str, Any] | None:
    try:
        return workspace.endpoint(name)
    except ApiRefusal as refusal:
        if refusal.code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def next_config(model: ModelVersion, before: Mapping[str, Any], sizing: Sizing) -> dict[str, Any]:
    """The endpoint's config with this version alone, logged as before."""
    config = before.get("config") or before.get("pending_config") or {}
    entities = config.get("served_entities", [])
    same_model = [entity for entity in entities if entity["entity_name"] == model.name]
    body: dict[str, Any] = {"served_entities": [next_entity(model, (same_model or entities or [None])[-1], sizing)]}
    if table := config.get("auto_capture_config"):
        body["auto_capture_config"] = {key: value for key, value in table.items() if key != "state"}
    return body


def next_entity(model: ModelVersion, before: Mapping[str, Any] | None, sizing: Sizing) -> dict[str, Any]:
    """Run as its predecessor is. Raises StackFailure rather than lose variables whose values cannot be read back."""
    chosen = sizing.fields()
    kept = {key: before[key] for key in KEPT if key in before} if before else {}
    if "workload_size" in chosen:
        kept = {key: value for key, value in kept.items() if key not in SIZES}
    if "environment_vars" in kept and "environment_vars" not in chosen:
        hidden = sorted(name for name, value in kept["environment_vars"].items() if not SECRET.match(value))
        if hidden:
            names = ", ".join(hidden)
            raise StackFailure(f"what serves runs with {names}, whose values nobody can read back: give all variables again with --env")
    return entity_of(model) | kept | chosen


def ways_to_ask(workspace: Workspace, name: str, entity: str) -> list[str]:
    """The same call twice, to paste: with curl and with `penstock`. A model without a signature leaves the body to its user."""
    try:
        body = example_body(workspace.get(path_of(name, "openapi")), entity)
    except ApiRefusal:  # not describable: the way to ask it is known all the same
        body = None
    data = shlex.quote(body or "@input.json")
    url = shlex.quote(f"{workspace.host}{scoring_path(name)}")
    trust = f"--cacert {shlex.quote(str(workspace.ca_bundle))} " if workspace.ca_bundle else ""
    bearer = f'-H "Authorization: Bearer {workspace.token_in_shell}"'
    return [f"curl {trust}{url} {bearer} -H 'Content-Type: application/json' -d {data}", f"penstock endpoints query {name} {data}"]
