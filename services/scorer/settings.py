"""Settings of a scorer replica."""

from pydantic import Field

from services.shared.settings import GIB, MIB, Section, ServiceSettings


class ScorerSettings(Section):
    pool_id: str = Field("", description="pool this replica belongs to; set by whoever starts it")
    replica_id: str = Field("", description="name of this replica, unique in the stack; set by whoever starts it")
    refusing: bool = Field(False, description="answer what is left in a retired pool with 503 instead of scoring it")
    evaluation_limit_s: float = Field(120.0, gt=0, le=3600, description="seconds one evaluation may take before it is a 504")
    load_limit_s: float = Field(900.0, gt=0, description="seconds a model may take to load and warm up")
    model_memory_bytes: int = Field(
        4 * GIB, ge=64 * MIB, le=16 * GIB, description="resident bytes a model worker and its children may hold; over it they are killed"
    )
    spare_replicas: int = Field(3, ge=1, le=16, description="replica processes that wait for a pool to take them, about 60 MB each")
    warm_parents: int = Field(4, ge=0, description="environments on a node that keep a process which forks their model workers; 0: none")
    warm_parents_max_bytes: int = Field(2 * GIB, ge=0, description="resident bytes these may take together")
    environments_kept_h: float = Field(168.0, ge=0, description="hours for which an environment that no model needs is kept")
    environments_max_bytes: int = Field(
        20 * GIB, ge=0, description="bytes that environments may take on a node before those that no model needs go, longest unused first"
    )


class ScorerServiceSettings(ServiceSettings):
    scorer: ScorerSettings = ScorerSettings()
