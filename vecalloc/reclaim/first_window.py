"""first-window: of the runs of neighbouring holes that are large enough together, the one that is cheapest to join.

    A . B B . . C . . . D      request of 5: joining the last two holes moves C, one granule
    A . B B C . . . . . D

One walk with two ends finds it: the upper end takes up hole after hole, the lower end follows as long as what is left
is enough. A block that must not move begins a new run. Of equally cheap runs the lowest is taken.
"""

import numpy as np

from vecalloc.kernel import inline, outline
from vecalloc.mechanisms.bits import at
from vecalloc.reclaim.layout import stay


@outline
def plan_first_window(blocks, n, limit, extent):
    """Say where each of the n blocks goes, so that a hole of `extent` opens; nowhere if there is no such run."""
    for b in range(n):
        stay(blocks, b, b)
    best = np.iinfo(np.int64).max
    first = np.int64(0)
    last = np.int64(0)
    low = np.int64(0)  # the run is what is free before blocks low .. high, and moving it is moving low .. high - 1
    room = np.int64(0)
    moved = np.int64(0)
    for high in range(n + 1):
        room += _gap(blocks, n, limit, high)
        while room - _gap(blocks, n, limit, low) >= extent and low < high:
            room -= _gap(blocks, n, limit, low)
            moved -= blocks.size[at(low)]
            low += 1
        if room >= extent and moved < best:
            best = moved
            first = low
            last = np.int64(high)
        if high < n:
            if blocks.stays[at(high)] != 0:
                low = np.int64(high + 1)
                room = np.int64(0)
                moved = np.int64(0)
            else:
                moved += blocks.size[at(high)]
    end = blocks.start[at(first - 1)] + blocks.size[at(first - 1)] if first > 0 else np.int64(0)
    for b in range(first, last):
        blocks.to[at(b)] = end
        end += blocks.size[at(b)]


@inline
def _gap(blocks, n, limit, b):
    """Free granules before block b; b = n: after the last one."""
    end = blocks.start[at(b - 1)] + blocks.size[at(b - 1)] if b > 0 else np.int64(0)
    return (blocks.start[at(b)] if b < n else limit) - end
