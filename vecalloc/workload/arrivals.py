"""When requests arrive: a law of the gaps between them, in batches, at a rate.

    "poisson"              gaps are exponential
    "tick"                 one a tick, gaps are all equal: 1, unless a rate or a load says otherwise
    {dist = ...}           renewal: gaps of any law; with a rate or a load they are scaled to it
    "saturated"            there is always one more: it arrives the moment the one before it is placed
    "fill-then-free"       the same, and blocks do not die: when one does not fit, a block picked at random is freed

A *batch* is a number of requests that arrive at once, fixed or of any law; `rate` counts requests, not batches (and
without a rate each tick or gap brings a whole batch). The gap that is drawn with a batch comes after it, and the first
request arrives at time 0: so what is known of n requests says when the next one comes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecalloc.errors import InputError, did_you_mean
from vecalloc.workload.laws import Constant, Law, ScipyLaw, Table, law_of
from vecalloc.workload.phases import Phases
from vecalloc.workload.streams import ARRIVALS, CHUNK, generator_of

REVISION = 1
"""Raised whenever arrivals are drawn in another way than before."""

POISSON, TICK, RENEWAL, SATURATED, FILL = "poisson", "tick", "renewal", "saturated", "fill-then-free"
_WORDS = (POISSON, TICK, SATURATED, FILL)


@dataclass(frozen=True)
class Arrivals:
    """How requests arrive.

    Attributes
    ----------
    kind : str
        "poisson", "tick", "renewal", "saturated" or "fill-then-free".
    gaps : Law or None
        Of a renewal process.
    batch : Law or None
        Requests that arrive at once; None: one by one.
    phases : Phases or None
    """

    kind: str
    gaps: Law | None
    batch: Law | None
    phases: Phases | None

    @property
    def timed(self) -> bool:
        """Whether requests arrive at times of their own."""
        return self.kind not in (SATURATED, FILL)

    def mean_batch(self) -> float:
        """Requests that arrive at once, on average."""
        return self.batch.mean() if self.batch else 1.0

    def natural_rate(self) -> float | None:
        """Requests a unit of time if nobody asks for another rate; None: there is no such rate."""
        if self.kind == TICK:
            return self.mean_batch()
        return self.mean_batch() / self.gaps.mean() if self.gaps else None

    def canonical(self) -> dict[str, Any]:
        """What determines the draws, as plain data."""
        return {
            "kind": self.kind,
            "gaps": self.gaps.canonical() if self.gaps else None,
            "batch": self.batch.canonical() if self.batch else None,
            "phases": self.phases.canonical() if self.phases else None,
            "revision": REVISION,
        }


def arrivals_of(value: Any, batch: Any, phases: Phases | None, key: str, folder: Path) -> Arrivals:
    """Check how requests arrive, as people write it.

    Raises
    ------
    InputError
        Names the key and the value.
    """
    if isinstance(value, str) and value in _WORDS:
        kind, gaps = value, None
    elif isinstance(value, Mapping):
        kind, gaps = RENEWAL, law_of(value, f"{key}.arrivals", folder, at_least=0.0)
        if not 0 < gaps.mean() < float("inf"):
            raise InputError(
                f"{key}.arrivals: gaps of this law have the mean {gaps.mean()}: choose one with a mean > 0"
            )
    else:
        hint = did_you_mean(value, _WORDS) if isinstance(value, str) else ""
        raise InputError(f"{key}.arrivals is {value!r}{hint}: write one of {', '.join(_WORDS)}, or a law of the gaps")
    if kind in (SATURATED, FILL):
        for name, given in (("batch", batch not in (None, 1)), ("phases", phases is not None)):
            if given:
                raise InputError(f"{key}.{name} does not go with arrivals = {kind!r}: requests have no times there")
    return Arrivals(kind, gaps, _batch_of(batch, f"{key}.batch", folder), phases)


def _batch_of(value: Any, key: str, folder: Path) -> Law | None:
    if value is None or (value == 1 and not isinstance(value, (bool, Mapping))):
        return None
    law = law_of(value, key, folder, at_least=1.0)
    whole = (
        (isinstance(law, ScipyLaw) and law.discrete)
        or (isinstance(law, Table) and not np.any(law.values % 1))
        or (isinstance(law, Constant) and law.mean() % 1 == 0)
    )
    if not whole or not law.mean() < float("inf"):
        raise InputError(f"{key}: a batch is a whole number of requests: write one, or a discrete law such as geom")
    return law


class ArrivalTimes:
    """The times at which the requests of one replica arrive, as far as anybody asks.

    Gaps are scaled to the rate, then added up. Ticks are counted, then scaled: so no error adds up, and of ten ticks a
    unit of time every tenth falls on a whole number.

    Parameters
    ----------
    arrivals : Arrivals
    rate : float
        Requests a unit of time.
    seed, replica, total : int
        `total` requests, and when the next one would come.
    """

    def __init__(self, arrivals: Arrivals, rate: float, seed: int, replica: int, total: int):
        self._arrivals = arrivals
        self._rate = rate
        natural = arrivals.natural_rate() or arrivals.mean_batch()
        self._scale, self._pace = (1.0, rate / natural) if arrivals.kind == TICK else (natural / rate, 1.0)
        self._key = (seed, replica, ARRIVALS)
        self._total = self._left = total
        self._chunk = 0
        self._gaps = np.zeros(0)
        self._ends: NDArray[np.int64] | None = None
        self._next = self._drawn = 0
        self._even = self._time = 0.0

    def fill(self, times: NDArray[np.float64]) -> None:
        """Write when the next requests arrive, and the one after them: float64 (requests + 1,), not decreasing."""
        times[0] = self._even
        with np.errstate(over="ignore"):
            self._fill_gaps(times[1:])
            np.cumsum(times, out=times)
        self._even = float(times[-1])
        if self._pace != 1.0:
            times /= self._pace
        if not times[-1] < float("inf"):
            raise InputError(
                f"workload: at a rate of {self._rate:g} requests arrive at {times[-1]}: choose a larger rate"
            )
        if self._arrivals.phases:
            times[:] = self._arrivals.phases.moved(times)
            times[0] = max(times[0], self._time)  # a phase may be shorter than what a float resolves
            np.maximum.accumulate(times, out=times)
            self._time = float(times[-1])

    def take(self, count: int) -> NDArray[np.float64]:
        """Return what `fill` writes for `count` requests, float64 (count + 1,)."""
        times = np.empty(count + 1)
        self.fill(times)
        return times

    def _fill_gaps(self, gaps: NDArray[np.float64]) -> None:
        """Write the gap after each of the next requests; 0 within a batch."""
        done = 0
        while done < len(gaps):
            if self._next == self._drawn:
                self._draw()
            first = self._next
            last = self._next = min(first + len(gaps) - done, self._drawn)
            part = gaps[done : done + last - first]
            if self._ends is None:
                part[:] = self._gaps[first:last]
            else:
                part[:] = 0.0
                ends = slice(*np.searchsorted(self._ends, [first, last]))
                part[self._ends[ends] - first] = self._gaps[ends]
            done += last - first

    def _draw(self) -> None:
        """Draw the next chunk of batches: how many requests each has, and the gap after it."""
        how, count = self._arrivals, min(CHUNK, self._left)
        generator = generator_of(*self._key, self._chunk)
        self._chunk += 1
        if how.gaps is not None:
            self._gaps = how.gaps.draw(generator, count) * self._scale
        elif how.kind == TICK:
            self._gaps = np.ones(count)
        else:
            self._gaps = generator.standard_exponential(count)
            self._gaps *= self._scale
        self._next, self._drawn = 0, count
        if how.batch is not None:
            # What a batch has beyond all that are asked for is nobody's concern, and need not fit an int64.
            batches = np.minimum(how.batch.draw(generator, count), self._total).astype(np.int64)
            self._ends = np.cumsum(batches) - 1
            self._drawn = int(self._ends[-1]) + 1
        self._left -= min(self._drawn, self._left)
