"""Lists of equal holes: of the smallest size that is large enough, the hole that was made last.

    sizes with a hole (64-ary bitset)      . . 2 . . 5 .
    head of each list                          |     +--> hole at 40 <-> hole at 7
                                               +--------> hole at 23

Every hole that is created or resized goes on top of the list of its size. The links of a hole are kept by its start:
next and previous share a pair of granules, for two holes never start at adjacent granules. Links are int32 and hold
start + 1, so that fresh zeroed memory is empty lists: up to 2^30 granules.
"""

from typing import NamedTuple

import numpy as np

from vecalloc.kernel import inline, rows
from vecalloc.mechanisms.bits import at
from vecalloc.mechanisms.bitset import (
    Bitset,
    discard,
    extend_bitset,
    insert,
    insert_all,
    last,
    new_bitset,
    next_member,
    pick_bitset,
)
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
from vecalloc.mechanisms.registers import LARGEST, NONE


class SizeLists(NamedTuple):
    """The lists of one replica, or of many when the arrays have a leading replica axis.

    Attributes
    ----------
    sizes : Bitset
        One row: the sizes of which there is a hole.
    heads : int32[granules + 1]
        For each size the start + 1 of the last hole made, 0 if there is none.
    links : int32[granules + 2]
        For the hole at s, at `s & ~1` the start + 1 of the next older hole of its size, beside it of the next newer.
    """

    sizes: Bitset
    heads: np.ndarray
    links: np.ndarray


def new_size_lists(holes: Holes, granules: int) -> SizeLists:
    """Return lists of the one hole of an empty pool (or of none), for pools of up to `granules` granules."""
    replicas = len(holes.registers)
    lists = SizeLists(
        new_bitset(replicas, granules + 1),
        np.zeros((replicas, granules + 1), np.int32),
        np.zeros((replicas, granules + 2), np.int32),
    )
    for r in range(replicas):
        for start, size in table_of_holes(holes, r):
            insert_all(lists.sizes, r, 0, np.array([size]))
            lists.heads[r, size] = start + 1
            holes.registers[r, LARGEST] = size
    return lists


def extend_size_lists(old: SizeLists, granules: int) -> SizeLists:
    """Return the same lists in arrays for pools of up to `granules` granules."""
    replicas = len(old.heads)
    new = SizeLists(
        extend_bitset(old.sizes, granules + 1),
        np.zeros((replicas, granules + 1), np.int32),
        np.zeros((replicas, granules + 2), np.int32),
    )
    new.heads[:, : old.heads.shape[1]] = old.heads
    new.links[:, : old.links.shape[1]] = old.links
    return new


class ListHeap(NamedTuple):
    """What a policy that keeps lists of equal holes stands on: holes and lists, of one replica or of many."""

    holes: Holes
    lists: SizeLists

    @property
    def registers(self) -> np.ndarray:
        """The registers, where every policy's state has them."""
        return self.holes.registers


def new_list_heap(replicas: int, granules: int, grows: bool, min_split: int, carve_high: bool = False) -> ListHeap:
    """Return empty pools of `granules` granules; the other parameters are those of `new_holes`."""
    holes = new_holes(replicas, granules, grows, min_split, carve_high)
    return ListHeap(holes, new_size_lists(holes, granules))


def extend_list_heap(heap: ListHeap, replica: int, extent: int, most: int) -> ListHeap | None:
    """Return the same pools in arrays with room for `extent` granules above the limit; None beyond `most` granules."""
    granules = reach_for(heap.holes, replica, extent, most)
    if granules is None:
        return None
    return ListHeap(extend_holes(heap.holes, granules), extend_size_lists(heap.lists, granules))


@rows
def pick_list_heap(heap, r):
    """Replica r's rows, and its registers."""
    lists = heap.lists
    picked = ListHeap(pick_holes(heap.holes, r), SizeLists(pick_bitset(lists.sizes, r), lists.heads[r], lists.links[r]))
    return picked, picked.holes.registers


@inline
def newest_at_least(heap, extent):
    """Start and size of the newest of the smallest holes of at least `extent`; (NONE, 0) if none fits."""
    if extent >= len(heap.lists.heads):
        return np.int64(NONE), np.int64(0)
    size = next_member(heap.lists.sizes, 0, extent)
    if size < 0:
        return np.int64(NONE), np.int64(0)
    return np.int64(heap.lists.heads[at(size)]) - 1, size


@inline
def largest_in_lists(heap):
    """Size of the largest hole in granules; 0 if there is none."""
    return heap.holes.registers[LARGEST]


@inline
def push_hole(lists, registers, start, size):
    """A hole of `size` was made at `start`: it goes on top."""
    head = np.int64(lists.heads[at(size)])
    pair = start & ~np.int64(1)
    lists.links[at(pair)] = head
    lists.links[at(pair + 1)] = 0
    lists.heads[at(size)] = start + 1
    if head != 0:
        lists.links[at(((head - 1) & ~np.int64(1)) + 1)] = start + 1
    else:
        insert(lists.sizes, 0, size)
        registers[LARGEST] = max(size, registers[LARGEST])


@inline
def unlink_hole(lists, registers, start, size):
    """The hole of `size` at `start` is gone."""
    pair = start & ~np.int64(1)
    older = np.int64(lists.links[at(pair)])
    newer = np.int64(lists.links[at(pair + 1)])
    if older != 0:
        lists.links[at(((older - 1) & ~np.int64(1)) + 1)] = newer
    if newer != 0:
        lists.links[at((newer - 1) & ~np.int64(1))] = older
    else:
        _set_head(lists, registers, size, older)


@inline
def pop_hole(lists, registers, size):
    """The hole on top of its size is gone."""
    start = np.int64(lists.heads[at(size)]) - 1
    older = np.int64(lists.links[at(start & ~np.int64(1))])
    if older != 0:
        lists.links[at(((older - 1) & ~np.int64(1)) + 1)] = 0
    _set_head(lists, registers, size, older)


@inline
def _set_head(lists, registers, size, head):
    """The newest hole of `size` is the one at head - 1 now; head 0: there is none any more."""
    lists.heads[at(size)] = head
    if head == 0:
        discard(lists.sizes, 0, size)
        if size == registers[LARGEST]:
            registers[LARGEST] = max(last(lists.sizes, 0), np.int64(0))


@inline
def grant_from_lists(heap, start, size, extent):
    """Carve a block out of the newest hole of its size; return its address."""
    registers = heap.holes.registers
    pop_hole(heap.lists, registers, size)
    block, rest, remainder = split(heap.holes, start, size, extent)
    if remainder > 0:
        push_hole(heap.lists, registers, rest, remainder)
    return block


@inline
def free_into_lists(heap, block):
    """Give back a block: coalesce, and tell the lists."""
    registers = heap.holes.registers
    start, right, end = coalesce(heap.holes, block)
    if right < end:
        unlink_hole(heap.lists, registers, right, end - right)
    if start < block:
        unlink_hole(heap.lists, registers, start, block - start)
    if not is_at_limit(heap.holes, start):
        push_hole(heap.lists, registers, start, end - start)


@inline
def claim_in_lists(heap, address, granted):
    """Make a live block of [address, address + granted), inside one hole; what is left above it is the newest hole."""
    start, end = carve_out(heap.holes, address, granted)
    forget_in_lists(heap, start, end - start)
    if start < address:
        enter_in_lists(heap, start, address - start)
    if address + granted < end:
        enter_in_lists(heap, address + granted, end - address - granted)


@inline
def forget_in_lists(heap, start, size):
    """The hole of `size` at `start` is gone: it leaves its list from wherever it stands."""
    unlink_hole(heap.lists, heap.holes.registers, start, size)


@inline
def enter_in_lists(heap, start, size):
    """A hole of `size` is new at `start`: it goes on top."""
    push_hole(heap.lists, heap.holes.registers, start, size)
