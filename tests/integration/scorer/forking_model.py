"""A model from code that shows what a forked worker is, and that can hold the interpreter's lock for ever."""

import os
import re
import subprocess
import sys

import mlflow.models
import mlflow.pyfunc
import numpy


class Forking(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """0: its process, session, signals, descriptors and luck. 1: has a child, and then never lets go of the interpreter."""

    def load_context(self, context):  # type: ignore[no-untyped-def]
        if "PENSTOCK_DIES_FORKED" in os.environ and sys.argv[1] == "warm":
            os._exit(9)

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # mlflow makes a schema of hints
        if numpy.ravel(model_input)[0] == 1:
            child = subprocess.Popen(["sleep", "600"])
            print("spinning beside", child.pid, flush=True)
            re.match("(a+)+b", "a" * 100)
        descriptors = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")]
        return [
            {
                "group": os.getpgid(0) == os.getpid(),
                "waits": subprocess.run(["sh", "-c", "exit 7"], check=False).returncode,
                "sockets": sum(name.startswith("socket:") for name in descriptors),
                "luck": float(numpy.random.random()),
                "folder": os.getcwd(),
                "variables": dict(os.environ),
            }
        ]


mlflow.models.set_model(Forking())
