"""When blocks are to be moved, and which must not be: what a loop knows of compaction.

A *pass* takes no time and always comes just before an event. The loop only says that one is due, and leaves; whoever
runs the loop has it made (`compaction.py`), writes into the cursor whether it was, and enters the loop again.

    when       a pass is due
    failure    before an alloc that no hole is large enough for, although the holes together are
    every      before each n-th event
    scatter    before any event at whose start 1 - largest hole / total free has reached a value

Source: the budget is that of c-partial compaction (Bendersky and Petrank 2012, *Space overhead bounds for dynamic
memory management with partial compaction*): at most a c-th of what has been allocated is ever moved.
"""

from typing import NamedTuple

import numpy as np

from vecalloc.kernel import inline, rows
from vecalloc.mechanisms.bits import at
from vecalloc.mechanisms.registers import GRANTED, LIMIT

WHEN, EVERY = 0, 1
"""Columns of `rules`: ON_FAILURE, ON_COUNT or ON_SCATTER; how many events lie between two passes."""

ON_FAILURE, ON_COUNT, ON_SCATTER = 0, 1, 2

SHARE, BUDGET_FACTOR = 0, 1
"""Columns of `limits`: the share of what is free that may lie outside the largest hole; c of the budget, 0: none."""


class Passes(NamedTuple):
    """What a loop knows of compaction.

    Attributes
    ----------
    rules : int64[2]
    limits : float64[2]
    pinned : uint8 (replicas, slots)
        Whether the block in a slot must stay where it is.
    to_pin : uint8 (replicas, allocs) or (replicas, 0)
        Of the allocs of this chunk, which are to be pinned; empty if none is.
    """

    rules: np.ndarray
    limits: np.ndarray
    pinned: np.ndarray
    to_pin: np.ndarray


@rows
def pick_passes(passes, r):
    """Replica r's rows, None if blocks never move."""
    if passes is None:
        return None
    return Passes(passes.rules, passes.limits, passes.pinned[r], passes.to_pin[r])


@inline
def is_due(passes, registers, before, event, extent, largest):
    """Whether a pass comes before this event; `extent` is that of an alloc, else 0 or less.

    `before` is the event that was asked about last. Before a failure: whether no hole is large enough; it is for the
    caller to see that together they are.
    """
    if passes is None:
        return False
    when = passes.rules[WHEN]
    if when == ON_FAILURE:
        return extent > largest
    if when == ON_COUNT:
        return event // passes.rules[EVERY] > before // passes.rules[EVERY]
    free = registers[LIMIT] - registers[GRANTED]
    return free > 0 and free - largest >= passes.limits[SHARE] * free


@inline
def waits_for_failure(passes):
    """Whether passes come before failures only."""
    if passes is None:
        return False
    return passes.rules[WHEN] == ON_FAILURE


@inline
def to_be_pinned(passes, n):
    """1 if the block of the chunk's alloc n is one that must stay, else 0."""
    if passes is None:
        return 0
    return passes.to_pin[at(n)] if len(passes.to_pin) > 0 else 0


@inline
def pin(passes, slot, value):
    """The block in a slot must stay from now on (1), or may move (0)."""
    if passes is None:
        return
    passes.pinned[at(slot)] = value
