"""Settings of one logger process."""

from pathlib import Path

from pydantic import Field

from services.shared.settings import Section, ServiceSettings


class LoggerSettings(Section):
    instance: str = Field(
        "logger-0",
        min_length=1,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="name of this logger among several, unlike the others': a restart under its name takes its partitions back at once",
    )
    flush_s: float = Field(1.0, gt=0, le=60, description="seconds between two flushes into the tables")
    flush_records: int = Field(200, ge=1, le=10_000, description="outcome records (packs of up to 1 MB) that make a flush come at once")
    dedupe_window_s: float = Field(900, gt=0, description="seconds of request ids kept in memory; older ids are looked up in the table")
    dedupe_max_ids: int = Field(500_000, ge=1_000, description="request ids of one table kept in memory at most, about 120 bytes each")
    compact_commits: int = Field(50, ge=2, description="commits after which a table's small files are merged and its log is checkpointed")
    vacuum_retention_h: float = Field(
        24, ge=1, description="whole hours that merged files stay for who still reads them; at least as long as log_retention_h"
    )
    log_retention_h: float = Field(
        6,
        ge=0.1,
        description="hours for which a new table can be read as it was and its changes be followed; commits look through them all",
    )
    table_attempts: int = Field(5, ge=1, description="tries of one append before the table counts as failed and its rows are quarantined")
    table_retry_s: float = Field(60, gt=0, description="seconds until a failed table is tried again")
    drain_s: float = Field(20, ge=0, description="seconds a stopping logger goes on to log what was produced before the stop")
    stall_s: float = Field(
        60, gt=0, description="seconds without progress on waiting records after which the process ends, to be restarted"
    )

    @property
    def merged_files_h(self) -> float:
        """Hours that merged files stay: for as long as a version that has them can be read."""
        return max(self.vacuum_retention_h, self.log_retention_h)


class LoggerServiceSettings(ServiceSettings):
    logger: LoggerSettings = LoggerSettings()

    @property
    def logger_folder(self) -> Path:
        """What the loggers of this node keep for themselves."""
        return self.state.absolute() / "logger"
