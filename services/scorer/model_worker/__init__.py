"""The untrusted half of a replica: runs in the model's own environment, with the standard library and the model's own mlflow.

Started as `python __main__.py <socket fd> <model folder> <lanes>`, or forked from a warm parent (`warm_parent.py`), which is
`python __main__.py warm <socket path> <file of module names>`. Over its socket it says `ready` or `failed` once, then answers
batches, several at a time (`frames.py`). It ends when the socket does. Nothing of Penstock but this package is
importable there, because the model's own code may have modules of the same names. Python 3.8 must read it.
"""
