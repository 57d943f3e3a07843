import json
from io import StringIO
from typing import Any

import pytest
from rich.console import Console, RenderableType

from services.cli.endpoint_views import detail_view, event_table, list_table, prediction_table, state_in_words, topics_view
from services.cli.layout import cell
from services.ingress.endpoint_events import events_of
from services.shared.control_events import ControlEvent, EndpointStopped, GatewayChanged, SamplingChanged, TagsChanged, UpdateCanceled
from services.shared.presence import PoolEvent
from tests.unit.cli.endpoint_objects import endpoint_after, listed_after
from tests.unit.shared.control_log import config, created, failed, fold, ready, requested

NEW = created(config("1"))
SERVING = (NEW, ready("a"))
STOPPED = (*SERVING, EndpointStopped(endpoint_id="e1", based_on=1, at_ms=5))
UPDATING = (*SERVING, requested(config("1", "2", shares=(80, 20)), based_on=1))


def shown(view: RenderableType, width: int = 200) -> list[str]:
    console = Console(file=StringIO(), width=width)
    console.print(view)
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("events", "words"),
    [
        pytest.param((NEW,), "Not ready (Updating)", id="being made"),
        pytest.param((NEW, failed("a")), "Not ready (Update failed)", id="never came up"),
        pytest.param(SERVING, "Ready", id="serving"),
        pytest.param(UPDATING, "Ready (Updating)", id="serving while the next config is made"),
        pytest.param((*UPDATING, failed("b", version=2)), "Ready (Update failed)", id="serving after a failed update"),
        pytest.param(
            (*UPDATING, UpdateCanceled(endpoint_id="e1", version=2, at_ms=5)), "Ready (Update canceled)", id="after a canceled one"
        ),
        pytest.param(STOPPED, "Not ready (Stopped)", id="stopped"),
    ],
)
def test_the_state_in_databricks_own_words(events: tuple[ControlEvent, ...], words: str) -> None:
    assert state_in_words(endpoint_after(*events)) == state_in_words(listed_after(*events)) == words


def test_the_list_is_sorted_and_says_who_serves() -> None:
    lines = shown(list_table([listed_after(*UPDATING), listed_after(NEW) | {"name": "ads"}]))
    assert [line.split()[0] for line in lines] == ["name", "ads", "churn"]
    assert "Ready (Updating)" in lines[2]
    assert " a " in lines[2]


def test_an_endpoint_shows_what_serves_and_what_is_under_way() -> None:
    table = {"enabled": True, "catalog_name": "main", "schema_name": "ml", "table_name_prefix": "churn"}
    limits = [{"calls": 5, "key": "user", "principal": "eve", "renewal_period": "minute"}]
    gateway = GatewayChanged(endpoint_id="e1", gateway={"inference_table_config": table, "rate_limits": limits}, at_ms=6)
    tags = TagsChanged(endpoint_id="e1", added=(("team", "core"), ("raw", None)), removed=(), at_ms=6)
    sampling = SamplingChanged(endpoint_id="e1", sampling_fraction=0.1, at_ms=6)
    lines = shown(detail_view(endpoint_after(*UPDATING, gateway, tags, sampling)))
    assert lines[0] == "churn · Ready (Updating)"
    facts = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines[1:8]}
    assert facts["table"] == "main.ml.churn_payload (0.1 of the requests)"
    assert (facts["tags"], facts["limit"]) == ("team=core, raw", "5 a minute by user eve")
    assert (facts["you"], facts["created"].split()[-1]) == ("CAN_MANAGE", "ada")
    serves = lines.index("config 1, which serves")
    assert lines[serves + 2].split() == ["a", "churn", "1", "100", "%", "Small", "no", "ready"]
    coming = next(i for i, line in enumerate(lines) if line.startswith("config 2, under way since"))
    assert lines[coming + 2].split()[3:5] == ["80", "%"]
    assert lines[coming + 3].split()[:8] == ["b", "churn", "2", "20", "%", "Small", "no", "creating:"]


def test_what_did_not_come_to_serve_says_why() -> None:
    lines = shown(detail_view(endpoint_after(*UPDATING, failed("b", version=2))))
    assert "config 2, which did not come to serve" in lines
    assert lines[-1].endswith("failed: no such package")
    assert "config 1, which is stopped" in shown(detail_view(endpoint_after(*STOPPED)))


def test_a_narrow_screen_cuts_neither_states_nor_times() -> None:
    lines = "\n".join(shown(list_table([listed_after(*UPDATING) | {"name": "x" * 63}]), width=80))
    assert "Ready (Updating)" in lines
    assert ":00" in lines


def test_events_are_lines() -> None:
    resized = PoolEvent(event_type="POOL_RESIZED", message="a: 1 → 4 replicas (panic)", at_ms=10**13)
    lines = shown(event_table(events_of(fold(*SERVING).endpoint("churn"), 10, [resized])))
    assert [line.split()[2:] for line in lines[1:]] == [
        ["size", "info", "a:", "1", "→", "4", "replicas", "(panic)"],
        ["update", "success", "Config", "version", "1", "serves."],
        ["entity", "success", "Served", "entity", "'a'", "of", "config", "version", "1", "is", "ready."],
        ["update", "in", "progress", "The", "endpoint", "is", "being", "created", "with", "config", "version", "1."],
    ]


@pytest.mark.parametrize(
    ("switched", "told"),
    [
        pytest.param({"enabled": True, "requester": "ada"}, "topics    on, as requests of ada", id="on"),
        pytest.param({"enabled": False}, "topics    off: what is submitted lies there", id="off"),
    ],
)
def test_topics(switched: dict[str, Any], told: str) -> None:
    names = {"requests_topic": "p.requests", "results_topic": "p.results", "bootstrap_servers": "h:1"}
    assert shown(topics_view(names | switched)) == [told, "requests  p.requests", "results   p.results", "Kafka     h:1"]


@pytest.mark.parametrize(
    ("predictions", "lines"),
    [
        pytest.param([2.0, None, "[red]"], [["row", "prediction"], ["0", "2.0"], ["1", "null"], ["2", "[red]"]], id="a value a row"),
        pytest.param([{"p": 0.5}, {"why": "x"}], [["row", "p", "why"], ["0", "0.5", "null"], ["1", "null", "x"]], id="records"),
        pytest.param([[1, 2]], [["row", "prediction"], ["0", "[1,", "2]"]], id="a list a row"),
        pytest.param({"a": 1}, None, id="a dictionary is no table"),
        pytest.param([], None, id="nothing is no table"),
        pytest.param([{}], None, id="records of nothing are no table"),
    ],
)
def test_predictions(predictions: Any, lines: list[list[str]] | None) -> None:
    view = prediction_table(json.loads(json.dumps({"predictions": predictions})))
    assert (view and [line.split() for line in shown(view)]) == lines


def test_nothing_that_is_shown_steers_the_terminal_or_the_markup() -> None:
    assert cell("\x1b[31m[bold]x\n").plain == "�[31m[bold]x�"
