"""Settings of the scaler."""

from pydantic import Field

from services.shared.settings import Section, ServiceSettings


class ScalerSettings(Section):
    instance: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]*$",
        description="name of this scaler, unlike that of any other: a restart under its name leads again at once. `penstock up` gives one",
    )
    tick_s: float = Field(0.5, gt=0, le=60, description="seconds between two looks at every pool")
    rate_window_s: float = Field(60.0, gt=0, description="seconds over which the arrival rate is averaged")
    panic_window_s: float = Field(
        0.45, gt=0, description="seconds for which twice what a pool is sized for must have arrived until it grows to that at once"
    )
    drain_budget_s: float = Field(5.0, gt=0, description="seconds in which a backlog should be gone")
    target_utilization: float = Field(0.7, gt=0, le=1, description="share of its lanes a pool is sized to keep busy")
    down_interval_s: float = Field(300.0, ge=0, description="least seconds between two steps down of one pool")
    idle_to_zero_s: float = Field(1800.0, gt=0, description="seconds without a request until a pool that may scale to zero does")
    deploy_timeout_s: float = Field(1800.0, gt=0, description="seconds until a deployment that is not ready is aborted")
    recovery_pause_s: float = Field(10.0, gt=0, description="seconds until a replica that failed in a pool in service is tried again")
    recovery_limit_s: float = Field(
        300.0,
        gt=0,
        description="seconds without any replica until an entity in service counts as failed; it is tried all the same",
    )
    recommit_interval_s: float = Field(
        86_400.0, gt=0, description="seconds between two commits of a sleeping pool's offsets, so that Kafka keeps them"
    )


class ScalerServiceSettings(ServiceSettings):
    scaler: ScalerSettings = ScalerSettings()
