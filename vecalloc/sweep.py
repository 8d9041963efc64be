"""From an experiment to its rows: cells x policies x replicas, run in batches, kept as they come, stopped when sure.

    experiment -> cells -> batches -> executor -> parts -> rows
                    ^                               |
                    +---- not sure enough yet <-----+

A *row* is a cell under a policy. Its id is a hash of all that determines its replicas; whatever the store holds under it
is used and not run again, so that a run that was cut goes on, a tighter target adds replicas, and a longer sweep adds
cells. A row stops on its own: at a number of replicas fixed in the file, or at the first of the looks 32, 48, 72, ...
at which its interval is as narrow as was asked for. It is computed from exactly that many replicas, even if there are
more.

Only the driver writes. Batches may come back in any order, from anywhere, more than once: replicas are put in order
before anything is added up.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vecalloc import statistics
from vecalloc.batch import BATCHES, MSER, Batch, Lines, simulate_batch
from vecalloc.errors import InputError
from vecalloc.executors import LOST, Workers
from vecalloc.experiment import Cell, Experiment
from vecalloc.ledger import COUNT_NAMES, COUNTS, INTEGRAL_NAMES, INTEGRALS
from vecalloc.metrics import COUNTS_OF_EVENTS, METRICS, Account, Pair
from vecalloc.policies.table import POLICIES
from vecalloc.spec import make_plan, parse_policy
from vecalloc.statistics import Difference, Estimate, Target
from vecalloc.store import Store, content_id
from vecalloc.workload.requests import Workload, workload_of

REVISION = 1
"""Raised by hand whenever replicas are run or counted in another way than before."""

_NS_PER_EVENT, _NS_PER_REQUEST = 50, 100
"""Roughly what an event costs a policy, and a request all of them: for the size of batches and the estimate."""

_BATCH_NS = 1e9
"""A batch takes about a second: long beside the cost of sending it, short beside a night."""

_BY_BATCH = "/batches"
"""Ends the names of columns that hold a value for each batch."""

_SETTLING = ("utilisation", "holes", "external_fragmentation")
"""Whose warm-up MSER-5 looks for: the latest of the three, whatever metrics a table shows."""


# --- what is to be done ----------------------------------------------------------------------------------------------


@dataclass
class Row:
    """A cell under a policy.

    Attributes
    ----------
    cell : Cell
    policy : str
    id : str
    lines : dict of str to array
        The values of its replicas so far, in the order of `replicas`.
    have : int
        Replicas 0 .. have - 1 are all there.
    stopped : int or None
        How many replicas the row rests on, once that is known.
    met : bool
        Whether it got to its target.
    """

    cell: Cell
    policy: str
    id: str
    lines: Lines = field(default_factory=dict, repr=False)
    have: int = 0
    stopped: int | None = None
    met: bool = True


@dataclass
class Progress:
    """How far a run is.

    Attributes
    ----------
    cells, cells_done : int
    replicas, events : int
        Of this run, not of what was there before; a replica counts once for each policy.
    kept : int
        Replicas that were there before.
    planned : int
        Replicas that are needed as far as is known now (with a target: up to the next look).
    half_width, target : float or None
        The widest interval at the last looks, against what is asked for.
    """

    cells: int
    cells_done: int = 0
    replicas: int = 0
    events: int = 0
    kept: int = 0
    planned: int = 0
    half_width: float | None = None
    target: float | None = None


def rows_of(experiment: Experiment) -> list[Row]:
    """The rows of an experiment in order, with nothing in them yet."""
    workloads: dict[str, Workload] = {}
    rows = []
    for cell in experiment.cells:
        key = repr(cell.workload)
        if key not in workloads:
            workloads[key] = workload_of(cell.workload, folder=experiment.folder)
        rows += [Row(cell, policy, _id_of(cell, policy, workloads[key])) for policy in cell.policies]
    return rows


def _id_of(cell: Cell, policy: str, workload: Workload) -> str:
    chosen, _ = parse_policy(policy)
    return content_id(
        {
            "pool": cell.pool,
            "granule": cell.granule,
            "workload": workload.canonical(),
            "policy": policy,
            "on_failure": cell.on_failure,
            "queue_limit": cell.queue_limit if cell.on_failure == "wait" else None,
            "reclaim": None,
            "seed": cell.seed,
            "requests": cell.requests,
            "warmup": [cell.warmup.kind, cell.warmup.amount],
            "revisions": {"sweep": REVISION, "policy": POLICIES[chosen.name].revision},
        }
    )


def requests_to_simulate(experiment: Experiment) -> tuple[int, float]:
    """How many requests the experiment's replicas have, and seconds of one core that they take, roughly.

    With a target, up to the first look.
    """
    replicas = experiment.replicas or statistics.looks(experiment.cap)[0]
    requests = sum(cell.requests * replicas for cell in experiment.cells)
    seconds = sum(replicas * _cost(cell, len(cell.policies)) for cell in experiment.cells) / 1e9
    return requests, seconds


def _cost(cell: Cell, policies: int) -> float:
    """Nanoseconds of a replica."""
    return float(cell.requests * (_NS_PER_REQUEST + 2 * policies * _NS_PER_EVENT))


# --- doing it --------------------------------------------------------------------------------------------------------


def run_experiment(
    experiment: Experiment,
    store: Store,
    workers: Workers,
    shard: tuple[int, int] = (1, 1),
    keep: bool = True,
    report: Callable[[Progress], None] = lambda progress: None,
) -> list[Row]:
    """Run what is missing, keep it, and return the rows with all that they rest on.

    Parameters
    ----------
    experiment : Experiment
    store : Store
        Begun, if anything is to be kept.
    workers : Workers
    shard : (int, int)
        i of n: only every n-th cell, from the i-th on.
    keep : bool
        Whether new replicas are put into the store.
    report : callable
        Called with the Progress after each batch; what it raises ends the run, and what was kept stays.

    Raises
    ------
    InputError
        From a batch (a workload that draws what it must not), or the store.
    """
    rows = rows_of(experiment)
    mine = [row for row in rows if row.cell.index % shard[1] == shard[0] - 1]
    by_id = store.read({row.id for row in mine})
    progress = Progress(cells=len({row.cell.index for row in mine}))
    cells: dict[int, list[Row]] = {}
    for row in mine:
        cells.setdefault(row.cell.index, []).append(row)
        if row.id in by_id:
            _take(row, _lines_of(by_id.pop(row.id)))
            progress.kept += len(row.lines["replica"])
    add = store.add if keep else lambda lines: None
    _Driver(experiment, add, workers, cells, progress, report).run()
    return mine


class _Driver:
    """Keeps the executor busy until every row has stopped."""

    def __init__(
        self,
        experiment: Experiment,
        add: Callable[[pa.Table], None],
        workers: Workers,
        cells: dict[int, list[Row]],
        progress: Progress,
        report: Callable[[Progress], None],
    ):
        self._experiment = experiment
        self._add = add
        self._workers = workers
        self._cells = cells
        self._progress = progress
        self._report = report
        self._running: dict[Future[Lines], Batch] = {}
        self._owner: dict[str, int] = {row.id: index for index, rows in cells.items() for row in rows}
        self._pending: dict[int, int] = {}  # cell -> batches that are out

    def run(self) -> None:
        """Until nothing is left to do."""
        waiting = self._plan_all()
        self._report(self._progress)
        first = next(waiting, None)
        if first is None:
            return
        executor = self._workers.make()
        try:
            queue = [first]
            while queue or self._running:
                executor = self._feed(executor, queue, waiting)
                done, _ = wait(self._running, timeout=0.5, return_when=FIRST_COMPLETED)
                lost = []
                for future in done:
                    batch = self._running.pop(future)
                    try:
                        lines = future.result()
                    except LOST:
                        lost.append(batch)
                        continue
                    queue += self._keep(batch, lines)
                if lost:  # a worker was killed: the pool is gone with all that it had
                    lost += self._running.values()
                    self._running.clear()
                    executor.shutdown(wait=False, cancel_futures=True)
                    executor = self._workers.make()
                    queue = lost + queue
                self._report(self._progress)
        except BaseException:
            executor.shutdown(wait=True, cancel_futures=True)
            for future, batch in self._running.items():  # what had begun is finished, and kept
                if future.done() and not future.cancelled() and future.exception() is None:
                    self._add(_table_of(batch, future.result()))
            raise
        executor.shutdown()

    def _feed(self, executor: Executor, queue: list[Batch], waiting: Iterator[Batch]) -> Executor:
        """Submit until every worker has one batch and the next."""
        while len(self._running) < 2 * self._workers.count:
            batch = queue.pop(0) if queue else next(waiting, None)
            if batch is None:
                break
            try:
                self._running[executor.submit(simulate_batch, batch)] = batch
            except LOST:
                executor = self._workers.make()
                queue.insert(0, batch)
        return executor

    def _keep(self, batch: Batch, lines: Lines) -> list[Batch]:
        """Put a batch away; if its cell has all that it waits for, look at it and return what it needs next."""
        self._add(_table_of(batch, lines))
        index = self._owner[batch.ids[0]]
        for row in self._cells[index]:
            if row.id in batch.ids:
                mine = lines["row"] == batch.ids.index(row.id)
                _take(row, {name: values[mine] for name, values in lines.items() if name != "row"})
        self._progress.replicas += (batch.last - batch.first) * len(batch.ids)
        self._progress.events += int(lines["allocs"].sum() + lines["frees"].sum())
        self._pending[index] -= 1
        return [] if self._pending[index] else self._next_batches(index)

    def _plan_all(self) -> Iterator[Batch]:
        """The first batches of every cell, made when they are wanted."""
        todo = []
        for index in self._cells:
            missing = self._look(index)
            if missing:
                todo.append((index, missing))
        whole = sum(_cost(self._cells[index][0].cell, len(self._cells[index])) for index, _ in todo)
        whole *= max((last for _, missing in todo for _, (_, last) in missing.items()), default=0)
        # Every worker gets a few batches, so that the last ones end together.
        self._share_ns = max(1.0, whole / (4 * self._workers.count))
        return (batch for index, missing in todo for batch in self._batches(index, missing))

    def _next_batches(self, index: int) -> list[Batch]:
        return list(self._batches(index, self._look(index)))

    def _look(self, index: int) -> dict[str, tuple[int, int]]:
        """Stop the rows that are sure; of the others, which replicas they miss up to their next look."""
        missing = {}
        for row in self._cells[index]:
            needed = self._needed(row)
            if row.stopped is None:
                missing[row.id] = (row.have, needed)
                self._progress.planned += needed - row.have
        if not missing:
            self._progress.cells_done += 1
        return missing

    def _needed(self, row: Row) -> int:
        """How many replicas a row needs as far as is known; the row is stopped if it has them and is sure."""
        experiment = self._experiment
        if experiment.replicas is not None:
            if row.have >= experiment.replicas:
                row.stopped = experiment.replicas
            return experiment.replicas
        target = _target(experiment)
        for look in statistics.looks(experiment.cap):
            if look > row.have:
                return look
            estimate = estimate_of(row, target.metric, look, target.confidence)
            self._progress.half_width, self._progress.target = estimate.half_width, _asked(target, estimate)
            if target.met(estimate) or look == experiment.cap:
                row.stopped, row.met = look, target.met(estimate)
                return look
        raise AssertionError("the last look is the cap")

    def _batches(self, index: int, missing: dict[str, tuple[int, int]]) -> Iterator[Batch]:
        """Batches for the missing replicas: rows that miss the same ones share the drawing of requests."""
        cell = self._cells[index][0].cell
        workload = workload_of(cell.workload, folder=self._experiment.folder)
        ranges = sorted(set(missing.values()))
        spans = []
        for first, last in ranges:
            rows = [row for row in self._cells[index] if missing.get(row.id) == (first, last)]
            cost = _cost(cell, len(rows))
            size = max(1, math.ceil(min(_BATCH_NS, self._share_ns) / cost))
            spans += [(rows, at, min(at + size, last)) for at in range(first, last, size)]
        self._pending[index] = len(spans)
        for rows, first, last in spans:
            yield Batch(
                workload,
                cell.pool,
                cell.granule,
                tuple(row.policy for row in rows),
                tuple(row.id for row in rows),
                cell.on_failure,
                cell.queue_limit,
                cell.seed,
                cell.requests,
                (cell.warmup.kind, cell.warmup.amount),
                first,
                last,
            )


def _target(experiment: Experiment) -> Target:
    until = experiment.until
    assert until is not None
    return Target(until.metric, until.half_width, until.relative, until.confidence)


def _asked(target: Target, estimate: Estimate) -> float:
    return target.half_width if target.half_width is not None else (target.relative or 0.0) * abs(estimate.mean)


# --- lines of replicas -----------------------------------------------------------------------------------------------


def _table_of(batch: Batch, lines: Lines) -> pa.Table:
    """Lines as the store keeps them."""
    columns: dict[str, Any] = {"id": pa.array([batch.ids[k] for k in lines["row"].tolist()])}
    for name, values in lines.items():
        if name == "row":
            continue
        if values.ndim == 1:
            columns[name] = pa.array(np.ascontiguousarray(values))
        else:  # by batch: kept as bytes, for nobody reads them but `_lines_of`
            columns[name] = pa.array([row.tobytes() for row in values], pa.binary(8 * BATCHES))
    return pa.table(columns)


def _lines_of(table: pa.Table) -> Lines:
    """Lines from the store."""
    lines = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_fixed_size_binary(column.type):
            kind = np.int64 if name.removesuffix(_BY_BATCH) in COUNT_NAMES else np.float64
            lines[name] = np.frombuffer(b"".join(column.to_pylist()), kind).reshape(-1, BATCHES)
        else:
            lines[name] = column.to_numpy(zero_copy_only=False)
    return lines


def _take(row: Row, more: Lines) -> None:
    """Put lines among a row's own, in the order of replicas, each once."""
    if row.lines:
        more = {name: np.concatenate([values, more[name]]) for name, values in row.lines.items()}
    replicas, order = np.unique(more["replica"], return_index=True)
    row.lines = {name: values[order] for name, values in more.items()}
    gaps = np.flatnonzero(replicas != np.arange(len(replicas)))
    row.have = int(gaps[0]) if len(gaps) else len(replicas)


def _account(row: Row, lines: Lines) -> Account:
    """Lines as a ledger's account; with (replicas, batches) columns each batch counts as a replica."""
    count = lines["scatter"].size
    counts = np.zeros((count, COUNTS), np.int64)
    integrals = np.zeros((count, INTEGRALS))
    for k, name in enumerate(COUNT_NAMES):
        if name in lines:
            counts[:, k] = lines[name].ravel()
    for k, name in enumerate(INTEGRAL_NAMES):
        integrals[:, k] = lines[name].ravel()
    plan = make_plan(row.policy, row.cell.pool, row.cell.granule)
    return Account(
        counts, integrals, lines["scatter"].ravel(), plan.granule, plan.granules, row.cell.on_failure == "grow"
    )


def cut_of(row: Row) -> int:
    """The batches that MSER-5 takes for the warm-up of a row; 0 if it was given in the file."""
    if row.cell.warmup.kind != MSER or not row.have:
        return 0
    first = {name: values[: min(row.have, statistics.FIRST_LOOK)] for name, values in row.lines.items()}
    batches = {name.removesuffix(_BY_BATCH): values for name, values in first.items() if name.endswith(_BY_BATCH)}
    account = _account(row, batches)
    pairs = [METRICS[name](account) for name in _SETTLING]
    return max(
        statistics.mser_cut(part.reshape(-1, BATCHES), whole.reshape(-1, BATCHES)) for part, whole in pairs
    )


def _pair_of(row: Row, metric: str, replicas: int, cut: int) -> Pair:
    """Part and whole of a metric in the first replicas of a row, the first batches left out."""
    lines = {name: values[:replicas] for name, values in row.lines.items() if not name.endswith(_BY_BATCH)}
    if cut:
        lines |= {
            name: row.lines[f"{name}{_BY_BATCH}"][:replicas, cut:].sum(axis=1)
            for name in lines
            if f"{name}{_BY_BATCH}" in row.lines
        }
    return METRICS[metric](_account(row, lines))


def estimate_of(row: Row, metric: str, replicas: int, confidence: float) -> Estimate:
    """A metric of a row and its interval, from the first replicas."""
    part, whole = _pair_of(row, metric, replicas, cut_of(row))
    return statistics.estimate_ratio(part, whole, confidence, metric in COUNTS_OF_EVENTS)


def difference_of(row: Row, other: Row, metric: str, confidence: float) -> Difference:
    """A metric of a row minus that of another one that met the same requests, over the replicas that both rest on."""
    assert row.stopped is not None and other.stopped is not None
    replicas, cut = min(row.stopped, other.stopped), max(cut_of(row), cut_of(other))
    pair, against = _pair_of(row, metric, replicas, cut), _pair_of(other, metric, replicas, cut)
    return statistics.estimate_difference(*pair, *against, confidence, metric in COUNTS_OF_EVENTS)


# --- the table -------------------------------------------------------------------------------------------------------


def table_of(experiment: Experiment, rows: Sequence[Row]) -> pa.Table:
    """The rows as people read them.

    Returns
    -------
    pyarrow.Table
        The swept keys; policy, pool (bytes used); for each metric its value, standard error and half-width, and if a
        policy is compared to, the paired difference, its half-width and the variance reduction that pairing brought;
        replicas, confidence, met (whether the target was), unstable (replicas), warmup (batches that MSER-5 left out);
        id.
    """
    others = {row.cell.index: row for row in rows if row.policy == experiment.compare_to}
    records = [_record(experiment, row, others.get(row.cell.index)) for row in rows]
    names = list(dict.fromkeys(name for record in records for name in record))
    return pa.table({name: _column([record.get(name) for record in records]) for name in names})


def _column(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        values = [float(value) if value is not None else None for value in values]
    elif len(kinds) > 1 or not kinds <= {int, float, str, bool}:
        values = [str(value) if value is not None else None for value in values]
    return pa.array(values)


def _record(experiment: Experiment, row: Row, other: Row | None) -> dict[str, Any]:
    assert row.stopped is not None
    record: dict[str, Any] = dict(row.cell.parameters)
    record |= {"policy": row.policy, "pool": make_plan(row.policy, row.cell.pool, row.cell.granule).pool}
    for metric in experiment.metrics:
        estimate = estimate_of(row, metric, row.stopped, experiment.confidence)
        record[metric] = estimate.mean
        record[f"{metric}_standard_error"] = _known(estimate.standard_error)
        record[f"{metric}_half_width"] = _known(estimate.half_width)
        if other is not None and other is not row:
            apart = difference_of(row, other, metric, experiment.confidence)
            record[f"{metric}_difference"] = apart.mean
            record[f"{metric}_difference_half_width"] = _known(apart.half_width)
            record[f"{metric}_variance_reduction"] = _known(apart.variance_reduction)
        elif experiment.compare_to is not None:
            for name in ("difference", "difference_half_width", "variance_reduction"):
                record[f"{metric}_{name}"] = None
    record |= {"replicas": row.stopped, "confidence": experiment.confidence}
    if experiment.until is not None:
        record["met"] = row.met
    if row.cell.on_failure == "wait":
        record["unstable"] = int(np.count_nonzero(row.lines["unstable"][: row.stopped]))
    if row.cell.warmup.kind == MSER:
        record["warmup_batches"] = cut_of(row)
    record["id"] = row.id
    return record


def _known(value: float) -> float | None:
    """A number, or nothing where nothing is known."""
    return value if math.isfinite(value) else None
