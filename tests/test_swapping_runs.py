"""Swapping in studies: what an experiment says of processes, and what must be true of it whatever the numbers.

The figures of gallery W1 (a swap's time, CTSS's counts) are worked out by hand in `test_swapping_reference.py`, which
the engine follows operation by operation.
"""

import numpy as np
import pytest
from studies import run

from vecalloc import ledger as c
from vecalloc.batch import Batch, simulate_batch
from vecalloc.errors import InputError
from vecalloc.workload import workload_of

RULES = ("lru", "largest-idle", "smallest-sufficient", "random", "lowest-priority")

TABLE = {
    "sizes": {"dist": "lognorm", "s": 0.8, "scale": 1024, "max": 8192, "bounds": "clip"},
    "work": {"dist": "gamma", "a": 4.0, "scale": 2.5},
    "active": {"dist": "expon"},
    "idle": {"dist": "expon", "scale": 4.0},
    "priority": {"dist": "randint", "low": 0, "high": 4},
    "load": 0.2,
}
PROCESSES = {
    "pool/size": "64KiB",
    "workload": TABLE,
    "policy": {"use": ["best-fit"]},
    "run/metrics": ["throughput", "slowdown", "slowdown_p99", "swaps_out", "disk_utilisation", "waiting_time"],
    "sweep": {},
}


def lines(reclaim, policies=("best-fit",), first=0, last=4, requests=1500, pool=1 << 16, **changes):
    workload = workload_of({k: v for k, v in (TABLE | changes).items() if v is not None})
    rows = tuple(f"row{k}" for k in range(len(policies)))
    batch = Batch(
        workload, pool, 16, policies, rows, "wait", 1 << 20, 3, requests, ("share", 0.2), first, last, reclaim=reclaim
    )
    return simulate_batch(batch)


def throughput(told):
    return told["completed"].sum() / told["duration"].sum()


SLOW = "swap[bandwidth=15000,latency=0.02{}]"


@pytest.mark.parametrize("policy", ["best-fit", "buddy"])
def test_without_memory_pressure_nothing_changes(policy):
    """In a pool with room for all, what is done about a lack of room is of no consequence."""
    without = lines("none", (policy,), load=0.05)
    for reclaim in (SLOW.format(""), SLOW.format(",relocate=false"), "compact+swap"):
        told = lines(reclaim, (policy,), load=0.05, pool=1 << 17)
        assert not told["swaps_out"].any() and not told["passes"].any()
        same = lines("none", (policy,), load=0.05, pool=1 << 17)
        assert all(np.array_equal(told[name], same[name]) for name in told)
    assert not without["swaps_out"].any()


@pytest.mark.parametrize("rule", RULES)
def test_thrashing(rule):
    """Throughput follows the load up to a point, and falls far below what it was beyond: for every rule.

    Memory is full of processes that work or are on their way; but the more are in the system, the longer each is on
    the disk between two of its phases, and the fewer ever finish.
    """
    short = {"sizes": 1024, "active": {"dist": "expon", "scale": 0.5}, "idle": {"dist": "expon", "scale": 2.0}}
    reclaim = SLOW.format(f",victim={rule}")
    few, most, many = (lines(reclaim, last=2, requests=4000, load=load, **short) for load in (0.15, 0.3, 2.0))
    assert throughput(most) > 1.15 * throughput(few)
    assert throughput(many) < 0.75 * throughput(most)
    for told in (few, most, many):
        told["slow"] = told["slowdown"].sum() / told["completed"].sum()
    assert few["slow"] < 1.1 < most["slow"] < many["slow"]


@pytest.mark.parametrize("rule", RULES)
def test_a_disk_without_delay_serves_all_but_the_active(rule):
    """With nothing to wait for on the disk, only active processes need room, and units fit everywhere."""
    free = {"sizes": 1024, "load": 0.7}
    told = lines(f"swap[bandwidth=inf,latency=0,victim={rule}]", pool=1 << 14, **free)
    # The active alone are an M/G/m-like queue of 16 places; with room for all of them nobody would wait.
    without = lines("none", pool=1 << 14, **free)
    assert told["time_busy"].sum() == 0
    assert throughput(told) > 2 * throughput(without)
    slow = told["slowdown"].sum() / told["completed"].sum()
    assert 1.0 <= slow < 1.2


def test_all_rules_are_the_same_without_delay():
    """Whoever leaves costs nothing: with units of one size every rule serves the same processes at the same times."""
    told = [lines(f"swap[bandwidth=inf,latency=0,victim={rule}]", pool=1 << 14, sizes=1024, load=0.7) for rule in RULES]
    for name in ("completed", "time_working", "waited", "waited_again", "slowdown", "slowdown_p99", "duration"):
        assert all(np.array_equal(told[0][name], other[name]) for other in told[1:]), name


def test_replicas_do_not_depend_on_who_shares_their_batch():
    policies = ("best-fit", "first-fit")
    whole = lines(SLOW.format(",victim=random"), policies, 0, 10, 600)
    parts = [lines(SLOW.format(",victim=random"), policies, *ends, 600) for ends in ((0, 3), (3, 4), (4, 10))]
    for row in range(2):
        mine = {name: np.concatenate([part[name][part["row"] == row] for part in parts]) for name in whole}
        assert all(np.array_equal(whole[name][whole["row"] == row], mine[name]) for name in whole)


def test_a_study_of_processes(tmp_path):
    swap = {"kind": "swap", "disk": {"latency": "20 ms", "bandwidth": "15 kB/s"}, "swap_space": "1 MiB"}
    changes = PROCESSES | {"policy/reclaim": swap, "sweep/grid": {"policy.reclaim.victim": ["lru", "random"]}}
    table = run(tmp_path, changes).table.to_pydict()
    assert table["policy.reclaim.victim"] == ["lru", "random"]
    assert all(1 < slow < p99 for slow, p99 in zip(table["slowdown"], table["slowdown_p99"], strict=True))
    assert all(value > 0 for value in table["swaps_out"] + table["throughput"] + table["waiting_time"])
    again = run(tmp_path / "again", changes, executor="threads:1").table.to_pydict()
    assert again == table


def test_the_percentile_is_that_of_the_slowdowns():
    """Against all slow-downs of one replica, which the histogram has in bins of 1 %."""
    told = lines(SLOW.format(""), last=1)
    assert told["slowdown_p99"][0] > told["slowdown"][0] / told["completed"][0] > 1


def test_mser_does_not_go_with_the_percentile(tmp_path):
    with pytest.raises(InputError, match="slowdown_p99"):
        run(tmp_path, PROCESSES | {"run/warmup": "mser"})


def test_the_ledger_says_where_everybody_is():
    """Who has arrived and been placed has finished, is in memory, on the disk or in the line."""
    told = lines(SLOW.format(""), last=6)
    assert (told["images"] >= 0).all() and (told["image_bytes"] >= 0).all()
    assert (told["working"] <= told["blocks"]).all()
    assert c.COUNT_NAMES.index("completed") == c.COMPLETED
