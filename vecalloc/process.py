"""A policy over many replicas whose requests wait for room: what the loop runs out of is handed to it here.

    kernel runs every replica  ->  who stopped early, and for want of what?
          ^                                        |
          +---- arrivals, requests, words, slots --+

The order of events comes about with the placements, so each policy has its own. A replica's requests come from a source
that draws them chunk by chunk. The times of arrival and what arrives are drawn apart, because a request is only looked
at when it is first in line: however long the queue, nothing of it is kept but its length.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vecalloc.ledger import new_ledger
from vecalloc.loops.cursors import BIN_WIDTH, NEEDS_PASS, PASSED, REASON, REFUSED, SERVED, STOP, STRETCH_DONE
from vecalloc.loops.waiting import (
    ARRIVAL,
    ARRIVALS,
    FLOW_CURSORS,
    HEAD,
    HEADS,
    IS_UNSTABLE,
    NEEDS_ARRIVALS,
    NEEDS_REQUESTS,
    NEEDS_SLOTS,
    NEEDS_WORDS,
    QUEUE_LIMIT,
    SPARE,
    WORD,
    WORDS,
    Flow,
)
from vecalloc.mechanisms.calendar import extend_calendar, new_calendar
from vecalloc.mechanisms.replicas import copies_of, widened, with_row
from vecalloc.reclaim.compactor import Compactor
from vecalloc.reclaim.passes import ON_FAILURE, WHEN
from vecalloc.spec import Plan
from vecalloc.trace import extents_of

SLOTS = 64
"""Blocks that a replica begins with room for."""


class Source(Protocol):
    """One replica's requests in order, chunk by chunk; each method has a place of its own in them."""

    def next_arrivals(self) -> NDArray[np.float64]:
        """When the next requests arrive, as many as are at hand at once."""

    def next_requests(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Bytes and lifetimes of the next requests."""

    def next_words(self) -> NDArray[np.int64]:
        """Random words, to pick victims by."""


class Process:
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
        replicas, slots = len(sources), SLOTS
        self.compactor = compactor
        self.plan = plan
        self.sources = sources
        self.policy = plan.module()
        self.state = copies_of(self.policy.new(1, plan.granules, False, plan.rules), replicas)
        ledger = new_ledger(replicas, slots)
        self.ledger = ledger._replace(
            integrals=ledger.integrals.astype(np.float64), addresses=np.full((replicas, keep), -1, np.int64)
        )
        empty = np.zeros((replicas, 0), np.int64)
        self.flow = Flow(
            arrival=empty.astype(np.float64) if arrivals else None,
            requested=empty,
            extent=empty,
            life=empty.astype(np.float64) if lifetimes else None,
            words=empty,
            clock=np.tile([0.0, np.inf], (replicas, 1)),
            calendar=new_calendar(replicas, slots, 2 * rate),
            slots=np.tile(np.arange(slots, dtype=np.int32)[::-1], (replicas, 2, 1)),
            sizes=np.zeros((replicas, 2, slots), np.int64),
        )
        self.cursors = np.zeros((replicas, FLOW_CURSORS), np.int64)
        self.cursors[:, SPARE] = slots
        self.cursors[:, QUEUE_LIMIT] = queue_limit
        self.cursors[:, BIN_WIDTH] = plan.granules

    @property
    def now(self) -> NDArray[np.float64]:
        """What time it is in each replica."""
        return self.flow.clock[:, 0]

    def run_until(self, decided: int, time: float = np.inf) -> None:
        """Run every replica until so many requests have been placed or dropped, or it is so late, or it is unstable."""
        self.cursors[:, STOP] = decided
        self.flow.clock[:, 1] = time
        supply = {
            NEEDS_SLOTS: self._more_slots,
            NEEDS_ARRIVALS: self._more_arrivals,
            NEEDS_REQUESTS: self._more_requests,
            NEEDS_WORDS: self._more_words,
            NEEDS_PASS: self._compact,
        }
        while True:
            passes = self.compactor.passes if self.compactor else None
            self.policy.process(self.state, self.flow, self.ledger, passes, self.cursors, 0, len(self.cursors))
            reasons = set(self.cursors[:, REASON].tolist())
            for reason in reasons & supply.keys():  # in any order: none touches what another one supplies
                supply[reason](np.flatnonzero(self.cursors[:, REASON] == reason).tolist())
            if reasons <= {STRETCH_DONE, IS_UNSTABLE}:
                return

    def _more_slots(self, _: list[int]) -> None:
        """Twice as many, for all replicas; the new ones lie under those that are free."""
        flow, old = self.flow, self.flow.slots.shape[2]
        slots = widened(flow.slots, 2 * old)
        slots[:, 0, old:] = flow.slots[:, 0]
        slots[:, 0, :old] = np.arange(2 * old - 1, old - 1, -1)
        self.cursors[:, SPARE] += old
        self.flow = flow._replace(
            slots=slots, sizes=widened(flow.sizes, 2 * old), calendar=extend_calendar(flow.calendar, 2 * old)
        )
        self.ledger = self.ledger._replace(places=widened(self.ledger.places, 2 * old, -1))
        if self.compactor:
            self.compactor.widen(2 * old)

    def _compact(self, replicas: list[int]) -> None:
        """A pass in each; the first in line is who a first window is opened for."""
        assert self.compactor and self.ledger.geometry is None  # which would have to learn where blocks are now
        due = np.array(replicas)
        extents = np.zeros(len(due), np.int64)
        if self.compactor.passes.rules[WHEN] == ON_FAILURE:
            extents = self.flow.extent[due, self.cursors[due, HEAD]]
        refused = self.compactor.compact(self.policy, self.state, self.ledger, due, extents)
        self.cursors[due, SERVED] = np.where(refused, REFUSED, PASSED)

    def _more_arrivals(self, replicas: list[int]) -> None:
        arrival = self.flow.arrival
        for r in replicas:
            times = self.sources[r].next_arrivals()
            arrival = None if arrival is None else with_row(arrival, r, times)
            self.cursors[r, [ARRIVAL, ARRIVALS]] = 0, len(times)
        self.flow = self.flow._replace(arrival=arrival)

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
        self.flow = flow._replace(requested=requested, extent=extent, life=life)

    def _more_words(self, replicas: list[int]) -> None:
        words = self.flow.words
        for r in replicas:
            more = self.sources[r].next_words()
            words = with_row(words, r, more)
            self.cursors[r, [WORD, WORDS]] = 0, len(more)
        self.flow = self.flow._replace(words=words)
