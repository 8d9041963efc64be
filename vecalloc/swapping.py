"""A policy over many replicas of processes that are swapped: what the loop runs out of is handed to it here.

What a process does with its time has been drawn before, and is the same for all policies.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vecalloc.emergent import Draws, Emergent
from vecalloc.ledger import SLOWDOWN_P99, WAITED_P99
from vecalloc.loops.swapping import NEEDS_LINE, NEEDS_NODES
from vecalloc.loops.waiting import (
    HEAD,
    HEADS,
    NEEDS_REQUESTS,
    NEEDS_SLOTS,
    SPARE,
)
from vecalloc.mechanisms.calendar import extend_calendar, new_calendar
from vecalloc.mechanisms.replicas import deepened, widened, with_row
from vecalloc.reclaim.compactor import Compactor
from vecalloc.reclaim.crowd import (
    BINS,
    BINS_PER_OCTAVE,
    COMPACT,
    COMPACT_SWAP,
    CROWD_CURSORS,
    EXTENT,
    FACTS,
    LARGEST_IDLE,
    LINE_FIRST,
    LINE_LENGTH,
    LOADS,
    LOWEST_PRIORITY,
    LRU,
    NEW,
    NODES_SPARE,
    NOTHING,
    ORDER,
    RANDOM,
    RELOCATES,
    SETTINGS,
    SMALLEST_SUFFICIENT,
    SPACE,
    SPARE_NODES,
    SPARE_SLOTS,
    SWAP,
    SWAP_COMPACT,
    TIMES,
    TRANSFER_FIRST,
    VICTIM,
    WAIT_UNIT,
    Crowd,
)
from vecalloc.reclaim.passes import Passes
from vecalloc.reclaim.table import Remedy, Swap
from vecalloc.spec import Plan
from vecalloc.trace import extents_of

SLOTS = 64
"""Processes that a replica begins with room for."""

BLOCKS_AT_FIRST = 2 * SLOTS
"""Their blocks: one in memory and one that is being written, each."""

_VICTIMS = {
    "lru": LRU,
    "largest-idle": LARGEST_IDLE,
    "smallest-sufficient": SMALLEST_SUFFICIENT,
    "random": RANDOM,
    "lowest-priority": LOWEST_PRIORITY,
}

_ORDERS = {
    (): NOTHING,
    ("compact",): COMPACT,
    ("swap",): SWAP,
    ("compact", "swap"): COMPACT_SWAP,
    ("swap", "compact"): SWAP_COMPACT,
}

_NO_LIMIT = 1 << 62


class Newcomers(Protocol):
    """Processes in the order of their arrival, as `vecalloc.workload` draws them."""

    @property
    def arrival(self) -> NDArray[np.float64]:
        """When they arrive."""

    @property
    def size(self) -> NDArray[np.int64]:
        """Bytes."""

    @property
    def priority(self) -> NDArray[np.float64]:
        """The lowest leaves first, where the rule is that."""

    @property
    def offset(self) -> NDArray[np.int64]:
        """Where the phases of each begin."""

    @property
    def active(self) -> NDArray[np.float64]:
        """Lengths of active phases."""

    @property
    def idle(self) -> NDArray[np.float64]:
        """Lengths of the idle phases that follow them."""


class Source(Draws, Protocol):
    """One replica's processes in order, chunk by chunk; each method has a place of its own in them."""

    def next_processes(self) -> Newcomers:
        """What the next processes are."""


class Swapping(Emergent[Crowd, Source]):
    """Pools of one plan, one a replica, and processes that are swapped in them.

    Parameters
    ----------
    plan : Plan
        Policy, options and pool, in granules.
    sources : sequence of Source
        One a replica.
    remedies : tuple of Remedy
        What is tried for the head of the line, in this order; none: it waits.
    rate : float
        Phases that end in a unit of time, roughly: it sets the width of the calendar's ticks and has no effect on
        results.
    queue_limit : int
        A longer line ends the replica as unstable.
    keep : int
        Addresses of first placements to keep of each replica; 0: none.
    compactor : Compactor, optional
        Makes the passes, for so many replicas and BLOCKS_AT_FIRST slots, if the remedies hold a compaction.

    Attributes
    ----------
    ledger : Ledger
    crowd : Crowd
    cursors : int64 (replicas, CROWD_CURSORS)
    """

    def __init__(
        self,
        plan: Plan,
        sources: Sequence[Source],
        remedies: tuple[Remedy, ...],
        rate: float,
        queue_limit: int,
        keep: int = 0,
        compactor: Compactor | None = None,
    ):
        crowd = _new_crowd(len(sources), remedies, rate)
        super().__init__(plan, sources, crowd, CROWD_CURSORS, SLOTS, BLOCKS_AT_FIRST, queue_limit, keep, compactor)
        self.cursors[:, NODES_SPARE] = crowd.nodes.shape[2]
        self.begin_measuring()
        self._supply |= {
            NEEDS_SLOTS: self._more_slots,
            NEEDS_NODES: self._more_nodes,
            NEEDS_LINE: self._longer_line,
            NEEDS_REQUESTS: self._more_processes,
        }

    @property
    def crowd(self) -> Crowd:
        """The processes."""
        return self.tables

    def _enter(self, passes: Passes | None) -> None:
        self.policy.swap(self.state, self.crowd, self.ledger, passes, self.cursors, 0, len(self.cursors))

    def _asked_at_heads(self, due: NDArray[np.int64]) -> NDArray[np.int64]:
        heads = self.crowd.line[due, self.cursors[due, LINE_FIRST]].astype(np.int64)
        new = self.crowd.extent[due, np.minimum(self.cursors[due, HEAD], self.crowd.extent.shape[1] - 1)]
        extents: NDArray[np.int64] = np.where(heads == NEW, new, self.crowd.facts[due, EXTENT, heads])
        return extents

    def begin_measuring(self) -> None:
        """Forget those that have been placed and have finished: `note_percentiles` is of those that will."""
        self._forgotten = self.crowd.slowdowns.copy(), self.crowd.waits.copy()

    def note_percentiles(self) -> None:
        """Enter the 99th percentiles of slow-downs and of waiting times into the ledger."""
        slowdowns, waits = self._forgotten
        self.ledger.integrals[:, SLOWDOWN_P99] = _quantiles(self.crowd.slowdowns - slowdowns, 0.99)
        waited = _quantiles(self.crowd.waits - waits, 0.99) * WAIT_UNIT
        self.ledger.integrals[:, WAITED_P99] = np.where(waited > 2 * WAIT_UNIT, waited, 0.0)

    # --- what may run out ---

    def _more_slots(self, _: list[int]) -> None:
        """Twice as many, for all replicas; the new ones lie under those that are free."""
        crowd, old = self.crowd, self.crowd.slots.shape[2]
        slots = widened(crowd.slots, 2 * old)
        slots[:, SPARE_SLOTS] = deepened(crowd.slots[:, SPARE_SLOTS])
        self.cursors[:, SPARE] += old
        firsts = self.cursors[:, TRANSFER_FIRST].copy()
        self.cursors[:, TRANSFER_FIRST] = 0
        self.tables = crowd._replace(
            slots=slots,
            calendar=extend_calendar(crowd.calendar, 2 * old),
            facts=widened(crowd.facts, 2 * old),
            times=widened(crowd.times, 2 * old),
            transfers=widened(_from_its_first(crowd.transfers, firsts), 4 * old),
            ends=widened(_from_its_first(crowd.ends, firsts), 4 * old),
            scratch=widened(crowd.scratch, 4 * old),
        )
        self.ledger = self.ledger._replace(places=widened(self.ledger.places, 4 * old, -1))
        if self.compactor:
            self.compactor.widen(4 * old)

    def _more_nodes(self, _: list[int]) -> None:
        """Twice as many nodes for phases, for all replicas."""
        crowd, old = self.crowd, self.crowd.nodes.shape[2]
        nodes = widened(crowd.nodes, 2 * old)
        nodes[:, SPARE_NODES] = deepened(crowd.nodes[:, SPARE_NODES])
        self.cursors[:, NODES_SPARE] += old
        self.tables = crowd._replace(nodes=nodes, phases=widened(crowd.phases, 2 * old))

    def _longer_line(self, replicas: list[int]) -> None:
        """A line for all replicas that is twice as long as the longest needs."""
        needed = int(self.cursors[replicas, LINE_LENGTH].max()) + self.crowd.slots.shape[2]
        line = _from_its_first(self.crowd.line, self.cursors[:, LINE_FIRST])
        self.cursors[:, LINE_FIRST] = 0
        self.tables = self.crowd._replace(line=widened(line, max(2 * needed, line.shape[1])))

    def _more_processes(self, replicas: list[int]) -> None:
        plan = self.plan
        for r in replicas:
            chunk, crowd = self.sources[r].next_processes(), self.crowd
            self.tables = crowd._replace(
                came=with_row(crowd.came, r, chunk.arrival),
                priority=with_row(crowd.priority, r, chunk.priority),
                requested=with_row(crowd.requested, r, chunk.size),
                extent=with_row(crowd.extent, r, extents_of(chunk.size, plan.granule, plan.header, plan.alignment)),
                offset=with_row(crowd.offset, r, chunk.offset),
                active=with_row(crowd.active, r, chunk.active),
                idle=with_row(crowd.idle, r, chunk.idle),
            )
            self.cursors[r, [HEAD, HEADS]] = 0, len(chunk.size)
        if self.compactor:
            self.compactor.begin(replicas, self.cursors[replicas, HEADS].tolist())


def _from_its_first(rings: np.ndarray, firsts: NDArray[np.int64]) -> np.ndarray:
    """The ring of each replica, turned so that its first place is 0."""
    return np.stack([np.roll(ring, -first, axis=-1) for ring, first in zip(rings, firsts.tolist(), strict=True)])


def _quantiles(histogram: NDArray[np.int64], share: float) -> NDArray[np.float64]:
    """Of each row of a histogram the value that this share does not exceed, in its units; 0 where it is empty.

    Within a bin values are taken to be spread evenly on the logarithmic scale: 1 % is the most that can be wrong.
    """
    total = np.cumsum(histogram, axis=1)
    rank = share * total[:, -1]
    place = np.minimum((total < rank[:, None]).sum(axis=1), BINS - 1)
    rows = np.arange(len(place))
    inside = (rank - (total - histogram)[rows, place]) / np.maximum(histogram[rows, place], 1)
    return np.where(total[:, -1] > 0, 2.0 ** ((place + inside) / BINS_PER_OCTAVE), 0.0)


def _new_crowd(replicas: int, remedies: tuple[Remedy, ...], rate: float) -> Crowd:
    swap = next((remedy for remedy in remedies if isinstance(remedy, Swap)), Swap())
    settings = np.zeros(SETTINGS, np.int64)
    settings[VICTIM] = _VICTIMS[swap.victim]
    settings[ORDER] = _ORDERS[tuple(remedy.kind for remedy in remedies)]
    settings[RELOCATES] = swap.relocate
    settings[LOADS] = swap.load
    settings[SPACE] = _NO_LIMIT if swap.swap_space is None else swap.swap_space
    empty, spare = np.zeros((replicas, 0)), np.arange(SLOTS, dtype=np.int32)[::-1]
    return Crowd(
        settings=settings,
        disk=np.array([swap.latency, swap.bandwidth]),
        arrival=empty,
        came=empty,
        priority=empty,
        requested=empty.astype(np.int64),
        extent=empty.astype(np.int64),
        offset=empty.astype(np.int64),
        active=empty,
        idle=empty,
        words=empty.astype(np.int64),
        clock=np.tile([0.0, np.inf], (replicas, 1)),
        calendar=new_calendar(replicas, SLOTS, 2 * rate),
        facts=np.zeros((replicas, FACTS, SLOTS), np.int64),
        times=np.zeros((replicas, TIMES, SLOTS)),
        slots=np.tile(spare, (replicas, 2, 1)),
        line=np.zeros((replicas, 2 * SLOTS), np.int32),
        transfers=np.zeros((replicas, 4, 2 * SLOTS), np.int64),
        ends=np.zeros((replicas, 2 * SLOTS)),
        phases=np.zeros((replicas, 2, SLOTS)),
        nodes=np.tile(spare, (replicas, 2, 1)),
        scratch=np.zeros((replicas, 5, 2 * SLOTS), np.int64),
        slowdowns=np.zeros((replicas, BINS), np.int64),
        waits=np.zeros((replicas, BINS), np.int64),
    )
