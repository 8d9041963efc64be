"""next-fit: first-fit from where the last placed block ends, wrapping once.

The cursor is the end of the last placed block, 0 at first. The first candidate is the hole that contains the cursor or
else the next one above it, and it is used from its own low end, not from the cursor. A failed search leaves the cursor.

    cursor       v
    heap   A A . . . B B . . . . C        request of 2: the hole at 2, not the place 3

From the cursor's word the hole tree is climbed until a later sibling is large enough: a linear roving scan of the same
bitmaps is 50-150 times slower on a fragmented heap.

Source: Knuth, TAOCP vol. 1, section 2.5, exercise 6 (roving pointer); Bays (1977).
"""

import numpy as np

from vecalloc.kernel import inline, kernel
from vecalloc.loops import process_each, replay_each, swap_each
from vecalloc.mechanisms.bitmaps import previous_start
from vecalloc.mechanisms.changes import reindex_each
from vecalloc.mechanisms.hole_tree import (
    TreeHeap,
    claim_in_tree,
    enter_in_tree,
    extend_tree_heap,
    forget_in_tree,
    free_into_tree,
    grant_from_tree,
    lane,
    largest_in_tree,
    new_tree_heap,
    next_leaf,
    pick_tree_heap,
    root,
    scan_word,
)
from vecalloc.mechanisms.holes import (
    holes_of_heap,
    is_free_in_holes,
    place_at_limit,
    settle_in_holes,
    why_no_hole_fits,
)
from vecalloc.mechanisms.registers import CURSOR, GRANTED, NONE
from vecalloc.policies.table import Rules


def new(replicas: int, granules: int, grows: bool, rules: Rules) -> TreeHeap:
    """Return empty pools."""
    return new_tree_heap(replicas, granules, grows, rules.min_split)


holes = holes_of_heap
make_room = extend_tree_heap
pick = pick_tree_heap
free = free_into_tree
largest = largest_in_tree
cause = why_no_hole_fits
claim = claim_in_tree
is_free = is_free_in_holes
forget = forget_in_tree
enter = enter_in_tree
settle = settle_in_holes


@inline
def alloc(pool, extent):
    """Return the address of a new block in granules, or NONE."""
    tree, bitmaps, registers = pool.tree, pool.holes.bitmaps, pool.holes.registers
    start = np.int64(NONE)
    size = lane(extent)
    if size <= root(tree):
        here = previous_start(bitmaps, registers[CURSOR])
        w = here >> 6
        start, found, others = scan_word(bitmaps, w, here & 63, extent)
        if start < 0:
            w = next_leaf(tree, w + 1, size)
            if w < 0:
                w = next_leaf(tree, np.int64(0), size)
            start, found, others = scan_word(bitmaps, w, 0, extent)
    if start < 0:
        block = place_at_limit(pool.holes, extent)
        if block >= 0:
            registers[CURSOR] = block + extent
        return block
    granted = registers[GRANTED]
    block = grant_from_tree(pool, start, found, others, extent)
    registers[CURSOR] = block + registers[GRANTED] - granted
    return block


@kernel
def replay(pools, events, ledger, passes, cursors, first, last):
    """Run replicas first .. last - 1 to the end of their stretch."""
    replay_each(pick, alloc, free, largest, cause, pools, events, ledger, passes, cursors, first, last)


@kernel
def process(pools, flow, ledger, passes, cursors, first, last):
    """Run replicas first .. last - 1 of requests that wait."""
    process_each(pick, alloc, free, largest, cause, pools, flow, ledger, passes, cursors, first, last)


@kernel
def swap(pools, crowds, ledger, passes, cursors, first, last):
    """Run replicas first .. last - 1 of processes that are swapped."""
    swap_each(pick, alloc, free, largest, cause, claim, is_free, pools, crowds, ledger, passes, cursors, first, last)


@kernel
def reindex(pools, changes):
    """Tell the index of each replica that `changes` names what a pass did to its holes."""
    reindex_each(pick, forget, enter, settle, pools, changes)
