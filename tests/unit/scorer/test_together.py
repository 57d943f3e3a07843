"""What the model worker may score together, and that nobody can tell from the answers."""

# mypy: disable-error-code="no-untyped-call,no-untyped-def"

import json
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import mlflow.sklearn
import numpy
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.models import infer_signature
from mlflow.types import ColSpec, Schema, TensorSpec
from sklearn.linear_model import LinearRegression, LogisticRegression

from services.scorer import model_worker
from services.scorer.model_worker import JSON_TYPE, allowed_values, rows_of, split_back

TESTS, _ = allowed_values(Schema([ColSpec("double", "d"), ColSpec("long", "l"), ColSpec("string", "s"), ColSpec("boolean", "b")]))
ROW: list[Any] = [1.5, 2, "x", True]
NAMES = ["d", "l", "s", "b"]


def split(*rows: object, **more: object) -> dict[str, object]:
    return {"dataframe_split": {"columns": NAMES, "data": list(rows), **more}}


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        pytest.param(split(ROW), [ROW], id="one row"),
        pytest.param(split(ROW, ROW), [ROW, ROW], id="several rows"),
        pytest.param({**split(ROW), "client_request_id": "c"}, [ROW], id="the client's id is no data"),
        pytest.param({"dataframe_records": [dict(zip(NAMES, ROW, strict=True))]}, [ROW], id="records"),
        pytest.param(split([3, 2, "x", True]), [[3, 2, "x", True]], id="a whole number in a double column"),
        pytest.param(split(), None, id="no row"),
        pytest.param(split(ROW, index=[7]), None, id="an index"),
        pytest.param({**split(ROW), "params": {}}, None, id="params"),
        pytest.param({**split(ROW), "inputs": []}, None, id="two forms"),
        pytest.param({"inputs": [ROW]}, None, id="inputs"),
        pytest.param({"instances": [ROW]}, None, id="instances"),
        pytest.param([ROW], None, id="a list"),
        pytest.param({"dataframe_split": {"columns": NAMES[::-1], "data": [ROW[::-1]]}}, None, id="another order"),
        pytest.param({"dataframe_split": {"columns": [*NAMES, "e"], "data": [[*ROW, 1]]}}, None, id="one column more"),
        pytest.param({"dataframe_split": {"columns": NAMES[:3], "data": [ROW[:3]]}}, None, id="one column less"),
        pytest.param({"dataframe_split": {"data": [ROW]}}, None, id="no columns"),
        pytest.param({"dataframe_records": [{**dict(zip(NAMES, ROW, strict=True)), "e": 1}]}, None, id="records with more"),
        pytest.param(split(ROW, ROW[:3]), None, id="a short row"),
        pytest.param(split([None, 2, "x", True]), None, id="null"),
        pytest.param(split([float("nan"), 2, "x", True]), None, id="NaN"),
        pytest.param(split([float("inf"), 2, "x", True]), None, id="infinity"),
        pytest.param(split([True, 2, "x", True]), None, id="a boolean is no number"),
        pytest.param(split(["1.5", 2, "x", True]), None, id="a string is no number"),
        pytest.param(split([2**53 + 1, 2, "x", True]), None, id="a whole number that no double holds"),
        pytest.param(split([1.5, 2.0, "x", True]), None, id="a float in a long column"),
        pytest.param(split([1.5, 2**63, "x", True]), None, id="longer than long"),
        pytest.param(split([1.5, 2, 3, True]), None, id="a number in a string column"),
        pytest.param(split([1.5, 2, "x", 1]), None, id="a number in a boolean column"),
        pytest.param(split([[1.5], 2, "x", True]), None, id="nested"),
    ],
)
def test_rows_of(body: object, rows: object) -> None:
    assert rows_of(json.dumps(body).encode(), TESTS) == rows


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_goes_alone(body: bytes) -> None:
    assert rows_of(body, TESTS) is None


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(None, id="no signature"),
        pytest.param(Schema([TensorSpec(numpy.dtype("float64"), (-1, 2))]), id="a tensor"),
        pytest.param(Schema([ColSpec("double")]), id="no names"),
        pytest.param(Schema([ColSpec("double", "a"), ColSpec("datetime", "t")]), id="a date"),
        pytest.param(Schema([ColSpec("binary", "t")]), id="bytes"),
    ],
)
def test_signatures_that_do_not_allow_it(schema: Schema | None) -> None:
    tests, why = allowed_values(schema)
    assert tests is None
    assert why


@given(counts=st.lists(st.integers(1, 5), min_size=1), kind=st.sampled_from([list, numpy.array, pandas.Series, pandas.DataFrame]))
def test_split_back_gives_each_its_own(counts: list[int], kind: Any) -> None:
    parts = split_back(kind(list(range(sum(counts)))), counts)
    assert [len(part) for part in parts] == counts
    assert [int(v) for part in parts for v in numpy.ravel(part)] == list(range(sum(counts)))


@pytest.mark.parametrize("predictions", [[1], [1, 2, 3], {"a": [1, 2]}, "ab", None, numpy.float64(1)], ids=repr)
def test_no_row_each_is_not_split(predictions: object) -> None:
    assert split_back(predictions, [1, 1]) is None


COLUMNS = [f"c{i}" for i in range(10)]
CHANCE = numpy.random.default_rng(0)
FEATURES = pandas.DataFrame(CHANCE.normal(size=(80, 10)), columns=COLUMNS)


class Scaled(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Row-wise, but for what it dislikes."""

    def predict(self, context, model_input, params=None):
        if (model_input["c0"] > 1e6).any():
            raise ValueError("too much")
        return [{"twice": v * 2} for v in model_input["c0"]]


class Centred(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Each answer depends on the neighbours."""

    def predict(self, context, model_input, params=None):
        return list(model_input["c0"] - model_input["c0"].mean())


def loaded(folder: Path, model: object) -> Any:
    target = folder / "m"
    signature = infer_signature(FEATURES)
    example = FEATURES.head(1)
    if isinstance(model, mlflow.pyfunc.PythonModel):
        mlflow.pyfunc.save_model(target, python_model=model, signature=signature, input_example=example, pip_requirements=[])
    else:
        mlflow.sklearn.save_model(model, target, signature=signature, input_example=example, pip_requirements=[])
    return model_worker._load(str(target))


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return loaded(tmp_path_factory.mktemp("scaled"), Scaled())


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Any:
    fitted = LogisticRegression().fit(FEATURES, FEATURES["c0"] + FEATURES["c3"] > 0)
    return loaded(tmp_path_factory.mktemp("classifier"), fitted)


VALUES = st.one_of(
    st.floats(-1e3, 1e3), st.integers(-(2**60), 2**60), st.none(), st.booleans(), st.just(float("nan")), st.text(max_size=3), st.just(1e9)
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    value = VALUES if draw(st.integers(0, 3)) == 0 else st.one_of(st.floats(-1e3, 1e3), st.integers(-9, 9))
    names = draw(st.sampled_from([COLUMNS] * 6 + [COLUMNS[::-1], COLUMNS[:9], [*COLUMNS, "more"]]))
    rows = draw(st.lists(st.lists(value, min_size=len(names), max_size=len(names)), min_size=0, max_size=3))
    split_form: dict[str, object] = {"dataframe_split": {"columns": names, "data": rows}}
    records: dict[str, object] = {"dataframe_records": [dict(zip(names, row, strict=True)) for row in rows]}
    body: dict[str, object] = draw(st.sampled_from([split_form, split_form, records, records, {"inputs": rows}]))
    extra: dict[str, object] = draw(st.sampled_from([{}, {}, {}, {"client_request_id": "c"}, {"params": {"p": 1}}]))
    return json.dumps({**body, **extra}).encode()


@pytest.mark.parametrize("name", ["classifier", "scaled"])
def test_nobody_can_tell_from_the_answer_who_else_was_scored(name: str, request: pytest.FixtureRequest) -> None:
    evaluate, together, why = request.getfixturevalue(name)
    assert together is not None, why
    went_together = 0

    @settings(max_examples=40, deadline=None, derandomize=True, database=None)
    @given(st.lists(bodies(), min_size=2, max_size=12))
    def try_one(some: list[bytes]) -> None:
        nonlocal went_together
        answers = together.score([(JSON_TYPE, body) for body in some])
        for index, (text, _) in answers.items():
            status, _, alone = evaluate(some[index], JSON_TYPE)
            assert (status, alone) == (200, text)
        went_together += len(answers)

    try_one()
    assert went_together > 40


def test_a_bad_row_is_its_callers_own(scaled: Any) -> None:
    evaluate, together, _ = scaled
    good, bad = (json.dumps({"dataframe_records": [dict.fromkeys(COLUMNS, value)]}).encode() for value in (1.0, 1e9))
    members = [(JSON_TYPE, good), (JSON_TYPE, bad), (JSON_TYPE, good)]
    assert together.score(members) == {}
    sent: list[dict[str, Any]] = []
    work = iter([[({"id": i, "content_type": kind}, body) for i, (kind, body) in enumerate(members)]])

    class Once:
        def get(self) -> Any:
            return next(work)

    with pytest.raises(StopIteration):
        model_worker._lane(Once(), evaluate, together, lambda header, body=b"": sent.extend(header["answers"]))
    assert [(a["id"], a["status"], a["together"]) for a in sent] == [(0, 200, 1), (1, 400, 1), (2, 200, 1)]


def test_many_rows_are_several_evaluations(classifier: Any) -> None:
    _, together, _ = classifier
    body = json.dumps({"dataframe_split": {"columns": COLUMNS, "data": [[1.0] * 10] * 400}}).encode()
    assert {n for _, n in together.score([(JSON_TYPE, body)] * 6).values()} == {2}


def test_a_model_whose_rows_know_each_other_is_found_out(tmp_path: Path) -> None:
    _, together, why = loaded(tmp_path, Centred())
    assert together is None
    assert why == "rows do not come out the same"


def test_a_model_that_rounds_otherwise_in_company_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = LinearRegression().fit(FEATURES, FEATURES @ CHANCE.normal(size=10))
    assert loaded(tmp_path, fitted)[1:] == (None, "rows do not come out the same")
    monkeypatch.setenv(model_worker.SWITCH, "on")
    assert model_worker._load(str(tmp_path / "m"))[1] is not None
    monkeypatch.setenv(model_worker.SWITCH, "off")
    assert model_worker._load(str(tmp_path / "m"))[1] is None


def test_varied_rows_differ_and_keep_their_types() -> None:
    rows = model_worker.varied_rows([[1.5, 2, "x", False], [0.0, 3, "y", True]], 16)
    assert len({json.dumps(row) for row in rows}) == 16
    assert {tuple(map(type, row)) for row in rows} == {(float, int, str, bool)}
    assert rows == model_worker.varied_rows([[1.5, 2, "x", False], [0.0, 3, "y", True]], 16)
