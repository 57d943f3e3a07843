"""Ray Serve's autoscaling, as quick as it goes: one request at a time on each of a replica's lanes; its size is told twice a second.

Arguments: model folder, port, most replicas, lanes of a replica, seconds between steps down.
"""

import asyncio
import json
import os
import signal
import sys
import threading
import time

import mlflow.pyfunc
import numpy as np
import pandas as pd
import ray
from ray import serve

folder, port, most, lanes, down_s = sys.argv[1:]
UTILIZATION = 0.7  # as Penstock's own default
LOOK_EVERY_S = 0.5

AUTOSCALING = {
    "min_replicas": 1,
    "max_replicas": int(most),
    "target_ongoing_requests": int(lanes) * UTILIZATION,
    "upscale_delay_s": 0,
    "downscale_delay_s": float(down_s),
    "metrics_interval_s": 0.5,
    "look_back_period_s": 2,
}


@serve.deployment(autoscaling_config=AUTOSCALING, max_ongoing_requests=int(lanes), ray_actor_options={"num_cpus": 0.1})
class Model:
    def __init__(self, folder):
        self.model = mlflow.pyfunc.load_model(folder)

    async def __call__(self, request):
        split = (await request.json())["dataframe_split"]
        frame = pd.DataFrame(split["data"], columns=split["columns"])
        return {"predictions": np.asarray(await asyncio.to_thread(self.model.predict, frame)).tolist()}


def tell_size(stopped):
    while not stopped.wait(LOOK_EVERY_S):
        deployment = serve.status().applications["default"].deployments["Model"]
        states = {str(getattr(state, "value", state)): count for state, count in deployment.replica_states.items()}
        wanted = sum(count for state, count in states.items() if state != "STOPPING")
        print("size", json.dumps({"at": time.monotonic(), "wanted": wanted, "ready": states.get("RUNNING", 0)}), flush=True)


if __name__ == "__main__":
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1", object_store_memory=200_000_000)
    serve.start(http_options={"host": "127.0.0.1", "port": int(port), "access_log": False})
    serve.run(Model.bind(folder), route_prefix="/invocations", logging_config={"enable_access_log": False, "log_level": "WARNING"})
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    telling = threading.Thread(target=tell_size, args=(stopped,))
    telling.start()
    stopped.wait()
    telling.join()
    serve.shutdown()
    ray.shutdown()
