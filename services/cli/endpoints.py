"""`penstock endpoints …`: the REST API of serving endpoints from a terminal. Each command is one call, then one view of its answer."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from services.cli.endpoint_views import detail_view, event_table, list_table, newest_entities, prediction_table, topics_view
from services.cli.layout import cell, console, print_json
from services.cli.metrics import metrics_table, parse_samples
from services.cli.rollout import follow
from services.cli.served_models import ModelVersion, Size, Sizing, ToZero, Variables, parse_model
from services.cli.typed_bodies import config_of, read_body, read_query
from services.cli.workspace import ENDPOINTS, ApiToken, AsJson, Host, Workspace, complete_endpoint, path_of, scoring_path

endpoints = typer.Typer(help="Serving endpoints: make, change, ask and watch them.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="the endpoint", autocompletion=complete_endpoint)]
Models = Annotated[
    list[ModelVersion] | None, typer.Argument(parser=parse_model, metavar="MODEL", help="registered versions: models:/churn/3")
]
Traffic = Annotated[str | None, typer.Option(metavar="80,20", help="percent for each model, in their order")]
BodyFile = Annotated[
    typer.FileText | None, typer.Option("--file", help="the JSON body of the call instead, for all that has no option; - reads it")
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="do not wait until it serves")]
Served = Annotated[str | None, typer.Argument(help="the served entity; needed where there are several")]


@endpoints.command("list")
def list_endpoints(as_json: AsJson = False, host: Host = None, token: ApiToken = None) -> None:
    """Show the endpoints one may see."""
    with Workspace(host, token) as workspace:
        found = workspace.endpoints()
    if as_json:
        print_json(found)
    elif found:
        console().print(list_table(found))
    else:
        console().print("there is no endpoint yet: `penstock deploy models:/churn/3` makes one")


@endpoints.command()
def get(name: Name, as_json: AsJson = False, host: Host = None, token: ApiToken = None) -> None:
    """Show an endpoint: what serves, and what is being deployed."""
    with Workspace(host, token) as workspace:
        show(workspace.endpoint(name), as_json)


@endpoints.command()
def create(
    name: Name,
    models: Models = None,
    traffic: Traffic = None,
    workload_size: Size = None,
    scale_to_zero: ToZero = None,
    env: Variables = None,
    file: BodyFile = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
    host: Host = None,
    token: ApiToken = None,
) -> None:
    """Make an endpoint, and wait until it serves."""
    sizing = Sizing(workload_size, scale_to_zero, tuple(env or ()))
    body = read_body(file, models, traffic, sizing) if file else {"config": config_of(models, traffic, sizing)}
    with Workspace(host, token) as workspace:
        made = workspace.call("POST", ENDPOINTS, json=body | {"name": name})
        show(made if no_wait else follow(workspace, made), as_json)


@endpoints.command()
def update(
    name: Name,
    models: Models = None,
    traffic: Traffic = None,
    workload_size: Size = None,
    scale_to_zero: ToZero = None,
    env: Variables = None,
    file: BodyFile = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
    host: Host = None,
    token: ApiToken = None,
) -> None:
    """Give an endpoint another config, whole, and wait until that serves; the old one serves meanwhile."""
    sizing = Sizing(workload_size, scale_to_zero, tuple(env or ()))
    config = read_body(file, models, traffic, sizing) if file else config_of(models, traffic, sizing)
    with Workspace(host, token) as workspace:
        changed = workspace.call("PUT", path_of(name, "config"), json=config)
        show(changed if no_wait else follow(workspace, changed), as_json)


@endpoints.command()
def cancel(name: Name, as_json: AsJson = False, host: Host = None, token: ApiToken = None) -> None:
    """Give up the update that is under way; what served before it serves on."""
    with Workspace(host, token) as workspace:
        show(workspace.call("POST", path_of(name, "config:cancel")), as_json)


@endpoints.command()
def delete(name: Name, host: Host = None, token: ApiToken = None) -> None:
    """Delete an endpoint. Its inference table stays."""
    with Workspace(host, token) as workspace:
        workspace.ask("DELETE", path_of(name))


@endpoints.command()
def stop(name: Name, as_json: AsJson = False, host: Host = None, token: ApiToken = None) -> None:
    """Stop an endpoint: queries are refused, its config is kept."""
    with Workspace(host, token) as workspace:
        show(workspace.call("POST", path_of(name, "config:stop")), as_json)


@endpoints.command()
def start(name: Name, no_wait: NoWait = False, as_json: AsJson = False, host: Host = None, token: ApiToken = None) -> None:
    """Start a stopped endpoint, and wait until it serves."""
    with Workspace(host, token) as workspace:
        started = workspace.call("POST", path_of(name, "config:start"))
        show(started if no_wait else follow(workspace, started), as_json)


@endpoints.command()
def query(
    name: Name,
    body: Annotated[str, typer.Argument(help="JSON as it is sent; @rows.json and @rows.csv are files, - is standard input")],
    served: Annotated[str | None, typer.Option("--served-entity", help="ask this one, whatever its share")] = None,
    as_json: AsJson = False,
    host: Host = None,
    token: ApiToken = None,
) -> None:
    """Score rows, and show what is predicted for each."""
    content, media_type = read_query(body)
    with Workspace(host, token) as workspace:
        answer = workspace.ask("POST", scoring_path(name, served), content=content, headers={"Content-Type": media_type})
    predicted = answer.json()
    laid = None if as_json else prediction_table(predicted)
    if laid is None:
        print_json(predicted)
        return
    console().print(laid)
    console().print(cell(f"answered by {answer.headers.get('served-model-name', name)}"))


@endpoints.command()
def logs(
    name: Name,
    served: Served = None,
    build: Annotated[bool, typer.Option("--build", help="what building its environment and loading it said")] = False,
    config_version: Annotated[int | None, typer.Option(help="of an older or newer config than the one that serves")] = None,
    as_json: AsJson = False,
    host: Host = None,
    token: ApiToken = None,
) -> None:
    """Print what a served entity's model said."""
    with Workspace(host, token) as workspace:
        entity = served or only_entity(workspace.endpoint(name))
        path = path_of(name, "served-models", entity, "build-logs" if build else "logs")
        found = workspace.get(path, config_version=config_version)
    if as_json:
        print_json(found)
    else:
        print(found["logs"], end="")


@endpoints.command()
def events(
    name: Name,
    limit: Annotated[int | None, typer.Option(min=1, help="so many of the newest")] = None,
    as_json: AsJson = False,
    host: Host = None,
    token: ApiToken = None,
) -> None:
    """Show what befell an endpoint, newest first."""
    with Workspace(host, token) as workspace:
        found = workspace.get(path_of(name, "events"), limit=limit)["events"]
    if as_json:
        print_json(found)
    else:
        console().print(event_table(found))


@endpoints.command()
def topics(
    name: Name,
    enabled: Annotated[bool | None, typer.Option("--on/--off", help="read what lies in the topic, or let it lie")] = None,
    as_json: AsJson = False,
    host: Host = None,
    token: ApiToken = None,
) -> None:
    """Show an endpoint's public Kafka topics, or switch them on or off."""
    with Workspace(host, token) as workspace:
        path = path_of(name, "topics")
        found = workspace.get(path) if enabled is None else workspace.call("PUT", path, json={"enabled": enabled})
    if as_json:
        print_json(found)
    else:
        console().print(topics_view(found))


@endpoints.command()
def metrics(name: Name, as_json: AsJson = False, host: Host = None, token: ApiToken = None) -> None:
    """Show how often an endpoint was asked in the last minute, and how long answers take."""
    with Workspace(host, token) as workspace:
        samples = list(parse_samples(workspace.ask("GET", path_of(name, "metrics")).text))
    if as_json:
        print_json([asdict(sample) for sample in samples])
    else:
        console().print(metrics_table(samples))


def show(endpoint: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(endpoint)
    else:
        console().print(detail_view(endpoint))


def only_entity(endpoint: Mapping[str, Any]) -> str:
    """Of the newest config. Raises typer.BadParameter, naming them, where there are several."""
    names = [str(entity["name"]) for entity in newest_entities(endpoint)]
    if len(names) != 1:
        raise typer.BadParameter(f"'{endpoint['name']}' has {len(names)} served entities; name one: {', '.join(names)}")
    return names[0]
