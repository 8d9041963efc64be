"""Sets of small integers that find their first, last or next member in a few steps: 64-ary bitsets.

Level 0 has a bit for each possible member; each level above has a bit for each non-zero word of the one below, up to a
single word. Insert and discard stop at the first level that does not change, a search goes up until it finds a bit and
then down: at most five levels for 2^30 members. Several sets (*rows*) share one flat array of words; a table says where
each level of each row begins. The table is the same for all replicas and has no replica axis.
"""

from typing import NamedTuple

import numpy as np

from vecalloc.kernel import inline, rows
from vecalloc.mechanisms.bits import at, bit, bits_above, bits_from, highest, lowest

_DEPTH = 6
"""Most levels of a row (64^6 members), and the last column of the table: how many levels the row has."""

_COLUMNS = _DEPTH + 1


class Bitset(NamedTuple):
    """Rows of one replica, or of many when `words` has a leading replica axis.

    Attributes
    ----------
    words : int64
        All levels of all rows.
    table : int64[rows * 7]
        Where level l of a row begins (columns 0..5), and its number of levels (column 6).
    """

    words: np.ndarray
    table: np.ndarray


def new_bitset(replicas: int, *members: int) -> Bitset:
    """Return empty sets, one row for each of `members`: the row can hold 0 .. members - 1."""
    table = np.zeros((len(members), _COLUMNS), np.int64)
    end = 0
    for row, size in zip(table, members, strict=True):
        level = 0
        while level == 0 or size > 1:
            size = max(1, (size + 63) >> 6)
            row[level] = end
            end += size
            level += 1
        row[_DEPTH] = level
    return Bitset(np.zeros((replicas, end), np.int64), table.ravel())


def extend_bitset(old: Bitset, *members: int) -> Bitset:
    """Return the same sets with room for more members and, at the end, more rows."""
    new = new_bitset(len(old.words), *members)
    for before, after in zip(_levels(old), _levels(new), strict=False):
        for (start, stop), (target, _) in zip(before, after, strict=False):
            new.words[:, target : target + stop - start] = old.words[:, start:stop]
        # A row that got a level more: its old top word was the whole set's, so it is one bit of the new one.
        for (start, _), (target, _) in zip(after[len(before) - 1 :], after[len(before) :], strict=False):
            new.words[:, target] = new.words[:, start] != 0
    return new


def _rows(bitset: Bitset) -> np.ndarray:
    """The table, a line for each row."""
    return bitset.table.reshape(-1, _COLUMNS)


def rows_of(bitset: Bitset) -> int:
    """How many rows there are."""
    return len(_rows(bitset))


def _levels(bitset: Bitset) -> list[list[tuple[int, int]]]:
    """For each row the [start, stop) of its levels."""
    begins = [row[level] for row in _rows(bitset) for level in range(row[_DEPTH])]
    spans = iter(zip(begins, [*begins[1:], bitset.words.shape[1]], strict=True))
    return [[next(spans) for _ in range(row[_DEPTH])] for row in _rows(bitset)]


def members_of(bitset: Bitset, replica: int, row: int = 0) -> np.ndarray:
    """All members of a row in increasing order: int64 (n,)."""
    start, stop = _levels(bitset)[row][0]
    words = bitset.words[replica, start:stop]
    occupied = np.flatnonzero(words)
    bits = np.unpackbits(words[occupied].view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
    return (occupied[:, None] * 64 + np.arange(64))[bits == 1].astype(np.int64)


def insert_all(bitset: Bitset, replica: int, row: int, members: np.ndarray) -> None:
    """Put many members into a row at once."""
    i = members.copy()
    for start, _ in _levels(bitset)[row]:
        np.bitwise_or.at(bitset.words[replica], start + (i >> 6), np.int64(1) << (i & 63))
        i >>= 6


@rows
def pick_bitset(bitset, r):
    """Replica r's rows (the table is shared)."""
    return Bitset(bitset.words[r], bitset.table)


@inline
def contains(bitset, row, i):
    """1 if i is in the row, else 0."""
    return (bitset.words[at(bitset.table[at(row * _COLUMNS)] + (i >> 6))] >> (i & 63)) & 1


@inline
def insert(bitset, row, i):
    """Put i into the row. True if the row was empty."""
    for level in range(bitset.table[at(row * _COLUMNS + _DEPTH)]):
        w = bitset.table[at(row * _COLUMNS + level)] + (i >> 6)
        old = bitset.words[at(w)]
        bitset.words[at(w)] = old | bit(i)
        if old != 0:
            return False
        i >>= 6
    return True


@inline
def discard(bitset, row, i):
    """Take i out of the row. True if the row is empty now."""
    for level in range(bitset.table[at(row * _COLUMNS + _DEPTH)]):
        w = bitset.table[at(row * _COLUMNS + level)] + (i >> 6)
        new = bitset.words[at(w)] & ~bit(i)
        bitset.words[at(w)] = new
        if new != 0:
            return False
        i >>= 6
    return True


@inline
def first(bitset, row):
    """The smallest member of a row that is not empty."""
    i = np.int64(0)
    for level in range(bitset.table[at(row * _COLUMNS + _DEPTH)] - 1, -1, -1):
        i = (i << 6) + lowest(bitset.words[at(bitset.table[at(row * _COLUMNS + level)] + i)])
    return i


@inline
def last(bitset, row):
    """The largest member of a row, -1 if it is empty."""
    i = np.int64(0)
    top = bitset.table[at(row * _COLUMNS + _DEPTH)] - 1
    if bitset.words[at(bitset.table[at(row * _COLUMNS + top)])] == 0:
        return np.int64(-1)
    for level in range(top, -1, -1):
        i = (i << 6) + highest(bitset.words[at(bitset.table[at(row * _COLUMNS + level)] + i)])
    return i


@inline
def next_member(bitset, row, i):
    """The smallest member >= i of a row, -1 if there is none; 0 <= i < the row's size."""
    word = bitset.words[at(bitset.table[at(row * _COLUMNS)] + (i >> 6))] & bits_from(i)
    level = 0
    while word == 0:
        level += 1
        if level == bitset.table[at(row * _COLUMNS + _DEPTH)]:
            return np.int64(-1)
        i >>= 6
        word = bitset.words[at(bitset.table[at(row * _COLUMNS + level)] + (i >> 6))] & bits_above(i)
    i = ((i >> 6) << 6) + lowest(word)
    while level > 0:
        level -= 1
        i = (i << 6) + lowest(bitset.words[at(bitset.table[at(row * _COLUMNS + level)] + i)])
    return i
