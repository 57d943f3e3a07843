from pathlib import Path

from bench.models import saved_model
from bench.steps import steps


def test_every_step_can_be_taken_on_its_own(tmp_path: Path) -> None:
    """It calls parts of all services by hand, so that a change of theirs breaks it where nobody looks."""
    taken = list(steps(saved_model("linear", tmp_path)))
    for step in taken:
        step.call()
    assert {step.hop for step in taken} == {"ingress", "scorer host", "model worker", "logger"}
