from tests.conformance.bodies import AT_THE_DOOR, CASES
from tests.conformance.deviations import DEVIATIONS, documented


def test_the_page_and_the_checks_name_the_same_deviations() -> None:
    assert documented() == list(DEVIATIONS)


def test_each_deviation_is_shown_by_a_body() -> None:
    shown = {case.deviation for cases in (*CASES.values(), AT_THE_DOOR) for case in cases}
    assert shown - {None} == set(DEVIATIONS)


def test_no_two_bodies_of_a_model_have_one_name() -> None:
    assert [name for name, cases in CASES.items() if len({case.id for case in cases}) < len(cases)] == []
