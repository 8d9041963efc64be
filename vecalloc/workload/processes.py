"""Processes: what arrives works for a while, idles, works again, and leaves when its work is done.

    work = {dist = "expon", scale = 8}       in all, per process
    active = {dist = "expon", scale = 1}     one active phase; the last is cut short, so that all add up to `work`
    idle = {dist = "expon", scale = 5}       one idle phase, between two active ones
    priority = 0                             the lowest is rolled out first, where the rule is "lowest-priority"

    process    active  idle  active  idle  active
               |-----|......|--|..........|---|          |-----| + |--| + |---| = work

What a process does with its time is its own, whether or not it is in memory: it is drawn before anything has happened,
for 2^10 processes at a time, from a stream each for work, active phases, idle phases and priorities. How many phases a
process has comes out of the drawing, so that is done in rounds: each draws one matrix of active and one of idle phases,
a row for each process that still lacks work; rows are twice as long as in the round before. So there are hardly more
rounds than log2(phases), in which at most twice as much is drawn as is needed: with ten phases a process, 150 ns each;
one phase a round would take 1,200.

Sums of floats depend on their order, but lengths that are to add up exactly must not: active phases are rounded to
multiples of the last bit of the process's work, so that every sum of them is exact. And ten phases of 0.1 are a work of
1, though the nearest floats are not: a rest of no more than 2^16 last bits (2^-36 of the work) belongs to the phase
before it.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecalloc.errors import InputError
from vecalloc.workload.arrivals import ArrivalTimes
from vecalloc.workload.laws import Floats, Law
from vecalloc.workload.requests import ENDLESS, Behaviour, Requests, Workload
from vecalloc.workload.streams import ACTIVE, CHUNK, IDLE, PRIORITY, WORK, generator_of

PROCESSES = 1 << 10
"""Processes of a chunk; the last one of a replica is as long as what is left."""

MOST_PHASES = 1 << 16
"""Active phases of a process."""

_MOST_AT_ONCE = 1 << 16
"""Phases that a round draws, if its rows are longer than one phase: they stay in the cache."""

_REST = MOST_PHASES
"""Last bits of the work: when no more of it is lacking, that is a rounding error, one a phase at most."""


class Newcomers(NamedTuple):
    """Processes in the order of their arrival.

    Attributes
    ----------
    arrival : float64 (processes,)
    size : int64 (processes,)
        Bytes.
    priority : float64 (processes,)
    offset : int64 (processes + 1,)
        Where the phases of each begin; every process has one at least.
    active : float64 (phases,)
        Lengths; those of a process add up to its work, exactly and in any order.
    idle : float64 (phases,)
        Length of the idle phase after each active one; 0 after the last.
    """

    arrival: Floats
    size: NDArray[np.int64]
    priority: Floats
    offset: NDArray[np.int64]
    active: Floats
    idle: Floats


class Processes:
    """One replica's processes in order; arrivals, what arrives, and words to pick victims by are read apart.

    Sizes, arrivals and words are those of `Requests`.

    Parameters
    ----------
    workload : Workload
        Of processes.
    rate : float
        Processes a unit of time.
    seed, replica : int
    total : int
        How many processes there are.
    """

    def __init__(self, workload: Workload, rate: float, seed: int, replica: int, total: int):
        if workload.behaviour is None:
            raise InputError("workload.work is missing: processes need work, active and idle: write a law of each")
        self._behaviour = workload.behaviour
        self._seed, self._replica, self._total = seed, replica, total
        self._requests = Requests(workload, rate, seed, replica, total)
        self._again = ArrivalTimes(workload.arrivals, rate, seed, replica, ENDLESS)
        self._sizes = np.zeros(0, np.int64)
        self._begun = 0

    def next_arrivals(self) -> Floats:
        """When the next processes arrive; they go on beyond the last one that is counted."""
        return self._requests.next_arrivals()

    def next_processes(self) -> Newcomers:
        """The next chunk of processes, and once more when they arrive: nothing is kept of those who wait.

        Raises
        ------
        InputError
            If a law draws what is no length, or phases so short that the work of a process does not end.
        """
        first, chunk = self._begun % CHUNK, self._begun // PROCESSES
        count = min(PROCESSES, self._total - self._begun)
        self._begun += count
        if first == 0:
            self._sizes, _ = self._requests.next_requests()
        work = _drawn(self._behaviour.work, "work", self._generator(WORK, chunk), (count,))
        priority = _drawn(self._behaviour.priority, "priority", self._generator(PRIORITY, chunk), (count,), -np.inf)
        phases = _phases_of(self._behaviour, work, self._generator(ACTIVE, chunk), self._generator(IDLE, chunk))
        return Newcomers(self._again.take(count)[:-1], self._sizes[first : first + count], priority, *phases)

    def next_words(self) -> NDArray[np.int64]:
        """Random words, all 64 bits of them."""
        return self._requests.next_words()

    def _generator(self, stream: int, chunk: int) -> np.random.Generator:
        return generator_of(self._seed, self._replica, stream, chunk)


def _phases_of(
    behaviour: Behaviour, work: Floats, of_active: np.random.Generator, of_idle: np.random.Generator
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Draw the phases of processes with so much work each: offset, active and idle of `Newcomers`."""
    lacking, grid = np.arange(len(work)), np.spacing(work)
    lack = work / grid  # counts of the grid from here on: whole numbers up to 2^53
    counts = np.zeros(len(work), np.int64)
    rounds = []
    done, width = 0, 1
    while len(lacking):
        width = min(width, max(_MOST_AT_ONCE // len(lacking), 1), MOST_PHASES - done)
        if width == 0:
            raise InputError(
                f"workload.active: after {done} active phases a process still lacks {lack[0] * grid[0]:g} of its work "
                f"of {work[lacking[0]]:g}: choose longer active phases, or less work"
            )
        shape = len(lacking), width
        active = _drawn(behaviour.active, "active", of_active, shape)
        idle = _drawn(behaviour.idle, "idle", of_idle, shape)
        active = np.rint(np.minimum(active, work[lacking, None]) / grid[:, None])
        ends = np.cumsum(active, axis=1)
        whole = (ends < lack[:, None] - _REST).sum(axis=1)
        last = np.flatnonzero(whole < width)
        place = whole[last]
        active[last, place] = lack[last] - np.where(place > 0, ends[last, place - 1], 0.0)
        idle[last, place] = 0.0
        used = np.minimum(whole + 1, width)
        kept = np.arange(width) < used[:, None]
        rounds.append((lacking, done, used, (active * grid[:, None])[kept], idle[kept]))
        counts[lacking] += used
        left = np.flatnonzero(whole == width)
        lacking, lack, grid = lacking[left], (lack - ends[:, -1])[left], grid[left]
        done += width
        width *= 2
    return _in_rows(counts, rounds)


def _in_rows(
    counts: NDArray[np.int64], rounds: list[tuple[NDArray[np.int64], int, NDArray[np.int64], Floats, Floats]]
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Put the phases of each process together, which have been drawn round by round."""
    offset = np.concatenate([[0], np.cumsum(counts)])
    active, idle = np.empty(offset[-1]), np.empty(offset[-1])
    for processes, done, used, actives, idles in rounds:
        # Those of a process lie side by side in its round, and are to begin `done` phases after its first.
        shift = offset[processes] + done - (np.cumsum(used) - used)
        places = np.repeat(shift, used) + np.arange(len(actives))
        active[places] = actives
        idle[places] = idles
    return offset, active, idle


def _drawn(law: Law, name: str, generator: np.random.Generator, shape: tuple[int, ...], least: float = 0.0) -> Floats:
    """Draw numbers; kernels rely on what this lets through."""
    numbers = law.draw(generator, math.prod(shape))
    fine = np.isfinite(numbers) & (numbers >= least)
    if not fine.all():
        what = "priority" if name == "priority" else "length"
        raise InputError(f"workload.{name}: the law drew {numbers[~fine][0]}, which is no {what}: choose another law")
    return numbers.reshape(shape)
