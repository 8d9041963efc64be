"""Rows: a cell under a policy, from the lines of its replicas to its line in the table.

    replicas -> lines (plain numbers, one line each) -> a look: how sure is it? -> the table
                  ^                      |
                  +------- parts --------+

A row has an *id*, a hash of all that its replicas follow from; what is known of the replicas of an id is a *sample*. A
sample takes lines in any order and from anywhere, and gives them out in the order of replicas. Every number in a row
follows from the sample's first n replicas, whatever else is there: the warm-up that MSER-5 finds too.

Lines are the ledger's columns after the warm-up, by name. With MSER-5, whose warm-up is only found when 32 replicas are
there, a second column `<name>/batches` holds the same by batch of the replica, 64 numbers a line.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecalloc import statistics
from vecalloc.experiment import Cell, Experiment
from vecalloc.ledger import COUNT_NAMES, COUNTS, INTEGRAL_NAMES, INTEGRALS
from vecalloc.metrics import COUNTS_OF_EVENTS, METRICS, Account
from vecalloc.policies.table import POLICIES
from vecalloc.reclaim.table import REMEDIES
from vecalloc.spec import make_plan, parse_policy, parse_reclaim
from vecalloc.statistics import Difference, Estimate
from vecalloc.store import content_id
from vecalloc.workload.requests import Workload, workload_of

if TYPE_CHECKING:
    from vecalloc.batch import Lines  # numba comes with it, and a table needs none

REVISION = 1
"""Raised by hand whenever replicas are run or counted in another way than before."""

_BY_BATCH = "/batches"
"""Ends the names of columns that hold a value for each batch of a replica."""

_SETTLING = ("utilisation", "holes", "external_fragmentation")
"""Whose warm-up MSER-5 looks for: the latest of the three, whatever metrics a table shows."""


# --- rows and their samples ------------------------------------------------------------------------------------------


class Sample:
    """The replicas of an id that are there.

    Attributes
    ----------
    id : str
    stopped : int or None
        How many replicas its rows rest on, once that is known.
    met : bool
        Whether that was because the target was met.
    """

    def __init__(self, id: str):
        self.id = id
        self.stopped: int | None = None
        self.met = False
        self._pieces: list[Lines] = []

    def add(self, lines: "Lines") -> None:
        """Take more lines, those of replicas that are there already included."""
        self._pieces.append(lines)

    @property
    def lines(self) -> "Lines":
        """All lines in the order of replicas, each once; empty if there are none."""
        if len(self._pieces) > 1:
            names = self._pieces[0]
            together = {name: np.concatenate([piece[name] for piece in self._pieces]) for name in names}
            _, order = np.unique(together["replica"], return_index=True)
            self._pieces = [{name: values[order] for name, values in together.items()}]
        return self._pieces[0] if self._pieces else {}

    @property
    def have(self) -> int:
        """Replicas 0 .. have - 1 are all there."""
        gaps = self.missing(0, sum(len(piece["replica"]) for piece in self._pieces) + 1)
        return gaps[0][0]

    def missing(self, first: int, last: int) -> list[tuple[int, int]]:
        """Which of the replicas first .. last - 1 are not there: ranges like this one, in order."""
        there = np.ones(last - first + 2, bool)
        there[1:-1] = False
        for piece in self._pieces:
            replicas = piece["replica"]
            there[1 + replicas[(first <= replicas) & (replicas < last)] - first] = True
        edges = first + np.flatnonzero(np.diff(there))
        return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class Row:
    """A cell under a policy.

    Attributes
    ----------
    cell : Cell
    policy : str
        Canonical label.
    workload : Workload
        The cell's, checked.
    sample : Sample
        Rows of one id share it: a sweep may come to the same cell twice.
    """

    cell: Cell
    policy: str
    workload: Workload
    sample: Sample


def rows_of(experiment: Experiment) -> list[Row]:
    """The rows of an experiment in order, with nothing in them yet."""
    workloads: dict[str, Workload] = {}
    samples: dict[str, Sample] = {}
    rows = []
    for cell in experiment.cells:
        key = repr(cell.workload)
        if key not in workloads:
            workloads[key] = workload_of(cell.workload, folder=experiment.folder)
        canonical = workloads[key].canonical()
        for policy in cell.policies:
            id = _id_of(cell, policy, canonical)
            rows.append(Row(cell, policy, workloads[key], samples.setdefault(id, Sample(id))))
    return rows


def _id_of(cell: Cell, policy: str, workload: dict[str, Any]) -> str:
    chosen, _ = parse_policy(policy)
    remedies = [[remedy.kind, REMEDIES[remedy.kind].revision] for remedy in parse_reclaim(cell.reclaim)]
    return content_id(
        {
            "pool": cell.pool,
            "granule": cell.granule,
            "workload": workload,
            "policy": policy,
            "on_failure": cell.on_failure,
            "queue_limit": cell.queue_limit if cell.on_failure == "wait" else None,
            "reclaim": [cell.reclaim, remedies] if remedies else None,
            "seed": cell.seed,
            "requests": cell.requests,
            "warmup": [cell.warmup.kind, cell.warmup.amount],
            "revisions": {"sweep": REVISION, "policy": POLICIES[chosen.name].revision},
        }
    )


# --- lines as the store keeps them -----------------------------------------------------------------------------------


def to_table(lines: "Lines", ids: Sequence[str]) -> pa.Table:
    """Lines of a batch, whose column `row` numbers these ids, for the store."""
    columns: dict[str, Any] = {"id": pa.array([ids[k] for k in lines["row"].tolist()])}
    for name, values in lines.items():
        if name == "row":
            continue
        values = np.ascontiguousarray(values)
        if values.ndim == 1:
            columns[name] = pa.array(values)
        else:  # by batch: as bytes, for nobody reads them but `from_table`
            columns[name] = pa.array([line.tobytes() for line in values], pa.binary(values[0].nbytes))
    return pa.table(columns)


def from_table(table: pa.Table) -> "Lines":
    """Lines of one id from the store."""
    lines = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_fixed_size_binary(column.type):
            kind = np.int64 if name.removesuffix(_BY_BATCH) in COUNT_NAMES else np.float64
            lines[name] = np.frombuffer(b"".join(column.to_pylist()), kind).reshape(len(column), -1)
        else:
            lines[name] = column.to_numpy(zero_copy_only=False)
    return lines


# --- estimates -------------------------------------------------------------------------------------------------------


def estimate_of(row: Row, metric: str, replicas: int, confidence: float) -> Estimate:
    """A metric of a row and its interval, from the first replicas."""
    return _estimate(account_of(row, replicas, cut_of(row, replicas)), metric, confidence)


def difference_of(row: Row, other: Row, metric: str, confidence: float) -> Difference:
    """A metric of a row minus that of another one that met the same requests, over the replicas that both rest on."""
    return _difference(*_pair_of(row, other), metric, confidence)


def _estimate(account: Account, metric: str, confidence: float) -> Estimate:
    return statistics.estimate_ratio(*METRICS[metric](account), confidence, metric in COUNTS_OF_EVENTS)


def _difference(one: Account, other: Account, metric: str, confidence: float) -> Difference:
    parts = (*METRICS[metric](one), *METRICS[metric](other))
    return statistics.estimate_difference(*parts, confidence, metric in COUNTS_OF_EVENTS)


def _pair_of(row: Row, other: Row) -> tuple[Account, Account]:
    """Both over the replicas that both rest on, the later warm-up of the two left out."""
    one, two = row.sample.stopped, other.sample.stopped
    assert one is not None and two is not None
    cut = max(cut_of(row, one), cut_of(other, two))
    return account_of(row, min(one, two), cut), account_of(other, min(one, two), cut)


def account_of(row: Row, replicas: int, cut: int) -> Account:
    """What the first replicas of a row wrote down, the first batches left out."""
    lines = {name: values[:replicas] for name, values in row.sample.lines.items()}
    if cut:
        for name in [name for name in lines if name.endswith(_BY_BATCH)]:
            lines[name.removesuffix(_BY_BATCH)] = lines[name][:, cut:].sum(axis=1)
    return _account(row, lines)


def cut_of(row: Row, replicas: int) -> int:
    """The batches that MSER-5 takes for the warm-up of a row that rests on so many replicas.

    It looks at 32 of them, so that the ones that come later do not move it; 0 if the file says what the warm-up is.
    """
    first = min(replicas, statistics.FIRST_LOOK)
    batches = {
        name.removesuffix(_BY_BATCH): values[:first]
        for name, values in row.sample.lines.items()
        if name.endswith(_BY_BATCH)
    }
    if not batches:
        return 0
    account = _account(row, {name: values.ravel() for name, values in batches.items()})
    pairs = [METRICS[name](account) for name in _SETTLING]
    return max(statistics.mser_cut(part.reshape(first, -1), whole.reshape(first, -1)) for part, whole in pairs)


def _account(row: Row, lines: "Lines") -> Account:
    """Lines as a ledger's account; counts that no batch has alone are 0."""
    counts = np.zeros((len(lines["scatter"]), COUNTS), np.int64)
    integrals = np.zeros((len(counts), INTEGRALS))
    for table, names in ((counts, COUNT_NAMES), (integrals, INTEGRAL_NAMES)):
        for k, name in enumerate(names):
            if name in lines:
                table[:, k] = lines[name]
    plan = make_plan(row.policy, row.cell.pool, row.cell.granule)
    grows, remedies = row.cell.on_failure == "grow", parse_reclaim(row.cell.reclaim)
    return Account(counts, integrals, lines["scatter"], plan.granule, plan.granules, grows, remedies)


# --- the table -------------------------------------------------------------------------------------------------------


def table_of(experiment: Experiment, rows: Sequence[Row]) -> pa.Table:
    """The rows as people read them.

    Returns
    -------
    pyarrow.Table
        The swept keys; policy, pool (bytes used); for each metric its value, standard error and half-width, and if a
        policy is compared to, the paired difference, its half-width and the variance reduction that pairing brought;
        replicas, confidence, met (whether the target was), unstable (replicas), warmup_batches (of 64, that MSER-5
        left out); id.
    """
    others = {row.cell.index: row for row in rows if row.policy == experiment.compare_to}
    records = [_record(experiment, row, others.get(row.cell.index)) for row in rows]
    names = list(dict.fromkeys(name for record in records for name in record))
    return pa.table({name: _column([record.get(name) for record in records]) for name in names})


def _record(experiment: Experiment, row: Row, other: Row | None) -> dict[str, Any]:
    stopped, confidence = row.sample.stopped, experiment.confidence
    assert stopped is not None
    cut = cut_of(row, stopped)
    account = account_of(row, stopped, cut)
    pair = _pair_of(row, other) if other is not None and other is not row else None
    record: dict[str, Any] = dict(row.cell.parameters)
    record |= {"policy": row.policy, "pool": account.pool * account.granule}
    for metric in experiment.metrics:
        estimate = _estimate(account, metric, confidence)
        record[metric] = estimate.mean
        record[f"{metric}_standard_error"] = _known(estimate.standard_error)
        record[f"{metric}_half_width"] = _known(estimate.half_width)
        if experiment.compare_to is not None:
            apart = _difference(*pair, metric, confidence) if pair else None
            record[f"{metric}_difference"] = apart and apart.mean
            record[f"{metric}_difference_half_width"] = apart and _known(apart.half_width)
            record[f"{metric}_variance_reduction"] = apart and _known(apart.variance_reduction)
    record |= {"replicas": stopped, "confidence": confidence}
    if experiment.until is not None:
        record["met"] = row.sample.met
    if row.cell.on_failure == "wait":
        record["unstable"] = int(np.count_nonzero(row.sample.lines["unstable"][:stopped]))
    if row.cell.warmup.kind == "mser":
        record["warmup_batches"] = cut
    record["id"] = row.sample.id
    return record


def _known(value: float) -> float | None:
    """A number, or nothing where nothing is known."""
    return value if math.isfinite(value) else None


def _column(values: list[Any]) -> pa.Array:
    """Values of one kind as they are, numbers as numbers, and all else as text: a whole law may be swept."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        values = [float(value) if value is not None else None for value in values]
    elif len(kinds) > 1 or not kinds <= {int, float, str, bool}:
        values = [str(value) if value is not None else None for value in values]
    return pa.array(values)
