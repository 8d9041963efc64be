"""What `vecalloc run` does with an experiment: from its file to results/<name>/, or the same again.

    experiments/quickstart.toml -> checked -> what is missing is simulated -> rows, figure, provenance in
                                                                             results/quickstart/

`va.run` is this for a script. A script that has rows of its own to keep calls `va.save`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from vecalloc.errors import InputError
from vecalloc.executors import workers_of
from vecalloc.experiment import Experiment, load_experiment
from vecalloc.rows import table_of
from vecalloc.statistics import first_order_indices
from vecalloc.store import Comparison, Content, Store, environment, read_rows, results_beside
from vecalloc.sweep import Plan, Progress, run_experiment


@dataclass(frozen=True, eq=False)
class Study:
    """An experiment that has been run.

    Attributes
    ----------
    experiment : Experiment
    folder : Path
        Where its results are.
    table : pyarrow.Table or None
        The rows; None after a shard, which has only some of the replicas.
    comparison : Comparison or None
        How they stand to those that were there before.
    notes : list of str
        What the store passed over, and why.
    progress : Progress
        How much was simulated, and how much was there already.
    """

    experiment: Experiment
    folder: Path
    table: pa.Table | None
    comparison: Comparison | None
    notes: list[str]
    progress: Progress


def run(
    path: str | Path,
    executor: str | None = None,
    results: str | Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> pa.Table:
    """Run an experiment, or what is missing of it, and return its rows.

    Parameters
    ----------
    path : str or Path
        An experiment's TOML file.
    executor : str, optional
        Who runs it: "threads:2", "processes:2", "dask:ADDRESS", "module:factory"; threads on all cores if left out.
    results : str or Path, optional
        The folder that holds results; the one beside the experiment's own if left out.
    report : callable
        Called with the `Progress` after each batch.

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    InputError
        For a file that cannot be used, or results that cannot be kept.
    """
    table = study(path, executor, results, report=report).table
    assert table is not None
    return table


def results(folder: str | Path) -> pa.Table:
    """The rows of an experiment that has been run, such as results/quickstart.

    Raises
    ------
    InputError
        If there are none, or the file is broken.
    """
    return read_rows(folder)


def study(
    path: str | Path,
    executor: str | None = None,
    results: str | Path | None = None,
    shard: tuple[int, int] = (1, 1),
    fresh: bool = False,
    check: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Study:
    """Run an experiment with all that the command line offers.

    Parameters
    ----------
    path, executor, results, report
        As for `run`.
    shard : (int, int)
        i of n: simulate only a part, and keep the replicas; a run of the whole merges them.
    fresh : bool
        Forget the replicas that are there; with `check`, only look away.
    check : bool
        Compare with the rows that are there, and write nothing.

    Raises
    ------
    InputError
        As for `run`.
    """
    if fresh and shard[1] > 1:
        raise InputError("--fresh with --shard would forget what the other shards have done: remove the folder first")
    experiment = load_experiment(path)
    store = store_of(experiment, path, results)
    with workers_of(executor) as workers:
        if not check:
            store.begin(fresh)
        seen: list[Progress] = []

        def note(progress: Progress) -> None:
            seen[:] = [progress]
            report(progress)

        start = time.perf_counter()
        rows = run_experiment(
            experiment,
            (lambda ids: {}) if fresh else store.read,
            (lambda lines: None) if check else store.add,
            workers,
            shard,
            note,
        )
        seconds = time.perf_counter() - start
    (progress,) = seen
    if shard[1] > 1:
        return Study(experiment, store.folder, None, None, store.notes, progress)
    table = table_of(experiment, rows)
    keys = [*experiment.sweep.keys, "policy"]
    if check:
        return Study(experiment, store.folder, table, store.check(table, keys), store.notes, progress)
    asked = {"question": experiment.question, "seed": experiment.seed, "ids": table["id"].to_pylist()}
    comparison = store.write_results(table, experiment.text, asked, _figures(experiment, table), keys)
    if progress.replicas:
        store.write_timing({"seconds": seconds, "replicas": progress.replicas, "events": progress.events})
    return Study(experiment, store.folder, table, comparison, store.notes, progress)


def outlook(path: str | Path, results: str | Path | None = None) -> tuple[Experiment, Plan]:
    """An experiment, and what of it is still to be simulated. Writes nothing.

    Parameters
    ----------
    path, results
        As for `run`.

    Raises
    ------
    InputError
        As for `run`.
    """
    experiment = load_experiment(path)
    return experiment, Plan(experiment, store_of(experiment, path, results).read)


def store_of(experiment: Experiment, path: str | Path, results: str | Path | None) -> Store:
    """Where the results of an experiment's file are kept."""
    folder = Path(results) if results is not None else results_beside(path)
    return Store(folder / experiment.name, experiment.name, environment())


def _figures(experiment: Experiment, table: pa.Table) -> dict[str, Content]:
    """What makes the files that go with the rows: a figure, and sensitivities if they are asked for."""
    if experiment.sweep.method != "sensitivity":
        return {"figure.png": lambda: _drawn(experiment, table)}
    sensitivities = cache(lambda: sensitivities_of(experiment, table))
    return {
        "sensitivity.csv": lambda: _as_csv(sensitivities()),
        "figure.png": lambda: _drawn(experiment, table, sensitivities()),
    }


def _drawn(experiment: Experiment, table: pa.Table, sensitivities: pa.Table | None = None) -> bytes | None:
    """The figure, if there is something to draw and matplotlib is here."""
    if not find_spec("matplotlib"):
        return None
    from vecalloc.report.figures import draw, draw_sensitivities

    return draw(experiment, table) if sensitivities is None else draw_sensitivities(experiment, sensitivities)


def sensitivities_of(experiment: Experiment, table: pa.Table) -> pa.Table:
    """First-order and total Sobol indices of each metric, by policy and swept parameter, with intervals.

    Returns
    -------
    pyarrow.Table
        policy, metric, parameter, first_order, its low and high end, total, its low and high end.

    Raises
    ------
    InputError
        If the experiment has no sensitivity design, or other sweeps beside it.
    """
    sweep = experiment.sweep
    if sweep.method != "sensitivity" or len(experiment.cells) != sweep.design_cells:
        raise InputError("sensitivities need a design with method = 'sensitivity', and no grid or zip beside it")
    records: list[dict[str, Any]] = []
    policies = np.array(table["policy"].to_pylist())
    for policy in experiment.policies:
        for metric in experiment.metrics:
            values = np.array(table[metric].to_pylist(), float)[policies == policy]
            blocks = values.reshape(len(sweep.design_keys) + 2, sweep.points)
            found = first_order_indices(blocks[0], blocks[1], blocks[2:])
            for k, parameter in enumerate(sweep.design_keys):
                record: dict[str, Any] = {"policy": policy, "metric": metric, "parameter": parameter}
                for name, index in (("first_order", found.first), ("total", found.total)):
                    record |= {name: float(index.value[k])}
                    record |= {f"{name}_low": float(index.low[k]), f"{name}_high": float(index.high[k])}
                records.append(record)
    return pa.Table.from_pylist(records)


def _as_csv(table: pa.Table) -> bytes:
    out = BytesIO()
    pyarrow.csv.write_csv(table, out, pyarrow.csv.WriteOptions(quoting_style="needed"))
    return out.getvalue()
