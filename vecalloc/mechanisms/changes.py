"""What a pass did to the holes, and how a policy's index learns of it.

A remedy that moves blocks rewrites the bitmaps, which all hole policies share; the index beside them - tree, bitsets,
lists, the free blocks of the buddy system - is the policy's own, and it alone knows how to keep it right. So a remedy
hands over the difference: the holes that are no more, the blocks that moved, the holes that are new.

    before    A A . . B . C C . .        gone (2, 2), (5, 1), (8, 2)     moved B 4 -> 2, C 6 -> 3
    after     A A B C C . . . . .        come (5, 5)

All that is gone is forgotten first: a moved block may stand, or a new hole start, where a hole was that is gone, and
where holes share a bit of an index the one that is gone must not clear what the new one has set. A hole that is where
it was, as large as it was, is in neither list: in a policy that keeps holes by age it keeps its place.
"""

from typing import NamedTuple

import numpy as np

from vecalloc.kernel import loop
from vecalloc.mechanisms.bits import at

GONE, COME, MOVED = 0, 1, 2
"""Columns of `count`."""


class Changes(NamedTuple):
    """What passes did, one row for each replica that had one; all in granules.

    Attributes
    ----------
    replica : int64 (k,)
        Which replica.
    gone : int64 (k, n, 2)
        Holes that are no more: start, size.
    come : int64 (k, n', 2)
        Holes that are new, in address order: start, size.
    moved : int64 (k, m, 3)
        Blocks in the order of moving, each at most once: old start, new start, granted.
    count : int64 (k, 3)
        How many rows of `gone`, `come` and `moved` are meant.
    """

    replica: np.ndarray
    gone: np.ndarray
    come: np.ndarray
    moved: np.ndarray
    count: np.ndarray


@loop
def reindex_each(pick, forget, enter, settle, pools, changes):
    """Tell a policy's index of every change: its bitmaps, where it has them, and GRANTED, HOLES, LIMIT are right."""
    for k in range(len(changes.replica)):
        pool, _registers = pick(pools, changes.replica[k])
        gone = changes.gone[k]
        come = changes.come[k]
        moved = changes.moved[k]
        for i in range(changes.count[k, GONE]):
            forget(pool, gone[at(i), 0], gone[at(i), 1])
        for i in range(changes.count[k, MOVED]):
            settle(pool, moved[at(i), 1], moved[at(i), 2])
        for i in range(changes.count[k, COME]):
            enter(pool, come[at(i), 0], come[at(i), 1])
