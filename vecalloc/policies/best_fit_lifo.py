"""best-fit with ties to the hole made last: the smallest hole that is large enough, the newest of its size.

Every hole that is created or resized goes on top of the list of its size, as in an allocator that keeps a doubly linked
list for each size. Half the price of ties to the lowest address, and other addresses.

Source: Wilson et al. (1995), section 3.5 (LIFO order among equals).
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
from vecalloc.mechanisms.size_lists import (
    ListHeap,
    claim_in_lists,
    enter_in_lists,
    extend_list_heap,
    forget_in_lists,
    free_into_lists,
    grant_from_lists,
    largest_in_lists,
    new_list_heap,
    newest_at_least,
    pick_list_heap,
)
from vecalloc.policies.table import Rules


def new(replicas: int, granules: int, grows: bool, rules: Rules) -> ListHeap:
    """Return empty pools."""
    return new_list_heap(replicas, granules, grows, rules.min_split, rules.carve_high)


holes = holes_of_heap
make_room = extend_list_heap
pick = pick_list_heap
free = free_into_lists
largest = largest_in_lists
cause = why_no_hole_fits
claim = claim_in_lists
is_free = is_free_in_holes
forget = forget_in_lists
enter = enter_in_lists
settle = settle_in_holes


@inline
def alloc(pool, extent):
    """Return the address of a new block in granules, or NONE."""
    start, size = newest_at_least(pool, extent)
    if start < 0:
        return place_at_limit(pool.holes, extent)
    return grant_from_lists(pool, start, size, extent)


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
