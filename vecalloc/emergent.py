"""A loop in which the order of events comes about, over many replicas: what it runs out of is handed to it here.

    kernel runs every replica  ->  who stopped early, and for want of what?
          ^                                        |
          +--- arrivals, words, a pass, ... -------+

The order of events comes about with the placements, so each policy has its own. A replica's arrivals, what arrives and
random words come from a source that draws them chunk by chunk, each read at a pace of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vecalloc.ledger import new_ledger
from vecalloc.loops.cursors import NEEDS_PASS, PASSED, REASON, REFUSED, SERVED, STOP, STRETCH_DONE
from vecalloc.loops.waiting import (
    ARRIVAL,
    ARRIVALS,
    IS_UNSTABLE,
    NEEDS_ARRIVALS,
    NEEDS_WORDS,
    QUEUE_LIMIT,
    SPARE,
    WORD,
    WORDS,
    Flow,
)
from vecalloc.mechanisms.replicas import copies_of, with_row
from vecalloc.reclaim.compactor import Compactor
from vecalloc.reclaim.crowd import Crowd
from vecalloc.reclaim.passes import Passes
from vecalloc.spec import Plan


class Draws(Protocol):
    """What a source has for every loop, chunk by chunk."""

    def next_arrivals(self) -> NDArray[np.float64]:
        """When the next to come arrive, as many as are at hand at once."""

    def next_words(self) -> NDArray[np.int64]:
        """Random words, to pick victims by."""


Tables = TypeVar("Tables", Flow, Crowd)
Source = TypeVar("Source", bound=Draws)


class Emergent(ABC, Generic[Tables, Source]):
    """Pools of one plan, one a replica, and a loop in which the order of events comes about.

    Parameters
    ----------
    plan : Plan
        Policy, options and pool, in granules.
    sources : sequence of Source
        One a replica.
    tables : Flow or Crowd
        What the loop works on.
    columns : int
        Of a cursor.
    slots, blocks : int
        How much may have a slot at first, and how many blocks that may be.
    queue_limit : int
        A longer queue ends the replica as unstable.
    keep : int
        Addresses to keep of each replica; 0: none.
    compactor : Compactor or None
        Makes the passes, for so many replicas and blocks; None: blocks never move.
    """

    def __init__(
        self,
        plan: Plan,
        sources: Sequence[Source],
        tables: Tables,
        columns: int,
        slots: int,
        blocks: int,
        queue_limit: int,
        keep: int,
        compactor: Compactor | None,
    ):
        replicas = len(sources)
        self.plan, self.sources, self.compactor = plan, sources, compactor
        self.tables: Tables = tables
        self.policy = plan.module()
        self.state = copies_of(self.policy.new(1, plan.granules, False, plan.rules), replicas)
        ledger = new_ledger(replicas, blocks)
        self.ledger = ledger._replace(
            integrals=ledger.integrals.astype(np.float64), addresses=np.full((replicas, keep), -1, np.int64)
        )
        self.cursors = np.zeros((replicas, columns), np.int64)
        self.cursors[:, SPARE] = slots
        self.cursors[:, QUEUE_LIMIT] = queue_limit
        self._supply: dict[int, Callable[[list[int]], None]] = {
            NEEDS_ARRIVALS: self._more_arrivals,
            NEEDS_WORDS: self._more_words,
            NEEDS_PASS: self._compact,
        }

    @property
    def now(self) -> NDArray[np.float64]:
        """What time it is in each replica."""
        return self.tables.clock[:, 0]

    def run_until(self, decided: int, time: float = np.inf) -> None:
        """Run every replica until so many have been placed or dropped, or it is so late, or it is unstable."""
        self.cursors[:, STOP] = decided
        self.tables.clock[:, 1] = time
        while True:
            self._enter(self.compactor.passes if self.compactor else None)
            reasons = self.cursors[:, REASON].tolist()
            for reason in set(reasons) & self._supply.keys():  # in any order: none touches what another one supplies
                self._supply[reason]([r for r, why in enumerate(reasons) if why == reason])
            if set(reasons) <= {STRETCH_DONE, IS_UNSTABLE}:
                return

    @abstractmethod
    def _enter(self, passes: Passes | None) -> None:
        """Run the policy's kernel."""

    @abstractmethod
    def _asked_at_heads(self, due: NDArray[np.int64]) -> NDArray[np.int64]:
        """Granules that whoever is first in line asks for, in these replicas; 0 where no pass looks at it."""

    def _compact(self, replicas: list[int]) -> None:
        """A pass in each; who is first in line is who a first window is opened for."""
        assert self.compactor and self.ledger.geometry is None  # which would have to learn where blocks are now
        due = np.array(replicas)
        refused = self.compactor.compact(self.policy, self.state, self.ledger, due, self._asked_at_heads(due))
        self.cursors[due, SERVED] = np.where(refused, REFUSED, PASSED)

    def _more_arrivals(self, replicas: list[int]) -> None:
        arrival = self.tables.arrival
        assert arrival is not None  # else there is always one more, and nobody asks when
        for r in replicas:
            times = self.sources[r].next_arrivals()
            arrival = with_row(arrival, r, times)
            self.cursors[r, [ARRIVAL, ARRIVALS]] = 0, len(times)
        self.tables = self.tables._replace(arrival=arrival)

    def _more_words(self, replicas: list[int]) -> None:
        """More words behind those that are left: a choice of several victims must not run out of them."""
        words = self.tables.words
        for r in replicas:
            left = words[r, self.cursors[r, WORD] : self.cursors[r, WORDS]]
            more = np.concatenate([left, self.sources[r].next_words()])
            words = with_row(words, r, more)
            self.cursors[r, [WORD, WORDS]] = 0, len(more)
        self.tables = self.tables._replace(words=words)
