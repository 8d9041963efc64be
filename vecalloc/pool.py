"""Pool: one heap to hold in your hand, bytes in and bytes out, on the same kernels as everything else.

>>> pool = Pool(160, policy="first-fit", granule=16)
>>> pool.alloc(40), pool.alloc(16), pool.alloc(1000)
(0, 48, None)
>>> pool
Pool(160, 'first-fit', granule=16)  |####......|

Blocks stay where they are until somebody moves them: `compact` at once, or passes by themselves where `reclaim` says
when. A block is named by where it is now, so whoever keeps addresses looks at what moved:

>>> pool.free(0)
>>> pool.compact().tolist()
[[48, 0]]
"""

from collections.abc import Iterator
from contextlib import contextmanager
from operator import index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecalloc import ledger as columns
from vecalloc import metrics
from vecalloc.errors import InputError
from vecalloc.loops.cursors import NOT_YET, SERVED
from vecalloc.loops.replay import NEXT_ALLOC
from vecalloc.mechanisms.replicas import widened
from vecalloc.reclaim.compactor import Compactor
from vecalloc.reclaim.table import HOWS, Compact
from vecalloc.simulate import Simulation, Switches
from vecalloc.spec import (
    check_reclaim,
    checked_choice,
    contradictions_of,
    label_of_reclaim,
    make_plan,
    parse_reclaim,
    whole_number,
)
from vecalloc.trace import LARGEST_SIZE, LARGEST_SUM, Events, extents_of
from vecalloc.workload.pins import compactor_of

_MAP_WIDTH = 64

_NOWHERE = np.zeros((0, 2), np.int64)
"""Nothing has moved."""


class InvalidFree(ValueError):
    """The address is not that of a live block: freed before, inside a block, or never handed out."""


class Pool:
    """A pool of memory under one policy.

    Parameters
    ----------
    size : int or str
        Bytes, or a size such as "1MiB": a positive multiple of the granule (buddy: a power of two of granules).
    policy : str
        `name` or `name[key=value,...]`; `vecalloc policies -v` lists them.
    granule : int
        Bytes, a power of two: every block starts at a multiple of it.
    on_failure : {"drop", "grow"}
        What becomes of a request that no hole fits: None is returned, or the pool grows.
    reclaim : str, dict, list or None
        When passes of compaction come by themselves, such as "compact[how=slide,budget=4]" (`vecalloc policies -v`);
        None or "none": only `compact` moves blocks.
    seed : int
        Which blocks are pinned, where `reclaim` pins a share of them.
    **options
        Options of the policy by keyword.

    Raises
    ------
    InputError
        For a policy, option, size or remedy that cannot be used.
    """

    def __init__(
        self,
        size: int | str,
        policy: str = "first-fit",
        granule: int = 16,
        on_failure: str = "drop",
        reclaim: Any = None,
        seed: int = 0,
        **options: Any,
    ):
        checked_choice(on_failure, "on_failure of a Pool", ("drop", "grow"))
        self._plan = make_plan(policy, size, granule, options=options)
        self._on_failure = on_failure
        self._remedies = parse_reclaim(reclaim)
        check_reclaim(self._remedies, self._plan)
        seed = whole_number(seed, "seed")
        compactor = compactor_of(self._remedies, seed, range(1), 64)
        switches = Switches(metrics=True)
        self._simulation = Simulation(self._plan, 1, 64, on_failure, switches, workers=1, compactor=compactor)
        self._pinned: set[int] = set()  # slots; where passes come by themselves, the compactor knows
        self._moved = _NOWHERE
        self._slot_at: dict[int, int] = {}
        self._spare = list(range(63, -1, -1))
        self._requested = np.zeros(64, np.int64)
        self._one = Events(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.int64), np.zeros((1, 1), np.int64), None)
        self.alloc_many([])  # the ledger reads the pool after each chunk: an untouched pool is all free, not of size 0

    # --- one block at a time ---

    def alloc(self, size: int, pinned: bool = False) -> int | None:
        """Allocate `size` contiguous bytes; no pass moves a pinned block.

        Returns
        -------
        int or None
            The address of the block in bytes; None when no memory is available.

        Raises
        ------
        InputError
            If the size is negative or not whole.
        """
        size = whole_number(size, "size", "of bytes")
        if size > LARGEST_SIZE:
            raise InputError(f"size is {size}: a size is between 0 and {LARGEST_SIZE} bytes")
        if not self._spare:
            self._more_slots()
        slot = self._spare.pop()
        self._requested[slot] = size
        extent = self._extent_of(size)
        ledger, placed = self._simulation.ledger, -1
        try:
            self._step(slot, size, extent)
            placed = int(ledger.places[0, slot])
        finally:
            if placed < 0:
                self._spare.append(slot)
        if placed < 0:
            ledger.counts[0, columns.DEMAND] -= extent  # what was refused is not live, and nobody will free it
            return None
        address = placed * self._plan.granule
        self._slot_at[address] = slot
        if pinned:
            self._pin(slot)
        return address

    def free(self, address: int) -> None:
        """Give back the block at `address`.

        Raises
        ------
        InvalidFree
            If no live block has this address.
        """
        try:
            slot = self._slot_at.pop(index(address), -1)
        except TypeError:
            raise InvalidFree(f"{address!r} is not an address: no live block has it") from None
        if slot < 0:
            raise InvalidFree(self._why_invalid(index(address), []))
        size = int(self._requested[slot])
        self._step(slot, -size, -self._extent_of(size))
        self._spare.append(slot)
        if self._pinned:
            self._pinned.discard(slot)

    def _pin(self, slot: int) -> None:
        """Until the slot's block is freed, no pass moves it."""
        if self._simulation.compactor is None:
            self._pinned.add(slot)
        else:  # the loop clears it when the slot is used again
            self._simulation.compactor.passes.pinned[0, slot] = 1

    # --- many at once ---

    def alloc_many(self, sizes: ArrayLike) -> NDArray[np.int64]:
        """Allocate blocks of these sizes in order.

        Parameters
        ----------
        sizes : array of int (n,)
            Bytes, >= 0.

        Returns
        -------
        int64 (n,)
            Addresses in bytes, -1 where no memory was available. Where passes come by themselves, a block may have been
            moved for one that came after it: the addresses are those at the end of the call.

        Raises
        ------
        InputError
            If a size is negative, no whole number or absurdly large: nothing is allocated. If a pool that grows would
            pass what its policy can address: the sizes before that one have been allocated.
        """
        requested = _whole_array(sizes, "sizes")
        if len(requested) and (requested.min() < 0 or requested.max() > LARGEST_SIZE):
            at = int(np.flatnonzero((requested < 0) | (requested > LARGEST_SIZE))[0])
            raise InputError(f"sizes[{at}] is {requested[at]}: a size is between 0 and {LARGEST_SIZE} bytes")
        if requested.sum(dtype=np.float64) > LARGEST_SUM:
            raise InputError(f"sizes add up to more than {LARGEST_SUM} bytes: ask for fewer at once")
        slots = self._take_slots(len(requested))
        self._requested[slots] = requested
        extents = extents_of(requested, self._plan.granule, self._plan.header, self._plan.alignment)
        try:
            self._run(slots, requested, extents)
        finally:  # a pool that grows may find that it cannot: what was placed before is live
            served = self._simulation.ledger.addresses[0] >= 0
            placed = np.where(served, self._simulation.ledger.places[0, slots], -1)  # passes may have moved it since
            at = (placed[served] * self._plan.granule).tolist()
            self._slot_at.update(zip(at, slots[served].tolist(), strict=True))
            self._spare.extend(slots[~served].tolist())
            # What was refused is not live from now on, and nobody will free it.
            refused = ~served[: self._simulation.cursors[0, NEXT_ALLOC]]
            self._simulation.ledger.counts[0, columns.DEMAND] -= extents[: len(refused)][refused].sum()
        return np.where(served, placed * self._plan.granule, -1)

    def free_many(self, addresses: ArrayLike) -> None:
        """Give back the blocks at these addresses in order; nothing is freed if one of them is invalid.

        The addresses are those at the start of the call, even if a pass moves a block before its turn comes.

        Raises
        ------
        InvalidFree
            If an address is not that of a live block, or stands twice in the array.
        """
        asked = _whole_array(addresses, "addresses").tolist()
        found = [self._slot_at.pop(address, -1) for address in asked]
        if -1 in found:
            bad = found.index(-1)
            self._slot_at.update((a, s) for a, s in zip(asked, found, strict=True) if s >= 0)
            raise InvalidFree(self._why_invalid(asked[bad], asked[:bad]))
        slots = np.array(found, np.int32)
        requested = self._requested[slots]
        extents = extents_of(requested, self._plan.granule, self._plan.header, self._plan.alignment)
        self._run(slots, -requested, -extents)
        self._spare.extend(found)
        self._pinned.difference_update(found)

    def _why_invalid(self, address: int, before: list[int]) -> str:
        if address in before:
            return f"address {address} is freed twice in one call"
        for start, _, extent in self.blocks().tolist():
            if start < address < start + extent:
                return f"address {address} lies inside the block at {start}: free the block by its own address"
        gone = "freed or moved" if self._simulation.ledger.counts[0, columns.PASSES] else "freed"
        return f"no live block has the address {address}: it was {gone} before, or never allocated"

    def _take_slots(self, count: int) -> NDArray[np.int32]:
        while len(self._spare) < count:
            self._more_slots()
        taken = np.array(self._spare[len(self._spare) - count :][::-1], np.int32)
        del self._spare[len(self._spare) - count :]
        return taken

    def _more_slots(self) -> None:
        """As many again."""
        size = len(self._requested)
        self._spare[:0] = range(2 * size - 1, size - 1, -1)
        self._requested = widened(self._requested, 2 * size)
        ledger = self._simulation.ledger
        self._simulation.ledger = ledger._replace(places=widened(ledger.places, 2 * size, -1))
        if self._simulation.compactor:
            self._simulation.compactor.widen(2 * size)

    def _extent_of(self, size: int) -> int:
        """Granules that a request needs (`extents_of`, for one)."""
        step = max(self._plan.granule, self._plan.alignment)
        return max(1, -(-(size + self._plan.header) // step)) * (step // self._plan.granule)

    def _step(self, slot: int, requested: int, extent: int) -> None:
        """One event, in arrays that are used again: making new ones costs more than the event."""
        one = self._one
        one.slot[0, 0], one.requested[0, 0], one.extent[0, 0] = slot, requested, extent
        if self._simulation.compactor is None:
            self._simulation.step(one)
            return
        with self._following():
            self._simulation.step(one)

    def _run(self, slots: NDArray[np.int32], requested: NDArray[np.int64], extents: NDArray[np.int64]) -> None:
        events = Events(slots[None], requested[None], extents[None], None)
        with self._following():
            for _ in self._simulation.feed(events, keep_addresses=True):
                pass

    # --- blocks that move ---

    def compact(self, how: str = "slide", size: int | None = None) -> NDArray[np.int64]:
        """Move blocks together now, whatever the budget, so that holes become fewer and larger.

        What it moves counts against the budget of the passes that come by themselves.

        Parameters
        ----------
        how : {"slide", "first-window", "two-finger"}
            All blocks move down in order; the holes that are cheapest to join become one that is large enough; the
            highest blocks that fit fill the lowest holes.
        size : int, optional
            The request, in bytes, that first-window makes room for; the others do not look at it.

        Returns
        -------
        int64 (n, 2)
            The old and the new address, in bytes, of each block that moved, in order of the old ones. From now on a
            block is freed by its new address.

        Raises
        ------
        InputError
            If the blocks of the policy do not move, or not in this way; if first-window is not told a size.
        """
        rules = Compact(how=checked_choice(how, "how", HOWS))
        for _, _, why in contradictions_of((rules,), self._plan):
            raise InputError(f"{self._plan.label} cannot be compacted: {why}")
        if how == "first-window" and size is None:
            raise InputError("how is 'first-window', which makes room for a request: write its size too, in bytes")
        extent = self._extent_of(min(whole_number(0 if size is None else size, "size", "of bytes"), LARGEST_SIZE))
        simulation = self._simulation
        compactor = Compactor(rules, 1, len(self._requested))
        if simulation.compactor is None:
            compactor.passes.pinned[0, list(self._pinned)] = 1
        else:
            compactor.passes.pinned[:] = simulation.compactor.passes.pinned
        simulation.ledger.places[0, self._spare] = -1  # a pass looks there for what is live
        one = np.zeros(1, np.int64), np.array([extent])
        compactor.compact(simulation.policy, simulation.state, simulation.ledger, *one)
        self.alloc_many([])  # the ledger reads the pool
        return self._follow()

    @property
    def moved(self) -> NDArray[np.int64]:
        """What passes that came by themselves moved during the last alloc, free, alloc_many or free_many.

        int64 (n, 2): the address in bytes before the call, and after it, of each block that was live before and after
        and is elsewhere now, in order of the first; however many passes there were. Empty after `compact`, which
        returns what it moved.
        """
        return self._moved

    @contextmanager
    def _following(self) -> Iterator[None]:
        """Around whatever passes may come before: blocks are followed to where they are afterwards."""
        passes = self._simulation.ledger.counts[0, columns.PASSES]
        try:
            yield
        finally:
            self._simulation.cursors[0, SERVED] = NOT_YET  # an event that was given up had its pass
            has_moved = self._simulation.ledger.counts[0, columns.PASSES] > passes
            self._moved = self._follow() if has_moved else _NOWHERE

    def _follow(self) -> NDArray[np.int64]:
        """Name every block by where it is now; the old and new addresses of those that have moved."""
        count = len(self._slot_at)
        old = np.fromiter(self._slot_at, np.int64, count)
        slots = np.fromiter(self._slot_at.values(), np.int64, count)
        new = self._simulation.ledger.places[0, slots] * self._plan.granule
        self._slot_at = dict(zip(new.tolist(), slots.tolist(), strict=True))
        moved = np.stack([old, new], axis=1)[old != new]
        table: NDArray[np.int64] = moved[moved[:, 0].argsort()]
        return table

    # --- looking at it ---

    def holes(self) -> NDArray[np.int64]:
        """All holes in address order, int64 (n, 2): start and size in bytes.

        For the buddy system free blocks, for static partitions free units; in *grow* only what lies below the end of
        the highest live block.
        """
        return self._simulation.holes() * self._plan.granule

    def blocks(self) -> NDArray[np.int64]:
        """All live blocks in address order, int64 (n, 3): address, requested bytes, extent (bytes granted)."""
        starts = np.array(sorted(self._slot_at), np.int64)
        slots = np.array([self._slot_at[a] for a in starts.tolist()], np.int64)
        if not len(starts):
            return np.zeros((0, 3), np.int64)
        # Blocks and holes tile the pool: a block ends where the next one of either starts.
        limit = self._simulation.ledger.counts[0, columns.NOW_LIMIT] * self._plan.granule
        edges = np.sort(np.concatenate([starts, self.holes()[:, 0], [limit]]))
        granted = edges[np.searchsorted(edges, starts, side="right")] - starts
        return np.stack([starts, self._requested[slots], granted], axis=1)

    def stats(self) -> dict[str, Any]:
        """The metrics by name (see `vecalloc.metrics`), over all that happened in this pool, and failures by cause.

        What was allocated is counted only where passes come by themselves: elsewhere `moved_ratio` is 0, and so are the
        times, for want of a bandwidth.
        """
        grows = self._on_failure == "grow"
        account = metrics.Account.of(
            self._simulation.ledger, self._plan.granule, self._plan.granules, grows, self._remedies
        )
        return {**metrics.measure(account), "failures": metrics.failures(account)}

    @property
    def size(self) -> int:
        """The pool in bytes; in *grow* the end of the highest live block (buddy, static: the grown pool)."""
        if self._on_failure == "grow":
            return int(self._simulation.ledger.counts[0, columns.NOW_LIMIT]) * self._plan.granule
        return self._plan.pool

    def __repr__(self) -> str:
        grow = ", on_failure='grow'" if self._on_failure == "grow" else ""
        reclaim = f", reclaim={label_of_reclaim(self._remedies)!r}" if self._remedies else ""
        return f"Pool({self.size}, {self._plan.label!r}, granule={self._plan.granule}{grow}{reclaim})  |{self._map()}|"

    def _map(self) -> str:
        """The heap in one line: '#' all taken, '.' all free, '+' both."""
        cells = max(1, min(_MAP_WIDTH, self.size // self._plan.granule))
        edges = np.linspace(0, self.size, cells + 1)
        taken = np.zeros(cells)
        for start, _, extent in self.blocks().tolist():
            taken += np.clip(np.minimum(edges[1:], start + extent) - np.maximum(edges[:-1], start), 0, None)
        share = taken / np.maximum(np.diff(edges), 1)
        return "".join("#" if s > 1 - 1e-9 else "." if s < 1e-9 else "+" for s in share)


def _whole_array(values: ArrayLike, what: str) -> NDArray[np.int64]:
    array = np.atleast_1d(np.asarray(values))
    if array.size == 0:
        return np.zeros(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(f"{what} must be whole numbers in one dimension, not {array.dtype} of shape {array.shape}")
    if array.dtype.kind == "u" and array.max() > np.iinfo(np.int64).max:
        raise InputError(f"{what} holds {array.max()}, which is beyond {LARGEST_SIZE}")
    return array.astype(np.int64)
