"""The hole tree: the first hole, from any place on, that is large enough.

A leaf for each word of 64 granules holds the size of the largest hole that *starts* there; a node holds the maximum of
its 16 children, one cache line that one vector instruction compares with a request. The root is the largest hole.

    root                    9                       request of 4: go down along the first child >= 4
    nodes          6                9               (from a place on: up until a later sibling is enough, then down)
    leaves     2 0 6 1          0 9 3 0

Sizes are kept exactly. Rounding them to classes would make a node a fourth of the size, but then a request between two
sizes of one class has to try every leaf of that class: a search that grows with the number of holes. (uint32: a hole of
2^32 granules, which only an empty pool of that size has, saturates; it is told from 2^32 - 1 at the leaf.)
"""

from typing import NamedTuple

import numpy as np

from vecalloc.kernel import inline, outline, rows
from vecalloc.mechanisms.bitmaps import next_start
from vecalloc.mechanisms.bits import LANE_BITS, LANES, at, bits_above, bits_from, lanes_at_least, lowest, maximum_with
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
from vecalloc.mechanisms.registers import GRANTED, LIMIT, NONE

_SATURATED = 0xFFFFFFFF
_DEPTH = 0
_LEVELS = 1


class HoleTree(NamedTuple):
    """The tree of one replica, or of many when `sizes` has a leading replica axis.

    Attributes
    ----------
    sizes : uint32
        All levels, leaves first, each padded to whole nodes; in granules.
    table : int64[depth + 2]
        Number of levels, where each begins, where the last one ends. Shared by all replicas.
    """

    sizes: np.ndarray
    table: np.ndarray


def new_hole_tree(holes: Holes, granules: int) -> HoleTree:
    """Return trees that index the holes which are there, for pools of up to `granules` granules."""
    counts = [max(1, (granules + 63) >> 6)]
    while counts[-1] > 1:
        counts.append(-(-counts[-1] // LANES))
    padded = [-(-count // LANES) * LANES for count in counts]
    begins = np.concatenate([[0], np.cumsum(padded)])
    replicas = len(holes.registers)
    tree = HoleTree(np.zeros((replicas, begins[-1]), np.uint32), np.array([len(counts), *begins], np.int64))
    for r in range(replicas):
        starts, sizes = table_of_holes(holes, r).T
        level = np.minimum(sizes, _SATURATED).astype(np.uint32)
        leaves = starts >> 6
        for begin in begins[:-1]:
            np.maximum.at(tree.sizes[r], begin + leaves, level)
            leaves = leaves >> LANE_BITS
    return tree


class TreeHeap(NamedTuple):
    """What a policy that searches the tree stands on: holes and their index, of one replica or of many."""

    holes: Holes
    tree: HoleTree

    @property
    def registers(self) -> np.ndarray:
        """The registers, where every policy's state has them."""
        return self.holes.registers


def new_tree_heap(replicas: int, granules: int, grows: bool, min_split: int, carve_high: bool = False) -> TreeHeap:
    """Return empty pools of `granules` granules; the other parameters are those of `new_holes`."""
    holes = new_holes(replicas, granules, grows, min_split, carve_high)
    return TreeHeap(holes, new_hole_tree(holes, granules))


def extend_tree_heap(heap: TreeHeap, replica: int, extent: int, most: int) -> TreeHeap | None:
    """Return the same pools in arrays with room for `extent` granules above the limit; None beyond `most` granules."""
    granules = reach_for(heap.holes, replica, extent, most)
    if granules is None:
        return None
    holes = extend_holes(heap.holes, granules)
    return TreeHeap(holes, new_hole_tree(holes, granules))


@rows
def pick_tree_heap(heap, r):
    """Replica r's rows (the tree's table is shared), and its registers."""
    picked = TreeHeap(pick_holes(heap.holes, r), HoleTree(heap.tree.sizes[r], heap.tree.table))
    return picked, picked.holes.registers


@inline
def lane(size):
    """A size as the tree keeps it."""
    return np.uint32(min(size, _SATURATED))


@inline
def root(tree):
    """Size of the largest hole as the tree keeps it (a lane); 0 if there is none."""
    return tree.sizes[at(tree.table[at(_LEVELS + tree.table[_DEPTH] - 1)])]


@inline
def largest_in_tree(heap):
    """Size of the largest hole in granules; 0 if there is none."""
    size = np.int64(root(heap.tree))
    if size == _SATURATED:  # beside a hole of 2^32 - 1 there is no other
        return heap.holes.registers[LIMIT] - heap.holes.registers[GRANTED]
    return size


@inline
def first_leaf(tree, size):
    """The first word with a hole of at least `size` (a lane); the root says that there is one."""
    i = np.int64(0)
    for level in range(tree.table[_DEPTH] - 1, 0, -1):
        base = tree.table[at(_LEVELS + level - 1)] + (i << LANE_BITS)
        i = (i << LANE_BITS) + lowest(lanes_at_least(tree.sizes, base, size))
    return i


@inline
def next_leaf(tree, i, size):
    """The first word >= i with a hole of at least `size` (a lane), NONE if there is none."""
    if i >= tree.table[_LEVELS + 1]:
        return np.int64(NONE)
    level = np.int64(0)
    depth = tree.table[_DEPTH]
    node = i >> LANE_BITS
    found = lanes_at_least(tree.sizes, node << LANE_BITS, size) & bits_from(i & (LANES - 1))
    while found == 0:
        level += 1
        if level >= depth:
            return np.int64(NONE)
        child = node
        node = child >> LANE_BITS
        base = tree.table[at(_LEVELS + level)] + (node << LANE_BITS)
        found = lanes_at_least(tree.sizes, base, size) & bits_above(child & (LANES - 1))
    i = (node << LANE_BITS) + lowest(found)
    while level > 0:
        level -= 1
        base = tree.table[at(_LEVELS + level)] + (i << LANE_BITS)
        i = (i << LANE_BITS) + lowest(lanes_at_least(tree.sizes, base, size))
    return i


@inline
def _set_leaf(tree, i, size):
    """The largest hole of word i is `size` (a lane) now; stop where a node does not change."""
    for level in range(tree.table[_DEPTH] - 1):
        begin = tree.table[at(_LEVELS + level)]
        tree.sizes[at(begin + i)] = size
        size = maximum_with(tree.sizes, begin + ((i >> LANE_BITS) << LANE_BITS), np.uint32(i & (LANES - 1)), size)
        i >>= LANE_BITS
        if tree.sizes[at(tree.table[at(_LEVELS + level + 1)] + i)] == size:
            return
    tree.sizes[at(tree.table[at(_LEVELS + tree.table[_DEPTH] - 1)] + i)] = size


@inline
def _raise_leaf(tree, i, size):
    """Word i has a hole of `size` (a lane) now, whatever else it has."""
    for level in range(tree.table[_DEPTH]):
        node = tree.table[at(_LEVELS + level)] + i
        if tree.sizes[at(node)] >= size:
            return
        tree.sizes[at(node)] = size
        i >>= LANE_BITS


@inline
def scan_word(bitmaps, w, from_bit, extent):
    """One pass over the holes that start in word w.

    Returns
    -------
    start, size, others : int64
        The first hole at or above `from_bit` of at least `extent` granules (start NONE if none is); the largest of all
        the other holes of the word, which is what the leaf becomes once that hole is taken.
    """
    word = bitmaps.words[2 * w + 1]
    start = np.int64(NONE)
    size = np.int64(0)
    others = np.int64(0)
    while word != 0:
        q = lowest(word)
        word &= word - 1
        p = (w << 6) + q
        length = next_start(bitmaps, p + 1) - p
        hit = (start < 0) & (length >= extent) & (q >= from_bit)
        start = p if hit else start
        size = length if hit else size
        others = max(others, 0 if hit else length)
    return start, size, others


@outline
def _lower_leaf(tree, bitmaps, w):
    """Word w lost its largest hole: look at what is left."""
    _start, _size, others = scan_word(bitmaps, w, 0, np.int64(_SATURATED) + 2)
    _set_leaf(tree, w, lane(others))


@inline
def grant_from_tree(heap, start, size, others, extent):
    """Carve a block out of a hole that `scan_word` found; return its address."""
    tree = heap.tree
    block, rest, remainder = split(heap.holes, start, size, extent)
    w = start >> 6
    if remainder > 0:
        if (rest >> 6) == w:
            others = max(others, remainder)
        else:
            _raise_leaf(tree, rest >> 6, lane(remainder))
    if tree.sizes[at(w)] != lane(others):
        _set_leaf(tree, w, lane(others))
    return block


@inline
def free_into_tree(heap, block):
    """Give back a block: coalesce, and tell the tree."""
    tree, holes = heap.tree, heap.holes
    start, right, end = coalesce(holes, block)
    if right < end and (right >> 6) != (start >> 6) and tree.sizes[at(right >> 6)] == lane(end - right):
        _lower_leaf(tree, holes.bitmaps, right >> 6)
    if is_at_limit(holes, start):
        if start < block and tree.sizes[at(start >> 6)] == lane(block - start):
            _lower_leaf(tree, holes.bitmaps, start >> 6)
    else:
        _raise_leaf(tree, start >> 6, lane(end - start))


@inline
def claim_in_tree(heap, address, granted):
    """Make a live block of [address, address + granted), inside one hole."""
    start, end = carve_out(heap.holes, address, granted)
    if address + granted < end:
        enter_in_tree(heap, address + granted, end - address - granted)
    forget_in_tree(heap, start, end - start)


@inline
def forget_in_tree(heap, start, size):
    """The hole of `size` at `start` is gone, as the bitmaps know already."""
    if heap.tree.sizes[at(start >> 6)] == lane(size):
        _lower_leaf(heap.tree, heap.holes.bitmaps, start >> 6)


@inline
def enter_in_tree(heap, start, size):
    """A hole of `size` is new at `start`."""
    _raise_leaf(heap.tree, start >> 6, lane(size))
