import pytest

from services.logger.breaker import LEAST, WINDOW, Breaker


@pytest.mark.parametrize(
    ("records", "is_open"),
    [
        pytest.param("", False, id="nothing seen"),
        pytest.param("x" * (LEAST - 1), False, id="too few to say anything"),
        pytest.param("x" * LEAST, True, id="all of them bad"),
        pytest.param("x." * (LEAST // 2), True, id="half of them"),
        pytest.param("x.." * LEAST, False, id="a third of them"),
        pytest.param("x" * LEAST + "." * WINDOW, False, id="bad ones that have passed"),
    ],
)
def test_breaker(records: str, is_open: bool) -> None:
    breaker = Breaker()
    for record in records:
        breaker.saw(is_good=record == ".")
    assert breaker.is_open is is_open
