"""The size index: the smallest hole that is large enough, of those the one at the lowest address; the largest too.

Two questions, two bitsets. *Which sizes have a hole* is one 64-ary bitset over sizes. *Where is the lowest hole of size
s* is, for each s, a 64-ary bitset over the pool in chunks of

    2^max(6, floor(log2 s)) granules        64 for s < 128, 128 for s < 256, ...

A chunk no longer than s can hold the start of only one hole of size s, so one bit is exact; for s < 64 the one word of
64 granules is looked through. The sizes of one octave [2^j, 2^(j+1)) share a chunk length, hence a row length, hence a
block of rows: altogether about one bit a granule and octave, 11-19 bits a granule, of which only what is used is ever
touched. Holes larger than a 64th of the pool (there are fewer than 64) stand in a small list in (size, start) order.

Source: the structure is this project's; best-fit with ties to the lowest address as in Wilson et al. (1995), section 3.
"""

from typing import NamedTuple

import numpy as np

from vecalloc.kernel import inline, outline, rows
from vecalloc.mechanisms.bitmaps import next_start, previous_start
from vecalloc.mechanisms.bits import at, bit, highest, lowest, window_from
from vecalloc.mechanisms.bitset import Bitset, discard, insert, insert_all, last, new_bitset, next_member, pick_bitset
from vecalloc.mechanisms.holes import (
    Holes,
    carve_out,
    coalesce,
    extend_holes,
    is_at_limit,
    new_holes,
    pick_holes,
    reach_for,
    split,
    table_of_holes,
)
from vecalloc.mechanisms.registers import BIG, NONE

_FIRST_OCTAVE = 5
"""Sizes 0 .. 63 stand together as octave 5, which has 64 rows and chunks of 64 granules."""

_LARGEST, _CHUNK, _FIRST_SIZE, _DEPTH, _LEVELS = 0, 1, 2, 3, 4
"""Columns of the octave table: the largest indexed size (the same in all rows), log2 of the chunk, the size of the
first row, number of levels; then, for each level, where it begins and how many words a row has there."""

_MOST_LEVELS = 5
_COLUMNS = _LEVELS + 2 * _MOST_LEVELS
_ALWAYS_INDEXED = 511
"""Small pools index at least these sizes, so that their list of big holes stays short too."""


class SizeIndex(NamedTuple):
    """The index of one replica, or of many where the arrays have a leading replica axis.

    Attributes
    ----------
    sizes : Bitset
        One row: the indexed sizes of which there is a hole.
    chunks : int64
        All levels of the rows of all octaves.
    octaves : int64[octaves * 14]
        The octave table. Shared by all replicas.
    big : int64[128]
        Size and start, side by side, of the holes that are larger than the largest indexed size, in increasing order.
    """

    sizes: Bitset
    chunks: np.ndarray
    octaves: np.ndarray
    big: np.ndarray


def new_size_index(holes: Holes, granules: int) -> SizeIndex:
    """Return indexes of the holes which are there, for pools of up to `granules` granules."""
    replicas = len(holes.registers)
    largest = max(granules >> 6, min(granules, _ALWAYS_INDEXED))
    octaves = []
    end = 0
    for octave in range(_FIRST_OCTAVE, max(largest.bit_length(), _FIRST_OCTAVE + 1)):
        chunk = max(6, octave)
        first, rows = (0, 64) if octave == _FIRST_OCTAVE else (1 << octave, 1 << octave)
        levels = []
        width = (granules >> chunk) + 1
        while not levels or width > 1:
            width = -(-width // 64)
            levels.append((end, width))
            end += rows * width
        padding = [(0, 0)] * (_MOST_LEVELS - len(levels))
        octaves.append([largest, chunk, first, len(levels), *np.ravel(levels + padding)])
    index = SizeIndex(
        new_bitset(replicas, largest + 1),
        np.zeros((replicas, end), np.int64),
        np.ravel(octaves).astype(np.int64),
        np.zeros((replicas, 2 * 64), np.int64),
    )
    holes.registers[:, BIG] = 0
    for r in range(replicas):
        _index_all(index, r, holes.registers[r], table_of_holes(holes, r))
    return index


def _index_all(index: SizeIndex, r: int, registers: np.ndarray, holes: np.ndarray) -> None:
    """Put a table of holes (start, size) into replica r's empty index, all at once."""
    indexed = holes[:, 1] <= index.octaves[_LARGEST]
    big = holes[~indexed][:, ::-1]
    index.big[r, : 2 * len(big)] = big[np.lexsort(big.T[::-1])].ravel()
    registers[BIG] = len(big)
    starts, sizes = holes[indexed].T
    insert_all(index.sizes, r, 0, sizes)
    octaves = index.octaves.reshape(-1, _COLUMNS)[np.frexp(sizes | 32)[1] - 1 - _FIRST_OCTAVE]
    chunks = starts >> octaves[:, _CHUNK]
    for level in range(_MOST_LEVELS):
        deep = octaves[:, _DEPTH] > level
        begin, width = octaves[deep, _LEVELS + 2 * level], octaves[deep, _LEVELS + 2 * level + 1]
        words = begin + (sizes[deep] - octaves[deep, _FIRST_SIZE]) * width + (chunks[deep] >> 6)
        np.bitwise_or.at(index.chunks[r], words, np.int64(1) << (chunks[deep] & 63))
        chunks >>= 6


class IndexHeap(NamedTuple):
    """What a policy that searches by size stands on: holes and their index, of one replica or of many."""

    holes: Holes
    index: SizeIndex

    @property
    def registers(self) -> np.ndarray:
        """The registers, where every policy's state has them."""
        return self.holes.registers


def new_index_heap(replicas: int, granules: int, grows: bool, min_split: int, carve_high: bool = False) -> IndexHeap:
    """Return empty pools of `granules` granules; the other parameters are those of `new_holes`."""
    holes = new_holes(replicas, granules, grows, min_split, carve_high)
    return IndexHeap(holes, new_size_index(holes, granules))


def extend_index_heap(heap: IndexHeap, replica: int, extent: int, most: int) -> IndexHeap | None:
    """Return the same pools in arrays with room for `extent` granules above the limit; None beyond `most` granules."""
    granules = reach_for(heap.holes, replica, extent, most)
    if granules is None:
        return None
    holes = extend_holes(heap.holes, granules)
    return IndexHeap(holes, new_size_index(holes, granules))


@rows
def pick_index_heap(heap, r):
    """Replica r's rows (the octave table is shared), and its registers."""
    index = heap.index
    picked = IndexHeap(
        pick_holes(heap.holes, r),
        SizeIndex(pick_bitset(index.sizes, r), index.chunks[r], index.octaves, index.big[r]),
    )
    return picked, picked.holes.registers


@inline
def insert_hole(index, registers, start, size):
    """A hole of `size` starts at `start`."""
    if size > index.octaves[_LARGEST]:
        _insert_big(index.big, registers, start, size)
        return
    octave = (highest(size | 32) - _FIRST_OCTAVE) * _COLUMNS
    row = size - index.octaves[at(octave + _FIRST_SIZE)]
    i = start >> index.octaves[at(octave + _CHUNK)]
    for level in range(index.octaves[at(octave + _DEPTH)]):
        column = _LEVELS + 2 * level
        w = index.octaves[at(octave + column)] + row * index.octaves[at(octave + column + 1)] + (i >> 6)
        old = index.chunks[at(w)]
        index.chunks[at(w)] = old | bit(i)
        if old != 0:
            return
        i >>= 6
    insert(index.sizes, 0, size)


@inline
def remove_hole(index, bitmaps, registers, start, size):
    """The hole of `size` at `start` is gone (whether or not the bitmaps know it yet)."""
    if size > index.octaves[_LARGEST]:
        _remove_big(index.big, registers, start)
        return
    if size < 64 and _has_twin(bitmaps, start, size):
        return
    octave = (highest(size | 32) - _FIRST_OCTAVE) * _COLUMNS
    row = size - index.octaves[at(octave + _FIRST_SIZE)]
    i = start >> index.octaves[at(octave + _CHUNK)]
    for level in range(index.octaves[at(octave + _DEPTH)]):
        column = _LEVELS + 2 * level
        w = index.octaves[at(octave + column)] + row * index.octaves[at(octave + column + 1)] + (i >> 6)
        new = index.chunks[at(w)] & ~bit(i)
        index.chunks[at(w)] = new
        if new != 0:
            return
        i >>= 6
    discard(index.sizes, 0, size)


@inline
def _has_twin(bitmaps, start, size):
    """Whether another hole of the same size (below 64) starts in the same word."""
    w = start >> 6
    candidates = _may_have_size(bitmaps, w, size) & ~bit(start)
    while candidates != 0:
        p = (w << 6) + lowest(candidates)
        candidates &= candidates - 1
        if next_start(bitmaps, p + 1) - p == size:
            return True
    return False


@inline
def _may_have_size(bitmaps, w, size):
    """The holes that start in word w with a start `size` (below 64) above theirs: it is their end, or one beyond it."""
    return bitmaps.words[at(2 * w + 1)] & window_from(bitmaps.words[at(2 * w + 2)], bitmaps.words[at(2 * w)], size)


@inline
def lowest_of_size(index, bitmaps, size):
    """Start of the lowest hole of an indexed size of which there is one."""
    octave = (highest(size | 32) - _FIRST_OCTAVE) * _COLUMNS
    row = size - index.octaves[at(octave + _FIRST_SIZE)]
    i = np.int64(0)
    for level in range(index.octaves[at(octave + _DEPTH)] - 1, -1, -1):
        column = _LEVELS + 2 * level
        w = index.octaves[at(octave + column)] + row * index.octaves[at(octave + column + 1)] + i
        i = (i << 6) + lowest(index.chunks[at(w)])
    if size >= 64:
        # The hole is at least as long as the chunk: nothing else starts between its start and the end of the chunk.
        return previous_start(bitmaps, ((i + 1) << index.octaves[at(octave + _CHUNK)]) - 1)
    candidates = _may_have_size(bitmaps, i, size)
    while True:
        p = (i << 6) + lowest(candidates)
        candidates &= candidates - 1
        if next_start(bitmaps, p + 1) - p == size:
            return p


@inline
def smallest_at_least(heap, extent):
    """Start and size of the smallest hole of at least `extent`, ties to the lowest address; (NONE, 0) if none fits."""
    index, bitmaps, registers = heap.index, heap.holes.bitmaps, heap.holes.registers
    if extent <= index.octaves[_LARGEST]:
        size = next_member(index.sizes, 0, extent)
        if size >= 0:
            return lowest_of_size(index, bitmaps, size), size
    for i in range(0, 2 * registers[BIG], 2):
        if index.big[i] >= extent:
            return index.big[i + 1], index.big[i]
    return np.int64(NONE), np.int64(0)


@inline
def largest_in_index(heap):
    """Size of the largest hole in granules; 0 if there is none."""
    big = heap.holes.registers[BIG]
    if big > 0:
        return heap.index.big[2 * big - 2]
    size = last(heap.index.sizes, 0)
    return size if size > 0 else np.int64(0)


@outline
def _insert_big(big, registers, start, size):
    """Keep the list of big holes in (size, start) order."""
    i = 2 * registers[BIG]
    while i > 0 and (big[i - 2] > size or (big[i - 2] == size and big[i - 1] > start)):
        big[i] = big[i - 2]
        big[i + 1] = big[i - 1]
        i -= 2
    big[i] = size
    big[i + 1] = start
    registers[BIG] += 1


@outline
def _remove_big(big, registers, start):
    """Close the gap that a big hole leaves."""
    i = np.int64(0)
    while big[i + 1] != start:
        i += 2
    registers[BIG] -= 1
    while i < 2 * registers[BIG]:
        big[i] = big[i + 2]
        big[i + 1] = big[i + 3]
        i += 2


@inline
def grant_from_index(heap, start, size, extent):
    """Carve a block out of an indexed hole; return its address."""
    index, holes = heap.index, heap.holes
    remove_hole(index, holes.bitmaps, holes.registers, start, size)
    block, rest, remainder = split(holes, start, size, extent)
    if remainder > 0:
        insert_hole(index, holes.registers, rest, remainder)
    return block


@inline
def free_into_index(heap, block):
    """Give back a block: coalesce, and tell the index."""
    index, holes = heap.index, heap.holes
    start, right, end = coalesce(holes, block)
    if right < end:
        remove_hole(index, holes.bitmaps, holes.registers, right, end - right)
    if start < block:
        remove_hole(index, holes.bitmaps, holes.registers, start, block - start)
    if not is_at_limit(holes, start):
        insert_hole(index, holes.registers, start, end - start)


@inline
def claim_in_index(heap, address, granted):
    """Make a live block of [address, address + granted), inside one hole."""
    start, end = carve_out(heap.holes, address, granted)
    forget_in_index(heap, start, end - start)
    if start < address:
        enter_in_index(heap, start, address - start)
    if address + granted < end:
        enter_in_index(heap, address + granted, end - address - granted)


@inline
def forget_in_index(heap, start, size):
    """The hole of `size` at `start` is gone, as the bitmaps know already; what is new is entered later.

    Of twins that share a bit both may be gone: then it is cleared twice. A twin that the bitmaps show keeps the bit,
    whether it was there before or is entered later.
    """
    remove_hole(heap.index, heap.holes.bitmaps, heap.holes.registers, start, size)


@inline
def enter_in_index(heap, start, size):
    """A hole of `size` is new at `start`."""
    insert_hole(heap.index, heap.holes.registers, start, size)
