"""Ledger -> named quantities: one definition a function, each with its source.

Kernels count whole granules and whole events; here they are divided. A quantity is an average over *time* (what a
moment picked at random sees: integrals over integrals) unless its name says `_events` (what an event picked at random
sees). With the event index as clock every event lasts one unit of time, and the two differ only in that the first is a
ratio of averages and the second an average of ratios. Over replicas, ratios are ratios of sums.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vecalloc import ledger as c
from vecalloc.errors import InputError
from vecalloc.ledger import Ledger


@dataclass(frozen=True)
class Account:
    """A ledger's sums over its replicas, and what it takes to turn granules into bytes.

    Attributes
    ----------
    counts, integrals : arrays
        One row, the columns of the ledger summed over replicas.
    scatter : float
        Sum over events of 1 - largest hole / total free.
    granule : int
        Bytes.
    pool : int
        Granules of one pool.
    grows : bool
        Whether the pool grew with its blocks.
    replicas : int
    """

    counts: np.ndarray
    integrals: np.ndarray
    scatter: float
    granule: int
    pool: int
    grows: bool
    replicas: int = 1

    @classmethod
    def of(cls, ledger: Ledger, granule: int, pool: int, grows: bool) -> "Account":
        """Sum a ledger over its replicas."""
        integrals = ledger.integrals.sum(axis=0, dtype=np.float64)
        scatter = float(ledger.scatter.sum())
        return cls(ledger.counts.sum(axis=0), integrals, scatter, granule, pool, grows, len(ledger.counts))


def _ratio(part: float, whole: float) -> float:
    """part / whole, 0 where there is nothing to divide by."""
    return float(part) / float(whole) if whole else 0.0


def failures(a: Account) -> dict[str, int]:
    """Requests that were not served, by cause (design vocabulary: too-large, capacity, fragmentation)."""
    return {cause: int(a.counts[c.FAILED + k]) for k, cause in enumerate(("too-large", "capacity", "fragmentation"))}


def allocs(a: Account) -> int:
    """Requests, served or not."""
    return int(a.counts[c.ALLOCS])


def frees(a: Account) -> int:
    """Frees, those of blocks that were never granted included."""
    return int(a.counts[c.FREES])


def ignored_frees(a: Account) -> int:
    """Frees of a block whose alloc had failed."""
    return int(a.counts[c.IGNORED])


def failure_ratio(a: Account) -> float:
    """Failed requests over requests."""
    return _ratio(sum(failures(a).values()), allocs(a))


def peak_live(a: Account) -> float:
    """LOAD: the most bytes of extents that would live at once if every request were served.

    Extents before a policy's own rounding (powers of two, units): one number for all policies, and no pool can do with
    less.
    """
    return float(a.counts[c.LOAD]) * a.granule / a.replicas


def peak_placed(a: Account) -> float:
    """The most bytes of extents (before the policy's own rounding) that did live at once."""
    return float(a.counts[c.PEAK_LIVE]) * a.granule / a.replicas


def high_water_mark(a: Account) -> float:
    """The highest end of a block, in bytes."""
    return float(a.counts[c.HIGH_WATER]) * a.granule / a.replicas


def overhead(a: Account) -> float:
    """High-water mark over peak live (LOAD): how much more than the least possible was reached for."""
    return _ratio(a.counts[c.HIGH_WATER], a.counts[c.LOAD])


def internal_fragmentation(a: Account) -> float:
    """1 - requested / granted over live blocks, time average (Randell 1969: loss inside blocks)."""
    granted = a.integrals[c.I_GRANTED] * a.granule
    return float(1.0 - a.integrals[c.I_REQUESTED] / granted) if granted else 0.0


def external_fragmentation(a: Account) -> float:
    """1 - largest hole / total free, time average: 1 - (integral of largest / integral of free); 0 when full."""
    free = a.integrals[c.I_LIMIT] - a.integrals[c.I_GRANTED]
    return float(1.0 - a.integrals[c.I_LARGEST] / free) if free else 0.0


def external_fragmentation_events(a: Account) -> float:
    """1 - largest hole / total free, averaged over events (0 when the pool is full)."""
    return _ratio(a.scatter, a.counts[c.ALLOCS] + a.counts[c.FREES])


def utilisation(a: Account) -> float:
    """Requested bytes over the pool, time average; in *grow* over the end of the highest block (the grown pool)."""
    space = a.integrals[c.I_LIMIT] if a.grows else a.pool * a.integrals[c.DURATION]
    return _ratio(a.integrals[c.I_REQUESTED], space * a.granule)


def holes(a: Account) -> float:
    """Number of holes, time average."""
    return _ratio(a.integrals[c.I_HOLES], a.integrals[c.DURATION])


def blocks(a: Account) -> float:
    """Number of live blocks, time average."""
    return _ratio(a.integrals[c.I_BLOCKS], a.integrals[c.DURATION])


def holes_per_block(a: Account) -> float:
    """Holes over live blocks, ratio of time averages (Knuth's fifty-percent rule predicts about a half)."""
    return _ratio(a.integrals[c.I_HOLES], a.integrals[c.I_BLOCKS])


def johnstone_wilson_1(a: Account) -> float:
    """Memory used over memory requested, averaged over time (Johnstone and Wilson 1998, measure 1).

    Memory used is the high-water mark so far: memory once obtained is not returned. All four measures are given as the
    excess over 1.
    """
    return _ratio(a.integrals[c.I_HIGH_WATER] * a.granule, a.integrals[c.I_REQUESTED]) - 1.0


def johnstone_wilson_2(a: Account) -> float:
    """Memory used at the moment of most memory requested, over that (Johnstone and Wilson 1998, measure 2)."""
    return _ratio(a.counts[c.HIGH_AT_PEAK] * a.granule, a.counts[c.PEAK_REQUESTED]) - 1.0


def johnstone_wilson_3(a: Account) -> float:
    """Most memory used, over memory requested at that moment (Johnstone and Wilson 1998, measure 3)."""
    return _ratio(a.counts[c.HIGH_WATER] * a.granule, a.counts[c.REQUESTED_AT_HIGH]) - 1.0


def johnstone_wilson_4(a: Account) -> float:
    """Most memory used over most memory requested, not at the same moment (Johnstone and Wilson 1998, measure 4)."""
    return _ratio(a.counts[c.HIGH_WATER] * a.granule, a.counts[c.PEAK_REQUESTED]) - 1.0


def live_requested(a: Account) -> float:
    """Bytes requested by the blocks that live now."""
    return float(a.counts[c.REQUESTED]) / a.replicas


def granted_now(a: Account) -> float:
    """Bytes granted to the blocks that live now."""
    return float(a.counts[c.NOW_GRANTED]) * a.granule / a.replicas


def free_now(a: Account) -> float:
    """Bytes free now."""
    return float(a.counts[c.NOW_LIMIT] - a.counts[c.NOW_GRANTED]) * a.granule / a.replicas


def largest_now(a: Account) -> float:
    """Bytes of the largest hole now."""
    return float(a.counts[c.NOW_LARGEST]) * a.granule / a.replicas


def holes_now(a: Account) -> float:
    """Number of holes now."""
    return float(a.counts[c.NOW_HOLES]) / a.replicas


def blocks_now(a: Account) -> float:
    """Number of live blocks now."""
    return float(a.counts[c.BLOCKS]) / a.replicas


METRICS: dict[str, Callable[[Account], float]] = {
    f.__name__: f
    for f in (
        allocs, frees, ignored_frees, failure_ratio, peak_live, peak_placed, high_water_mark, overhead,
        internal_fragmentation, external_fragmentation, external_fragmentation_events, utilisation,
        holes, blocks, holes_per_block,
        johnstone_wilson_1, johnstone_wilson_2, johnstone_wilson_3, johnstone_wilson_4,
        live_requested, granted_now, free_now, largest_now, holes_now, blocks_now,
    )
}  # fmt: skip


def measure(account: Account) -> dict[str, float]:
    """Every metric by name."""
    return {name: metric(account) for name, metric in METRICS.items()}


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
        "ends": _ratio(integrals[c.I_ENDS], duration),
        "top": _ratio(integrals[c.I_TOP], duration) * granule,
        "placed_sum": int(counts[c.PLACED_SUM]) * granule,
        "histogram": where.histogram[replica].tolist(),
    }
    if where.orders is None:
        return common | {"frees_by_neighbours": counts[c.NEIGHBOURS : c.NEIGHBOURS + 3].tolist()}
    return common | {
        "passed_up": where.orders.passed_up[replica].tolist(),
        "half_used": [_ratio(x, duration) for x in where.orders.half_used_integral[replica]],
    }
