"""Where the benchmark keeps what it builds (ignored by git) and what it found (kept)."""

from pathlib import Path

BENCH = Path(__file__).resolve().parent
PROJECT = BENCH.parent
BUILT = PROJECT / ".bench"  # environments of the peers, saved models, logs
RESULTS = BENCH / "results"
PEERS = BENCH / "peers"
