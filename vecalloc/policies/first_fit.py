"""first-fit: the hole at the lowest address that is large enough.

The hole tree is gone down along the first children that are large enough; the word it ends at is looked through once.

Source: Knuth, TAOCP vol. 1, section 2.5 (first-fit method); address-ordered as in Wilson et al. (1995), section 3.5.
"""

from vecalloc.kernel import inline, kernel
from vecalloc.loops import process_each, replay_each, swap_each
from vecalloc.mechanisms.changes import reindex_each
from vecalloc.mechanisms.hole_tree import (
    TreeHeap,
    claim_in_tree,
    enter_in_tree,
    extend_tree_heap,
    first_leaf,
    forget_in_tree,
    free_into_tree,
    grant_from_tree,
    lane,
    largest_in_tree,
    new_tree_heap,
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
from vecalloc.policies.table import Rules


def new(replicas: int, granules: int, grows: bool, rules: Rules) -> TreeHeap:
    """Return empty pools."""
    return new_tree_heap(replicas, granules, grows, rules.min_split, rules.carve_high)


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
    size = lane(extent)
    if size > root(pool.tree):
        return place_at_limit(pool.holes, extent)
    start, found, others = scan_word(pool.holes.bitmaps, first_leaf(pool.tree, size), 0, extent)
    if start < 0:  # only a saturated size says more than there is
        return place_at_limit(pool.holes, extent)
    return grant_from_tree(pool, start, found, others, extent)


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
