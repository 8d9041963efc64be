"""experiments/throughput.py runs, and the C++ best-fit of two trees gives best-fit's addresses."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "experiments" / "throughput.py"


@pytest.fixture(scope="module")
def throughput():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("throughput", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["throughput"] = module
    sys.path.insert(0, str(SCRIPT.parent))
    spec.loader.exec_module(module)
    return module


def test_a_round_on_a_small_heap(tmp_path):
    if not shutil.which("g++"):
        pytest.skip("g++ is not installed")
    command = [
        sys.executable,
        SCRIPT,
        "--traces",
        "T2",
        "--rounds",
        "1",
        "--events",
        "20000",
        "--no-save",
        "--parts",
        "kernels",
    ]
    done = subprocess.run([*command, "--policies", "best-fit"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr  # it says so if the trees give other addresses
    rows = {line[:32].strip(): line[32:].split() for line in done.stdout.splitlines()[3:]}
    assert float(rows["null loop"][1]) == 1.0
    assert float(rows["best-fit"][0]) > 0 and float(rows["C++ std::set best-fit"][0]) > 0


def test_heaps_are_in_equilibrium(throughput):
    heap = throughput.equilibrium("T2", 50_000)
    live = np.cumsum(np.sign(heap.extents))[heap.warm :]
    assert abs(live.mean() / heap.live - 1) < 0.1
    requested = np.cumsum(heap.extents)[heap.warm :]
    assert abs(requested.mean() / (0.75 * heap.granules) - 1) < 0.1
    held = {}
    for slot, extent in zip(heap.slots[:20_000].tolist(), heap.extents[:20_000].tolist(), strict=True):
        if extent > 0:
            assert slot not in held
            held[slot] = extent
        else:
            assert held.pop(slot) == -extent


def test_other_addresses_have_another_checksum(throughput):
    one, other = np.array([0, 5, -1, 7]), np.array([0, 5, 7, -1])
    assert throughput.checksum_of(one) == ((0 * 31 + 5) * 31 - 1) * 31 + 7
    assert throughput.checksum_of(one) != throughput.checksum_of(other)


def test_shares_add_up(throughput):
    table = [
        {"trace": "T1", "what": what, "ledger": ledger, "ns_per_event": ns}
        for what, ledger, ns in [
            ("null loop", "addresses", 4.0), ("null loop", "metrics", 7.0), ("best-fit", "addresses", 30.0),
            ("best-fit", "metrics", 40.0), ("C++ std::set best-fit", "", 200.0),
        ]
    ]  # fmt: skip
    assert throughput.shares(table).splitlines()[-1:] == ["| `best-fit` | 40.0 | 10% | 65% | 25% |"]


def test_the_monte_carlo_part(throughput):
    """Plain Python and the engine study the same model: they agree, and the bare kernel is the fastest of all."""
    monte_carlo = sys.modules["throughput_monte_carlo"]
    rows = {(row["cell"], row["what"]): row for row in monte_carlo.measure(1, 16)}
    assert {what for cell, what in rows if cell == "six policies"} < {what for cell, what in rows if cell == "best-fit"}
    assert all(row["replicas_per_second"] > 0 for row in rows.values())


def test_plain_python_studies_the_same_model(throughput):
    import throughput_monte_carlo as monte_carlo
    from peers.plain_python import study

    from vecalloc.batch import simulate_batch
    from vecalloc.statistics import estimate_mean
    from vecalloc.workload import workload_of

    batch = monte_carlo._batch(("best-fit",), 0, 40)
    lines = simulate_batch(type(batch)(**vars(batch) | {"warmup": ("share", 0.0)}))
    ours = estimate_mean(lines["fragmentation"] + lines["capacity"], 0.999)
    rate = workload_of(monte_carlo.WORKLOAD).rate_in(monte_carlo.POOL)
    replicas = [study(4096, 16, rate, 1.0, 256, 8192, monte_carlo.REQUESTS, seed)[0] for seed in range(40)]
    theirs = estimate_mean([monte_carlo.REQUESTS * failed for failed in replicas], 0.999)
    assert abs(ours.mean - theirs.mean) < np.hypot(ours.half_width, theirs.half_width)
