"""The part of a model that travels as a code path: shows a model's input as words that any two processes spell alike."""

from typing import Any

import numpy as np
import pandas as pd


def show(value: Any) -> Any:
    if isinstance(value, pd.DataFrame):
        columns = [[str(name), str(value.dtypes.iloc[at]), show_all(value.iloc[:, at])] for at, name in enumerate(value.columns)]
        return {"index": show_all(value.index), "columns": columns}
    if isinstance(value, np.ndarray):
        return {"dtype": str(value.dtype), "shape": list(value.shape), "values": show(value.tolist())}
    if isinstance(value, dict):
        return {str(name): show(item) for name, item in value.items()}
    if isinstance(value, list):
        return show_all(value)
    return f"{type(value).__name__} {value!r}"


def show_all(values: Any) -> list[Any]:
    return [show(value) for value in values]
