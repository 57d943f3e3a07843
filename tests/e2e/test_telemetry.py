"""One trace from the caller through ingress, scorer and logger."""

from collections.abc import Callable

from tests.e2e.collector import Collector
from tests.e2e.conftest import Deployed, Stack, eventually

CALLER_TRACE, CALLER_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


async def test_a_request_is_one_trace_through_three_services(stack: Stack, deploy: Callable[..., Deployed], collector: Collector) -> None:
    endpoint = deploy()
    with stack.client() as client:
        traceparent = {"traceparent": f"00-{CALLER_TRACE}-{CALLER_SPAN}-01"}
        assert client.post(endpoint.invocations, json={"inputs": {"x": [1.0]}}, headers=traceparent).status_code == 200
    await eventually(lambda: collector.trace(CALLER_TRACE).keys() >= {"invocation", "score", "log row"})
    spans = collector.trace(CALLER_TRACE)
    assert {name: span.service for name, span in spans.items()} == {
        "invocation": "penstock-ingress",
        "score": "penstock-scorer",
        "log row": "penstock-logger",
    }
    assert spans["invocation"].parent_id == CALLER_SPAN
    assert spans["score"].parent_id == spans["log row"].parent_id == spans["invocation"].span_id
