"""A workload as it is written, checked; and the requests of one replica, drawn chunk by chunk.

    [workload]
    sizes = {dist = "lognorm", s = 1.0, scale = 256}      see sizes.py and laws.py
    lifetimes = {dist = "expon"}                          from placement on; see laws.py
    arrivals = "poisson"                                  see arrivals.py
    load = 0.9                                            or rate = 100: requests a unit of time

    work, active, idle = ...                              instead of lifetimes: processes (see processes.py), with a
    priority = 0                                          priority each, of any law

*Load* is a target: arrival rate x mean life x mean requested bytes / pool, the share of the pool that would be
requested on average if every request were served and nothing were lost. It is the same for all policies. In a fleet
profile the life goes with the size, so mean life x mean bytes is the mean of their product.
With phases, load and rate are those of a segment whose rate is 1 and whose lifetimes are the usual ones.
Of processes, the load is arrival rate x mean work x mean requested bytes / pool: what they hold while they work, which
no swapping can take from them, so that a load above 1 can never be served. (How long they are there besides depends on
the number of their idle phases, whose mean has no closed form for most laws.)

Requests and their lifetimes come from one stream each, arrivals from a third: which request is which never depends on
when it arrives, or on what a policy did. (Where a phase has lifetimes of its own, they come from a fourth.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecalloc.errors import InputError, did_you_mean
from vecalloc.trace import extents_of
from vecalloc.workload.arrivals import FILL, Arrivals, ArrivalTimes, arrivals_of
from vecalloc.workload.laws import REVISION as LAWS_REVISION
from vecalloc.workload.laws import Fleet, Law, law_of
from vecalloc.workload.phases import FOREVER, UNTIL_THE_END, Phases, phases_of
from vecalloc.workload.sizes import REVISION as SIZES_REVISION
from vecalloc.workload.sizes import Sizes, sizes_of
from vecalloc.workload.streams import CHUNK, LIFETIMES, PHASES, SIZES, VICTIMS, generator_of

REVISION = 1
"""Raised whenever sizes, lifetimes and arrivals are put together in another way than before."""

PROCESSES_REVISION = 1
"""Raised whenever processes.py draws other phases or priorities than before."""

_OF_PROCESSES = ("work", "active", "idle")
_KEYS = ("sizes", "lifetimes", *_OF_PROCESSES, "priority", "arrivals", "batch", "load", "rate", "phases")


@dataclass(frozen=True)
class Behaviour:
    """What processes do with their time.

    Attributes
    ----------
    work : Law
        Of all active phases of a process together.
    active, idle : Law
        Of one phase.
    priority : Law
    """

    work: Law
    active: Law
    idle: Law
    priority: Law

    def canonical(self) -> dict[str, Any]:
        """What determines the draws, as plain data."""
        laws = {"work": self.work, "active": self.active, "idle": self.idle, "priority": self.priority}
        return {name: law.canonical() for name, law in laws.items()} | {"revision": PROCESSES_REVISION}


@dataclass(frozen=True)
class Workload:
    """What is asked of the pools of one cell, in bytes and units of time.

    Attributes
    ----------
    sizes : Sizes
    lifetimes : Law or None
        None: blocks do not die by themselves (fill-then-free, processes). Of a fleet: its shape, scaled to the mean
        life of each size.
    arrivals : Arrivals
    load, rate : float or None
    behaviour : Behaviour or None
        None: what arrives is no process, but a request.
    """

    sizes: Sizes
    lifetimes: Law | None
    arrivals: Arrivals
    load: float | None
    rate: float | None
    behaviour: Behaviour | None = None

    @property
    def processes(self) -> bool:
        """Whether processes arrive, which work and idle, and not requests."""
        return self.behaviour is not None

    @property
    def fleet(self) -> bool:
        """Whether a block's life goes with its size."""
        return isinstance(self.sizes.law, Fleet)

    @property
    def waits_only(self) -> bool:
        """Whether requests have no times of arrival, so that they can only wait for room."""
        return not self.arrivals.timed

    def mean_size_life(self) -> float:
        """E[requested bytes x life]: bytes that live on average at one request a unit of time.

        Of processes: E[requested bytes x work], the bytes of those that work.
        """
        if self.behaviour is not None:
            return self.sizes.mean() * self.behaviour.work.mean()
        if self.fleet:
            return self.sizes.mean_size_life()
        return self.sizes.mean() * (self.lifetimes.mean() if self.lifetimes else 1.0)

    def rate_in(self, pool: int) -> float:
        """Requests a unit of time in a pool of so many bytes.

        Where requests have no times, how many would fill the pool: a guess that only sets the width of a calendar's
        ticks.
        """
        if self.rate is not None:
            return self.rate
        if self.load is not None:
            return self.load * pool / self.mean_size_life()
        natural = self.arrivals.natural_rate()
        if natural is not None:
            return natural
        guess = pool / self.mean_size_life()
        return guess if 0 < guess < float("inf") else 1.0

    def canonical(self) -> dict[str, Any]:
        """What determines the requests, as plain data: part of the id of every row."""
        asked = {
            "sizes": self.sizes.canonical(),
            "lifetimes": self.lifetimes.canonical() if self.lifetimes else None,
            "arrivals": self.arrivals.canonical(),
            "load": self.load,
            "rate": self.rate,
            "revisions": [REVISION, LAWS_REVISION, SIZES_REVISION],
        }
        return asked | ({"processes": self.behaviour.canonical()} if self.behaviour is not None else {})


def workload_of(table: Mapping[str, Any], key: str = "workload", folder: str | Path = ".") -> Workload:
    """Check a workload as people write it.

    Parameters
    ----------
    table : dict
        The keys above.
    key : str
        Where it stands in a file: begins every message.
    folder : str or Path
        What paths of traces and fleet profiles are relative to.

    Raises
    ------
    InputError
        Names the key, the value and the remedy.
    """
    folder = Path(folder)
    for name in table:
        if name not in _KEYS:
            raise InputError(f"{key}.{name} is not known{did_you_mean(name, _KEYS)}: one of {', '.join(_KEYS)}")
    if "sizes" not in table:
        raise InputError(f"{key}.sizes is missing: write a law such as {{dist = 'lognorm', s = 1.0, scale = 256}}")
    sizes = sizes_of(table["sizes"], f"{key}.sizes", folder)
    phases = phases_of(table["phases"], f"{key}.phases", folder) if table.get("phases") is not None else None
    arrivals = arrivals_of(table.get("arrivals", "poisson"), table.get("batch"), phases, key, folder)
    behaviour = _behaviour_of(table, key, folder, arrivals)
    lifetimes = _lifetimes_of(table, key, folder, sizes, arrivals) if behaviour is None else None
    load, rate = (_positive(table.get(name), f"{key}.{name}") for name in ("load", "rate"))
    workload = Workload(sizes, lifetimes, arrivals, load, rate, behaviour)
    _check_rate(workload, key)
    return workload


def _behaviour_of(table: Mapping[str, Any], key: str, folder: Path, arrivals: Arrivals) -> Behaviour | None:
    """Check what processes do with their time; None: there are none."""
    given = [name for name in _OF_PROCESSES if table.get(name) is not None]
    if not given:
        if (priority := table.get("priority")) is not None:
            raise InputError(
                f"{key}.priority is {priority!r}, but only processes have one: leave it out, or write work, active and "
                "idle instead of lifetimes"
            )
        return None
    for name in _OF_PROCESSES:
        if name not in given:
            raise InputError(
                f"{key}.{name} is missing, but {key}.{given[0]} is {table[given[0]]!r}, and processes need work, "
                "active and idle: write a law such as {dist = 'expon', scale = 1.0}"
            )
    _check_processes(table, key, arrivals)
    work, active, idle = (law_of(table[name], f"{key}.{name}", folder, at_least=0.0) for name in _OF_PROCESSES)
    if not active.support()[1] > 0:
        raise InputError(
            f"{key}.active is {table['active']!r}, so that no work is ever done: choose a law that draws more than 0"
        )
    priority = table.get("priority")
    return Behaviour(work, active, idle, law_of(0.0 if priority is None else priority, f"{key}.priority", folder))


def _check_processes(table: Mapping[str, Any], key: str, arrivals: Arrivals) -> None:
    """Complain about what does not go with processes."""
    if table.get("lifetimes") is not None:
        raise InputError(
            f"{key}.lifetimes is {table['lifetimes']!r}, but processes ({key}.work) leave when their work is done: "
            "leave it out, or leave work, active and idle out"
        )
    if not arrivals.timed:
        raise InputError(
            f"{key}.arrivals is {arrivals.kind!r}, but processes ({key}.work) arrive at times of their own: write "
            "poisson, tick or a law of the gaps"
        )
    for i, phase in enumerate(arrivals.phases.segments if arrivals.phases else ()):
        if phase.lifetimes is not None:
            raise InputError(
                f"{key}.phases.{i}.lifetimes is {table['phases'][i]['lifetimes']!r}, but processes ({key}.work) leave "
                "when their work is done: leave it out"
            )


def _lifetimes_of(table: Mapping[str, Any], key: str, folder: Path, sizes: Sizes, arrivals: Arrivals) -> Law | None:
    given = table.get("lifetimes")
    if arrivals.kind == FILL:
        if given is not None:
            raise InputError(f"{key}.lifetimes: in {FILL!r} blocks live until they are picked at random: leave it out")
        return None
    if given is None and isinstance(sizes.law, Fleet):
        given = {"dist": "expon"}
    if given is None:
        raise InputError(f"{key}.lifetimes is missing: write a law such as {{dist = 'expon', scale = 1.0}}")
    law = law_of(given, f"{key}.lifetimes", folder, at_least=0.0)
    if isinstance(sizes.law, Fleet) and not 0 < law.mean() < float("inf"):
        raise InputError(
            f"{key}.lifetimes has the mean {law.mean()}: a fleet scales it to mean lives, so choose another"
        )
    return law


def _positive(value: Any, key: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise InputError(f"{key} is {value!r}: write a number above 0")
    return float(value)


def _check_rate(workload: Workload, key: str) -> None:
    kind, load, rate = workload.arrivals.kind, workload.load, workload.rate
    if load is not None and rate is not None:
        raise InputError(f"{key}: give load ({load}) or rate ({rate}), not both")
    if workload.waits_only:
        if load is not None or rate is not None:
            which = "load" if load is not None else "rate"
            raise InputError(f"{key}.{which} does not go with arrivals = {kind!r}: there is always a request")
        return
    if load is None:
        if rate is None and workload.arrivals.natural_rate() is None:
            raise InputError(f"{key}: arrivals = {kind!r} need a rate: give load (such as 0.9) or rate")
        return
    bytes_alive = workload.mean_size_life()
    if not 0 < bytes_alive < float("inf"):
        law = workload.behaviour.work if workload.behaviour is not None else workload.lifetimes
        name = "work" if workload.processes else "lifetimes"
        means = f"sizes {workload.sizes.mean()}, {name} {law.mean() if law else None}"
        raise InputError(
            f"{key}.load is {load}, but a load needs laws with a finite mean above 0 ({means}): give a rate, or bounds"
        )


ENDLESS = 1 << 40
"""More requests than anybody waits for."""


# --- one replica's requests ------------------------------------------------------------------------------------------


class Requests:
    """One replica's requests in order; arrivals, what arrives, and words to pick victims by are read apart.

    Parameters
    ----------
    workload : Workload
    rate : float
        Requests a unit of time.
    seed, replica : int
    total : int
        How many requests there are.
    """

    def __init__(self, workload: Workload, rate: float, seed: int, replica: int, total: int):
        self._workload = workload
        self._seed, self._replica, self._total = seed, replica, total
        self._arrivals = ArrivalTimes(workload.arrivals, rate, seed, replica, total)
        self._coming, self._again = (ArrivalTimes(workload.arrivals, rate, seed, replica, ENDLESS) for _ in range(2))
        self._requests = 0
        self._words = 0

    @property
    def at_hand(self) -> int:
        """How many requests the next chunk has."""
        return min(CHUNK, self._total - self._requests)

    def next_arrivals(self) -> NDArray[np.float64]:
        """When the next requests arrive.

        They go on beyond the last one that is counted: if nobody queued behind it, the end of a replica would be
        emptier than the rest.
        """
        return self._coming.take(CHUNK)[:-1]

    def next_requests(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Bytes of the next chunk of requests, and how long their blocks live from placement on.

        Raises
        ------
        InputError
            If blocks are to die when a phase ends: by then they may not have been placed.
        """
        phases, chunk = self._workload.arrivals.phases, self._chunk
        sizes, lives = self._draw()
        if phases is not None and phases.lives_by_time:
            if any(phase.lifetimes == UNTIL_THE_END for phase in phases.segments):
                raise InputError(
                    f"workload.phases: lifetimes = {UNTIL_THE_END!r} does not go with on_failure = 'wait', where "
                    f"lives start at placement: write a law or {FOREVER!r}, or choose drop, grow or stop"
                )
            # Nothing is kept of those who wait: the times at which they came are drawn once more.
            times = self._again.take(len(sizes))[:-1]
            self._live_by_phase(phases, chunk, times, np.zeros_like(times), lives)
        return sizes, lives

    def next_births(self, time: NDArray[np.float64], death: NDArray[np.float64], requested: NDArray[np.int64]) -> None:
        """Write the next chunk of requests: one row each of `Births`."""
        phases, chunk = self._workload.arrivals.phases, self._chunk
        requested[:], lives = self._draw()
        self._arrivals.fill(time)
        np.add(time[:-1], lives, out=death)
        if phases is not None and phases.lives_by_time:
            self._live_by_phase(phases, chunk, time[:-1], time[:-1], death)

    def next_words(self) -> NDArray[np.int64]:
        """Random words, all 64 bits of them."""
        generator = self._generator(VICTIMS, self._words)
        self._words += 1
        words: NDArray[np.int64] = generator.integers(0, 1 << 64, CHUNK, dtype=np.uint64).view(np.int64)
        return words

    @property
    def _chunk(self) -> int:
        return self._requests // CHUNK

    def _draw(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Draw bytes and usual lifetimes of the next chunk."""
        workload, chunk, count = self._workload, self._chunk, self.at_hand
        self._requests += count
        sizes, means = workload.sizes.draw_with_lives(self._generator(SIZES, chunk), count)
        if workload.lifetimes is None:
            return sizes, np.full(count, np.inf)
        lives = _lives_of(workload.lifetimes, self._generator(LIFETIMES, chunk), count)
        return sizes, lives if means is None else lives * (means / workload.lifetimes.mean())

    def _live_by_phase(
        self,
        phases: Phases,
        chunk: int,
        times: NDArray[np.float64],
        born: NDArray[np.float64],
        death: NDArray[np.float64],
    ) -> None:
        """Set the deaths of what arrives in phases that have lifetimes of their own."""
        segment, ends = phases.segments_of(times)
        generator = self._generator(PHASES, chunk)
        for k, phase in enumerate(phases.segments):
            here = np.flatnonzero(segment == k)
            if isinstance(phase.lifetimes, Law):
                death[here] = born[here] + _lives_of(phase.lifetimes, generator, len(here))
            elif phase.lifetimes == UNTIL_THE_END:
                death[here] = np.maximum(ends[here], born[here])  # a phase may be shorter than what a float resolves
            elif phase.lifetimes == FOREVER:
                death[here] = np.inf

    def _generator(self, stream: int, chunk: int) -> np.random.Generator:
        return generator_of(self._seed, self._replica, stream, chunk)


def _lives_of(law: Law, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Draw lifetimes; kernels rely on what this lets through."""
    lives = law.draw(generator, count)
    if not (least := lives.min(initial=0.0)) >= 0:
        raise InputError(f"workload.lifetimes: the law drew {least}, which is no lifetime: choose another law")
    return lives


class Births(NamedTuple):
    """Requests in the order of their arrival, one row a replica.

    Attributes
    ----------
    time : float64 (replicas, requests + 1)
        When each arrives; the last one is the time of the request after the last.
    death : float64 (replicas, requests)
        When its block dies, not before its birth; inf: never.
    requested : int64 (replicas, requests)
        Bytes.
    extents : int64 (groups, replicas, requests)
        Granules, for each group of policies with the same header and alignment.
    """

    time: NDArray[np.float64]
    death: NDArray[np.float64]
    requested: NDArray[np.int64]
    extents: NDArray[np.int64]


Room = dict[tuple[int, int, int], Births]
"""Births of earlier calls that nobody needs any more, by groups, replicas and requests."""


def births_of(
    sources: Sequence[Requests], granule: int, groups: Sequence[tuple[int, int]], room: Room | None = None
) -> Births:
    """The next chunk of requests of all replicas.

    Parameters
    ----------
    sources : sequence of Requests
        One a replica, all at the same place.
    granule : int
        Bytes.
    groups : sequence of (header, alignment)
        Bytes; one axis of extents each.
    room : dict, optional
        Its births are written over, and kept in it: what a system takes to hand out new pages is as much as it takes to
        draw what goes into them.

    Raises
    ------
    InputError
        If the workload draws what is no size, no lifetime or no time.
    """
    shape = len(groups), len(sources), sources[0].at_hand
    births = room.get(shape) if room is not None else None
    if births is None:
        births = Births(
            np.empty((shape[1], shape[2] + 1)),
            np.empty(shape[1:]),
            np.empty(shape[1:], np.int64),
            np.empty(shape, np.int64),
        )
        if room is not None:
            room[shape] = births
    for r, source in enumerate(sources):
        source.next_births(births.time[r], births.death[r], births.requested[r])
        for g, group in enumerate(groups):
            births.extents[g, r] = extents_of(births.requested[r], granule, *group)
    return births
