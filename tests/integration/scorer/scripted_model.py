"""A model from code for the scorer's tests."""

import os
import time

import mlflow.models
import mlflow.pyfunc
import numpy


class Scripted(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Does what its first value says: n ≥ 0 comes back doubled after n ms.

    -1 crashes, -2 raises, -3 is NaN, -4 shows its environment, -5 takes 600 MB.
    """

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # mlflow makes a schema of hints
        value = float(numpy.ravel(model_input)[0])
        if value == -1:
            os._exit(9)
        if value == -2:
            raise RuntimeError("the model does not like this")
        if value == -3:
            return [float("nan")]
        if value == -4:
            print("my environment:", dict(os.environ), flush=True)
            return [dict(os.environ)]
        if value == -5:
            taken = numpy.ones(600 * 2**20 // 8)
            time.sleep(60)
            return [taken.sum()]
        time.sleep(value / 1000)
        return [value * 2]


mlflow.models.set_model(Scripted())
