"""The main job as a user would do it: train, register, create an endpoint, score, read the table, compare."""

import os
import time
from typing import Any

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.serving import (
    AiGatewayConfig,
    AiGatewayInferenceTableConfig,
    DataframeSplitInput,
    EndpointCoreConfigInput,
    Route,
    ServedEntityInput,
    TrafficConfig,
)
from rich import box
from rich.table import Table

from services.cli.demo.batch import COPIES, batch_table, read_batch, score_batch
from services.cli.demo.ledger import Answered, EntitySummary, Logged, batch_faults, differences, summarise, summary_faults, wrong_answers
from services.cli.demo.models import MODEL_NAME, HeldOut, RegisteredModel, train_and_register
from services.cli.demo.steps import console, step
from services.cli.demo.topics import score_by_topic
from services.shared.queries import run_query
from services.shared.table_places import Place, list_tables

ENDPOINT = "penstock-demo"
CATALOG, SCHEMA = "main", "demo"
SHARES = (80, 20)
BLOCK = 25
ROWS_TIMEOUT_S = 60


def do_the_job(stack: dict[str, Any]) -> list[str]:
    """The job itself; returns what differed from what was expected, in words."""
    os.environ["DATABRICKS_CONFIG_FILE"] = stack["config_file"]
    if stack["ca_bundle"]:
        os.environ["REQUESTS_CA_BUNDLE"] = stack["ca_bundle"]
    workspace = WorkspaceClient()
    with step("train two versions and register them in MLflow"):
        held_out, models = train_and_register(stack["mlflow"])
    shares = {f"{MODEL_NAME}-{m.version}": share for m, share in zip(models, SHARES, strict=True)}
    local = {f"{MODEL_NAME}-{m.version}": m.predictions for m in models}
    with step(f"create endpoint '{ENDPOINT}': split {SHARES[0]}/{SHARES[1]}, inference table on"):
        table = _create(workspace, models, shares)
    with step(f"score {len(held_out.labels)} held-out rows over REST, one by one and in blocks of {BLOCK}"):
        answered = _score(workspace, held_out)
    with step(f"submit {len(held_out.labels)} rows to the endpoint's Kafka topic, and read what came of them"):
        submitted = score_by_topic(workspace, ENDPOINT, held_out)
    every = answered + submitted
    with step("wait for the rows in Delta"):
        logged = _read_rows(stack["tables"], table, _entity_names(workspace), len(every))
    results = f"{table.removesuffix('_payload')}_batch"
    with step(f"score {len(held_out.labels) * COPIES:,} rows as one batch over REST, from a Parquet file into a table"):
        score_batch(workspace, ENDPOINT, held_out, results)
        scored = read_batch(stack["tables"], results)
    summaries = summarise(logged, {a.client_request_id: a.rows for a in every}, held_out.labels, local, shares)
    _print_summary(summaries, answered, table)
    console.print(batch_table(scored, results))
    wrong = [f"{request} was answered other than the model predicts locally" for request in wrong_answers(every, local)]
    faults = batch_faults(scored, len(held_out.labels) * COPIES, local)
    return wrong + faults + differences(every, logged) + summary_faults(summaries)


def _create(workspace: WorkspaceClient, models: list[RegisteredModel], shares: dict[str, int]) -> str:
    """Create the endpoint anew; returns its table. A table of its own for every run, so that the figures are this run's."""
    if any(e.name == ENDPOINT for e in workspace.serving_endpoints.list()):
        workspace.serving_endpoints.delete(ENDPOINT)
    prefix = f"demo_v{models[0].version}"
    workspace.serving_endpoints.create_and_wait(
        ENDPOINT,
        config=EndpointCoreConfigInput(
            name=ENDPOINT,
            served_entities=[
                ServedEntityInput(entity_name=MODEL_NAME, entity_version=m.version, workload_size="Small", scale_to_zero_enabled=False)
                for m in models
            ],
            traffic_config=TrafficConfig(routes=[Route(served_entity_name=n, traffic_percentage=s) for n, s in shares.items()]),
        ),
        ai_gateway=AiGatewayConfig(
            inference_table_config=AiGatewayInferenceTableConfig(
                catalog_name=CATALOG, schema_name=SCHEMA, table_name_prefix=prefix, enabled=True
            )
        ),
    )
    return f"{CATALOG}.{SCHEMA}.{prefix}_payload"


def _score(workspace: WorkspaceClient, held_out: HeldOut) -> list[Answered]:
    rows = len(held_out.labels)
    single = [(f"row-{i}", range(i, i + 1)) for i in range(rows)]
    blocks = [(f"block-{i}", range(i, min(i + BLOCK, rows))) for i in range(0, rows, BLOCK)]
    answered = []
    for client_request_id, span in single + blocks:
        split = held_out.features.iloc[span.start : span.stop].to_dict(orient="split")
        started = time.perf_counter()
        reply = workspace.serving_endpoints.query(
            ENDPOINT,
            client_request_id=client_request_id,
            dataframe_split=DataframeSplitInput(columns=split["columns"], data=split["data"]),
        )
        latency_ms = (time.perf_counter() - started) * 1000
        answered.append(Answered(client_request_id, span, str(reply.served_model_name), list(reply.predictions or []), latency_ms))
    return answered


def _entity_names(workspace: WorkspaceClient) -> dict[str, str]:
    endpoint: Any = workspace.api_client.do("GET", f"/api/2.0/serving-endpoints/{ENDPOINT}")
    return {entity["id"]: entity["name"] for entity in endpoint["config"]["served_entities"]}


def _read_rows(tables: Place, table: str, names: dict[str, str], expected: int) -> list[Logged]:
    """Wait until the table holds `expected` rows, or return what it holds when patience ends."""
    sql = f"select client_request_id, served_entity_id, status_code, response, execution_duration_ms from {table}"
    give_up_at = time.monotonic() + ROWS_TIMEOUT_S
    while True:
        rows = run_query(tables, sql).to_pylist() if table in list_tables(tables) else []
        if len(rows) >= expected or time.monotonic() > give_up_at:
            return [
                Logged(r["client_request_id"], names[r["served_entity_id"]], r["status_code"], r["response"], r["execution_duration_ms"])
                for r in rows
            ]
        time.sleep(0.5)


def _print_summary(summaries: list[EntitySummary], answered: list[Answered], table: str) -> None:
    shown = Table(title=f"\nfrom {table}, expected figures in brackets", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("served entity", "requests", "share", "p50", "p99", "accuracy"):
        shown.add_column(name, justify="left" if name == "served entity" else "right", no_wrap=True)
    for s in summaries:
        share = f"{s.share:.1f} % ({s.expected_share:.0f} ± {s.tolerance:.0f})"
        times = (f"{s.p50_ms:.0f} ms", f"{s.p99_ms:.0f} ms")
        shown.add_row(s.entity, str(s.requests), share, *times, f"{s.accuracy:.4f} ({s.expected_accuracy:.4f})")
    console.print(shown)
    latencies = sorted(a.latency_ms for a in answered)
    p50, p99 = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
    console.print(f"Times are the model's alone; over HTTP the client saw p50 {p50:.0f} ms, p99 {p99:.0f} ms.\n")
