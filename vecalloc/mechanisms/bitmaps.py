"""Where blocks and holes start: two interleaved bitmaps, two bits a granule, no boundary tags.

    granule   0 1 2 3 4 5 6 7 8 9
    heap      A A A . . B B . . .          A, B live blocks, "." free
    starts    1 0 0 1 0 1 0 1 0 0  1       every block and every hole has a bit where it starts; one more at the limit
    holes     0 0 0 1 0 0 0 1 0 0  0       the start is that of a hole

The extent of a block is the distance to the next start, its neighbours are the previous and the next start: size and
coalescing come from the same few words. Word 2w holds starts, word 2w + 1 holes of granules 64w .. 64w + 63, so both
are in one cache line. Two summary levels (a bit for each non-zero word of starts, a bit for each non-zero word of that)
find a start that is further away; boundary tags that do the same are 1.9 times slower once they fall out of the cache.

Invariants: the start at the limit is always set (it ends the search and is not a hole); start 0 is always set; holes
are maximal, so no two hole starts follow each other.
"""

from typing import NamedTuple

import numpy as np

from vecalloc.kernel import inline, outline, rows
from vecalloc.mechanisms.bits import at, bit, bits_from, bits_up_to, highest, lowest, window_from, window_up_to


class Bitmaps(NamedTuple):
    """The bitmaps of one replica, or, with a leading replica axis, of many.

    Attributes
    ----------
    words : int64[2 W]
        Starts and holes, interleaved, for W = granules // 64 + 2 words of each.
    summary : int64
        Bit w: `words[2 w]` (starts) is not zero.
    digest : int64
        Bit v: `summary[v]` is not zero.
    """

    words: np.ndarray
    summary: np.ndarray
    digest: np.ndarray


def new_bitmaps(replicas: int, granules: int) -> Bitmaps:
    """Return empty bitmaps for pools of up to `granules` granules, with a leading replica axis."""
    words = (granules >> 6) + 2
    return Bitmaps(
        np.zeros((replicas, 2 * words), np.int64),
        np.zeros((replicas, (words >> 6) + 2), np.int64),
        np.zeros((replicas, (words >> 12) + 2), np.int64),
    )


def hole_table(words: np.ndarray, limit: int) -> np.ndarray:
    """All holes below `limit` of one replica's interleaved words: int64 (n, 2), start and size in granules."""
    used = words[: 2 * ((limit >> 6) + 1)].reshape(-1, 2)
    occupied = np.flatnonzero((used != 0).any(axis=1))
    bits = np.unpackbits(used[occupied].copy().view(np.uint8).reshape(-1, 2, 8), axis=2, bitorder="little")
    starts = (occupied[:, None] * 64 + np.arange(64))[bits[:, 0] == 1]
    is_start_of_hole = bits[:, 1][bits[:, 0] == 1] == 1
    sizes = np.diff(starts, append=limit)
    return np.stack([starts, sizes], axis=1)[is_start_of_hole].astype(np.int64)


@rows
def pick_bitmaps(bitmaps, r):
    """Replica r's rows."""
    return Bitmaps(bitmaps.words[r], bitmaps.summary[r], bitmaps.digest[r])


@inline
def set_start(bitmaps, p):
    """A block or hole starts at p (or the limit is there)."""
    w = p >> 6
    old = bitmaps.words[at(2 * w)]
    bitmaps.words[at(2 * w)] = old | bit(p)
    if old == 0:
        old = bitmaps.summary[at(w >> 6)]
        bitmaps.summary[at(w >> 6)] = old | bit(w)
        if old == 0:
            bitmaps.digest[at(w >> 12)] |= bit(w >> 6)


@inline
def clear_start(bitmaps, p):
    """What started at p has merged with what stands before it."""
    w = p >> 6
    new = bitmaps.words[at(2 * w)] & ~bit(p)
    bitmaps.words[at(2 * w)] = new
    if new == 0:
        new = bitmaps.summary[at(w >> 6)] & ~bit(w)
        bitmaps.summary[at(w >> 6)] = new
        if new == 0:
            bitmaps.digest[at(w >> 12)] &= ~bit(w >> 6)


@inline
def next_start(bitmaps, p):
    """The first start >= p, for p <= limit. The 64 granules from p on are looked at first: most blocks are short."""
    w = p >> 6
    word = window_from(bitmaps.words[at(2 * w + 2)], bitmaps.words[at(2 * w)], p)
    if word != 0:
        return p + lowest(word)
    return _next_start_far(bitmaps, w + 1)


@outline
def _next_start_far(bitmaps, w):
    """The first start in word w or above, through the summaries."""
    word = bitmaps.summary[at(w >> 6)] & bits_from(w)
    if word != 0:
        w = ((w >> 6) << 6) + lowest(word)
    else:
        v = (w >> 6) + 1
        u = v >> 6
        word = bitmaps.digest[at(u)] & bits_from(v)
        while word == 0:
            u += 1
            word = bitmaps.digest[at(u)]
        v = (u << 6) + lowest(word)
        w = (v << 6) + lowest(bitmaps.summary[at(v)])
    return (w << 6) + lowest(bitmaps.words[at(2 * w)])


@inline
def previous_start(bitmaps, p):
    """The last start <= p, for p >= 0 (start 0 is always set, so what stands in for a word -1 is never seen)."""
    w = p >> 6
    below = 2 * w - 2 if w > 0 else np.int64(0)
    word = window_up_to(bitmaps.words[at(2 * w)], bitmaps.words[at(below)], p)
    if word != 0:
        return p - 63 + highest(word)
    return _previous_start_far(bitmaps, w - 1)


@outline
def _previous_start_far(bitmaps, w):
    """The last start in word w or below, through the summaries."""
    word = bitmaps.summary[at(w >> 6)] & bits_up_to(w)
    if word != 0:
        w = ((w >> 6) << 6) + highest(word)
    else:
        v = (w >> 6) - 1
        u = v >> 6
        word = bitmaps.digest[at(u)] & bits_up_to(v)
        while word == 0:
            u -= 1
            word = bitmaps.digest[at(u)]
        v = (u << 6) + highest(word)
        w = (v << 6) + highest(bitmaps.summary[at(v)])
    return (w << 6) + highest(bitmaps.words[at(2 * w)])


@inline
def is_hole(bitmaps, p):
    """1 if a hole starts at p, else 0."""
    return (bitmaps.words[at(2 * (p >> 6) + 1)] >> (p & 63)) & 1


@inline
def mark_hole(bitmaps, p):
    """What starts at p is a hole."""
    bitmaps.words[at(2 * (p >> 6) + 1)] |= bit(p)


@inline
def unmark_hole(bitmaps, p):
    """What starts at p is no hole (any more)."""
    bitmaps.words[at(2 * (p >> 6) + 1)] &= ~bit(p)
