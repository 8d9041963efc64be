"""When requests arrive: a law of the gaps between them, in batches, at a rate.

    "poisson"              gaps are exponential
    "tick"                 one a tick, gaps are all equal
    {dist = ...}           renewal: gaps of any law; with a rate or a load they are scaled to it
    "saturated"            there is always one more: it arrives the moment the one before it is placed
    "fill-then-free"       the same, and blocks do not die: when one does not fit, a block picked at random is freed

A *batch* is a number of requests that arrive at once, fixed or of any law; `rate` counts requests, not batches. The gap
that is drawn with a batch comes after it, and the first request arrives at time 0: so what is known of n requests says
when the next one comes.
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
        if self.kind == RENEWAL and self.gaps is not None:
            return self.mean_batch() / self.gaps.mean()
        return 1.0 if self.kind == TICK else None

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
            raise InputError(f"{key}.arrivals: gaps of this law have the mean {gaps.mean()}: choose one with a mean > 0")
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
        self._scale = arrivals.mean_batch() / rate
        if arrivals.gaps is not None:
            self._scale /= arrivals.gaps.mean()
        self._key = (seed, replica, ARRIVALS)
        self._left = total
        self._chunk = 0
        self._gaps = np.zeros(0)
        self._even = 0.0

    def take(self, count: int) -> NDArray[np.float64]:
        """When the next `count` requests arrive, and the one after them: float64 (count + 1,), not decreasing."""
        while len(self._gaps) < count:
            self._gaps = np.concatenate([self._gaps, self._draw()]) if len(self._gaps) else self._draw()
        even = np.empty(count + 1)
        even[0] = self._even
        even[1:] = self._gaps[:count]
        np.cumsum(even, out=even)
        self._gaps = self._gaps[count:]
        self._even = float(even[-1])
        return self._arrivals.phases.moved(even) if self._arrivals.phases else even

    def _draw(self) -> NDArray[np.float64]:
        """The gaps after the requests of the next chunk."""
        how, count = self._arrivals, min(CHUNK, self._left)
        self._left -= count
        if how.kind == TICK and how.batch is None:
            return np.full(count, self._scale)
        generator = generator_of(*self._key, self._chunk)
        self._chunk += 1
        if how.gaps is not None:
            gaps = how.gaps.draw(generator, count)
        elif how.kind == TICK:
            gaps = np.ones(count)
        else:
            gaps = generator.standard_exponential(count)
        gaps = gaps * self._scale
        if how.batch is None:
            return gaps
        batches = how.batch.draw(generator, count).astype(np.int64)
        spread = np.zeros(int(batches.sum()))
        spread[np.cumsum(batches) - 1] = gaps
        return spread
