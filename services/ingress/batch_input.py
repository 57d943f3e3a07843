"""What may be sent to submit a batch: an order in JSON, with its rows or whence they come, or a file. Pure."""

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema

from services.ingress.batch_folder import SourceKind
from services.ingress.payloads import Input
from services.shared.errors import ContentTypeUnsupported, ParameterInvalid

JSON = "application/json"
FILES: dict[str, SourceKind] = {  # by media type
    "application/x-ndjson": "NDJSON",
    "application/jsonl": "NDJSON",
    "text/csv": "CSV",
    "application/vnd.apache.parquet": "PARQUET",
}
_TABLE = re.compile(r"[A-Za-z0-9_-]{1,255}(\.[A-Za-z0-9_-]{1,255}){2}")
ROWS = ("dataframe_split", "dataframe_records", "inputs", "instances")
PAYLOAD = "_payload"  # what inference tables end in


def _table(name: str) -> str:
    if not _TABLE.fullmatch(name):
        raise ValueError("is a name of three levels, catalog.schema.table, of letters, digits, '-' and '_'")
    return name


TABLE_SCHEMA = {"type": "string", "pattern": f"^{_TABLE.pattern}$"}
TableName = Annotated[str, AfterValidator(_table), WithJsonSchema(TABLE_SCHEMA)]


class SourceInput(Input):
    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["table"]}, {"required": ["sql"]}]})

    table: TableName = ""
    sql: str = Field("", min_length=1)


class BatchInput(Input):
    """Rows, or whence they come; and a table for the results, beside their download."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [one]} for one in (*ROWS, "source")]})

    dataframe_split: dict[str, Any] = Field(default_factory=dict)
    dataframe_records: list[Any] = Field(default_factory=list)
    inputs: list[Any] = Field(default_factory=list)
    instances: list[Any] = Field(default_factory=list)
    source: SourceInput = SourceInput()
    params: dict[str, Any] = Field(default_factory=dict)
    output_table: TableName = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """A submission. `asked` is the table, the SELECT or the rows as JSON, `content` the digest of that or of a file."""

    kind: SourceKind
    asked: str
    size: int  # of rows and files
    table: str  # of the results
    params: dict[str, Any]
    content: str

    @property
    def digest(self) -> str:
        """By which it is known when it comes again."""
        return sha256(json.dumps([self.kind, self.table, self.params, self.content]).encode()).hexdigest()


def kind_of(content_type: str) -> SourceKind | None:
    """Of a file; None for an order in JSON. Raises ContentTypeUnsupported."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type in ("", JSON):
        return None
    if media_type not in FILES:
        raise ContentTypeUnsupported(f"A batch comes as {JSON}, {', '.join(FILES)}; not as '{media_type}'.")
    return FILES[media_type]


def to_sent(sent: BatchInput, table: str) -> Sent:
    """Of an order in JSON; `table` is what its address says. Raises ParameterInvalid."""
    kind, asked = source_of(sent)
    size = len(asked.encode()) if kind == "INLINE" else 0
    return Sent(kind, asked, size, sent.output_table or table, sent.params, sha256(asked.encode()).hexdigest())


def source_of(sent: BatchInput) -> tuple[SourceKind, str]:
    """The kind, and what is asked for: the rows as JSON, the table or the SELECT. Raises ParameterInvalid."""
    given = sent.model_fields_set & {*ROWS, "source"}
    if len(given) != 1:
        raise ParameterInvalid(f"A batch needs rows, in one of {', '.join(ROWS)}, or a source.")
    if "source" not in given:
        return "INLINE", sent.model_dump_json(include=given)
    if len(sent.source.model_fields_set & {"table", "sql"}) != 1:
        raise ParameterInvalid("A source is one 'table' or one 'sql'.")
    return ("TABLE", sent.source.table) if sent.source.table else ("SQL", sent.source.sql)


def require_output(table: str) -> None:
    """Raises ParameterInvalid for the name of an inference table."""
    if table.endswith(PAYLOAD):
        raise ParameterInvalid(f"Tables whose names end in '{PAYLOAD}' are inference tables; name another for the results.")
