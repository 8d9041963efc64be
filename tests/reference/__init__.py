"""Naive allocators, too slow to be wrong: each says in plain Python lists what section 4 of the design says in words.

All sizes and addresses are granules, all options too. They import nothing of vecalloc and share nothing with it.

    r = REFERENCES["best-fit"](granules, grows=False, ties="lifo")
    r.alloc(extent)     start, or None          r.free(start)       of a live block
    r.holes()           [(start, size), ...] in address order (buddy: free blocks; static: free units)
    r.blocks            {start: granted}        r.limit             the pool's end
    r.cause(extent)     why alloc just returned None: "too-large", "capacity" or "fragmentation"

options: min_split (the fits), carve = "low" | "high" (first, best, worst fit), ties = "lowest" | "lifo" (best fit),
order = "lowest" | "lifo" (buddy, static), unit or units (static).
"""

from .best_fit import BestFit
from .buddy import Buddy
from .first_fit import FirstFit
from .next_fit import NextFit
from .static_partition import StaticPartition
from .worst_fit import WorstFit

REFERENCES: dict[str, type] = {
    "first-fit": FirstFit,
    "best-fit": BestFit,
    "worst-fit": WorstFit,
    "next-fit": NextFit,
    "buddy": Buddy,
    "static-partition": StaticPartition,
}
