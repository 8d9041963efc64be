"""experiments/*.toml -> a checked, frozen Experiment -> its cells.

    text --toml--> tables --combinations: put in the swept values--> one file a cell --models, cells--> Cell, Cell, ...

toml           the text and its tree; dotted keys; how values and places are written in messages
combinations   [sweep]: the values of each cell, put into the file
models         the tables of a file and their keys, made of fields (one value) and laws; also the JSON Schema
cells          what no table shows by itself: policies beside the pool, laws beside the load
picture        what the figure shows: its names beside the metrics and the sweep
complaints     everything that is wrong, gathered and said

A *cell* is one combination of swept values; a row of the results is a cell and a policy. The sweep puts its values into
the file as it was read, and each cell is then checked as if somebody had written that file: so any key can be swept,
and a swept value meets the same rules as a written one.

Nothing runs until everything is known to be usable. All complaints are raised at once, one line each: the key's path,
the value found there, what is wrong and the remedy. What every cell says is said once.

pydantic is imported in this folder and nowhere else; scipy only when a law or a design is looked at; numba never.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vecalloc.experiment import models
from vecalloc.experiment.cells import Cell, Check, Tables, cell_of
from vecalloc.experiment.combinations import checked_sweep, combinations_of, file_of, swept_keys
from vecalloc.experiment.complaints import Complaint, Report
from vecalloc.experiment.fields import METRIC_NAMES, Warmup
from vecalloc.experiment.models import DEFAULT_METRICS
from vecalloc.experiment.picture import Picture, checked_figure, metrics_of, picture_of, wrong_names
from vecalloc.experiment.toml import parsed, read
from vecalloc.spec import label_of, parse_policy
from vecalloc.statistics import Target

__all__ = [
    "DEFAULT_METRICS", "METRIC_NAMES", "Cell", "Experiment", "Picture", "Sweep", "Warmup", "experiment_of",
    "json_schema", "load_experiment",
]  # fmt: skip

DEFAULT_REPLICAS = 64


@dataclass(frozen=True, slots=True)
class Sweep:
    """Which keys were swept, and how the cells of a design follow each other.

    Attributes
    ----------
    keys : tuple of str
        All swept keys, in the order of the file, those of the design last.
    method : str or None
        "sobol", "latin-hypercube", "sensitivity"; None without a design.
    design_keys : tuple of str
    points : int
        Of the design; 0 without one.
    design_cells : int
        Cells of the design for each combination of grid and zip; 1 without a design.

    Notes
    -----
    The design varies fastest: for each combination of grid and zip its cells are neighbours. For "sensitivity" they are
    d + 2 blocks of `points` cells: A, B, AB_1 .. AB_d. With the values y of one such run of cells,
    `f = y.reshape(d + 2, points)` gives `scipy.stats.sobol_indices(func={"f_A": f[:1], "f_B": f[1:2],
    "f_AB": f[2:, None]}, n=points)`.
    """

    keys: tuple[str, ...]
    method: str | None
    design_keys: tuple[str, ...]
    points: int
    design_cells: int


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment file, checked. It can be pickled.

    Attributes
    ----------
    name : str
        Stem of the file's name.
    question, text : str
        The question; the whole file as read.
    folder : Path
        That relative paths in the file start from.
    seed, requests, queue_limit : int
    on_failure : str
    warmup : Warmup
        As in the first cell, where they are swept.
    policies : tuple of str
        Canonical labels in the order of the file, of all cells.
    compare_to : str or None
        Label of the policy that paired differences are taken to.
    replicas : int or None
        Of each row; None where `until` is given.
    until : Target or None
    cap : int
        Most replicas with `until`.
    confidence : float
        Of the intervals in the table.
    metrics : tuple of str
        Names; the metric of `until` is among them.
    sweep : Sweep
    picture : Picture or None
        What the figure shows; None: what it usually does.
    cells : tuple of Cell
    """

    name: str
    question: str
    text: str = field(repr=False)
    folder: Path
    seed: int
    policies: tuple[str, ...]
    compare_to: str | None
    on_failure: str
    queue_limit: int
    requests: int
    warmup: Warmup
    replicas: int | None
    until: Target | None
    cap: int
    confidence: float
    metrics: tuple[str, ...]
    sweep: Sweep
    picture: Picture | None
    cells: tuple[Cell, ...] = field(repr=False)


def load_experiment(path: str | Path) -> Experiment:
    """Read and check an experiment file.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    InputError
        If it cannot be read, or cannot be run as it is: a first line with the file, then a line for everything wrong.
    """
    path = Path(path)
    return _experiment_of(read(path), path.stem, path.parent, str(path))


def experiment_of(text: str, name: str, folder: str | Path) -> Experiment:
    """Check an experiment that has been read.

    Parameters
    ----------
    text : str
        TOML.
    name : str
        Of the experiment.
    folder : str or Path
        That relative paths in it start from.

    Raises
    ------
    InputError
        If it cannot be run as it is: a first line with the name, then a line for everything wrong.
    """
    return _experiment_of(text, name, Path(folder), name)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of an experiment file, for editors."""
    schema = models.File.model_json_schema()
    for model in models.SECTIONS.values():
        schema["$defs"][model.__name__].pop("required", None)  # the sweep may put it in
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _experiment_of(text: str, name: str, folder: Path, where: str) -> Experiment:
    base = parsed(text, where)
    raw_sweep, raw_figure = base.pop("sweep", {}), base.pop("figure", None)
    sweep, wrong = checked_sweep(raw_sweep, base)
    figure, unusable = checked_figure(raw_figure)
    swept = _summary(sweep)
    report = Report(where, swept.keys, sweep.cells)
    report.add(wrong)
    check = Check(folder, [path[-1] for path in swept_keys(raw_sweep)] if wrong else None)
    cells: list[Cell] = []
    for index, parameters in enumerate(combinations_of(sweep)):
        file = file_of(base, parameters)
        tables, found = check(file)
        report.add(found, parameters)
        if not report.found:
            cells.append(cell_of(index, parameters, file, tables))
    if cells and "queue_limit" in base.get("policy", {}) and all(cell.on_failure != "wait" for cell in cells):
        unused = f'{cells[0].queue_limit}: nothing waits: leave it out, or write on_failure = "wait"'
        report.add([Complaint(("policy", "queue_limit"), unused)])
    report.add(unusable)
    picture = None
    if figure is not None:
        report.add(wrong_names(figure, sweep, [path[-1] for path in swept_keys(raw_sweep)], tables.run))
        if tables.run and not report.found:
            picture, too_much = picture_of(figure, sweep, tables.run, cells)
            report.add(too_much)
    report.raise_if_any()
    return _experiment(text, name, folder, base["question"], swept, picture, cells, tables)


def _summary(sweep: models.Sweep) -> Sweep:
    design = sweep.design
    ranges = tuple(design.ranges) if design else ()
    return Sweep(
        keys=(*sweep.grid, *sweep.zip, *ranges),
        method=design.method if design else None,
        design_keys=ranges,
        points=design.points if design else 0,
        design_cells=design.cells if design else 1,
    )


def _experiment(
    text: str,
    name: str,
    folder: Path,
    question: str,
    sweep: Sweep,
    picture: Picture | None,
    cells: list[Cell],
    tables: Tables,
) -> Experiment:
    """All of it; of the tables of any cell what cannot be swept."""
    policy, run = tables.policy, tables.run
    assert policy and run
    first, until = cells[0], run.until
    return Experiment(
        name=name,
        question=question,
        text=text,
        folder=folder,
        seed=first.seed,
        policies=tuple(dict.fromkeys(label for cell in cells for label in cell.policies)),
        compare_to=_compared_to(policy, cells),
        on_failure=first.on_failure,
        queue_limit=first.queue_limit,
        requests=first.requests,
        warmup=first.warmup,
        replicas=None if until else run.replicas or DEFAULT_REPLICAS,
        until=_target(until, run.confidence) if until else None,
        cap=run.cap,
        confidence=run.confidence,
        metrics=metrics_of(run),
        sweep=sweep,
        picture=picture,
        cells=tuple(cells),
    )


def _target(until: models.Until, confidence: float) -> Target:
    return Target(until.metric, until.half_width, until.relative, until.confidence or confidence)


def _compared_to(policy: models.Policy, cells: list[Cell]) -> str | None:
    """The label that differences are taken to: as written, or best-fit where every cell has it."""
    if policy.compare_to is not None:
        return label_of(*parse_policy(policy.compare_to))
    return "best-fit" if all("best-fit" in cell.policies for cell in cells) else None
