"""The short way gives MLflow's answers, and nobody can tell from one who else was scored with it."""

# mypy: disable-error-code="no-untyped-call"

import gc
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow.pyfunc
import mlflow.sklearn
import numpy
import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression, LogisticRegression

from services.scorer.model_worker import proof
from services.scorer.model_worker.frames import JSON_TYPE, Traits
from services.scorer.model_worker.proof import SWITCH, varied_rows
from services.scorer.model_worker.scorer import Answer, Scorer, load_scorer
from services.scorer.model_worker.shortcut import kind_of, text_of, texts_of, whole_float_spans

COLUMNS = [f"c{i}" for i in range(10)]
CHANCE = numpy.random.default_rng(0)
FEATURES = pandas.DataFrame(CHANCE.normal(size=(80, 10)), columns=COLUMNS)
MIXED = pandas.DataFrame({"d": [0.5, 1.5], "f": numpy.array([0.5, 1.5], "float32"), "i": numpy.array([1, 2], "int32"), "l": [3, 4]})
MIXED = MIXED.assign(s=["x", "y"], b=[True, False])
Predict = Callable[[pandas.DataFrame], Any]


class Custom(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def __init__(self, predict: Predict) -> None:
        self._rows = predict

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # mlflow makes a schema of hints
        return self._rows(model_input)


def twice(rows: pandas.DataFrame) -> list[dict[str, float]]:
    if (rows["c0"] > 1e6).any():
        raise ValueError("too much")
    return [{"twice": value * 2} for value in rows["c0"]]


def whole_or_not(rows: pandas.DataFrame) -> Any:
    """Integers for what is whole, floats for the rest, in one array: 1 alone, 1.0 beside a half."""
    return numpy.array([int(value) if value == int(value) else value for value in rows["c0"]])


Loaded = tuple[Scorer, Traits]


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> Iterator[None]:
    """The proof times one evaluation, and to collect what a thousand tests have left takes about as long as that one may."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def load(folder: Path, model: Any, example: pandas.DataFrame = FEATURES, loads: int = 1) -> Loaded:
    """Saved anew; of several loads the last, which finds what the first has proven."""
    target = folder / "m"
    more: dict[str, Any] = {"signature": infer_signature(example), "input_example": example.head(2), "pip_requirements": []}
    if isinstance(model, Custom):
        mlflow.pyfunc.save_model(target, python_model=model, **more)
    else:
        mlflow.sklearn.save_model(model, target, serialization_format="cloudpickle", **more)
    try:
        scorers = [load_scorer(str(target)) for _ in range(loads)]
        assert {traits for _, traits in scorers} == {scorers[0][1]}
        return scorers[-1]  # type: ignore[no-any-return]
    finally:
        shutil.rmtree(target)


def score(scorer: Scorer, bodies: Sequence[bytes]) -> list[Answer]:
    """As the host does: together, and those that were left out alone."""
    found = {a.member: a for answers, _ in scorer.score([(JSON_TYPE, body) for body in bodies]) for a in answers}
    alone = {i: a for i, body in enumerate(bodies) if i not in found for answers, _ in scorer.score([(JSON_TYPE, body)]) for a in answers}
    return [(found | alone)[i] for i in range(len(bodies))]


def long_way(scorer: Scorer, body: bytes) -> tuple[int, bytes]:
    status, _, text = scorer._evaluate(body, JSON_TYPE)
    return status, text.encode()


def body_of(*rows: Sequence[Any], columns: Sequence[str] = COLUMNS) -> bytes:
    return json.dumps({"dataframe_split": {"columns": list(columns), "data": rows}}).encode()


MODELS: dict[str, Any] = {
    "classifier": lambda: LogisticRegression().fit(FEATURES, FEATURES["c0"] + FEATURES["c3"] > 0),
    "list of dicts": lambda: Custom(twice),
    "series": lambda: Custom(lambda rows: rows["c0"]),
    "frame": lambda: Custom(lambda rows: pandas.DataFrame({"a": rows["c0"] > 0, "b": rows["c1"].astype(str)}, index=rows.index)),
    "whole or not": lambda: Custom(whole_or_not),
}


@pytest.fixture(scope="module", params=[pytest.param(1, id="proven now"), pytest.param(2, id="proven at an earlier load")])
def loaded(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, Loaded]:
    return {name: load(tmp_path_factory.mktemp("model"), model(), loads=request.param) for name, model in MODELS.items()}


ODD = st.one_of(st.integers(-(2**60), 2**60), st.none(), st.booleans(), st.just(float("nan")), st.text(max_size=3), st.just(1e9))
USUAL = st.one_of(st.floats(-1e3, 1e3), st.integers(-9, 9))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    value = ODD if draw(st.integers(0, 3)) == 0 else USUAL
    names = draw(st.sampled_from([COLUMNS] * 6 + [COLUMNS[::-1], COLUMNS[:9], [*COLUMNS, "more"]]))
    rows = draw(st.lists(st.lists(value, min_size=len(names), max_size=len(names)), min_size=0, max_size=3))
    split: dict[str, object] = {"dataframe_split": {"columns": names, "data": rows}}
    records: dict[str, object] = {"dataframe_records": [dict(zip(names, row, strict=True)) for row in rows]}
    body: dict[str, object] = draw(st.sampled_from([split, split, records, records, {"inputs": rows}]))
    extra: dict[str, object] = draw(st.sampled_from([{}, {}, {}, {"client_request_id": "c"}, {"params": {"p": 1}}]))
    return json.dumps({**body, **extra}).encode()


CALLS: list[int] = []  # rows of each


def counted(rows: pandas.DataFrame) -> list[float]:
    CALLS.append(len(rows))
    return list(rows["c0"])


def test_what_was_proven_is_not_proven_again_unless_something_it_hangs_on_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(tmp_path, Custom(counted))
    CALLS.clear()
    load(tmp_path, Custom(counted))
    assert CALLS == [2, 1], "the warm-up, and one evaluation to make the shortcut"
    monkeypatch.setenv(SWITCH, "off")
    load(tmp_path, Custom(counted))
    assert len(CALLS) > 12
    (tmp_path / "m.proven").write_text("{")
    assert load(tmp_path, Custom(counted))[1].why == f"{SWITCH} is off"


@pytest.mark.parametrize("name", MODELS)
def test_nobody_can_tell_from_the_answer_who_else_was_scored(name: str, loaded: dict[str, Loaded]) -> None:
    scorer, traits = loaded[name]
    assert traits.row_wise, traits.why

    @settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(bodies(), min_size=2, max_size=12))
    def try_some(some: list[bytes]) -> None:
        answers = score(scorer, some)
        assert [(a.status, a.body) for a in answers] == [long_way(scorer, body) for body in some]

    try_some()
    half, one = (body_of([value, *[0.5] * 9]) for value in (0.5, 1.0))
    score(scorer, [half, one, half])
    together = [answer.together for answer in score(scorer, [half] * 3)]
    assert together == [1 if name == "whole or not" else 3] * 3, "who says both integers and floats is scored one by one from then on"


def test_a_whole_number_is_asked_for_alone_until_it_was_seen_as_a_float(loaded: dict[str, Loaded]) -> None:
    half, one = (body_of([value, *[0.5] * 9]) for value in (0.5, 1.0))
    for name, text in (("whole or not", b'{"predictions": [1]}'), ("series", b'{"predictions": [{"c0": 1.0}]}')):
        assert [a.body for a in score(loaded[name][0], [half, one, half])][1] == text


def test_a_bad_row_is_its_callers_own(loaded: dict[str, Loaded]) -> None:
    good, bad = (body_of([value] * 10) for value in (1.0, 1e9))
    answers = score(loaded["list of dicts"][0], [good, bad, good])
    assert [(a.status, a.together) for a in answers] == [(200, 1), (400, 1), (200, 1)]


def test_many_rows_are_several_evaluations(loaded: dict[str, Loaded]) -> None:
    assert [a.together for a in score(loaded["classifier"][0], [body_of(*[[1.0] * 10] * 400)] * 6)] == [2] * 6


def test_columns_of_every_plain_type_take_the_short_way(tmp_path: Path) -> None:
    scorer, traits = load(tmp_path, Custom(lambda rows: [str(list(row)) for row in rows.itertuples(index=False)]), MIXED)
    assert traits.row_wise, traits.why
    some = [body_of(*rows, columns=list(MIXED)) for rows in ([[1, 0.1, 7, 2**62, "z", True]], [[0.1, 1, -3, 1, "", False]] * 2)]
    assert [(200, a.body) for a in score(scorer, some)] == [long_way(scorer, body) for body in some]


@pytest.mark.parametrize(
    ("predict", "why"),
    [
        pytest.param(lambda rows: list(rows["c0"] - rows["c0"].mean()), "rows do not come out the same", id="rows that know each other"),
        pytest.param(lambda rows: {"all": rows["c0"].sum()}, "its predictions are not one for each row", id="one answer for all"),
        pytest.param(lambda rows: numpy.random.default_rng().normal(size=len(rows)), "does not come out the same twice", id="chance"),
    ],
)
def test_a_model_that_is_not_row_wise_is_found_out(tmp_path: Path, predict: Predict, why: str) -> None:
    scorer, traits = load(tmp_path, Custom(predict))
    assert not traits.row_wise
    assert why in traits.why
    assert {a.together for a in score(scorer, [body_of([0.5] * 10)] * 3)} == {1}


def test_a_regression_rounds_otherwise_in_company_but_a_person_may_allow_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = LinearRegression().fit(FEATURES, FEATURES @ CHANCE.normal(size=10))
    scorer, traits = load(tmp_path, fitted)
    assert (traits.row_wise, traits.why) == (False, "rows do not come out the same")
    body = body_of(*FEATURES.head(7).to_numpy().tolist())
    assert [(a.status, a.body) for a in score(scorer, [body])] == [long_way(scorer, body)]
    for switch in ("on", "off"):
        monkeypatch.setenv(SWITCH, switch)
        traits = load(tmp_path, fitted)[1]
        assert traits._replace(first_s=None, more_s=None) == Traits(switch == "on", waits=False, why=f"{SWITCH} is {switch}")
        assert (traits.first_s is None, traits.more_s is None) == (switch == "off",) * 2, "timed where there is company"


@pytest.mark.parametrize(
    "predictions",
    [
        pytest.param(numpy.array([0.5, 1.0, float("nan"), 2.0]), id="floats"),
        pytest.param(numpy.array([[1, 2], [3, 4], [5, 6], [7, 8]]), id="two numbers a row"),
        pytest.param(numpy.array(["a", "bc", "\u00e9", ""]), id="strings"),
        pytest.param(pandas.Series([0.1, 0.2, float("inf"), 3.0], name="p"), id="a series"),
        pytest.param(pandas.DataFrame({"a": [1, 2, 3, 4], "b": ["x", None, "y", "z"]}), id="a frame"),
        pytest.param([1, 2.5, None, {"a": numpy.float64(0.1)}], id="a list"),
    ],
)
def test_a_part_is_written_as_it_would_be_alone(predictions: Any) -> None:
    parts = getattr(predictions, "iloc", predictions)
    assert texts_of(predictions, [(0, 1), (1, 4)]) == [text_of(parts[0:1]), text_of(parts[1:4])]


@pytest.mark.parametrize(
    ("predictions", "spans"),
    [
        pytest.param(numpy.array([1.0, 2.0, 0.5, 3.0]), {0}, id="all of a span"),
        pytest.param(numpy.array([1, 2, 3, 4]), set(), id="integers are what they are"),
        pytest.param(numpy.array([[1.0, 0.5], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]), {1}, id="all of a row"),
        pytest.param(pandas.DataFrame({"a": [0.5, 0.5, 1.0, 2.0], "b": [0.5] * 4}), {1}, id="one column of a frame"),
        pytest.param([1.0, 2.0, 3.0, 4.0], set(), id="members of a list keep their types"),
    ],
)
def test_whole_floats(predictions: Any, spans: set[int]) -> None:
    assert whole_float_spans(predictions, [(0, 2), (2, 4)]) == spans


@pytest.mark.parametrize("predictions", [{"a": [1, 2]}, "ab", None, numpy.float64(1)], ids=repr)
def test_what_has_no_rows_has_no_kind(predictions: object) -> None:
    assert kind_of(predictions) is None


def test_varied_rows_differ_and_keep_their_types() -> None:
    rows = varied_rows([[1.5, 2, "x", False], [0.0, 3, "y", True]], 16)
    assert len({json.dumps(row) for row in rows}) == 16
    assert {tuple(map(type, row)) for row in rows} == {(float, int, str, bool)}
    assert rows == varied_rows([[1.5, 2, "x", False], [0.0, 3, "y", True]], 16)


CLOCK = [0.0]  # seconds


def clocked(rows: pandas.DataFrame) -> list[float]:
    CLOCK[0] += 0.010 + 0.001 * len(rows)
    return [0.5] * len(rows)


def test_what_company_saves_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "time", SimpleNamespace(perf_counter=lambda: CLOCK[0], process_time=lambda: CLOCK[0]))
    for _ in ("proven now", "proven at an earlier load"):
        _, traits = load(tmp_path, Custom(clocked))
        assert [traits.first_s, traits.more_s] == pytest.approx([0.011, 0.001])


def asleep(rows: pandas.DataFrame) -> list[float]:
    time.sleep(0.01)
    return [0.5] * len(rows)


@pytest.mark.parametrize(("predict", "waits"), [(asleep, True), (twice, False)])
def test_a_model_that_waits_is_told_from_one_that_computes(tmp_path: Path, predict: Predict, waits: bool) -> None:
    _, traits = load(tmp_path, Custom(predict))
    assert (traits.row_wise, traits.waits) == (True, waits), traits.why
