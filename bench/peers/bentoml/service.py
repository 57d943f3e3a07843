"""BentoML's adapter: a batchable API takes one array, so its body is `{"rows": [[…]]}`; batches by BentoML.

Settings come by variables: BENCH_MODEL (folder), BENCH_WORKERS, BENCH_MAX_BATCH, BENCH_BATCH_WAIT_S.
"""

import os

import bentoml
import mlflow.pyfunc
import numpy as np
import pandas as pd

COLUMNS = [f"c{i}" for i in range(10)]


@bentoml.service(workers=int(os.environ["BENCH_WORKERS"]), traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Model:
    def __init__(self):
        self.model = mlflow.pyfunc.load_model(os.environ["BENCH_MODEL"])

    @bentoml.api(
        route="/invocations",
        batchable=True,
        max_batch_size=int(os.environ["BENCH_MAX_BATCH"]),
        max_latency_ms=int(float(os.environ["BENCH_BATCH_WAIT_S"]) * 1000),
    )
    def predict(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.model.predict(pd.DataFrame(rows, columns=COLUMNS)))
