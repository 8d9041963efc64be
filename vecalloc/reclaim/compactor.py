"""Whoever runs a loop has passes made here: scratch memory, the pass itself, and the policy's index mended.

    the loop leaves: a pass is due  ->  compact_holes or compact_buddies  ->  policy.reindex  ->  the loop is entered

All replicas that have stopped are served by one call of each kernel.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecalloc.ledger import Ledger
from vecalloc.mechanisms.bitset import Bitset, new_bitset
from vecalloc.mechanisms.changes import Changes
from vecalloc.mechanisms.registers import HOLES, LIMIT, ORDER
from vecalloc.mechanisms.replicas import widened
from vecalloc.reclaim.buddies import compact_buddies
from vecalloc.reclaim.compaction import FIRST_WINDOW, SLIDE, TWO_FINGER, compact_holes
from vecalloc.reclaim.passes import ON_COUNT, ON_FAILURE, ON_SCATTER, Passes
from vecalloc.reclaim.table import Compact

_HOW = {"slide": SLIDE, "first-window": FIRST_WINDOW, "two-finger": TWO_FINGER}

Pin = Callable[[int], NDArray[np.uint8]]
"""So many allocs of a replica -> which of the next ones are pinned, uint8 of 0 and 1."""


class Compactor:
    """Makes the passes of one simulation.

    Parameters
    ----------
    rules : Compact
    replicas, slots : int
    pins : sequence of callables
        One a replica; none: no block is pinned but those that the caller marks in `passes.pinned`.

    Attributes
    ----------
    passes : Passes
        What the loop is given.
    pins : sequence of callables
    changes : Changes
        What the last passes did.
    """

    def __init__(self, rules: Compact, replicas: int, slots: int, pins: Sequence[Pin] = ()):
        when, every = ON_FAILURE, 1
        if rules.every is not None:
            when, every = ON_COUNT, rules.every
        elif rules.external_fragmentation is not None:
            when = ON_SCATTER
        share = rules.external_fragmentation or 0.0
        self.passes = Passes(
            np.array([when, every]),
            np.array([share, rules.budget or 0.0]),
            np.zeros((replicas, slots), np.uint8),
            np.zeros((replicas, 0), np.uint8),
        )
        self._how = _HOW[rules.how]
        self.pins = pins
        self._owner = np.zeros(0, np.int32)
        self._free: Bitset | None = None

    def begin(self, which: Sequence[int], allocs: Sequence[int]) -> None:
        """Take up chunks of these replicas, with so many allocs each, and draw which of those are to be pinned."""
        if not self.pins:
            return
        to_pin = self.passes.to_pin
        if (most := max(allocs)) >= to_pin.shape[1]:  # a row of no length would mean that nobody asked
            to_pin = widened(to_pin, most + 1)
            self.passes = self.passes._replace(to_pin=to_pin)
        for r, count in zip(which, allocs, strict=True):
            to_pin[r, :count] = self.pins[r](count)

    def widen(self, slots: int) -> None:
        """Make room for so many slots."""
        if slots > self.passes.pinned.shape[1]:
            self.passes = self.passes._replace(pinned=widened(self.passes.pinned, slots))

    def compact(
        self, policy: ModuleType, state: Any, ledger: Ledger, which: NDArray[np.int64], extents: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """Make a pass in each of these replicas; return of which it was refused. `changes` has what was moved."""
        registers = state.registers[which]
        limit = int(registers[:, LIMIT].max())
        most = min(limit, ledger.places.shape[1])  # blocks
        if len(self._owner) < limit:
            self._owner = np.empty(limit, np.int32)
        refused = np.zeros(len(which), np.uint8)
        if hasattr(state, "holes"):
            self.changes = _new_changes(which, int(registers[:, HOLES].max()), most + 1, most)
            arguments = (self.passes, self._how, extents, self._owner, self.changes, refused)
            compact_holes(state.holes, ledger, *arguments)
        else:
            room = (most + 1) * (int(registers[:, ORDER].max()) + 1)
            self.changes = _new_changes(which, room, room, most)
            tags = policy.tags(state)
            if self._free is None or len(self._free.table) < 7 * tags.shape[1].bit_length():
                self._free = new_bitset(1, *(tags.shape[1] >> order for order in range(tags.shape[1].bit_length())))
            owner = (self._free, self._owner, self.changes, refused)
            compact_buddies(state.registers, tags, ledger, self.passes, *owner)
        policy.reindex(state, self.changes)
        return refused


def _new_changes(which: NDArray[np.int64], gone: int, come: int, moved: int) -> Changes:
    k = len(which)
    return Changes(
        which,
        np.empty((k, gone, 2), np.int64),
        np.empty((k, come, 2), np.int64),
        np.empty((k, moved, 3), np.int64),
        np.zeros((k, 3), np.int64),
    )
