import pytest

from services.cli.warm_choice import GIVEN_UP_S, KEPT_S, WarmEnvironment, choose_warm

NOW = 1_000_000.0


def used(digest: str, ago_s: float, memory_bytes: int = 300, unforkable: str = "", since_s: float = 0) -> WarmEnvironment:
    return WarmEnvironment(digest=digest, used_at=NOW - ago_s, memory_bytes=memory_bytes, unforkable=unforkable, given_up_at=NOW - since_s)


@pytest.mark.parametrize(
    ("known", "most", "limit_bytes", "chosen"),
    [
        pytest.param([], 4, 1_000, [], id="nothing was used here"),
        pytest.param([used("a", 9), used("b", 1)], 4, 1_000, ["b", "a"], id="the last used comes first"),
        pytest.param([used("a", 9), used("b", 1)], 1, 1_000, ["b"], id="no more than are allowed"),
        pytest.param([used("a", 9), used("b", 1)], 0, 1_000, [], id="none where none is wanted"),
        pytest.param([used("a", KEPT_S), used("b", KEPT_S + 1)], 4, 1_000, ["a"], id="a day after its last use it goes"),
        pytest.param([used("a", 9), used("b", 1, 800)], 4, 1_000, ["b"], id="the longest unused goes for memory"),
        pytest.param([used("a", 9), used("b", 1, 1_200)], 4, 1_000, ["a"], id="one that takes too much alone leaves its place"),
        pytest.param([used("a", 9, 900), used("b", 1, 0)], 4, 1_000, ["b", "a"], id="what has never run is tried"),
        pytest.param([used("a", 9), used("b", 1, 300, "threads")], 1, 1_000, ["a"], id="what cannot be forked takes no place"),
        pytest.param([used("a", 1, 300, "died", GIVEN_UP_S)], 4, 1_000, ["a"], id="and is tried again: the cause may have passed"),
    ],
)
def test_which_environments_have_a_warm_parent(known: list[WarmEnvironment], most: int, limit_bytes: int, chosen: list[str]) -> None:
    assert choose_warm(known, NOW, most, limit_bytes) == chosen
