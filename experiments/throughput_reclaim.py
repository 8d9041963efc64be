"""How fast blocks move and processes are swapped: a part of throughput.py.

    slide, two-finger       one pass over a pool of 2^24 granules, about 740,000 blocks and 185,000 holes of best-fit
    first-window            the search for the cheapest window among a million blocks and holes of such a pool
    processes               ten phases each, in a pool with room for all, and in one where most are swapped all the time

A pass is timed twice: by itself, and with what the policy's index has to learn. An event of a process is a placement,
the end of a phase, a transfer that is done, or its end. One core; medians over rounds.
"""

from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np

from vecalloc import ledger as c
from vecalloc.reclaim.compactor import Compactor
from vecalloc.reclaim.table import Compact, Swap
from vecalloc.simulate import Simulation, Switches
from vecalloc.spec import make_plan
from vecalloc.swapping import Swapping
from vecalloc.trace import Events
from vecalloc.workload import workload_of
from vecalloc.workload.processes import Newcomers, Processes

GRANULES = 1 << 24
PASSES = {"slide": (16.8, 0.75), "two-finger": (16.8, 0.75), "first-window": (12.6, 0.5)}
"""Mean granules a block, and the share of blocks that stay while the others are freed at random."""

WORKLOAD = {
    "sizes": {"dist": "lognorm", "s": 1.0, "scale": 128, "max": 1024, "bounds": "clip"},
    "work": {"dist": "expon", "scale": 10},
    "active": {"dist": "expon"},
    "idle": {"dist": "expon", "scale": 4},
}
POOL, COUNT = 1 << 16, 20_000


def measure(rounds: int) -> list[dict[str, Any]]:
    """Rows of the table."""
    rows = []
    for how in PASSES:
        times = np.array([_pass(how, k) for k in range(rounds + 1)][1:])  # the first one compiles
        for what, seconds in zip(("pass", "pass and index"), np.median(times[:, :2], axis=0).tolist(), strict=True):
            rows.append(
                {
                    "what": how,
                    "part": what,
                    "milliseconds": 1e3 * seconds,
                    "million_per_second": GRANULES / seconds / 1e6,
                    "unit": "granules of the pool",
                    "regions": int(times[0, 2]),
                }
            )
    for load, victim in ((0.1, None), (0.4, None), (0.4, "lru"), (0.4, "random"), (0.4, "smallest-sufficient")):
        times = np.array([_processes(load, victim) for _ in range(rounds + 1)][1:])
        seconds, events = np.median(times[:, 0]), times[0, 1]
        rows.append(
            {
                "what": f"processes at load {load}",
                "part": f"swapped, {victim}" if victim else "not swapped",
                "milliseconds": 1e3 * seconds,
                "million_per_second": events / seconds / 1e6,
                "unit": "events",
                "regions": None,
            }
        )
    return rows


_NO_INDEX: Any = SimpleNamespace(reindex=lambda *_: None)
"""In the place of a policy: what its index has to learn is timed apart."""


def _pass(how: str, seed: int) -> tuple[float, float, int]:
    """Seconds of a pass by itself and with the index, and how many blocks and holes there were."""
    mean, stay = PASSES[how]
    rng = np.random.default_rng(seed)
    extents = rng.geometric(1 / mean, int(1.1 * GRANULES / mean))
    extents = extents[: np.searchsorted(np.cumsum(extents), GRANULES)]  # blocks up to the end of the pool
    n = len(extents)
    freed = np.flatnonzero(rng.random(n) > stay)
    slots = np.concatenate([np.arange(n), freed]).astype(np.int32)[None]
    granules = np.concatenate([extents, -extents[freed]])[None]
    compactor = Compactor(Compact(how=how), 1, n)
    simulation = Simulation(make_plan("best-fit", GRANULES, 1), 1, n, "drop", Switches(False), 1, compactor)
    simulation.step(Events(slots, granules, granules, None))
    holes = simulation.holes()
    wanted = np.array([int(holes[:, 1].max()) * 4])
    which, start = np.zeros(1, np.int64), perf_counter()
    compactor.compact(_NO_INDEX, simulation.state, simulation.ledger, which, wanted)
    middle = perf_counter()
    simulation.policy.reindex(simulation.state, compactor.changes)
    assert simulation.ledger.counts[0, c.PASSES] == 1
    return middle - start, perf_counter() - start, n - len(freed) + len(holes)


class _Ready:
    """Processes that have been drawn before the clock starts."""

    def __init__(self, source: Processes, count: int):
        self._chunks: list[Newcomers] = []
        while sum(len(chunk.size) for chunk in self._chunks) < count:
            self._chunks.append(source.next_processes())
        self.phases = sum(len(chunk.active) for chunk in self._chunks)
        self.next_arrivals, self.next_words = source.next_arrivals, source.next_words
        self.next_processes = iter(self._chunks).__next__


def _processes(load: float, victim: str | None) -> tuple[float, int]:
    """Seconds of a run, drawing left out, and its events."""
    workload = workload_of(WORKLOAD | {"load": load})
    rate = workload.rate_in(POOL)
    source = _Ready(Processes(workload, rate, 1, 0, COUNT), COUNT)
    remedies = (Swap(victim, latency=1e-4, bandwidth=1e7),) if victim else ()
    swapping = Swapping(make_plan("best-fit", POOL, 16), [source], remedies, rate, 1 << 20)
    start = perf_counter()
    swapping.run_until(COUNT)
    seconds = perf_counter() - start
    counts = swapping.ledger.counts[0]
    done = counts[c.COMPLETED] / counts[c.ALLOCS]  # of the phases those of the processes that have finished, roughly
    transfers = counts[c.SWAPS_IN] + counts[c.SWAPS_OUT] + counts[c.RETURNS]
    return seconds, int(2 * source.phases * done + counts[c.ALLOCS] + transfers)


def print_table(rows: list[dict[str, Any]]) -> None:
    """The rows, as people read them."""
    print(f"\nReclaim: passes over {GRANULES:,} granules, processes in {POOL:,} bytes, one core")
    for row in rows:
        regions = f"  {row['regions']:,} blocks and holes" if row["regions"] else ""
        print(
            f"{row['what']:24}{row['part']:30}{row['milliseconds']:10.1f} ms"
            f"{row['million_per_second']:10.1f} M {row['unit']}/s{regions}"
        )
