"""Phases: how a program's demand goes up and down (ramps, peaks and plateaus), as a list of segments.

    phases = [
        {duration = 5, rate = 1, lifetimes = "forever"},    a ramp: what is born stays
        {duration = 2, rate = 4, lifetimes = "phase"},      a peak: what is born dies when the phase ends
        {duration = 9, rate = 0.5},                         a plateau: lifetimes as usual, half as many requests
    ]

A segment lasts `duration` units of time, in which `rate` times as many requests arrive as the workload's rate (or load)
says; `lifetimes` is for all that arrive in it: a law of its own (which a fleet does not scale), or one of two words.
After the last segment the first one follows.

Arrivals are drawn on a clock that runs evenly, u, and then moved to the time t at which as many are due: in segment k
the clock u runs rate_k times as fast as t. For Poisson arrivals that is the Poisson process with these rates. A segment
holds its begin and not its end, to the bit: what dies with it is gone when the next one's first request arrives.

Source: Wilson, Johnstone, Neely and Boles (1995), section 2.3, for the three shapes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecalloc.errors import InputError, did_you_mean
from vecalloc.workload.laws import Law, law_of

FOREVER, UNTIL_THE_END = "forever", "phase"
"""Lifetimes that are no law: blocks that never die; blocks that die when their phase ends."""

_KEYS = ("duration", "rate", "lifetimes")


@dataclass(frozen=True)
class Phase:
    """A segment.

    Attributes
    ----------
    duration : float
        Units of time.
    rate : float
        Factor of the rate of requests; 0: none arrive.
    lifetimes : Law, str or None
        A law, "forever" or "phase"; None: as usual.
    """

    duration: float
    rate: float
    lifetimes: Law | str | None

    def canonical(self) -> dict[str, Any]:
        """What determines the draws, as plain data."""
        lifetimes = self.lifetimes.canonical() if isinstance(self.lifetimes, Law) else self.lifetimes
        return {"duration": self.duration, "rate": self.rate, "lifetimes": lifetimes}


@dataclass(frozen=True)
class Phases:
    """Segments that follow each other in a circle.

    Attributes
    ----------
    segments : tuple of Phase
    """

    segments: tuple[Phase, ...]

    @property
    def lives_by_time(self) -> bool:
        """Whether how long a block lives depends on when its request arrives."""
        return any(phase.lifetimes is not None for phase in self.segments)

    @cached_property
    def _edges(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where segments begin and the circle ends, in time and on the even clock."""
        durations = np.array([phase.duration for phase in self.segments])
        rates = np.array([phase.rate for phase in self.segments])
        begin = np.zeros(1)
        return np.append(begin, np.cumsum(durations)), np.append(begin, np.cumsum(durations * rates))

    def _begins(self, circle: NDArray[np.float64], segment: NDArray[np.int64]) -> NDArray[np.float64]:
        """When segments begin; the one after the last is the first of the next circle, to the bit."""
        time, _ = self._edges
        over = segment == len(self.segments)
        begins: NDArray[np.float64] = (circle + over) * time[-1] + time[np.where(over, 0, segment)]
        return begins

    def moved(self, even: NDArray[np.float64]) -> NDArray[np.float64]:
        """Times on the even clock -> times, float64 in the same shape; each within the segment that it falls into."""
        _, clock = self._edges
        circle = np.floor(even / clock[-1])
        circle += even - circle * clock[-1] >= clock[-1]
        within = np.maximum(even - circle * clock[-1], 0.0)
        # The last segment that has begun by then: one in which the clock stands still has no inside.
        segment = np.minimum(np.searchsorted(clock, within, side="right"), len(self.segments)) - 1
        rates = np.array([phase.rate or 1.0 for phase in self.segments])
        times: NDArray[np.float64] = self._begins(circle, segment) + (within - clock[segment]) / rates[segment]
        np.minimum(times, self._begins(circle, segment + 1), out=times)
        return times

    def segments_of(self, times: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Which segment each time lies in, int64, and when that segment ends, float64: begin <= time < end."""
        time, _ = self._edges
        circle = np.floor(times / time[-1])
        segment = np.clip(np.searchsorted(time, times - circle * time[-1], side="right") - 1, 0, len(self.segments) - 1)
        # That is a rounding error away from the truth, and times often lie exactly where a segment begins.
        segment += (self._begins(circle, segment + 1) <= times).astype(np.int64) - (
            self._begins(circle, segment) > times
        )
        circle += segment // len(self.segments)
        segment %= len(self.segments)
        return segment, self._begins(circle, segment + 1)

    def canonical(self) -> list[dict[str, Any]]:
        """What determines the draws, as plain data."""
        return [phase.canonical() for phase in self.segments]


def phases_of(rows: Any, key: str, folder: Path) -> Phases:
    """Check a list of segments.

    Raises
    ------
    InputError
        Names the segment, the key and the value.
    """
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
        raise InputError(f"{key} is {rows!r}: write a list of segments such as [{{duration = 5, rate = 2}}]")
    segments = tuple(_phase_of(row, f"{key}.{i}", folder) for i, row in enumerate(rows))
    if not any(phase.rate > 0 for phase in segments):
        raise InputError(f"{key}: nothing ever arrives: give one segment a rate above 0")
    circle, due = sum(phase.duration for phase in segments), sum(phase.duration * phase.rate for phase in segments)
    if not (circle < float("inf") and 0 < due < float("inf")):
        raise InputError(f"{key}: a circle lasts {circle:g}, in which {due:g} are due: write durations nearer to 1")
    return Phases(segments)


def _phase_of(row: Any, key: str, folder: Path) -> Phase:
    if not isinstance(row, Mapping):
        raise InputError(f"{key} is {row!r}: write a segment such as {{duration = 5, rate = 2}}")
    for name in row:
        if name not in _KEYS:
            raise InputError(f"{key}.{name} is not known{did_you_mean(name, _KEYS)}: one of {', '.join(_KEYS)}")
    if "duration" not in row:
        raise InputError(f"{key}.duration is missing: write how long the segment lasts")
    duration, rate = _number(row["duration"], f"{key}.duration"), _number(row.get("rate", 1), f"{key}.rate")
    if duration <= 0:
        raise InputError(f"{key}.duration is {duration:g}: write a number above 0")
    lifetimes = row.get("lifetimes")
    if isinstance(lifetimes, str):
        if lifetimes not in (FOREVER, UNTIL_THE_END):
            hint = did_you_mean(lifetimes, (FOREVER, UNTIL_THE_END))
            raise InputError(f"{key}.lifetimes is {lifetimes!r}{hint}: write a law, {FOREVER!r} or {UNTIL_THE_END!r}")
    elif lifetimes is not None:
        lifetimes = law_of(lifetimes, f"{key}.lifetimes", folder, at_least=0.0)
    return Phase(duration, rate, lifetimes)


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise InputError(f"{key} is {value!r}: write a number that is not negative")
    return float(value)
