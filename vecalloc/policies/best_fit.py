"""best-fit: the smallest hole that is large enough, ties to the lowest address.

The size index answers both questions with one 64-ary bitset each.

Source: Knuth, TAOCP vol. 1, section 2.5 (best-fit method); Wilson et al. (1995), section 3.5.
"""

from vecalloc.kernel import inline, kernel
from vecalloc.loops import process_each, replay_each, swap_each
from vecalloc.mechanisms.changes import reindex_each
from vecalloc.mechanisms.holes import (
    holes_of_heap,
    is_free_in_holes,
    place_at_limit,
    settle_in_holes,
    why_no_hole_fits,
)
from vecalloc.mechanisms.size_index import (
    IndexHeap,
    claim_in_index,
    enter_in_index,
    extend_index_heap,
    forget_in_index,
    free_into_index,
    grant_from_index,
    largest_in_index,
    new_index_heap,
    pick_index_heap,
    smallest_at_least,
)
from vecalloc.policies.table import Rules


def new(replicas: int, granules: int, grows: bool, rules: Rules) -> IndexHeap:
    """Return empty pools."""
    return new_index_heap(replicas, granules, grows, rules.min_split, rules.carve_high)


holes = holes_of_heap
make_room = extend_index_heap
pick = pick_index_heap
free = free_into_index
largest = largest_in_index
cause = why_no_hole_fits
claim = claim_in_index
is_free = is_free_in_holes
forget = forget_in_index
enter = enter_in_index
settle = settle_in_holes


@inline
def alloc(pool, extent):
    """Return the address of a new block in granules, or NONE."""
    start, size = smallest_at_least(pool, extent)
    if start < 0:
        return place_at_limit(pool.holes, extent)
    return grant_from_index(pool, start, size, extent)


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
