"""A row-wise model from code for the scorer's tests."""

import os
import time

import mlflow.models
import mlflow.pyfunc


class RowWise(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Each row comes back doubled, with the number of rows it came with in the log; -1 crashes, -2 raises, -5 takes for ever."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # mlflow makes a schema of hints
        values = list(model_input["x"])
        print(f"rows at once: {len(values)}", flush=True)
        if -1 in values:
            os._exit(9)
        if -2 in values:
            raise RuntimeError("the model does not like this")
        time.sleep(3600 if -5 in values else 0.05)
        return [value * 2 for value in values]


mlflow.models.set_model(RowWise())
