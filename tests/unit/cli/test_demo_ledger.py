import pytest

from services.cli.demo.ledger import BatchSummary, batch_faults

LOCAL = {"demo-1": [0, 1], "demo-2": [1, 1]}
GOOD = [BatchSummary("demo-1", 0, 0, 7, 0), BatchSummary("demo-1", 1, 1, 8, 0), BatchSummary("demo-2", 0, 1, 5, 0)]
WRONG = "5 results of the batch are other than the model predicts locally"


@pytest.mark.parametrize(
    ("found", "faults"),
    [
        pytest.param(GOOD, [], id="all as the models predict"),
        pytest.param(GOOD[:2], ["the batch has 15 results, expected 20"], id="rows are missing"),
        pytest.param([*GOOD[:2], BatchSummary("demo-2", 0, 0, 5, 0)], [WRONG], id="another prediction"),
        pytest.param([*GOOD[:2], BatchSummary("demo-2", 0, None, 5, 5)], [WRONG], id="errors"),
        pytest.param([*GOOD[:2], BatchSummary("demo-9", 0, 1, 5, 0)], [WRONG], id="a model nobody knows"),
        pytest.param([], ["the batch has 0 results, expected 20"], id="no results"),
    ],
)
def test_results_of_the_batch_are_held_against_the_models(found: list[BatchSummary], faults: list[str]) -> None:
    assert batch_faults(found, 20, LOCAL) == faults
