"""Recorded programs against an independent C++ program: the SHA-256 of every address sequence.

`../shared/oracles/replay` holds, for each recorded trace, pool and policy, what another implementation of the same
definitions answered.
"""

import gzip
import hashlib
import json
from pathlib import Path

import pytest

import vecalloc as va

SHARED = Path(__file__).parents[2] / "shared"
NAMES = {
    "FF": "first-fit",
    "BF": "best-fit",
    "WF": "worst-fit",
    "NFb": "next-fit",
    "BUDL": "buddy",
    "BUDS": "buddy[order=lifo]",
}
ORACLES = sorted((SHARED / "oracles" / "replay").glob("*.json.gz"))


@pytest.mark.skipif(not ORACLES, reason="../shared/oracles/replay is not here")
@pytest.mark.parametrize("path", ORACLES, ids=lambda p: p.name.removesuffix(".json.gz"))
def test_addresses_have_the_recorded_digest(path):
    oracle = json.loads(gzip.decompress(path.read_bytes()))
    trace = va.load_trace(SHARED / "traces" / (oracle["trace"] + ".npz"))
    checked = 0
    for run in oracle["runs"]:
        if run["policy"] in NAMES:
            result = va.replay(trace, NAMES[run["policy"]], 2 ** run["pool_log2"], oracle["granularity"])
            assert hashlib.sha256(result.addresses.astype("<i8").tobytes()).hexdigest() == run["sha256"], run
            assert sum(result.failures.values()) == run["fails"]
            assert result.metrics["high_water_mark"] == run["max_extent"]
            assert len(result.hole_table) == run["final_holes"] or run["policy"].startswith("BUD")
            assert result.metrics["peak_live"] == oracle["peak_live_rounded"]
            checked += 1
    assert checked >= 6
