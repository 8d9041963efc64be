"""From an experiment to its rows: what is missing is simulated in batches, kept as it comes, and stopped when sure.

    experiment -> rows -> what do they miss? -> batches -> executor -> parts
                   ^            ^                                        |
                   |            +-------- not sure enough yet <----------+
                   +---- what the store holds already

Whatever the store holds under a row's id is used and not run again, so that a run that was cut goes on, a tighter
target adds replicas, and a longer sweep adds cells. A row stops on its own: at a number of replicas fixed in the file,
or at the first of the looks 32, 48, 72, ... at which its interval is as narrow as was asked for. It rests on exactly
that many, even if there are more.

Only the driver writes. Batches may come back in any order, from anywhere, more than once.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import pyarrow as pa

from vecalloc import statistics
from vecalloc.errors import InputError
from vecalloc.executors import Workers
from vecalloc.experiment import Cell, Experiment
from vecalloc.rows import Row, estimate_of, from_table, rows_of, to_table
from vecalloc.statistics import Estimate, Target

if TYPE_CHECKING:
    from vecalloc.batch import Batch, Lines  # numba comes with it: a finished experiment is printed without

Read = Callable[[Iterable[str]], Mapping[str, pa.Table]]
"""Row ids -> what is there of them: a table with a line for each replica."""

_NS_PER_EVENT, _NS_PER_REQUEST = 50, 100
"""Roughly what an event costs a policy, and a request all of them: for the size of batches and the estimate."""

_BATCH_NS = 1e9
"""A batch takes about a second at most: long beside the cost of sending it, short beside a night."""

_SHARES = 4
"""Batches that each worker gets of what is left, so that the last ones end together."""

_LOSSES = 10
"""Executors that may be lost one after the other without a batch between them."""


@dataclass
class Progress:
    """How far a run is.

    Attributes
    ----------
    cells, cells_done : int
    replicas, events : int
        Of this run, not of what was there before; a replica counts once for each policy, an event if it comes after the
        warm-up.
    kept : int
        Replicas that were there before.
    done, planned : float
        Nanoseconds of one core, roughly: of what has been simulated, and of all that is known to be needed (with a
        target: up to the next look).
    half_width, target : float or None
        Of the row that is furthest from its target, at its last look; in the end of the one that was looked at last.
    stopping : bool
        Interrupted: what has begun is finished, and kept.
    """

    cells: int
    cells_done: int = 0
    replicas: int = 0
    events: int = 0
    kept: int = 0
    done: float = 0.0
    planned: float = 0.0
    half_width: float | None = None
    target: float | None = None
    stopping: bool = False


def run_experiment(
    experiment: Experiment,
    read: Read,
    add: Callable[[pa.Table], None],
    workers: Workers,
    shard: tuple[int, int] = (1, 1),
    report: Callable[[Progress], None] = lambda progress: None,
) -> list[Row]:
    """Run what is missing, and return the rows with all that they rest on.

    Parameters
    ----------
    experiment : Experiment
    read : callable
        Row ids -> lines of the replicas that are there by id, as `Store.read` does.
    add : callable
        Keeps the lines of a batch, as `Store.add` does; what it raises ends the run.
    workers : Workers
    shard : (int, int)
        i of n: only every n-th cell, or where there are fewer cells, the i-th part of one. The rows are not complete
        then.
    report : callable
        Called with the Progress at the beginning, after each batch and twice a second; what it raises ends the run, and
        what was kept stays.

    Raises
    ------
    InputError
        From a batch (a workload that draws what it must not), from `add`, or if workers are lost again and again.
    """
    plan = Plan(experiment, read, shard)
    _Driver(plan, add, workers, report).run()
    return plan.rows


# --- what is to be done ----------------------------------------------------------------------------------------------


@dataclass
class _Task:
    """A cell: the rows that are filled for it, and how many of their batches are not back.

    `ranges` are the replicas that are wanted, where that is known from the start.
    """

    rows: list[Row]
    ranges: list[tuple[int, int]] | None
    out: int = 0

    @property
    def cell(self) -> Cell:
        return self.rows[0].cell


@dataclass(frozen=True, eq=False)
class _Span:
    """Replicas first .. last - 1 of some rows of a cell, which all lack them."""

    task: _Task
    rows: tuple[Row, ...]
    first: int
    last: int

    @property
    def cost(self) -> float:
        """Nanoseconds of one core, roughly."""
        return (self.last - self.first) * _cost(self.task.cell, len(self.rows))

    def batch(self) -> "Batch":
        """This as a worker is sent it."""
        from vecalloc.batch import Batch

        cell = self.task.cell
        return Batch(
            workload=self.rows[0].workload,
            pool=cell.pool,
            granule=cell.granule,
            policies=tuple(row.policy for row in self.rows),
            ids=tuple(row.sample.id for row in self.rows),
            on_failure=cell.on_failure,
            reclaim=cell.reclaim,
            queue_limit=cell.queue_limit,
            seed=cell.seed,
            requests=cell.requests,
            warmup=(cell.warmup.kind, cell.warmup.amount),
            first=self.first,
            last=self.last,
        )


def _cost(cell: Cell, policies: int) -> float:
    """Nanoseconds of a replica."""
    return float(cell.requests * (_NS_PER_REQUEST + 2 * policies * _NS_PER_EVENT))


class Plan:
    """What an experiment still needs, as far as is known.

    Parameters
    ----------
    experiment, read, shard
        As for `run_experiment`.

    Attributes
    ----------
    rows : list of Row
        In the order of the table; those of this shard.
    progress : Progress
    """

    def __init__(self, experiment: Experiment, read: Read, shard: tuple[int, int] = (1, 1)):
        self._experiment = experiment
        self._target = experiment.until
        self._wide: dict[str, tuple[float, float]] = {}  # id -> half-width and what is asked for
        wanted = dict(_ranges_of(experiment, shard))
        self.rows = [row for row in rows_of(experiment) if row.cell.index in wanted]
        self.progress = Progress(cells=len(wanted))
        samples = {row.sample.id: row.sample for row in self.rows}
        for id, table in read(samples.keys()).items():
            samples[id].add(from_table(table))
            self.progress.kept += len(table)
        tasks: dict[int, _Task] = {}
        for row in self.rows:
            task = tasks.setdefault(row.cell.index, _Task([], wanted[row.cell.index]))
            if samples.pop(row.sample.id, None):  # else another cell comes to the same: it is filled there
                task.rows.append(row)
        self.first_spans = [span for task in tasks.values() for span in self.look(task)]

    def look(self, task: _Task) -> list[_Span]:
        """Stop the rows of a cell that are sure; return what the others lack up to their next look."""
        missing = {row: self._missing(task, row) for row in task.rows}
        spans = list(_spans(task, missing))
        self.progress.planned += sum(span.cost for span in spans)
        self.progress.cells_done += not spans
        return spans

    def _missing(self, task: _Task, row: Row) -> list[tuple[int, int]]:
        """Replicas that a row lacks, as far as is known; none if it has stopped."""
        sample = row.sample
        if task.ranges is not None:
            missing = [gap for wanted in task.ranges for gap in sample.missing(*wanted)]
            if not missing:
                sample.stopped = self._experiment.replicas
            return missing
        have = sample.have
        for look in statistics.looks(self._experiment.cap):
            if look > have:
                return sample.missing(0, look)
            if self._is_sure(row, look) or look == self._experiment.cap:
                sample.stopped = look
                return []
        raise AssertionError("the last look is the cap")

    def _is_sure(self, row: Row, look: int) -> bool:
        """Whether the first replicas of a row are enough; its sample and the progress say so."""
        target = self._target
        assert target is not None
        estimate = estimate_of(row, target.metric, look, target.confidence)
        row.sample.met = target.met(estimate)
        self._wide[row.sample.id] = now = estimate.half_width, _asked(target, estimate)
        if row.sample.met or look == self._experiment.cap:
            del self._wide[row.sample.id]
        widest = max(self._wide.values(), key=lambda pair: pair[0] / pair[1] if pair[1] else math.inf, default=now)
        self.progress.half_width, self.progress.target = widest
        return row.sample.met

    def cut(self, span: _Span, workers: int) -> Iterator[_Span]:
        """A span in batches, none of more than about a second, and enough of them for all workers."""
        from vecalloc.batch import TOGETHER

        share = (self.progress.planned - self.progress.done) / (_SHARES * workers)
        size = math.ceil(min(_BATCH_NS, share) / _cost(span.task.cell, len(span.rows)))
        if size > TOGETHER // 2:  # replicas that advance side by side share the cost of a call
            size = -(-size // TOGETHER) * TOGETHER
        for first in range(span.first, span.last, max(1, size)):
            yield _Span(span.task, span.rows, first, min(first + size, span.last))

    @property
    def requests(self) -> int:
        """Requests that are to be drawn, as far as is known."""
        return sum((span.last - span.first) * span.task.cell.requests for span in self.first_spans)


def _ranges_of(experiment: Experiment, shard: tuple[int, int]) -> Iterator[tuple[int, list[tuple[int, int]] | None]]:
    """The cells of a shard, and which of their replicas (None: as many as it takes to be sure).

    Cells are cut only if there are fewer of them than shards, and not where looks at all replicas decide when to stop.
    """
    part, shards = shard[0] - 1, shard[1]
    replicas = experiment.replicas
    pieces = 1 if replicas is None else max(1, -(-shards // len(experiment.cells)))
    for cell in experiment.cells:
        mine = [k for k in range(pieces) if (cell.index * pieces + k) % shards == part]
        if mine:
            edges = None if replicas is None else [replicas * k // pieces for k in range(pieces + 1)]
            yield cell.index, None if edges is None else [(edges[k], edges[k + 1]) for k in mine]


def _spans(task: _Task, missing: Mapping[Row, list[tuple[int, int]]]) -> Iterator[_Span]:
    """Ranges in which all replicas are missed by the same rows, so that these share the drawing of requests."""
    edges = sorted({edge for gaps in missing.values() for gap in gaps for edge in gap})
    for first, last in pairwise(edges):
        rows = tuple(row for row, gaps in missing.items() if any(begin <= first < end for begin, end in gaps))
        if rows:
            yield _Span(task, rows, first, last)


def _asked(target: Target, estimate: Estimate) -> float:
    return target.half_width if target.half_width is not None else (target.relative or 0.0) * abs(estimate.mean)


# --- doing it --------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Driver:
    """Keeps the workers busy until every row has stopped."""

    plan: Plan
    add: Callable[[pa.Table], None]
    workers: Workers
    report: Callable[[Progress], None]
    queue: deque[_Span] = field(default_factory=deque)
    running: "dict[Future[Lines], _Span]" = field(default_factory=dict)
    losses: int = 0

    def run(self) -> None:
        """Until nothing is left to do."""
        progress = self.plan.progress
        self.report(progress)
        with self.workers:
            try:
                self._enqueue(self.plan.first_spans)
                while self.queue or self.running:
                    try:
                        self._send()
                        self._collect()
                    except self.workers.lost as error:
                        self._recover(error)
                    self.report(progress)
            except BaseException as error:
                progress.stopping = isinstance(error, KeyboardInterrupt)
                self._wind_up()
                raise

    def _enqueue(self, spans: Sequence[_Span]) -> None:
        """Cut spans into batches, to be sent before all others: cells that have begun are finished first."""
        pieces = [piece for span in spans for piece in self.plan.cut(span, self.workers.count)]
        for piece in pieces:
            piece.task.out += 1
        self.queue.extendleft(reversed(pieces))

    def _send(self) -> None:
        """Send batches until every worker has one and the next."""
        while self.queue and len(self.running) < 2 * self.workers.count:
            self.running[self.workers.submit(self.queue[0].batch())] = self.queue[0]
            self.queue.popleft()

    def _collect(self) -> None:
        """Wait for a batch, and put away what is back."""
        done, _ = wait(self.running, timeout=0.5, return_when=FIRST_COMPLETED)
        for future in done:
            lines = future.result()
            self._keep(self.running.pop(future), lines)

    def _keep(self, span: _Span, lines: "Lines") -> None:
        """Put a batch away; if its cell has all that it waited for, look at it and send what it needs next."""
        self.add(to_table(lines, [row.sample.id for row in span.rows]))
        for k, row in enumerate(span.rows):
            mine = lines["row"] == k
            row.sample.add({name: values[mine] for name, values in lines.items() if name != "row"})
        progress = self.plan.progress
        progress.replicas += len(lines["row"])
        progress.events += int(lines["allocs"].sum() + lines["frees"].sum())
        progress.done += span.cost
        self.losses = 0
        span.task.out -= 1
        if not span.task.out:
            self._enqueue(self.plan.look(span.task))

    def _recover(self, error: BaseException) -> None:
        """The executor is gone with all that it had: send that to a new one."""
        self.losses += 1
        if self.losses > _LOSSES:
            raise InputError(
                f"--executor {self.workers.label}: workers were lost {self.losses} times without finishing a batch "
                f"({type(error).__name__}: {error}); what was finished is kept: see whether they run out of memory, "
                "or use another executor"
            ) from error
        self._keep_finished()
        self.queue.extendleft(self.running.values())
        self.running.clear()
        self.workers.replace()

    def _wind_up(self) -> None:
        """Wait for what has begun, and keep it."""
        begun = [future for future in self.running if not future.cancel()]
        if begun and self.plan.progress.stopping:
            self.report(self.plan.progress)
        wait(begun)
        self._keep_finished()

    def _keep_finished(self) -> None:
        """Put away what is back and whole."""
        for future in [future for future in self.running if future.done()]:
            if not future.cancelled() and future.exception() is None:
                self._keep(self.running.pop(future), future.result())
