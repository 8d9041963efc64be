"""The Ledger: what a run writes down, in whole granules, bytes and events; `metrics` divides.

One row a replica. `counts` are exact integers, some of them running values (what is live now) with which the next
stretch of the loop goes on. `integrals` are sums of a value times how long it lasted: with the event index as clock
every event lasts 1 and they are whole numbers, exact and cheap; with times they are the floats that a kernel makes.

*Geometry* is a switch of its own, for questions about where blocks lie; everything in it follows from the address, the
granted extent and the change in the number of holes of each event, so that no policy needs to know of it.
"""

from typing import NamedTuple

import numpy as np

# --- columns of counts ---

ALLOCS, FREES, IGNORED = 0, 1, 2
"""Requests; frees of a live block; frees of a block whose alloc had failed."""

FAILED = 3
"""Failures by cause, one column each from here on: too large, capacity, fragmentation, budget, swap space."""

CAUSES = ("too-large", "capacity", "fragmentation", "budget", "swap-space")
"""The causes by name, in the order of their columns."""

BLOCKS, REQUESTED, LIVE, DEMAND = 8, 9, 10, 11
"""Live now: blocks; their requested bytes; their extents before the policy's own rounding; the same as if every request
had been served."""

LOAD, PEAK_LIVE, PEAK_REQUESTED = 12, 13, 14
"""The largest values of DEMAND, LIVE and REQUESTED so far."""

HIGH_WATER, HIGH_AT_PEAK, REQUESTED_AT_HIGH = 15, 16, 17
"""The highest end of a block so far; what it was when REQUESTED peaked; REQUESTED when it last rose."""

NOW_GRANTED, NOW_HOLES, NOW_LIMIT, NOW_LARGEST = 18, 19, 20, 21
"""The state after the last event: granted granules, holes, end of usable space, largest hole."""

EXACT_FITS, NEIGHBOURS, PLACED_SUM, BOTTOM_TAKEN = 22, 23, 26, 27
"""Geometry: allocs that used a hole up; frees with 0, 1, 2 neighbouring holes (three columns); sum of the addresses of
placed blocks in granules; whether a block starts at 0 now."""

DELAYED, QUEUE, UNSTABLE = 28, 33, 34
"""Requests that wait: how many were not placed on arrival, one column each for those that waited only for others, and
for the causes but *too large* (the cause at the first try as head of the line); how many wait now; 1: the queue passed
its limit, or nothing would ever have made room."""

ALLOCATED, PASSES, BLOCKS_MOVED, MOVED, LONGEST_PASS, PASSES_REFUSED = 35, 36, 37, 38, 39, 40
"""Compaction, where it is set: granules granted so far; passes; blocks and granules that they moved; the most granules
that one moved; passes that would have exceeded the budget."""

SWAPS_IN, SWAPS_OUT, BYTES_IN, BYTES_OUT, COMPLETED = 41, 42, 43, 44, 45
"""Processes: transfers from and to the disk that are done, and their bytes; processes that have finished."""

RETURNS = 46
"""Processes that have been placed again."""

WORKING, IMAGES, IMAGE_BYTES = 47, 48, 49
"""Processes now: how many work; images on the swap space, and their bytes."""

COUNTS = 56

# --- columns of integrals ---

(
    DURATION,
    I_REQUESTED,
    I_LIVE,
    I_GRANTED,
    I_LIMIT,
    I_LARGEST,
    I_HOLES,
    I_BLOCKS,
    I_HIGH_WATER,
    I_TOP,
    I_ENDS,
    I_QUEUE,
    I_WORKING,
    I_IMAGES,
    I_BUSY,
    WAITED,
    WAITED_AGAIN,
    SLOWDOWN,
    SLOWDOWN_P99,
    WAITED_P99,
) = range(20)
"""Integrals over time; I_TOP and I_ENDS are geometry. Of processes: integrals of WORKING, of IMAGES, of whether the
disk is busy; sums of the time from arrival to placement, of the time from the end of an idle phase to the next
placement, and of slow-downs of those that have finished; 99th percentiles of slow-downs and of times from arrival to
placement, which are no sums and are entered at the end."""

INTEGRALS = 24

# --- the columns by name, for tables ---

COUNT_NAMES = (
    "allocs", "frees", "ignored_frees", "too_large", "capacity", "fragmentation", "budget", "swap_space",
    "blocks", "requested", "live", "demand", "load", "peak_live", "peak_requested",
    "high_water", "high_at_peak", "requested_at_high", "now_granted", "now_holes", "now_limit", "now_largest",
    "exact_fits", "neighbours_0", "neighbours_1", "neighbours_2", "placed_sum", "bottom_taken",
    "delayed_queue", "delayed_capacity", "delayed_fragmentation", "delayed_budget", "delayed_swap_space", "queue",
    "unstable", "allocated", "passes", "blocks_moved", "moved", "longest_pass", "passes_refused",
    "swaps_in", "swaps_out", "bytes_in", "bytes_out", "completed", "returns", "working", "images", "image_bytes",
)  # fmt: skip

INTEGRAL_NAMES = (
    "duration", "time_requested", "time_live", "time_granted", "time_limit", "time_largest", "time_holes",
    "time_blocks", "time_high_water", "time_top", "time_ends", "time_queue", "time_working", "time_images",
    "time_busy", "waited", "waited_again", "slowdown", "slowdown_p99",
    "waited_p99",
)  # fmt: skip

ADDS_UP = np.zeros(COUNTS, bool)
"""Which counts are sums over events: what happened before a warm-up ends can be taken off them. The others are states
and peaks."""
ADDS_UP[[*range(ALLOCS, BLOCKS), *range(EXACT_FITS, BOTTOM_TAKEN), *range(DELAYED, QUEUE)]] = True
ADDS_UP[[ALLOCATED, PASSES, BLOCKS_MOVED, MOVED, PASSES_REFUSED, *range(SWAPS_IN, WORKING)]] = True

# --- geometry of the buddy system: columns of `orders` ---

ORDERS = 34


class Orders(NamedTuple):
    """Geometry of the buddy system, one row a replica.

    Attributes
    ----------
    passed_up : int64 (replicas, ORDERS)
        Requests that found an order empty and went up.
    half_used : int64 (replicas, ORDERS)
        Free blocks of each order now: a free block's buddy is in use, or they would have merged.
    half_used_integral : float64 (replicas, ORDERS)
        Of the orders below the pool's own: a wholly free pool is no half of a pair.
    """

    passed_up: np.ndarray
    half_used: np.ndarray
    half_used_integral: np.ndarray


class Geometry(NamedTuple):
    """Where blocks lie, one row a replica.

    Attributes
    ----------
    ends : int64 (replicas, words), ends_table : int64
        A 64-ary bitset of the ends of live blocks, whose last member is the top.
    histogram : int64 (replicas, bins)
        Placed blocks by address, bins of equal width over the pool (the last one takes what is beyond).
    orders : Orders or None
        Of the buddy system only.
    """

    ends: np.ndarray
    ends_table: np.ndarray
    histogram: np.ndarray
    orders: Orders | None


class Ledger(NamedTuple):
    """What has been written down, one row a replica.

    Attributes
    ----------
    counts : int64 (replicas, COUNTS)
    integrals : int64 or float64 (replicas, INTEGRALS)
        Whole numbers while the event index is the clock.
    scatter : float64 (replicas,)
        Sum over events of 1 - largest hole / total free.
    places : int64 (replicas, slots)
        Where the block of each slot is, in granules; -1 if its alloc failed.
    addresses : int64 (replicas, allocs) or (replicas, 0)
        The address of each alloc of the current chunk in granules, -1 for a failure; empty if nobody asked.
    geometry : Geometry or None
        None: nobody asked, and the kernel is compiled without it.
    """

    counts: np.ndarray
    integrals: np.ndarray
    scatter: np.ndarray
    places: np.ndarray
    addresses: np.ndarray
    geometry: Geometry | None


def new_ledger(replicas: int, slots: int) -> Ledger:
    """Return an empty ledger without geometry."""
    return Ledger(
        counts=np.zeros((replicas, COUNTS), np.int64),
        integrals=np.zeros((replicas, INTEGRALS), np.int64),
        scatter=np.zeros(replicas, np.float64),
        places=np.full((replicas, slots), -1, np.int64),
        addresses=np.zeros((replicas, 0), np.int64),
        geometry=None,
    )


def new_orders(replicas: int) -> Orders:
    """Return empty counts of buddies."""
    return Orders(
        np.zeros((replicas, ORDERS), np.int64),
        np.zeros((replicas, ORDERS), np.int64),
        np.zeros((replicas, ORDERS), np.float64),
    )
