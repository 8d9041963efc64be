"""One batch: some replicas of one cell under all of its policies, from plain data to plain numbers.

This is what is sent to a thread, a process or another machine. What comes back depends on nothing but what was sent:
not on which replicas share a batch, nor on who runs it.

    fixed order       births -> events, once ->  policy 1        in lockstep, stretch by stretch: memory is that of
    (drop, grow, stop)                       ->  policy 2 ...    the pools and one stretch
    emergent order    requests -> policy 1                       each policy draws the same requests again
    (wait, swapping)  requests -> policy 2 ...

Where blocks are moved, each policy has a compactor of its own, but they all pin the same blocks: those of the same
requests.

A replica's warm-up is taken off its sums at a *mark*: a request before which somebody looks at the ledger. For MSER-5,
which finds the end of the warm-up later, there are 64 marks, and the sums of each of the 64 batches are kept.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecalloc.errors import InputError
from vecalloc.ledger import ADDS_UP, COUNT_NAMES, COUNTS, INTEGRAL_NAMES, INTEGRALS, UNSTABLE, Ledger
from vecalloc.process import SLOTS, Process
from vecalloc.simulate import Simulation, Switches
from vecalloc.spec import NO_REMEDY, Plan, check_reclaim, make_plan, parse_reclaim
from vecalloc.swapping import BLOCKS_AT_FIRST, Swapping
from vecalloc.workload.order import Ordering, Stretch
from vecalloc.workload.pins import compactor_of
from vecalloc.workload.processes import Processes
from vecalloc.workload.requests import Births, Requests, Room, Workload, births_of
from vecalloc.workload.streams import CHUNK

BATCHES = 64
"""Batches that a replica is cut into for MSER-5."""

TOGETHER = 8
"""Replicas that advance side by side: enough to share the cost of a call, few enough for the cache."""

SHARE, TIME, REQUESTS, MSER = "share", "time", "requests", "mser"
"""How a warm-up is given."""

_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Batch:
    """What a worker is sent.

    Attributes
    ----------
    workload : Workload
    pool, granule : int
        Bytes.
    policies : tuple of str
        Canonical labels.
    ids : tuple of str
        The row of each policy.
    on_failure : str
        "drop", "grow", "stop" or "wait".
    queue_limit : int
    seed, requests : int
    warmup : (str, float)
        "share" of the requests, "time", "requests" or "mser", and how much.
    first, last : int
        Replicas first .. last - 1.
    geometry : bool
        Whether to write down where blocks lie; not where requests wait. Without, those columns are 0.
    reclaim : str
        Canonical label of the remedies.
    """

    workload: Workload
    pool: int
    granule: int
    policies: tuple[str, ...]
    ids: tuple[str, ...]
    on_failure: str
    queue_limit: int
    seed: int
    requests: int
    warmup: tuple[str, float]
    first: int
    last: int
    geometry: bool = False
    reclaim: str = NO_REMEDY


Lines = dict[str, NDArray[Any]]
"""One line for each row and replica: columns by name; `id` is an index into the batch's ids."""


def simulate_batch(batch: Batch) -> Lines:
    """Run a batch.

    Returns
    -------
    dict
        `row` (which of the batch's policies), `replica`, the counts, integrals and `scatter` of the ledger by name,
        after the warm-up; with "mser" all that add up also as (lines, 64) by batch, under `<name>/batches`.

    Raises
    ------
    InputError
        If the workload draws what it must not, a pool cannot grow any further, a replica ends within its warm-up,
        a policy does not go with a remedy, or geometry is asked for where requests wait.
    """
    if batch.geometry and batch.on_failure == "wait":
        raise InputError("geometry does not go with on_failure = 'wait': ask for it with drop, grow or stop")
    remedies = parse_reclaim(batch.reclaim)
    for plan in _plans_of(batch):
        check_reclaim(remedies, plan, batch.on_failure, processes=batch.workload.processes)
    pieces: list[Lines] = []
    memory = _Memory()
    for first in range(batch.first, batch.last, TOGETHER):
        replicas = range(first, min(first + TOGETHER, batch.last))
        for row, tally in enumerate(_run(batch, replicas, memory)):
            pieces.append(tally.lines(row, replicas, batch))
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _run(batch: Batch, replicas: range, memory: "_Memory") -> Iterable["_Tally"]:
    """Run some replicas side by side; a tally for each policy."""
    if batch.workload.processes:
        return _swap(batch, replicas)
    if batch.on_failure == "wait":
        return _wait(batch, replicas)
    return _replay(batch, replicas, memory)


def _plans_of(batch: Batch) -> list[Plan]:
    return [make_plan(label, batch.pool, batch.granule) for label in batch.policies]


class _Tally:
    """What the ledgers of one policy said at each mark, and say at the end."""

    def __init__(self, replicas: int, marks: int):
        self.counts = np.zeros((marks + 1, replicas, COUNTS), np.int64)
        self.integrals = np.zeros((marks + 1, replicas, INTEGRALS))
        self.scatter = np.zeros((marks + 1, replicas))

    def note(self, mark: int, ledger: Ledger, which: Any = slice(None)) -> None:
        """Copy the ledger of some replicas."""
        self.counts[mark, which] = ledger.counts[which]
        self.integrals[mark, which] = ledger.integrals[which]
        self.scatter[mark, which] = ledger.scatter[which]

    def lines(self, row: int, replicas: range, batch: Batch) -> Lines:
        """The sums after the first mark, and with MSER those between marks."""
        counts, integrals, scatter = self.counts[-1].copy(), self.integrals[-1], self.scatter[-1]
        counts[:, ADDS_UP] -= self.counts[0][:, ADDS_UP]
        lines: Lines = {"row": np.full(len(replicas), row), "replica": np.array(replicas)}
        lines |= {name: counts[:, k] for k, name in enumerate(COUNT_NAMES)}
        lines |= {name: (integrals - self.integrals[0])[:, k] for k, name in enumerate(INTEGRAL_NAMES)}
        lines["scatter"] = scatter - self.scatter[0]
        if batch.warmup[0] == MSER:
            steps = np.diff(self.counts, axis=0)
            lines |= {f"{name}/batches": steps[:, :, k].T for k, name in enumerate(COUNT_NAMES) if ADDS_UP[k]}
            steps = np.diff(self.integrals, axis=0)
            lines |= {f"{name}/batches": steps[:, :, k].T for k, name in enumerate(INTEGRAL_NAMES)}
            lines["scatter/batches"] = np.diff(self.scatter, axis=0).T
        return lines


def _marks(batch: Batch) -> NDArray[np.int64]:
    """The requests before which the ledger is looked at: one, or one for each batch; of a time not known yet."""
    kind, amount = batch.warmup
    if kind == MSER:
        return batch.requests * np.arange(BATCHES) // BATCHES
    if kind == TIME:
        return np.array([_NEVER if amount > 0 else 0])
    return np.array([int(amount * batch.requests) if kind == SHARE else int(amount)])


def _too_short(batch: Batch) -> InputError:
    return InputError(
        f"run.warmup is {batch.warmup[1]:g} units of time, but a replica of {batch.requests:,} requests ends before "
        "that: ask for more requests, or a shorter warm-up"
    )


# --- fixed order: all policies in lockstep ---------------------------------------------------------------------------


class _Memory:
    """What one group of replicas leaves to the next: new pages cost as much as what is written into them."""

    def __init__(self) -> None:
        self.births: Room = {}
        self._orderings: dict[tuple[int, int], Ordering] = {}

    def ordering(self, groups: int, marks: NDArray[np.int64]) -> Ordering:
        """An ordering that starts anew."""
        shape = len(marks), groups
        if shape not in self._orderings:
            self._orderings[shape] = Ordering(*shape, marks)
        self._orderings[shape].start(marks)
        return self._orderings[shape]


def _replay(batch: Batch, replicas: range, memory: _Memory) -> list[_Tally]:
    plans = _plans_of(batch)
    groups = list(dict.fromkeys((plan.header, plan.alignment) for plan in plans))
    rate = batch.workload.rate_in(batch.pool)
    sources = [Requests(batch.workload, rate, batch.seed, r, batch.requests) for r in replicas]
    marks = np.tile(_marks(batch), (len(replicas), 1))
    ordering = memory.ordering(len(groups), marks)
    runs = [
        _Lockstep(plan, groups.index((plan.header, plan.alignment)), batch, replicas, marks.shape[1]) for plan in plans
    ]
    for begin in range(0, batch.requests, CHUNK):
        births = births_of(sources, batch.granule, groups, memory.births)
        if batch.warmup[0] == TIME:
            _find_time(marks, births, begin, batch.warmup[1])
        for stretch in ordering.stretches(births):
            for run in runs:
                run.go(stretch, ordering.slots)
        if all(run.simulation.halted for run in runs):
            break
    if (marks == _NEVER).any() and batch.on_failure != "stop":
        raise _too_short(batch)
    return [run.finish() for run in runs]


def _find_time(marks: NDArray[np.int64], births: Births, begin: int, time: float) -> None:
    """Set the mark of each replica whose first request at or after this time is among these births."""
    for row, times in zip(marks, births.time[:, :-1], strict=True):
        if row[0] == _NEVER and times[-1] >= time:
            row[0] = begin + int(np.searchsorted(times, time))


class _Lockstep:
    """One policy's pools, run through the stretches that all share."""

    def __init__(self, plan: Plan, group: int, batch: Batch, replicas: range, marks: int):
        switches = Switches(geometry=batch.geometry)
        compactor = compactor_of(parse_reclaim(batch.reclaim), batch.seed, replicas, 0)
        self.simulation = Simulation(plan, len(replicas), 0, batch.on_failure, switches, workers=1, compactor=compactor)
        self.tally = _Tally(len(replicas), marks)
        self._group = group

    def go(self, stretch: Stretch, slots: int) -> None:
        """Run a stretch, and look at the ledger at each mark in it."""
        simulation, events = self.simulation, stretch.events(self._group)
        simulation.begin(events, slots, stretch.counts)
        here = np.zeros_like(stretch.counts)
        for mark in np.flatnonzero((stretch.marks >= 0).any(axis=0)).tolist():
            found = stretch.marks[:, mark] >= 0
            here = np.where(found, stretch.marks[:, mark], here)
            simulation.advance(events, here)
            self.tally.note(mark, simulation.ledger, found)
        simulation.advance(events, stretch.counts)

    def finish(self) -> _Tally:
        """The tally, with the ledger as it is now."""
        self.tally.note(-1, self.simulation.ledger)
        return self.tally


# --- emergent order: each policy alone -------------------------------------------------------------------------------


def _wait(batch: Batch, replicas: range) -> Iterator[_Tally]:
    workload, rate = batch.workload, batch.workload.rate_in(batch.pool)
    arrivals, lifetimes = workload.arrivals.timed, workload.lifetimes is not None
    remedies = parse_reclaim(batch.reclaim)
    for plan in _plans_of(batch):
        sources = [Requests(workload, rate, batch.seed, r, batch.requests) for r in replicas]
        compactor = compactor_of(remedies, batch.seed, replicas, SLOTS)
        process = Process(plan, sources, arrivals, lifetimes, rate, batch.queue_limit, compactor=compactor)
        yield _run_process(process, batch)


def _swap(batch: Batch, replicas: range) -> Iterator[_Tally]:
    workload, rate = batch.workload, batch.workload.rate_in(batch.pool)
    remedies = parse_reclaim(batch.reclaim)
    for plan in _plans_of(batch):
        sources = [Processes(workload, rate, batch.seed, r, batch.requests) for r in replicas]
        compactor = compactor_of(remedies, batch.seed, replicas, BLOCKS_AT_FIRST)
        yield _run_process(Swapping(plan, sources, remedies, rate, batch.queue_limit, compactor=compactor), batch)


def _run_process(process: Process | Swapping, batch: Batch) -> _Tally:
    marks = _marks(batch)
    tally = _Tally(len(process.sources), len(marks))
    for mark, decided in enumerate(marks.tolist()):
        if decided == _NEVER:
            process.run_until(batch.requests, batch.warmup[1])
            if ((process.now < batch.warmup[1]) & (process.ledger.counts[:, UNSTABLE] == 0)).any():
                raise _too_short(batch)
        else:
            process.run_until(decided)
        tally.note(mark, process.ledger)
        if mark == 0 and isinstance(process, Swapping):
            process.begin_measuring()
    process.run_until(batch.requests)
    if isinstance(process, Swapping):
        process.note_percentiles()
    tally.note(-1, process.ledger)
    return tally
