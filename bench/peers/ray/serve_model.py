"""Ray Serve's adapter: MLflow's protocol in and out, batches by `serve.batch`.

Arguments: model folder, port, replicas, largest batch, seconds a batch may wait for company.
"""

import os
import signal
import sys
import threading

import mlflow.pyfunc
import numpy as np
import pandas as pd
import ray
from ray import serve

folder, port, replicas, largest, wait_s = sys.argv[1:]


@serve.deployment(num_replicas=int(replicas), max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0.5})
class Model:
    def __init__(self, folder):
        self.model = mlflow.pyfunc.load_model(folder)

    @serve.batch(max_batch_size=int(largest), batch_wait_timeout_s=float(wait_s))
    async def together(self, splits):
        frame = pd.DataFrame([row for split in splits for row in split["data"]], columns=splits[0]["columns"])
        predictions = self.model.predict(frame)
        values = predictions.to_dict(orient="records") if isinstance(predictions, pd.DataFrame) else np.asarray(predictions).tolist()
        answers, start = [], 0
        for split in splits:
            answers.append({"predictions": values[start : start + len(split["data"])]})
            start += len(split["data"])
        return answers

    async def __call__(self, request):
        return await self.together((await request.json())["dataframe_split"])


if __name__ == "__main__":
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1", object_store_memory=200_000_000)
    serve.start(http_options={"host": "127.0.0.1", "port": int(port), "access_log": False})
    serve.run(Model.bind(folder), route_prefix="/invocations", logging_config={"enable_access_log": False, "log_level": "WARNING"})
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    stopped.wait()
    serve.shutdown()
    ray.shutdown()
