"""Ledger -> named quantities: one definition a function, each with its source.

Kernels count whole granules and whole events; here they are divided. Every quantity is a ratio, and is given as the
two numbers of each replica, *part* and *whole*: over replicas a ratio is a ratio of sums (0 where there is nothing to
divide by), and its interval needs both. What is no ratio by itself is a mean over replicas: its whole is 1.

A quantity is an average over *time* (what a moment picked at random sees: integrals over integrals) unless its name
says `_events` (what an event picked at random sees). With the event index as clock every event lasts one unit of time,
and the two differ only in that the first is a ratio of averages and the second an average of ratios.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecalloc import ledger as c
from vecalloc.errors import InputError
from vecalloc.ledger import Ledger
from vecalloc.reclaim.table import Compact, Remedy, Swap

Pair = tuple[NDArray[Any], NDArray[Any]]
"""Part and whole of each replica."""


@dataclass(frozen=True, eq=False)
class Account:
    """What some replicas wrote down, and what it takes to turn granules into bytes.

    Attributes
    ----------
    counts : int64 (replicas, COUNTS)
    integrals : int64 or float64 (replicas, INTEGRALS)
    scatter : float64 (replicas,)
        Sum over events of 1 - largest hole / total free.
    granule : int
        Bytes.
    pool : int
        Granules of one pool.
    grows : bool
        Whether the pool grew with its blocks.
    remedies : tuple of Remedy
        What was tried before a request failed or waited.
    """

    counts: NDArray[np.int64]
    integrals: NDArray[Any]
    scatter: NDArray[np.float64]
    granule: int
    pool: int
    grows: bool
    remedies: tuple[Remedy, ...] = ()

    @classmethod
    def of(cls, ledger: Ledger, granule: int, pool: int, grows: bool, remedies: tuple[Remedy, ...] = ()) -> "Account":
        """The account of a ledger."""
        return cls(ledger.counts, ledger.integrals, ledger.scatter, granule, pool, grows, remedies)

    def count(self, column: int) -> NDArray[np.int64]:
        """A column of counts."""
        return self.counts[:, column]

    def integral(self, column: int) -> NDArray[np.float64]:
        """A column of integrals."""
        return self.integrals[:, column].astype(np.float64)

    def each(self, values: NDArray[Any]) -> Pair:
        """A mean over replicas."""
        return values, np.ones(len(values), np.int64)

    def moving(self, column: int) -> NDArray[np.float64]:
        """Seconds that it takes to move the granules in a column of counts."""
        bandwidth = next((remedy.bandwidth for remedy in self.remedies if isinstance(remedy, Compact)), np.inf)
        return self.count(column) * self.granule / bandwidth


def ratio_of_sums(pair: Pair) -> float:
    """Part over whole, summed over replicas; 0 where there is nothing to divide by."""
    part, whole = float(pair[0].sum()), float(pair[1].sum())
    return part / whole if whole else 0.0


_CAUSED_BY = {"budget": Compact.kind, "swap-space": Swap.kind}
"""Causes that only a remedy has."""


def failures(a: Account) -> dict[str, int]:
    """Requests that were not served, by cause; *budget* and *swap-space* where a remedy is set that can have them."""
    there = {remedy.kind for remedy in a.remedies}
    causes = [(k, cause) for k, cause in enumerate(c.CAUSES) if _CAUSED_BY.get(cause) in there | {None}]
    return {cause: int(a.count(c.FAILED + k).sum()) for k, cause in causes}


def allocs(a: Account) -> Pair:
    """Requests, served or not."""
    return a.each(a.count(c.ALLOCS))


def frees(a: Account) -> Pair:
    """Frees, those of blocks that were never granted included."""
    return a.each(a.count(c.FREES))


def ignored_frees(a: Account) -> Pair:
    """Frees of a block whose alloc had failed."""
    return a.each(a.count(c.IGNORED))


def failure_ratio(a: Account) -> Pair:
    """Failed requests over requests."""
    return a.counts[:, c.FAILED : c.FAILED + len(c.CAUSES)].sum(axis=1), a.count(c.ALLOCS)


def too_large_ratio(a: Account) -> Pair:
    """Requests that an empty pool could not have served, over requests."""
    return a.count(c.FAILED), a.count(c.ALLOCS)


def capacity_ratio(a: Account) -> Pair:
    """Requests for which less was free in total than they needed, over requests."""
    return a.count(c.FAILED + 1), a.count(c.ALLOCS)


def fragmentation_ratio(a: Account) -> Pair:
    """Requests that would have fitted if the holes had been one, over requests."""
    return a.count(c.FAILED + 2), a.count(c.ALLOCS)


def budget_ratio(a: Account) -> Pair:
    """Requests that would have fitted if the holes had been one, and no budget was left to join them, over requests.

    Where requests wait, those for which that was the cause when they were first in line and did not fit.
    """
    return a.count(c.FAILED + 3) + a.count(c.DELAYED + 3), a.count(c.ALLOCS) + a.count(c.RETURNS)


def swap_space_ratio(a: Account) -> Pair:
    """Requests for which nobody could be rolled out for want of swap space, over requests, returns included.

    They wait: what counts is the cause when they were first in line and did not fit.
    """
    return a.count(c.DELAYED + 4), a.count(c.ALLOCS) + a.count(c.RETURNS)


def delayed_ratio(a: Account) -> Pair:
    """Requests that were not placed on arrival but waited, over requests."""
    delayed, requests = a.counts[:, c.DELAYED : c.QUEUE].sum(axis=1), a.count(c.ALLOCS) + a.count(c.RETURNS)
    return np.minimum(delayed, requests), requests  # an unstable replica ends with one delayed that is no request yet


def queue(a: Account) -> Pair:
    """Requests that wait, time average."""
    return a.integral(c.I_QUEUE), a.integral(c.DURATION)


def wait(a: Account) -> Pair:
    """How long a request waits on average, by Little's law: time that all spend in the queue, over requests.

    Of processes, each return is a request too; `waiting_time` and `returning_time` tell them apart.
    """
    return a.integral(c.I_QUEUE), a.count(c.ALLOCS) + a.count(c.RETURNS)


def peak_live(a: Account) -> Pair:
    """LOAD: the most bytes of extents that would live at once if every request were served.

    Extents before a policy's own rounding (powers of two, units): one number for all policies, and no pool can do with
    less.
    """
    return a.each(a.count(c.LOAD) * a.granule)


def peak_placed(a: Account) -> Pair:
    """The most bytes of extents (before the policy's own rounding) that did live at once."""
    return a.each(a.count(c.PEAK_LIVE) * a.granule)


def high_water_mark(a: Account) -> Pair:
    """The highest end of a block, in bytes."""
    return a.each(a.count(c.HIGH_WATER) * a.granule)


def overhead(a: Account) -> Pair:
    """High-water mark over peak live (LOAD): how much more than the least possible was reached for."""
    return a.count(c.HIGH_WATER), a.count(c.LOAD)


def internal_fragmentation(a: Account) -> Pair:
    """1 - requested / granted over live blocks, time average (Randell 1969: loss inside blocks)."""
    granted = a.integral(c.I_GRANTED) * a.granule
    return granted - a.integral(c.I_REQUESTED), granted


def external_fragmentation(a: Account) -> Pair:
    """1 - largest hole / total free, time average: 1 - (integral of largest / integral of free); 0 when full."""
    free = a.integral(c.I_LIMIT) - a.integral(c.I_GRANTED)
    return free - a.integral(c.I_LARGEST), free


def external_fragmentation_events(a: Account) -> Pair:
    """1 - largest hole / total free, averaged over events (0 when the pool is full)."""
    return a.scatter, a.count(c.ALLOCS) + a.count(c.FREES)


def utilisation(a: Account) -> Pair:
    """Requested bytes over the pool, time average; in *grow* over the end of the highest block (the grown pool)."""
    space = a.integral(c.I_LIMIT) if a.grows else a.pool * a.integral(c.DURATION)
    return a.integral(c.I_REQUESTED), space * a.granule


def holes(a: Account) -> Pair:
    """Number of holes, time average."""
    return a.integral(c.I_HOLES), a.integral(c.DURATION)


def blocks(a: Account) -> Pair:
    """Number of live blocks, time average."""
    return a.integral(c.I_BLOCKS), a.integral(c.DURATION)


def holes_per_block(a: Account) -> Pair:
    """Holes over live blocks, ratio of time averages (Knuth's fifty-percent rule predicts about a half)."""
    return a.integral(c.I_HOLES), a.integral(c.I_BLOCKS)


def johnstone_wilson_1(a: Account) -> Pair:
    """Memory used over memory requested, averaged over time (Johnstone and Wilson 1998, measure 1).

    Memory used is the high-water mark so far: memory once obtained is not returned. All four measures are given as the
    excess over 1.
    """
    return a.integral(c.I_HIGH_WATER) * a.granule - a.integral(c.I_REQUESTED), a.integral(c.I_REQUESTED)


def johnstone_wilson_2(a: Account) -> Pair:
    """Memory used at the moment of most memory requested, over that (Johnstone and Wilson 1998, measure 2)."""
    return a.count(c.HIGH_AT_PEAK) * a.granule - a.count(c.PEAK_REQUESTED), a.count(c.PEAK_REQUESTED)


def johnstone_wilson_3(a: Account) -> Pair:
    """Most memory used, over memory requested at that moment (Johnstone and Wilson 1998, measure 3)."""
    return a.count(c.HIGH_WATER) * a.granule - a.count(c.REQUESTED_AT_HIGH), a.count(c.REQUESTED_AT_HIGH)


def johnstone_wilson_4(a: Account) -> Pair:
    """Most memory used over most memory requested, not at the same moment (Johnstone and Wilson 1998, measure 4)."""
    return a.count(c.HIGH_WATER) * a.granule - a.count(c.PEAK_REQUESTED), a.count(c.PEAK_REQUESTED)


def passes_ratio(a: Account) -> Pair:
    """Passes of compaction that moved something, over requests; may exceed 1 where they do not wait for failures."""
    return a.count(c.PASSES), a.count(c.ALLOCS)


def refused_ratio(a: Account) -> Pair:
    """Passes that the budget forbade, over all that were due and would have moved something."""
    return a.count(c.PASSES_REFUSED), a.count(c.PASSES) + a.count(c.PASSES_REFUSED)


def moved_ratio(a: Account) -> Pair:
    """Granules moved over granules allocated (the 1/c of c-partial compaction: Bendersky and Petrank 2012).

    A budget of c holds it to 1/c over a replica from its very beginning, not after a warm-up that moved less.
    """
    return a.count(c.MOVED), a.count(c.ALLOCATED)


def blocks_moved_ratio(a: Account) -> Pair:
    """Blocks moved over requests; a block counts as often as it moves."""
    return a.count(c.BLOCKS_MOVED), a.count(c.ALLOCS)


def moving_time(a: Account) -> Pair:
    """Seconds of moving blocks for each request: bytes moved over the memory's bandwidth, over requests."""
    return a.moving(c.MOVED), a.count(c.ALLOCS)


def longest_pass(a: Account) -> Pair:
    """The most bytes that one pass moved: a peak, so that passes in the warm-up count too."""
    return a.each(a.count(c.LONGEST_PASS) * a.granule)


def longest_pause(a: Account) -> Pair:
    """Seconds of the longest pass: its bytes over the memory's bandwidth; as a peak it includes the warm-up."""
    return a.each(a.moving(c.LONGEST_PASS))


def live_requested(a: Account) -> Pair:
    """Bytes requested by the blocks that live now."""
    return a.each(a.count(c.REQUESTED))


def granted_now(a: Account) -> Pair:
    """Bytes granted to the blocks that live now."""
    return a.each(a.count(c.NOW_GRANTED) * a.granule)


def free_now(a: Account) -> Pair:
    """Bytes free now."""
    return a.each((a.count(c.NOW_LIMIT) - a.count(c.NOW_GRANTED)) * a.granule)


def largest_now(a: Account) -> Pair:
    """Bytes of the largest hole now."""
    return a.each(a.count(c.NOW_LARGEST) * a.granule)


def holes_now(a: Account) -> Pair:
    """Number of holes now."""
    return a.each(a.count(c.NOW_HOLES))


def blocks_now(a: Account) -> Pair:
    """Number of live blocks now."""
    return a.each(a.count(c.BLOCKS))


def throughput(a: Account) -> Pair:
    """Processes that finish in a unit of time."""
    return a.count(c.COMPLETED), a.integral(c.DURATION)


def working(a: Account) -> Pair:
    """Processes that work, time average: active and in memory."""
    return a.integral(c.I_WORKING), a.integral(c.DURATION)


def slowdown(a: Account) -> Pair:
    """Time from arrival to end over the time it takes without any waiting, averaged over processes that finish."""
    return a.integral(c.SLOWDOWN), a.count(c.COMPLETED)


def slowdown_p99(a: Account) -> Pair:
    """The 99th percentile of slow-downs of a replica, to 1 %; a mean over replicas."""
    return a.each(a.integral(c.SLOWDOWN_P99))


def waiting_time(a: Account) -> Pair:
    """Time from the arrival of a process to its first placement, averaged over processes that are placed."""
    return a.integral(c.WAITED), a.count(c.ALLOCS) - a.count(c.FAILED)


def waiting_time_p99(a: Account) -> Pair:
    """The 99th percentile of that time in a replica, to 1 %; a mean over replicas."""
    return a.each(a.integral(c.WAITED_P99))


def returning_time(a: Account) -> Pair:
    """Time from the end of an idle phase on the disk to the next placement, averaged over returns."""
    return a.integral(c.WAITED_AGAIN), a.count(c.RETURNS)


def swaps_in(a: Account) -> Pair:
    """Transfers from the disk, for each process that arrives."""
    return a.count(c.SWAPS_IN), a.count(c.ALLOCS)


def swaps_out(a: Account) -> Pair:
    """Transfers to the disk, for each process that arrives."""
    return a.count(c.SWAPS_OUT), a.count(c.ALLOCS)


def swapped_bytes(a: Account) -> Pair:
    """Bytes to and from the disk in a unit of time."""
    return a.count(c.BYTES_IN) + a.count(c.BYTES_OUT), a.integral(c.DURATION)


def disk_utilisation(a: Account) -> Pair:
    """Share of the time in which the disk is busy."""
    return a.integral(c.I_BUSY), a.integral(c.DURATION)


def images(a: Account) -> Pair:
    """Processes that take swap space, time average."""
    return a.integral(c.I_IMAGES), a.integral(c.DURATION)


METRICS: dict[str, Callable[[Account], Pair]] = {
    f.__name__: f
    for f in (
        allocs, frees, ignored_frees, failure_ratio, too_large_ratio, capacity_ratio, fragmentation_ratio,
        budget_ratio, swap_space_ratio, delayed_ratio, queue, wait, peak_live, peak_placed, high_water_mark, overhead,
        internal_fragmentation, external_fragmentation, external_fragmentation_events, utilisation,
        holes, blocks, holes_per_block,
        johnstone_wilson_1, johnstone_wilson_2, johnstone_wilson_3, johnstone_wilson_4,
        passes_ratio, refused_ratio, moved_ratio, blocks_moved_ratio, moving_time, longest_pass, longest_pause,
        throughput, working, slowdown, slowdown_p99, waiting_time, waiting_time_p99,
        returning_time, swaps_in, swaps_out, swapped_bytes, disk_utilisation, images,
        live_requested, granted_now, free_now, largest_now, holes_now, blocks_now,
    )
}  # fmt: skip

COUNTS_OF_EVENTS = frozenset(
    (
        "failure_ratio", "too_large_ratio", "capacity_ratio", "fragmentation_ratio", "budget_ratio", "swap_space_ratio",
        "delayed_ratio", "refused_ratio",
    )
)  # fmt: skip
"""Metrics whose part counts some of the events that their whole counts: seen rarely, they need an exact interval."""


OF_PROCESSES = frozenset(
    {
        "throughput", "working", "slowdown", "slowdown_p99", "waiting_time", "waiting_time_p99",
        "returning_time", "swaps_in", "swaps_out", "swapped_bytes", "disk_utilisation", "images",
    }
)  # fmt: skip
"""Metrics that say something of processes only, not of bare blocks."""


def measure(account: Account) -> dict[str, float]:
    """Every metric of blocks by name, over all replicas."""
    return {name: ratio_of_sums(metric(account)) for name, metric in METRICS.items() if name not in OF_PROCESSES}


def geometry(ledger: Ledger, replica: int, granule: int) -> dict[str, object]:
    """What the geometry switch wrote down for one replica.

    Returns
    -------
    dict
        exact_fits, allocs that used a hole up (not of interest for a static partition); ends, the mean number of pool
        ends that touch a hole; top, the mean end of the highest live block in bytes; placed_sum, sum of addresses in
        bytes; histogram of placed addresses. But for the buddy system frees_by_neighbours, three counts (frees that
        merged with 0, 1, 2 holes); for the buddy system passed_up, requests of each order that went up, and half_used,
        the mean number of half-used pairs of each order (Purdom and Stigler 1970).

    Raises
    ------
    InputError
        If geometry was not asked for.
    """
    where = ledger.geometry
    if where is None:
        raise InputError("geometry was not asked for: replay with geometry=True")
    counts, integrals = ledger.counts[replica], ledger.integrals[replica]
    duration = integrals[c.DURATION]
    common = {
        "exact_fits": int(counts[c.EXACT_FITS]),
        "ends": _share(integrals[c.I_ENDS], duration),
        "top": _share(integrals[c.I_TOP], duration) * granule,
        "placed_sum": int(counts[c.PLACED_SUM]) * granule,
        "histogram": where.histogram[replica].tolist(),
    }
    if where.orders is None:
        return common | {"frees_by_neighbours": counts[c.NEIGHBOURS : c.NEIGHBOURS + 3].tolist()}
    return common | {
        "passed_up": where.orders.passed_up[replica].tolist(),
        "half_used": [_share(x, duration) for x in where.orders.half_used_integral[replica]],
    }


def _share(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else 0.0
