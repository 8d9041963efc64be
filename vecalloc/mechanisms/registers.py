"""The handful of numbers that every policy keeps about itself, one row a replica.

A policy's state is arrays; what would be its scalar attributes stand in one int64 row, in the same places for every
policy, so that the event loop and the ledger can read them without knowing whose they are. All are in granules unless
they say otherwise. Free space is `LIMIT - GRANTED`.
"""

import numpy as np

NONE = -1
"""What `alloc` returns when no memory is available, and what an index says when it holds nothing that fits."""

TOO_LARGE, CAPACITY, FRAGMENTATION, BUDGET, SWAP_SPACE = 0, 1, 2, 3, 4
"""Why a request failed: an empty pool could not serve it; total free < extent; it would fit if the holes were one; the
pass that could have made them one would have exceeded the budget; no space to roll out who is in the way."""

# --- columns ---

GRANTED = 0
"""Sum of the extents of all live blocks, as granted (what the policy rounded up or left unsplit included)."""

HOLES = 1
"""Number of holes: maximal free runs; for the buddy system free blocks, for static partitions free units."""

LIMIT = 2
"""Where usable space ends: the pool, or in *grow* the end of the highest live block (buddy, static: the grown pool)."""

REACH = 3
"""How far the arrays reach: in *grow* LIMIT may rise to here before the state must be reallocated."""

GROWS = 4
"""1 in *grow*: what does not fit below LIMIT may be placed at LIMIT."""

MIN_SPLIT = 5
"""A remainder smaller than this is granted with the block instead of becoming a hole."""

CARVE_HIGH = 6
"""1: a block is carved off the high end of its hole, 0: off the low end."""

CURSOR = 7
"""next-fit: the end of the last placed block."""

ORDER = 8
"""Buddy: log2 of the pool."""

ORDERS_FREE = 9
"""Buddy: bit o is set when order o has a free block."""

BIG = 10
"""Size index: how many holes are kept in the list of big ones."""

UNITS = 11
"""Static partitions: units below this one have been in use; those from here on never were."""

UNIT = 12
"""Static partitions, equal units: the size of a unit."""

FREED = 13
"""Static partitions, equal units: how many units that have been in use are free."""

LARGEST = 14
"""Size lists: the size of the largest hole, which few events change and every entry in the ledger needs."""

COUNT = 16
"""Length of a row: two cache lines."""


def new_registers(replicas: int) -> np.ndarray:
    """Return zeroed registers, int64 of shape (replicas, COUNT)."""
    return np.zeros((replicas, COUNT), np.int64)
