"""What people type of a config, and the body it becomes: models, shares, sizes, environment variables. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

MAX_NAME = 63
_MODEL = re.compile(r"models:/([^/@:]+)/([0-9]+)")


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version of a registered model; `str()` is MLflow's own address of it."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"models:/{self.name}/{self.version}"

    @property
    def leaf(self) -> str:
        """The model's own name, as far as endpoints may be called so."""
        return _allowed(self.name.rsplit(".", 1)[-1])

    @property
    def entity(self) -> str:
        """The name its served entity gets, as Databricks makes it."""
        return _allowed(f"{self.name.rsplit('.', 1)[-1]}-{self.version}")


def parse_model(text: str) -> ModelVersion:
    found = _MODEL.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"'{text}' is no version of a model; write models:/churn/3")
    return ModelVersion(found[1], found[2])


Model = Annotated[ModelVersion, typer.Argument(parser=parse_model, metavar="MODEL", help="a registered version: models:/churn/3")]
Size = Annotated[str | None, typer.Option(help="Small, Medium or Large: 4, 8 to 16 or 16 to 64 requests at once")]
ToZero = Annotated[bool | None, typer.Option("--scale-to-zero/--no-scale-to-zero", help="whether no replica stays when nobody asks")]
Variables = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        metavar="NAME=VALUE",
        help="for the model's process; again for each. A secret is {{secrets/scope/key}}: others see arguments",
    ),
]


@dataclass(frozen=True, slots=True)
class Sizing:
    """How an entity is run; what is None, or empty, is the server's to choose."""

    workload_size: str | None = None
    scale_to_zero: bool | None = None
    variables: tuple[str, ...] = ()

    def fields(self) -> dict[str, Any]:
        chosen: dict[str, Any] = {"workload_size": self.workload_size, "scale_to_zero_enabled": self.scale_to_zero}
        chosen["environment_vars"] = dict(map(_parted, self.variables)) or None
        return {name: value for name, value in chosen.items() if value is not None}


def to_config(models: Sequence[ModelVersion], traffic: str | None, sizing: Sizing) -> dict[str, Any]:
    """The body of `PUT …/config`. Several models need their shares. Raises typer.BadParameter."""
    entities = [entity_of(model) | sizing.fields() for model in models]
    if traffic is None:
        if len(models) > 1:
            raise typer.BadParameter("several models need their shares: --traffic 80,20")
        return {"served_entities": entities}
    shares = parse_traffic(traffic)
    if len(shares) != len(models):
        raise typer.BadParameter(f"--traffic names {len(shares)} shares for {len(models)} models")
    routes = [{"served_entity_name": model.entity, "traffic_percentage": share} for model, share in zip(models, shares, strict=True)]
    return {"served_entities": entities, "traffic_config": {"routes": routes}}


def entity_of(model: ModelVersion) -> dict[str, Any]:
    return {"name": model.entity, "entity_name": model.name, "entity_version": model.version}


def parse_traffic(text: str) -> list[int]:
    """Of `80,20`; whether they sum to 100 is the server's to say."""
    if not re.fullmatch(r"[0-9]{1,3}(,[0-9]{1,3})*", text):
        raise typer.BadParameter(f"'{text}' are no shares; write 80,20, in the order of the models")
    return [int(share) for share in text.split(",")]


def _parted(variable: str) -> tuple[str, str]:
    name, sign, value = variable.partition("=")
    if not sign or not name:
        raise typer.BadParameter("an environment variable is written NAME=VALUE")  # and not repeated: its value may be a secret
    return name, value


def _allowed(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)[:MAX_NAME]
