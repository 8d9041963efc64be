"""A policy over many replicas: state, ledger and cursors, run stretch by stretch.

    feed(events)  ->  kernel runs every replica of a share to the end of the stretch  ->  who stopped early?
                          ^                                                              |
                          +--- a larger state for the replica that needs room, or -------+
                               blocks moved for the one in which a pass is due

The loop inside the kernel leaves whenever something needs somebody else and is entered again at the same event, so
chunks, samples, growth and compaction all come through this one door. Replicas are independent: each thread of a pool
gets a share of them (kernels release the GIL), and nothing that a replica computes depends on how many threads there
are.
"""

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vecalloc import ledger as columns
from vecalloc.errors import InputError
from vecalloc.ledger import Geometry, new_ledger, new_orders
from vecalloc.loops.cursors import BIN_WIDTH, NEEDS_PASS, PASSED, REASON, REFUSED, SERVED, STOP
from vecalloc.loops.metering import note_moves
from vecalloc.loops.replay import (
    CURSORS,
    DROP,
    GROW,
    HALT,
    HALTED,
    METERED,
    NEEDS_ROOM,
    NEXT_ALLOC,
    ON_FAILURE,
    POSITION,
)
from vecalloc.mechanisms.bitset import Bitset, extend_bitset, new_bitset
from vecalloc.mechanisms.registers import GROWS, LIMIT, REACH
from vecalloc.mechanisms.replicas import copies_of, widened
from vecalloc.reclaim.compactor import Compactor
from vecalloc.spec import ON_FAILURES, Plan, checked_choice
from vecalloc.trace import Events

_ON_FAILURE = dict(zip(ON_FAILURES, (DROP, GROW, HALT), strict=True))


@dataclass(frozen=True)
class Switches:
    """What a simulation writes down beside addresses and failures.

    Attributes
    ----------
    metrics : bool
        Everything that `metrics` needs.
    geometry : bool
        Where blocks lie (implies metrics).
    bins : int
        Bins of the histogram of placed addresses (geometry).
    """

    metrics: bool = True
    geometry: bool = False
    bins: int = 1


class Simulation:
    """Pools of one plan, one a replica, and what they have written down.

    Parameters
    ----------
    plan : Plan
        Policy, options and pool, in granules.
    replicas : int
    slots : int
        How many blocks can be named at once.
    on_failure : {"drop", "grow", "stop"}
    switches : Switches
    workers : int, optional
        Threads that share the replicas; as many as there are cores. Results do not depend on it.
    compactor : Compactor, optional
        Makes the passes, for so many replicas and slots; None: blocks never move.

    Attributes
    ----------
    state : NamedTuple
        The policy's state (arrays with a leading replica axis).
    ledger : Ledger
    cursors : int64 (replicas, CURSORS)
    """

    def __init__(
        self,
        plan: Plan,
        replicas: int = 1,
        slots: int = 0,
        on_failure: str = "drop",
        switches: Switches = Switches(),
        workers: int | None = None,
        compactor: Compactor | None = None,
    ):
        checked_choice(on_failure, "on_failure", ON_FAILURES)
        self.plan = plan
        self.policy = plan.module()
        self.workers = workers or os.cpu_count() or 1
        self.state = copies_of(self.policy.new(1, plan.granules, on_failure == "grow", plan.rules), replicas)
        self.ledger = new_ledger(replicas, slots)
        self.compactor = compactor
        self._events = 0
        self.cursors = np.zeros((replicas, CURSORS), np.int64)
        self.cursors[:, ON_FAILURE] = _ON_FAILURE[on_failure]
        self.cursors[:, METERED] = switches.metrics or switches.geometry
        self.cursors[:, BIN_WIDTH] = -(-plan.granules // switches.bins)
        if switches.geometry:
            self._start_geometry(replicas, switches.bins)

    def _start_geometry(self, replicas: int, bins: int) -> None:
        ends = new_bitset(replicas, self.plan.granules + 1)
        orders = new_orders(replicas) if self.plan.policy.name == "buddy" else None
        histogram = np.zeros((replicas, bins), np.int64)
        self.ledger = self.ledger._replace(geometry=Geometry(ends.words, ends.table, histogram, orders))
        for r in range(replicas):
            self._count_half_used(r)

    def _count_half_used(self, replica: int) -> None:
        geometry = self.ledger.geometry
        if geometry is not None and geometry.orders is not None:
            orders = np.log2(self.holes(replica)[:, 1]).astype(np.int64)
            geometry.orders.half_used[replica] = np.bincount(orders, minlength=columns.ORDERS)

    def feed(self, events: Events, every: int = 0, keep_addresses: bool = False) -> Iterator[int]:
        """Run a chunk of events through all replicas.

        Parameters
        ----------
        events : Events
            One row a replica.
        every : int
            Pause after each `every` events (and at the end), so that the caller can look; 0: only at the end.
        keep_addresses : bool
            Put the address of every alloc of the chunk into `ledger.addresses`.

        Yields
        ------
        int
            How many events of the chunk are behind.

        Raises
        ------
        InputError
            If a pool that grows would pass what the policy can address.
        """
        count = self._begin(events)
        allocs = int((events.extent > 0).sum(axis=1).max(initial=0)) if keep_addresses else 0
        addresses = np.full((len(self.cursors), allocs), -1, np.int64)
        self.ledger = self.ledger._replace(addresses=addresses)
        for stop in [*range(every, count, every), count] if every else [count]:
            self.cursors[:, STOP] = stop
            self._run_stretch(events)
            yield int(self.cursors[:, POSITION].max())
            if self.halted:
                return

    def step(self, events: Events) -> None:
        """Run a chunk, as `feed` does, at the least cost a call: a placed block's address is in `ledger.places`."""
        self.begin(events)
        self.advance(events, events.extent.shape[1])

    def begin(self, events: Events, slots: int = 0, lengths: NDArray[np.int64] | None = None) -> None:
        """Take up a chunk, with so many slots at least; its rows may have different lengths. `advance` runs it."""
        self._begin(events, lengths)
        if self.ledger.addresses.shape[1]:
            self.ledger = self.ledger._replace(addresses=np.zeros((len(self.cursors), 0), np.int64))
        if slots > self.ledger.places.shape[1]:
            self.ledger = self.ledger._replace(places=widened(self.ledger.places, slots, -1))
            if self.compactor:
                self.compactor.widen(slots)

    def advance(self, events: Events, stops: int | NDArray[np.int64]) -> None:
        """Run each replica of the chunk to its own stop, or all to one: so many of its events are behind then."""
        self.cursors[:, STOP] = stops
        self._run_stretch(events)

    def _begin(self, events: Events, lengths: NDArray[np.int64] | None = None) -> int:
        """Go to the beginning of a chunk; return how many events it has. Beyond a row's length there are none."""
        self._set_clock(events)
        count = int(events.extent.shape[1])
        self._events += count
        self.cursors[:, POSITION] = 0
        self.cursors[:, NEXT_ALLOC] = 0
        if self.compactor and self.compactor.pins:
            allocs = events.extent > 0
            if lengths is not None:
                allocs &= np.arange(count) < lengths[:, None]
            self.compactor.begin(range(len(self.cursors)), allocs.sum(axis=1).tolist())
        return count

    def prepare(self, events: Events) -> None:
        """Compile the kernel for such events, or load it, without running any: a clock started after sees only them."""
        self._set_clock(events)
        self.cursors[:, [POSITION, STOP]] = 0
        self._enter(events)

    def _set_clock(self, events: Events) -> None:
        """Integrals are whole numbers as long as the event index is the clock and they are sure to fit an int64."""
        reach = self.plan.most if self.state.registers[0, GROWS] else self.plan.granules
        fits = (self._events + events.extent.shape[1]) * reach * self.plan.granule < 1 << 62
        if self.ledger.integrals.dtype == np.int64 and (events.time is not None or not fits):
            self.ledger = self.ledger._replace(integrals=self.ledger.integrals.astype(np.float64))

    def _run_stretch(self, events: Events) -> None:
        while True:
            self._enter(events)
            waiting = np.flatnonzero(self.cursors[:, REASON] == NEEDS_ROOM)
            for r in waiting.tolist():
                self._make_room(r, int(events.extent[r, self.cursors[r, POSITION]]))
            due = np.flatnonzero(self.cursors[:, REASON] == NEEDS_PASS)
            if len(due):
                refused = self.compact(due, events.extent[due, self.cursors[due, POSITION]])
                self.cursors[due, SERVED] = np.where(refused, REFUSED, PASSED)
            elif not len(waiting):
                return

    def compact(self, which: NDArray[np.int64], extents: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Make a pass in each of these replicas, for a request of so many granules each; say of which it was refused.

        What was moved is in `compactor.changes`.
        """
        assert self.compactor
        refused = self.compactor.compact(self.policy, self.state, self.ledger, which, extents)
        if self.ledger.geometry is not None:
            note_moves(self.ledger, self.compactor.changes)
            for r in which.tolist():
                self._count_half_used(r)
        return refused

    def _enter(self, events: Events) -> None:
        replicas = len(self.cursors)
        workers = min(self.workers, replicas)
        passes = self.compactor.passes if self.compactor else None
        arguments = (self.state, events, self.ledger, passes, self.cursors)
        if workers == 1:
            self.policy.replay(*arguments, 0, replicas)
            return
        bounds = [replicas * k // workers for k in range(workers + 1)]
        with ThreadPoolExecutor(workers) as threads:
            shares = itertools.pairwise(bounds)
            for done in [threads.submit(self.policy.replay, *arguments, *share) for share in shares]:
                done.result()

    def _make_room(self, replica: int, extent: int) -> None:
        most = self.plan.most
        state = self.policy.make_room(self.state, replica, extent, most)
        if state is None:
            raise InputError(
                f"{self.plan.label} would grow beyond the {most * self.plan.granule:,} bytes that it can address with "
                f"a granule of {self.plan.granule}: choose a larger granule"
            )
        self.state = state
        if (geometry := self.ledger.geometry) is not None:
            reach = max(int(state.registers[:, [LIMIT, REACH]].max()), self.plan.granules)
            ends = extend_bitset(Bitset(geometry.ends, geometry.ends_table), reach + 1)
            geometry = geometry._replace(ends=ends.words, ends_table=ends.table)
            self.ledger = self.ledger._replace(geometry=geometry)
            self._count_half_used(replica)

    @property
    def halted(self) -> bool:
        """Whether every replica has stopped at its first failure."""
        return bool((self.cursors[:, REASON] == HALTED).all())

    def holes(self, replica: int = 0) -> np.ndarray:
        """The free runs of a replica in address order: int64 (n, 2), start and size in granules."""
        table: np.ndarray = self.policy.holes(self.state, replica)
        return table
