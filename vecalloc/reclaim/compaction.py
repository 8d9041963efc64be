"""Compaction: a pass over heaps that stand on holes.

    bitmaps -> blocks in address order -> a plan (slide, first_window, two_finger) -> is it within the budget?
            -> bitmaps written anew, slots pointed to where their blocks are now -> what the policy's index has to learn

No policy is known here: the bitmaps and registers are the same for all that stand on holes, and what has changed is
handed back as `Changes`, from which the policy mends its index.
"""

import numpy as np

from vecalloc.kernel import inline, kernel, outline
from vecalloc.ledger import (
    ALLOCATED,
    BLOCKS_MOVED,
    LONGEST_PASS,
    MOVED,
    PASSES,
    PASSES_REFUSED,
)
from vecalloc.mechanisms.bits import at
from vecalloc.mechanisms.holes import pick_holes
from vecalloc.mechanisms.registers import CURSOR, GRANTED, GROWS, HOLES, LIMIT
from vecalloc.reclaim.first_window import plan_first_window
from vecalloc.reclaim.layout import Blocks, cost_of, differ, lay_out, note_owners, survey
from vecalloc.reclaim.passes import BUDGET_FACTOR
from vecalloc.reclaim.slide import plan_slide, slide_cost
from vecalloc.reclaim.two_finger import plan_two_finger

SLIDE, FIRST_WINDOW, TWO_FINGER = 0, 1, 2
"""The ways: how a pass is planned."""


@kernel
def compact_holes(holes, ledger, passes, how, extents, owner, changes, refused):
    """Make a pass in each of the replicas that `changes` names.

    Parameters
    ----------
    holes : Holes
        Of all replicas.
    ledger : Ledger
    passes : Passes
    how : int
    extents : int64 (k,)
        What was asked for: a first window must be as large.
    owner : int32 (granules,)
        Room to note whose block starts where; need not be clean.
    changes : Changes
        Filled in; its arrays have room for every hole and block.
    refused : uint8 (k,)
        Filled in: whether the pass would have exceeded the budget.
    """
    for k in range(len(changes.replica)):
        r = changes.replica[k]
        bitmaps, registers = pick_holes(holes, r)
        counts = ledger.counts[r]
        places = ledger.places[r]
        changes.count[k] = 0
        if how == SLIDE and passes.limits[BUDGET_FACTOR] > 0 and not passes.pinned[r].any():
            cost = slide_cost(bitmaps, registers[LIMIT], registers[GRANTED])
            if exceeds_budget(counts, passes.limits, cost):  # known without looking at any block
                counts[PASSES_REFUSED] += 1
                refused[k] = 1
                continue
        most = min(registers[LIMIT], np.int64(len(places)))
        blocks = Blocks(
            np.empty(most, np.int64),
            np.empty(most, np.int64),
            np.empty(most, np.int64),
            np.empty(most, np.uint8),
            np.empty(most, np.int64),
            np.empty(most, np.int64),
        )
        before = np.empty((registers[HOLES], 2), np.int64)
        note_owners(owner, places)
        n, h = survey(bitmaps, registers[LIMIT], owner, passes.pinned[r], blocks, before)
        if how == SLIDE:
            plan_slide(blocks, n)
        elif how == FIRST_WINDOW:
            plan_first_window(blocks, n, registers[LIMIT], extents[k])
        else:
            leaves = 1
            while leaves < n:
                leaves *= 2
            plan_two_finger(blocks, n, registers[LIMIT], np.empty(2 * leaves, np.int64))
        moved, granules = cost_of(blocks, n)
        refused[k] = note_pass(counts, passes.limits, moved, granules)
        if moved == 0 or refused[k] != 0:
            continue
        old_limit = registers[LIMIT]
        if registers[GROWS] != 0:
            registers[LIMIT] = blocks.to[blocks.line[n - 1]] + blocks.size[blocks.line[n - 1]]
        after = np.empty((n + 1, 2), np.int64)
        a = lay_out(bitmaps, blocks, n, old_limit, registers[LIMIT], after)
        registers[HOLES] = a
        changes.count[k, 0], changes.count[k, 1] = differ(before, h, after, a, changes.gone[k], changes.come[k])
        changes.count[k, 2] = _move(blocks, n, places, registers, changes.moved[k])


@inline
def exceeds_budget(counts, limits, granules):
    """Whether moving so many granules more would be over the budget; moving none never is."""
    return granules > 0 and limits[BUDGET_FACTOR] * (counts[MOVED] + granules) > counts[ALLOCATED]


@inline
def note_pass(counts, limits, moved, granules):
    """Enter a pass into the ledger, or that it would have exceeded the budget (1 then)."""
    if moved == 0:
        return 0
    if exceeds_budget(counts, limits, granules):
        counts[PASSES_REFUSED] += 1
        return 1
    counts[PASSES] += 1
    counts[BLOCKS_MOVED] += moved
    counts[MOVED] += granules
    counts[LONGEST_PASS] = max(counts[LONGEST_PASS], granules)
    return 0


@outline
def _move(blocks, n, places, registers, moves):
    """Point the slots to where their blocks are now, in the order of moving; return how many have moved."""
    m = np.int64(0)
    for i in range(n):
        b = blocks.line[at(i)]
        to = blocks.to[at(b)]
        if to != blocks.start[at(b)]:
            moves[at(m), 0] = blocks.start[at(b)]
            moves[at(m), 1] = to
            moves[at(m), 2] = blocks.size[at(b)]
            m += 1
            places[at(blocks.slot[at(b)])] = to
            registers[CURSOR] = to + blocks.size[at(b)]
    return m
