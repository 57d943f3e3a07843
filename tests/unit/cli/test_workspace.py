"""Which stack is asked, with whose token, and how a refusal reads."""

from pathlib import Path

import pytest
import typer

from services.cli.admin_token import write_profile
from services.cli.failures import ApiRefusal, StackFailure
from services.cli.workspace import complete_endpoint, find_stack, path_of, refusal_of, scoring_path, to_url


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENSTOCK_STATE", str(tmp_path))
    return tmp_path


def test_without_a_word_it_is_the_stack_of_the_state_folder_and_its_admin(state: Path) -> None:
    write_profile(state / "databrickscfg", "http://127.0.0.1:9", "dapi-admin")
    assert find_stack(None, None) == ("http://127.0.0.1:9", "dapi-admin")
    assert find_stack(None, "dapi-eve") == ("http://127.0.0.1:9", "dapi-eve")


def test_the_admins_token_goes_to_no_host_that_was_named(state: Path) -> None:
    write_profile(state / "databrickscfg", "http://127.0.0.1:9", "dapi-admin")
    with pytest.raises(typer.BadParameter, match="a host needs its token"):
        find_stack("https://elsewhere.example.org", None)
    assert find_stack("elsewhere.example.org/", "t") == ("https://elsewhere.example.org", "t")


@pytest.mark.usefixtures("state")
def test_where_no_stack_has_run_one_line_says_so() -> None:
    with pytest.raises(StackFailure, match=r"no stack has run in .*: `penstock up` starts one"):
        find_stack(None, None)


@pytest.mark.usefixtures("state")
def test_completion_says_nothing_where_nobody_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABRICKS_HOST", raising=False)
    assert complete_endpoint("ch") == []


@pytest.mark.parametrize(
    ("host", "url"),
    [("a.example.org", "https://a.example.org"), ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"), ("https://a", "https://a")],
)
def test_a_host_is_read_as_databricks_clients_read_it(host: str, url: str) -> None:
    assert to_url(host) == url


@pytest.mark.parametrize("host", ["", "http://", "ftp://a", "http://a:b"])
def test_what_is_no_host_is_told_before_anything_is_sent(host: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no address of a host"):
        to_url(host)


@pytest.mark.parametrize("token", ["dapi-hunter2\r", "dapi-hünter2"], ids=["of a file with another line end", "not ASCII"])
def test_a_token_that_cannot_be_sent_is_not_shown(token: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        find_stack("a.example.org", token)
    assert "hunter" not in str(refused.value)


def test_a_name_stays_one_part_of_the_path() -> None:
    assert path_of("a/b ?", "config:stop") == "/api/2.0/serving-endpoints/a%2Fb%20%3F/config:stop"
    assert scoring_path("churn", "churn-3") == "/serving-endpoints/churn/served-models/churn-3/invocations"
    assert scoring_path("churn") == "/serving-endpoints/churn/invocations"


@pytest.mark.parametrize(
    ("body", "retry_after", "said"),
    [
        pytest.param('{"error_code": "X", "message": "No."}', None, ("No.", "X", None), id="the envelope"),
        pytest.param('{"error_code": "X", "message": "No."}', "7", ("No.", "X", 7.0), id="with a time to come again"),
        pytest.param("<html>", "soon", ("the answer was status 429 without a message", "", None), id="from a proxy"),
        pytest.param("[1]", None, ("the answer was status 429 without a message", "", None), id="another server's JSON"),
    ],
)
def test_a_refusal_has_the_words_of_the_api(body: str, retry_after: str | None, said: tuple[str, str, float | None]) -> None:
    refusal = refusal_of(429, body, retry_after)
    assert isinstance(refusal, ApiRefusal)
    assert (str(refusal), refusal.code, refusal.retry_after_s) == said
