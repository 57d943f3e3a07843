import pytest

from services.cli.failures import StackFailure
from services.cli.principals import to_seconds


@pytest.mark.parametrize(("span", "seconds"), [("30m", 1_800), ("12h", 43_200), ("90d", 7_776_000)])
def test_spans_of_time(span: str, seconds: int) -> None:
    assert to_seconds(span) == seconds


@pytest.mark.parametrize("span", ["", "5", "0d", "-1d", "1.5h", "1w", "1d1h"])
def test_anything_else_is_refused(span: str) -> None:
    with pytest.raises(StackFailure, match="is no span of time"):
        to_seconds(span)
