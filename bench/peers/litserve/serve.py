"""LitServe's adapter: MLflow's protocol in and out, batches by LitServe.

Arguments: model folder, port, workers, largest batch, seconds a batch may wait for company.
"""

import sys

import litserve
import mlflow.pyfunc
import numpy as np
import pandas as pd


class Model(litserve.LitAPI):
    def __init__(self, folder, **more):
        super().__init__(**more)
        self.folder = folder

    def setup(self, device):
        self.model = mlflow.pyfunc.load_model(self.folder)

    def decode_request(self, request):
        return request["dataframe_split"]

    def batch(self, inputs):
        rows = [row for split in inputs for row in split["data"]]
        return pd.DataFrame(rows, columns=inputs[0]["columns"]), [len(split["data"]) for split in inputs]

    def predict(self, batch):
        frame, counts = batch
        return self.model.predict(frame), counts

    def unbatch(self, output):
        predictions, counts = output
        values = predictions.to_dict(orient="records") if isinstance(predictions, pd.DataFrame) else np.asarray(predictions).tolist()
        ends = np.cumsum(counts)
        return [values[end - count : end] for end, count in zip(ends, counts, strict=True)]

    def encode_response(self, output):
        return {"predictions": output}


if __name__ == "__main__":
    folder, port, workers, largest, wait_s = sys.argv[1:]
    api = Model(folder, max_batch_size=int(largest), batch_timeout=float(wait_s), api_path="/invocations")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(workers), timeout=60)
    server.run(host="127.0.0.1", port=int(port), num_api_servers=1, generate_client_file=False, log_level="warning")
