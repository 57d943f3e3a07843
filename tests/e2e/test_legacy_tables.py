"""The table of `auto_capture_config`, and what is said of one that somebody has broken."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.serving import AutoCaptureConfigInput, EndpointCoreConfigInput, ServedEntityInput
from deltalake import DeltaTable

from services.logger.rows import LEGACY_COLUMNS
from tests.e2e.conftest import Models, Stack, eventually

ROWS = [{"x": 1.0}]


def test_a_legacy_table_has_its_rows_and_says_when_it_is_broken(stack: Stack, models: Models) -> None:
    workspace = WorkspaceClient(host=stack.host, token=stack.token)
    api, name = workspace.serving_endpoints, "legacy-table"
    entity = ServedEntityInput(
        entity_name=models.name, entity_version=models.double, workload_size="Small", scale_to_zero_enabled=False, name="two"
    )
    capture = AutoCaptureConfigInput(catalog_name="main", schema_name="old", table_name_prefix="churn", enabled=True)
    table = stack.tables / "main" / "old" / "churn_payload"

    def state() -> Any:
        config = api.get(name).config
        assert config is not None
        assert config.auto_capture_config is not None
        assert config.auto_capture_config.state is not None
        return config.auto_capture_config.state.payload_table

    try:
        api.create_and_wait(name, config=EndpointCoreConfigInput(name=name, served_entities=[entity], auto_capture_config=capture))
        api.query(name, dataframe_records=ROWS)
        [row] = asyncio.run(eventually(lambda: rows_of(table)))
        assert list(row) == LEGACY_COLUMNS.names
        told = [("endpoint_name", name), ("model_name", models.name), ("model_version", models.double)]
        assert (row["status_code"], row["request_metadata"]) == (200, told)
        assert (state().name, state().status) == ("churn_payload", "READY")

        shutil.rmtree(table / "_delta_log")
        assert api.query(name, dataframe_records=ROWS).predictions == [2.0]
        asyncio.run(eventually(lambda: state().status == "FAILED"))
        assert "no Delta table" in state().status_message or "gone" in state().status_message
        assert api.query(name, dataframe_records=ROWS).predictions == [2.0], "scoring goes on"
    finally:
        api.delete(name)


def rows_of(table: Path) -> list[dict[str, Any]] | None:
    if not DeltaTable.is_deltatable(str(table)):
        return None
    rows: list[dict[str, Any]] = DeltaTable(table).to_pyarrow_table().to_pylist()
    return rows or None
