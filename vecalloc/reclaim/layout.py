"""The blocks of a heap in address order, read from its bitmaps, and bitmaps written anew from a layout.

    survey     . A A . B B B .       ->   start 1 4, size 2 3, slot of A, slot of B
    lay out    A at 0, B at 2        ->   A A B B B . . .     starts 0 2 5, a hole at 5

A pass is planned on the arrays that `survey` fills, `Blocks`: which block goes where, and in which order they then
stand. What a heap's index has to learn is the difference between the holes before and after.
"""

from typing import NamedTuple

import numpy as np

from vecalloc.kernel import inline, outline
from vecalloc.mechanisms.bitmaps import is_hole, next_start
from vecalloc.mechanisms.bits import at, bit


class Blocks(NamedTuple):
    """The blocks of one heap, numbered in address order, and where a pass puts them.

    Attributes
    ----------
    start, size, slot : int64 (blocks,)
        In granules; size is what was granted.
    stays : uint8 (blocks,)
        Whether a block must not move.
    to : int64 (blocks,)
        Its start after the pass.
    line : int64 (blocks,)
        The blocks in address order after the pass.
    """

    start: np.ndarray
    size: np.ndarray
    slot: np.ndarray
    stays: np.ndarray
    to: np.ndarray
    line: np.ndarray


@outline
def note_owners(owner, places):
    """Write down whose block starts where: `owner` is read only where a live block starts, so it need not be clean."""
    for slot in range(len(places)):
        if places[at(slot)] >= 0:
            owner[at(places[at(slot)])] = slot


@outline
def survey(bitmaps, limit, owner, pinned, blocks, holes):
    """Fill in the blocks and the holes (start, size) of a heap, in address order; return how many of each."""
    n = np.int64(0)
    h = np.int64(0)
    p = np.int64(0)
    while p < limit:
        end = next_start(bitmaps, p + 1)
        if is_hole(bitmaps, p) != 0:
            holes[at(h), 0] = p
            holes[at(h), 1] = end - p
            h += 1
        else:
            slot = np.int64(owner[at(p)])
            blocks.start[at(n)] = p
            blocks.size[at(n)] = end - p
            blocks.slot[at(n)] = slot
            blocks.stays[at(n)] = pinned[at(slot)]
            n += 1
        p = end
    return n, h


@outline
def cost_of(blocks, n):
    """Blocks and granules that a plan moves."""
    moved = np.int64(0)
    granules = np.int64(0)
    for b in range(n):
        if blocks.to[at(b)] != blocks.start[at(b)]:
            moved += 1
            granules += blocks.size[at(b)]
    return moved, granules


@outline
def lay_out(bitmaps, blocks, n, old_limit, limit, holes):
    """Write the bitmaps of a layout; fill in its holes (start, size), and return how many there are.

    Parameters
    ----------
    old_limit, limit : int64
        Where usable space ended, and ends now.
    """
    words = bitmaps.words
    last = old_limit >> 6
    for w in range(2 * (last + 1)):
        words[at(w)] = 0
    h = np.int64(0)
    end = np.int64(0)
    for i in range(n + 1):
        start = limit
        if i < n:
            start = blocks.to[at(blocks.line[at(i)])]
        if end < start:
            words[at(2 * (end >> 6))] |= bit(end)
            words[at(2 * (end >> 6) + 1)] |= bit(end)
            holes[at(h), 0] = end
            holes[at(h), 1] = start - end
            h += 1
        words[at(2 * (start >> 6))] |= bit(start)
        if i < n:
            end = start + blocks.size[at(blocks.line[at(i)])]
    for v in range((last >> 6) + 1):
        word = np.int64(0)
        for w in range(v << 6, min((v + 1) << 6, last + 1)):
            if words[at(2 * w)] != 0:
                word |= bit(w)
        bitmaps.summary[at(v)] = word
    for u in range((last >> 12) + 1):
        word = np.int64(0)
        for v in range(u << 6, min((u + 1) << 6, (last >> 6) + 1)):
            if bitmaps.summary[at(v)] != 0:
                word |= bit(v)
        bitmaps.digest[at(u)] = word
    return h


@outline
def differ(before, b, after, a, gone, come):
    """Holes of `before` that are not in `after`, and the other way round, all in address order; return how many."""
    i = np.int64(0)
    j = np.int64(0)
    g = np.int64(0)
    c = np.int64(0)
    while i < b or j < a:
        if i < b and j < a and before[at(i), 0] == after[at(j), 0] and before[at(i), 1] == after[at(j), 1]:
            i += 1
            j += 1
        elif j == a or (i < b and before[at(i), 0] <= after[at(j), 0]):
            gone[at(g), 0] = before[at(i), 0]
            gone[at(g), 1] = before[at(i), 1]
            g += 1
            i += 1
        else:
            come[at(c), 0] = after[at(j), 0]
            come[at(c), 1] = after[at(j), 1]
            c += 1
            j += 1
    return g, c


@inline
def stay(blocks, b, i):
    """Block b is the i-th after the pass, where it was."""
    blocks.to[at(b)] = blocks.start[at(b)]
    blocks.line[at(i)] = b
