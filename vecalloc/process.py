"""A policy over many replicas whose requests wait for room: what the loop runs out of is handed to it here.

The times of arrival and what arrives are drawn apart, because a request is only looked at when it is first in line:
however long the queue, nothing of it is kept but its length.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vecalloc.emergent import Draws, Emergent
from vecalloc.loops.cursors import BIN_WIDTH
from vecalloc.loops.waiting import (
    FLOW_CURSORS,
    HEAD,
    HEADS,
    NEEDS_REQUESTS,
    NEEDS_SLOTS,
    SPARE,
    Flow,
)
from vecalloc.mechanisms.calendar import extend_calendar, new_calendar
from vecalloc.mechanisms.replicas import deepened, widened, with_row
from vecalloc.reclaim.compactor import Compactor
from vecalloc.reclaim.passes import ON_FAILURE, WHEN, Passes
from vecalloc.spec import Plan
from vecalloc.trace import extents_of

SLOTS = 64
"""Blocks that a replica begins with room for."""


class Source(Draws, Protocol):
    """One replica's requests in order, chunk by chunk; each method has a place of its own in them."""

    def next_requests(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Bytes and lifetimes of the next requests."""


class Process(Emergent[Flow, Source]):
    """Pools of one plan, one a replica, and requests that wait for room in them.

    Parameters
    ----------
    plan : Plan
        Policy, options and pool, in granules.
    sources : sequence of Source
        One a replica.
    arrivals : bool
        Whether requests arrive at times of their own; else there is always one more.
    lifetimes : bool
        Whether blocks die by themselves; else one is picked at random whenever a request does not fit.
    rate : float
        Deaths a unit of time, roughly: it sets the width of the calendar's ticks and has no effect on results.
    queue_limit : int
        A longer queue ends the replica as unstable.
    keep : int
        Addresses to keep of each replica; 0: none.
    compactor : Compactor, optional
        Makes the passes, for so many replicas and `SLOTS` slots; None: blocks never move.

    Attributes
    ----------
    ledger : Ledger
    cursors : int64 (replicas, FLOW_CURSORS)
    """

    def __init__(
        self,
        plan: Plan,
        sources: Sequence[Source],
        arrivals: bool,
        lifetimes: bool,
        rate: float,
        queue_limit: int,
        keep: int = 0,
        compactor: Compactor | None = None,
    ):
        replicas, empty = len(sources), np.zeros((len(sources), 0), np.int64)
        flow = Flow(
            arrival=empty.astype(np.float64) if arrivals else None,
            requested=empty,
            extent=empty,
            life=empty.astype(np.float64) if lifetimes else None,
            words=empty,
            clock=np.tile([0.0, np.inf], (replicas, 1)),
            calendar=new_calendar(replicas, SLOTS, 2 * rate),
            slots=np.tile(np.arange(SLOTS, dtype=np.int32)[::-1], (replicas, 2, 1)),
            sizes=np.zeros((replicas, 2, SLOTS), np.int64),
        )
        super().__init__(plan, sources, flow, FLOW_CURSORS, SLOTS, SLOTS, queue_limit, keep, compactor)
        self.cursors[:, BIN_WIDTH] = plan.granules
        self._supply |= {NEEDS_SLOTS: self._more_slots, NEEDS_REQUESTS: self._more_requests}

    @property
    def flow(self) -> Flow:
        """The requests."""
        return self.tables

    def _enter(self, passes: Passes | None) -> None:
        self.policy.process(self.state, self.flow, self.ledger, passes, self.cursors, 0, len(self.cursors))

    def _asked_at_heads(self, due: NDArray[np.int64]) -> NDArray[np.int64]:
        extents = np.zeros(len(due), np.int64)
        if self.compactor and self.compactor.passes.rules[WHEN] == ON_FAILURE:  # else there may be no first in line
            extents[:] = self.flow.extent[due, self.cursors[due, HEAD]]
        return extents

    def _more_slots(self, _: list[int]) -> None:
        """Twice as many, for all replicas; the new ones lie under those that are free."""
        flow, old = self.flow, self.flow.slots.shape[2]
        slots = widened(flow.slots, 2 * old)
        slots[:, 0] = deepened(flow.slots[:, 0])
        self.cursors[:, SPARE] += old
        self.tables = flow._replace(
            slots=slots, sizes=widened(flow.sizes, 2 * old), calendar=extend_calendar(flow.calendar, 2 * old)
        )
        self.ledger = self.ledger._replace(places=widened(self.ledger.places, 2 * old, -1))
        if self.compactor:
            self.compactor.widen(2 * old)

    def _more_requests(self, replicas: list[int]) -> None:
        flow, plan = self.flow, self.plan
        requested, extent, life = flow.requested, flow.extent, flow.life
        for r in replicas:
            sizes, lives = self.sources[r].next_requests()
            requested = with_row(requested, r, sizes)
            extent = with_row(extent, r, extents_of(sizes, plan.granule, plan.header, plan.alignment))
            life = None if life is None else with_row(life, r, lives)
            self.cursors[r, [HEAD, HEADS]] = 0, len(sizes)
        if self.compactor:
            self.compactor.begin(replicas, self.cursors[replicas, HEADS].tolist())
        self.tables = flow._replace(requested=requested, extent=extent, life=life)
