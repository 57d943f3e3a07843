"""Metrics as Prometheus reads them."""

from typing import Any, cast

import pytest
from redis.exceptions import RedisError

from services.ingress.exposition import endpoint_metrics, own_metrics
from services.shared.presence import IngressReport, PoolReport
from services.shared.redis_clients import new_redis
from services.shared.settings import RedisSettings
from services.shared.tallies import BUCKETS, LATENCY, PREDICTION, STATUS, SUM_US, Tallies, Tally
from tests.unit.shared.control_log import config, created, fold, ready

ENDPOINT = fold(created(config("1", "2")), ready("a"), ready("b")).endpoints["churn"]
REPORTS = {"e1-a-1": PoolReport(pool_id="e1-a-1", wanted=2, ready=1, reason="backlog", lag=3, max_replicas=2, memory_share=0.25, at_ms=1)}
TALLY = Tally(
    {
        ("a", STATUS, "2xx"): 100,
        ("a", LATENCY, BUCKETS[0]): 90,
        ("a", LATENCY, BUCKETS[-1]): 10,
        ("a", LATENCY, SUM_US): 1_234_500,
        ("", STATUS, "4xx"): 7,
        ("gone", STATUS, "2xx"): 5,
        ("a", PREDICTION, BUCKETS[1]): 1,
    },
    {("a", STATUS, "2xx"): 6, ("a", STATUS, "5xx"): 2, ("", STATUS, "4xx"): 3},
)
TEXT = endpoint_metrics(ENDPOINT, TALLY, REPORTS, 1_700_000_000_000).splitlines()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param('provisioned_concurrent_requests_total{endpoint_name="churn",served_entity="a"} 4', id="four of a ready replica"),
        pytest.param('provisioned_concurrent_requests_total{endpoint_name="churn",served_entity="b"} 0', id="none of a pool at zero"),
        pytest.param('mem_usage_percentage{endpoint_name="churn",served_entity="a"} 25', id="memory as percents of the limit"),
        pytest.param('request_count_total{endpoint_name="churn",served_entity="a"} 8', id="requests of the last minute"),
        pytest.param('request_5xx_count_total{endpoint_name="churn",served_entity="a"} 2', id="of which failed"),
        pytest.param('request_4xx_count_total{endpoint_name="churn"} 3', id="refused before an entity was chosen"),
        pytest.param('request_latency_ms_bucket{endpoint_name="churn",served_entity="a",le="5"} 90', id="the first bucket"),
        pytest.param('request_latency_ms_bucket{endpoint_name="churn",served_entity="a",le="600000"} 90', id="buckets are cumulative"),
        pytest.param('request_latency_ms_bucket{endpoint_name="churn",served_entity="a",le="+Inf"} 100', id="all of them"),
        pytest.param('request_latency_ms_sum{endpoint_name="churn",served_entity="a"} 1234.5', id="a sum in ms"),
        pytest.param('model_prediction_latency_ms_count{endpoint_name="churn",served_entity="a"} 1', id="the model's own time"),
    ],
)
def test_a_sample(line: str) -> None:
    assert f"{line} 1700000000000" in TEXT


def test_types_are_the_documented_ones() -> None:
    types = [line.removeprefix("# TYPE ") for line in TEXT if line.startswith("#")]
    usage = ("provisioned_concurrent_requests_total", "cpu_usage_percentage", "mem_usage_percentage")
    gauges = (*usage, "request_count_total", "request_4xx_count_total", "request_5xx_count_total")
    histograms = ("request_latency_ms", "model_queue_time_ms", "model_prediction_latency_ms")
    assert types == [f"{name} gauge" for name in gauges] + [f"{name} histogram" for name in histograms]


def test_an_endpoint_that_serves_nothing_yet_has_no_samples() -> None:
    creating = fold(created(config("1"))).endpoints["churn"]
    assert all(line.startswith("#") for line in endpoint_metrics(creating, Tally({}, {}), {}, 1).splitlines())


def test_our_own_are_true_counters_of_what_exists() -> None:
    ingresses = [IngressReport(ingress_id=name, routed_from=1, in_flight={"e1-a-1": 2}, at_ms=1) for name in ("i1", "i2")]
    text = own_metrics([ENDPOINT], {"e1": TALLY}, REPORTS, ingresses)
    assert "penstock_ingress_processes 2\n" in text
    assert 'penstock_requests_total{endpoint_name="churn",served_entity="a",status="2xx"} 100\n' in text
    assert 'penstock_requests_total{endpoint_name="churn",status="4xx"} 7\n' in text
    assert 'penstock_pool_lag_records{endpoint_name="churn",served_entity="a"} 3\n' in text
    assert 'penstock_pool_requests_in_flight{endpoint_name="churn",served_entity="a"} 4\n' in text
    assert 'penstock_pool_decision{endpoint_name="churn",served_entity="a",reason="backlog"} 1\n' in text
    assert "gone" not in text


async def test_what_cannot_be_added_waits() -> None:
    redis = new_redis(RedisSettings(url="redis://127.0.0.1:1"))
    tallies = Tallies(redis)
    tallies.answered("e1", "a", 200)
    for _ in range(2):
        with pytest.raises(RedisError):
            await tallies.add()
    assert cast(Any, tallies)._fresh["e1"]["a", STATUS, "2xx"] == 1
    await redis.aclose()
