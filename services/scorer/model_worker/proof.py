"""Whether a model may be scored by the shortcut, and requests together: tried at load on rows like its input example's.

They must give the frames that MLflow makes and, byte for byte, its answers: alone, for the shortcut; in batches of 2, 3 and all
of them, for company. `PENSTOCK_MICRO_BATCHING` among the entity's variables is a person's word in place of the second proof.
"""

import functools
import json
import os
import random
import time

import pandas

from .frames import JSON_TYPE
from .proven import keep_proven, read_proven
from .rows import rows_of, value_tests
from .shortcut import Shortcut, text_of

SHOWN_BY = 16  # rows: rounding that differs is then hardly ever missed
SHOWN_BY_SLOW = 4
SLOW_S = 0.02
WAITS_BELOW = 0.3  # of an evaluation's time is its CPU time, in each that was tried: other processes may have kept it waiting in some
TIMED = 2  # evaluations, of which the quicker counts: one may meet another process on its core, or a first call's own imports
LONGEST_SHOWN_S = 0.5  # an evaluation that takes longer gains little from company
SWITCH = "PENSTOCK_MICRO_BATCHING"  # on (unproven), off, else as proven


class Unproven(Exception):
    """Says why."""


def prove(model, schema, evaluate, folder):
    """Return the shortcut (None: not for this model) and the reason of the verdict. `evaluate` is the long way.

    A shortcut that was proven at an earlier load is made again by one evaluation.
    """
    switch = os.environ.get(SWITCH, "").lower()
    try:
        tests, rows = _example(schema, folder)
        known = read_proven(folder, switch)
        if known is not None:
            return _known_shortcut(model, tests, rows, evaluate, known)
        shortcut, alone = _shown_alone(model, tests, rows, evaluate)
    except Unproven as doubt:
        return None, str(doubt)
    why = _judge(shortcut, alone, tests, rows, switch)
    keep_proven(folder, switch, shortcut, why)
    return shortcut, why


def _known_shortcut(model, tests, rows, evaluate, known):
    fields, kinds, why = known
    frame, params, _ = _asked(model, tests, rows[:1], evaluate)
    shortcut = Shortcut(model, tests, frame, params)
    shortcut.kinds = kinds
    for name, value in fields.items():
        setattr(shortcut, name, value)
    return shortcut, why


def _judge(shortcut, alone, tests, rows, switch) -> str:
    """Say on the shortcut whether requests may go together; returns why."""
    if switch == "off":
        return f"{SWITCH} is off"
    if None in shortcut.kinds or len(shortcut.kinds) > 1:
        return "its predictions are not one for each row, or not always of one type"
    shortcut.row_wise = True
    if switch != "on":
        shortcut.row_wise = all(_together(shortcut, tests, rows[:size]) == alone[:size] for size in (2, 3, len(rows)))
    if not shortcut.row_wise:
        return "rows do not come out the same"
    _time_company(shortcut, tests, varied_rows(rows, SHOWN_BY))
    return f"{SWITCH} is on" if switch == "on" else "rows come out the same"


def _time_company(shortcut, tests, rows) -> None:
    """Say what a row more takes more exactly than by a few; those of a slow model that gains little would take long."""
    if shortcut.first_s > SLOW_S and shortcut.more_s > shortcut.first_s / 2:
        return
    for _ in range(TIMED):
        started = time.perf_counter()
        if len(_together(shortcut, tests, rows)) < len(rows):
            return
        took_s = time.perf_counter() - started
        shortcut.more_s = min(shortcut.more_s, max(0.0, took_s - shortcut.first_s) / (len(rows) - 1))


def _example(schema, folder):
    """The tests of its columns' values, and the rows of its input example."""
    tests, why = value_tests(schema)
    if tests is None:
        raise Unproven(why)
    path = os.path.join(folder, "serving_input_example.json")
    if not os.path.exists(path):
        raise Unproven("it has no input example")
    with open(path, "rb") as file:
        found = rows_of(JSON_TYPE, file.read(), tests)
    if found is None:
        raise Unproven("its input example has values that are missing, or not plain ones of its signature's types")
    return tests, found[0]


def _shown_alone(model, tests, rows, evaluate):
    """The shortcut, once each row alone and all in one body came out of it as out of MLflow; and the rows' answers."""
    if not hasattr(model, "_predict") or not hasattr(model, "_predict_fn"):
        raise Unproven("this version of MLflow calls models in another way")
    frame, params, _ = _asked(model, tests, rows[:1], evaluate)
    took_s = min(_seconds(_asked, model, tests, rows[:1], evaluate) for _ in range(TIMED))
    if took_s > LONGEST_SHOWN_S:
        raise Unproven(f"one evaluation takes longer than {LONGEST_SHOWN_S:g} s")
    shortcut, texts, took, busy = Shortcut(model, tests, frame, params), [], [], []
    rows[:] = varied_rows(rows, SHOWN_BY if took_s < SLOW_S else SHOWN_BY_SLOW)
    for some in [*([row] for row in rows), rows]:
        frame, asked_params, text = _asked(model, tests, some, evaluate)
        if params != asked_params or not _is_same_frame(shortcut.frame(some), frame):
            raise Unproven("MLflow hands it something else than a frame of the columns of its signature")
        started, cpu_s = time.perf_counter(), time.process_time()
        prediction = shortcut.predict(some)
        took.append(time.perf_counter() - started)
        busy.append((time.process_time() - cpu_s) / took[-1])
        if text_of(prediction) != text:
            raise Unproven("the same row does not come out the same twice")
        texts.append(text)
        if some is not rows:
            shortcut.learn(prediction)
    shortcut.waits = max(busy) < WAITS_BELOW
    shortcut.first_s = min(took[:-1])  # the others met something else on their core
    shortcut.more_s = max(0.0, took[-1] - shortcut.first_s) / (len(rows) - 1)
    return shortcut, texts[:-1]


def _seconds(function, *arguments) -> float:
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started


def _asked(model, tests, rows, evaluate):
    """MLflow's own way: (what it hands to the model, what it passes beside that, its text)."""
    own, calls = model._predict_fn, []

    @functools.wraps(own)  # MLflow looks at the signature
    def recorder(data, **more):
        calls.append((data.copy() if isinstance(data, pandas.DataFrame) else data, more))
        return own(data, **more)

    model._predict_fn = recorder
    try:
        status, _, text = evaluate(_body(tests, rows), JSON_TYPE)
    finally:
        model._predict_fn = own
    if status != 200 or len(calls) != 1:
        raise Unproven("rows like its input example's fail")
    return (*calls[0], text)


def _together(shortcut, tests, rows):
    members = [(JSON_TYPE, _body(tests, [row])) for row in rows]
    return [text for _, texts, _, _ in shortcut.score(members) for text in texts]


def _body(tests, rows) -> bytes:
    return json.dumps({"dataframe_split": {"columns": list(tests), "data": rows}}).encode()


def _is_same_frame(mine, theirs) -> bool:
    return (
        type(theirs) is pandas.DataFrame
        and list(mine.dtypes) == list(theirs.dtypes)
        and type(mine.columns) is type(theirs.columns)
        and type(mine.index) is type(theirs.index)
        and mine.index.equals(theirs.index)
        and mine.columns.equals(theirs.columns)
        and mine.equals(theirs)
        and mine.to_numpy().strides == theirs.to_numpy().strides  # the order in memory decides how sums are rounded
    )


def varied_rows(example, count: int):
    """The example's rows, and more like them: floats by up to a half, all else another row's value. The same on every load."""
    chance = random.Random(0)
    rows = list(example[:count])
    while len(rows) < count:
        row = [chance.choice(example)[i] for i in range(len(example[0]))]
        rows.append([(v or 1.0) * chance.uniform(0.5, 1.5) if type(v) is float else v for v in row])
    return rows
