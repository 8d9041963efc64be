"""How fast a Monte Carlo study is, beside the bare kernel and beside what people do today: a part of throughput.py.

The cell: 2^12 granules of 16 bytes, 20,000 events a replica, lognormal sizes, exponential lifetimes, load 0.9, all
metrics. Four rows for best-fit alone and for six policies:

    bare kernel      the policies' kernels on events that lie ready, with the same ledger
    whole run        the same replicas with everything: drawing, putting in order, making pools, writing down
    all cores        the same through the driver's threads; efficiency is its speed over that of one thread a core
    plain Python     one policy: peers/plain_python.py

One round runs all, one after the other; ratios are taken within a round, and the table has their medians (the
efficiency: the best).
"""

import os
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import numpy as np
from peers.plain_python import study

from vecalloc.batch import TOGETHER, Batch, simulate_batch
from vecalloc.simulate import Simulation, Switches
from vecalloc.spec import make_plan
from vecalloc.workload.order import Ordering
from vecalloc.workload.requests import Requests, births_of, workload_of

POOL, GRANULE, REQUESTS = 1 << 16, 16, 10_000
WORKLOAD = {
    "sizes": {"dist": "lognorm", "s": 1.0, "scale": 256, "max": 8192, "bounds": "clip"},
    "lifetimes": {"dist": "expon"},
    "load": 0.9,
}
SIX = ("static-partition", "first-fit", "best-fit", "worst-fit", "next-fit", "buddy")


def measure(rounds: int, replicas: int = 64) -> list[dict[str, Any]]:
    """Rows of the table.

    Parameters
    ----------
    rounds : int
    replicas : int
        A measurement: each takes about a second.
    """
    rows = []
    for policies in (("best-fit",), SIX):
        bare, whole, threads = [], [], []
        cores = os.cpu_count() or 1
        for k in range(rounds + 1):  # the first one compiles
            bare.append(_bare(policies, replicas))
            whole.append(_whole(policies, replicas, 1))
            threads.append(cores * _whole(policies, cores * replicas, cores))
            if k == 0:
                bare, whole, threads = [], [], []
        ratio, scaling = np.array(bare) / whole, np.array(whole) / threads
        name = "best-fit" if len(policies) == 1 else "six policies"
        rows += [
            _row(name, "bare kernel", len(policies), bare, 1, 1.0),
            _row(name, "whole run", len(policies), whole, 1, float(np.median(ratio))),
            _row(name, f"{cores} threads", len(policies), threads, cores, float(scaling.max())),
        ]
        if len(policies) == 1:
            plain = [_plain(4) for _ in range(rounds)]
            rows.append(_row(name, "plain Python", 1, plain, 1, float(np.median(np.array(bare) / plain))))
    return rows


def _row(cell: str, what: str, policies: int, seconds: list[float], cores: int, ratio: float) -> dict[str, Any]:
    """`seconds`: a replica, on each of so many cores."""
    median = float(np.median(seconds))
    return {
        "cell": cell,
        "what": what,
        "replicas_per_second": round(cores / median, 2),
        "million_policy_events_per_second": round(cores * policies * 2 * REQUESTS / median / 1e6, 3),
        "ratio": round(ratio, 3),
        "least_ms": round(1e3 * min(seconds), 3),
        "most_ms": round(1e3 * max(seconds), 3),
        "rounds": len(seconds),
    }


def _batch(policies: tuple[str, ...], first: int, last: int) -> Batch:
    workload = workload_of(WORKLOAD)
    return Batch(workload, POOL, GRANULE, policies, policies, "drop", 1 << 20, 1, REQUESTS, ("share", 0.2), first, last)


def _whole(policies: tuple[str, ...], replicas: int, threads: int) -> float:
    """Seconds a replica of a whole run."""
    step = replicas // (4 * threads) if threads > 1 else replicas
    batches = [_batch(policies, first, first + step) for first in range(0, replicas, step)]
    start = perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(simulate_batch, batches):
            pass
    return (perf_counter() - start) / replicas


def _bare(policies: tuple[str, ...], replicas: int) -> float:
    """Seconds a replica in the kernels alone."""
    seconds = 0.0
    workload = workload_of(WORKLOAD)
    rate = workload.rate_in(POOL)
    plans = [make_plan(policy, POOL, GRANULE) for policy in policies]
    for first in range(0, replicas, TOGETHER):
        sources = [Requests(workload, rate, 1, r, REQUESTS) for r in range(first, first + TOGETHER)]
        ordering = Ordering(TOGETHER, 1, np.zeros((TOGETHER, 0), np.int64))
        births = births_of(sources, GRANULE, [(0, 1)])
        stretches = [type(each)(*(field.copy() for field in each)) for each in ordering.stretches(births)]
        for plan in plans:
            simulation = Simulation(plan, TOGETHER, 0, "drop", Switches(metrics=True), workers=1)
            for stretch in stretches:
                events = stretch.events()
                simulation.begin(events, ordering.slots)
                start = perf_counter()
                simulation.advance(events, stretch.counts)
                seconds += perf_counter() - start
    return seconds / replicas


def _plain(replicas: int) -> float:
    """Seconds a replica in plain Python."""
    rate = workload_of(WORKLOAD).rate_in(POOL)
    sizes = WORKLOAD["sizes"]
    start = perf_counter()
    for replica in range(replicas):
        study(POOL // GRANULE, GRANULE, rate, sizes["s"], sizes["scale"], sizes["max"], REQUESTS, replica)
    return (perf_counter() - start) / replicas


def print_table(rows: list[dict[str, Any]]) -> None:
    """The rows, as people read them."""
    print(f"\nMonte Carlo: {POOL // GRANULE:,} granules, {2 * REQUESTS:,} events a replica, all metrics")
    print(f"{'cell':14}{'':14}{'replicas/s':>12}{'M events/s':>12}{'ratio':>8}")
    for row in rows:
        print(
            f"{row['cell']:14}{row['what']:14}{row['replicas_per_second']:12,.0f}"
            f"{row['million_policy_events_per_second']:12.1f}{row['ratio']:8.3f}"
        )
