import pytest

from services.shared.queries import QueryRefused, find_tables, with_replacements


def alias(name: str) -> str:
    return "penstock_" + name.encode().hex()


SCORES = alias("main.churn.scores_payload")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("select 1", "select 1", id="no table at all"),
        pytest.param("select * from main.churn.scores_payload;", f'select * from {SCORES} AS "scores_payload"', id="a plain name"),
        pytest.param("select t.request from main.churn.scores_payload t", f"select t.request from {SCORES} t", id="the user's alias stays"),
        pytest.param('select 1 from `main`.churn."scores_payload" as t', f"select 1 from {SCORES} as t", id="quoted either way"),
        pytest.param(
            "select main.churn.scores_payload.request from main.churn.scores_payload",
            f'select "scores_payload".request from {SCORES} AS "scores_payload"',
            id="a column with the whole name",
        ),
        pytest.param(
            "select t.a.b.c, t.a.b.c.d.e from main.churn.scores_payload t",
            f"select t.a.b.c, t.a.b.c.d.e from {SCORES} t",
            id="fields of a struct are no table",
        ),
        pytest.param(
            "select main.churn.scores_payload.a.b.c from main.churn.scores_payload",
            f'select "scores_payload".a.b.c from {SCORES} AS "scores_payload"',
            id="fields of a struct behind the whole name",
        ),
        pytest.param(
            "with late as (select * from main.churn.scores_payload t where status_code = 504) select count(*) from late",
            f"with late as (select * from {SCORES} t where status_code = 504) select count(*) from late",
            id="a name that WITH defines is no table",
        ),
        pytest.param(
            "select 'main.churn.scores_payload' from main.churn.scores_payload t -- main.churn.scores_payload",
            f"select 'main.churn.scores_payload' from {SCORES} t -- main.churn.scores_payload",
            id="texts and comments stay",
        ),
        pytest.param(
            "select approx_quantile(x, 0.5) filter (where x > 1), array_length(y) from main.churn.scores_payload t",
            f"select approx_quantile(x, 0.5) filter (where x > 1), array_length(y) from {SCORES} t",
            id="DuckDB's own functions stay",
        ),
    ],
)
def test_names_are_replaced_in_place(query: str, expected: str) -> None:
    assert with_replacements(query, find_tables(query)) == expected


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        pytest.param("drop table main.churn.scores_payload", "Only SELECT", id="drop"),
        pytest.param("insert into a.b.c select 1", "Only SELECT", id="insert"),
        pytest.param("create table x as select 1", "Only SELECT", id="create, which DuckDB would allow"),
        pytest.param("select * into x from a.b.c", "Only SELECT", id="select into"),
        pytest.param("copy a.b.c to 'file'", "Only SELECT", id="copy"),
        pytest.param("copy (select 1) to 'file'", "Only SELECT", id="copy of a query"),
        pytest.param("attach 'file'", "Only SELECT", id="attach"),
        pytest.param("install httpfs", "Only SELECT", id="install"),
        pytest.param("load httpfs", "Only SELECT", id="load"),
        pytest.param("pragma version", "Only SELECT", id="pragma"),
        pytest.param("set x = 1", "Only SELECT", id="set"),
        pytest.param("reset x", "Only SELECT", id="reset"),
        pytest.param("select 1; drop table a.b.c", "One statement", id="two statements"),
        pytest.param("", "One statement", id="nothing"),
        pytest.param("select * from scores", "three-level", id="a name of one part"),
        pytest.param("select * from a.b.c.d", "three-level", id="a name of four parts"),
        pytest.param("select * from 'file.parquet'", "three-level", id="a file as a table"),
        pytest.param("with t as (from 'file.csv') select * from t", "three-level", id="a file within WITH"),
        pytest.param("selec 1", "cannot be parsed", id="a misspelled word"),
    ],
)
def test_anything_else_is_refused_in_one_line(query: str, reason: str) -> None:
    with pytest.raises(QueryRefused, match=reason) as refused:
        find_tables(query)
    assert "\n" not in str(refused.value)
