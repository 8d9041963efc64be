"""[figure] -> the Picture of an experiment: what stands on the axes, in which panel, in which line.

A *point* of the figure is a row of the results. Panels and lines sort the points by what they differ in; whatever else
was swept (or the policy) varies *along* a line:

    x = "moved_ratio"     a metric: a swept budget, say, moves a point along its line
    x = "workload.load"   a swept key: a line has one point for each of its values, so nothing else may vary along it
                          but what the file has zipped with it

Names are looked up among the metrics of the run and the keys of the sweep; panels, lines and points are counted in the
cells.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from vecalloc.errors import did_you_mean
from vecalloc.experiment.cells import Cell
from vecalloc.experiment.complaints import MISSING, Complaint, complaints_of
from vecalloc.experiment.fields import METRIC_NAMES, is_number
from vecalloc.experiment.models import Figure, File, Run, Sweep
from vecalloc.experiment.toml import as_toml, shown

POLICY = "policy"
"""What panels and lines can differ in besides swept keys."""

MOST_PANELS = 6
"""Side by side."""

MOST_LINES = 8
"""Colours that the colour-blind can tell apart."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What the figure of an experiment shows.

    Attributes
    ----------
    x : str
        A metric or a swept key.
    y : tuple of str
        Metrics, a row of panels each.
    panels : str or None
        What the panels of a row differ in: "policy" or a swept key; None: there is one.
    lines : tuple of str
        What the lines of a panel differ in: "policy" and swept keys; empty: there is one.
    along : tuple of str
        What else the points of a line differ in.
    log : tuple of str, or None
        "x", "y": the axes that are logarithmic; None: the values decide.
    """

    x: str
    y: tuple[str, ...]
    panels: str | None
    lines: tuple[str, ...]
    along: tuple[str, ...]
    log: tuple[str, ...] | None


def metrics_of(run: Run) -> tuple[str, ...]:
    """The metrics that the rows have, that of `until` among them."""
    return tuple(dict.fromkeys([*run.metrics, *([run.until.metric] if run.until else [])]))


def checked_figure(raw: Any) -> tuple[Figure | None, list[Complaint]]:
    """The [figure] table, where there is one that is right in itself; else what is wrong with it."""
    if raw is None:
        return None, []
    try:
        return Figure.model_validate(raw), []
    except ValidationError as error:
        return None, list(complaints_of(error, File, ("figure",)))


# --- its names -------------------------------------------------------------------------------------------------------


def wrong_names(figure: Figure, sweep: Sweep, swept: Sequence[str], run: Run | None) -> Iterator[Complaint]:
    """Names that are no metric of the run and not swept, and an x that cannot be one.

    Parameters
    ----------
    figure : Figure
    sweep : Sweep
        Without any key where the one of the file is broken.
    swept : sequence of str
        The keys that the file means to sweep, whether they can be or not.
    run : Run or None
        None where it is broken: any metric could be one of its own.
    """
    metrics = metrics_of(run) if run else METRIC_NAMES
    if figure.x not in (*metrics, *swept):
        yield Complaint(("figure", "x"), _unknown(figure.x, metrics, swept))
    for name in figure.y or ():
        if name not in metrics:
            yield Complaint(("figure", "y"), _unknown(name, metrics, ()))
    if figure.y is None and set(metrics) == {figure.x}:
        yield Complaint(("figure", "y"), f"{MISSING}: run.metrics has only {figure.x}: write another metric there too")
    known = (POLICY, *swept)
    for place, names in (("panels", [figure.panels] if figure.panels is not None else []), ("lines", figure.lines)):
        for name in names or ():
            if name not in known:
                text = f"{shown(name)}: not swept{did_you_mean(name, known)}: write {' or '.join(map(shown, known))}"
                yield Complaint(("figure", place), text)
    yield from _wrong_x(figure, sweep)


def _unknown(name: str, metrics: Sequence[str], swept: Sequence[str]) -> str:
    known = (*metrics, *swept)
    if name in METRIC_NAMES:
        return f"{shown(name)}: not among run.metrics: write it there too, or here one of {', '.join(known)}"
    what = "neither a metric of run.metrics nor swept" if swept else "no metric of run.metrics"
    return f"{shown(name)}: {what}{did_you_mean(name, known)}: write one of {', '.join(known)}"


def _wrong_x(figure: Figure, sweep: Sweep) -> Iterator[Complaint]:
    """An x whose swept values no axis can show; any x where the figure is one of indices."""
    x, design = figure.x, sweep.design
    values = {**sweep.grid, **sweep.zip, **(design.ranges if design else {})}.get(x, [])
    words = [value for value in values if not is_number(value)]
    if words:
        text = f"{shown(x)}: is swept over {shown(words[0])}, no number: write a metric, or a key swept over numbers"
        yield Complaint(("figure", "x"), text)
    elif "x" in (figure.log or ()) and values and min(values) <= 0:
        text = f'"x": {x} is swept over {shown(min(values))}, which has no logarithm: leave "x" out'
        yield Complaint(("figure", "log"), text)
    if design and design.method == "sensitivity":
        text = f"{shown(x)}: a sensitivity design has a figure of its own, of its indices: leave [figure] out"
        yield Complaint(("figure", "x"), text)


# --- its points ------------------------------------------------------------------------------------------------------


def picture_of(figure: Figure, sweep: Sweep, run: Run, cells: Sequence[Cell]) -> tuple[Picture, list[Complaint]]:
    """The picture of a figure whose names are right, and what of it is too much for one figure."""
    points = [
        {POLICY: policy} | {key: as_toml(value) for key, value in cell.parameters.items()}
        for cell in cells
        for policy in cell.policies
    ]
    first = [run.until.metric] if run.until else []
    taken = {figure.x, figure.panels}
    zipped = set(sweep.zip) if taken & sweep.zip.keys() else set()  # goes with x or the panels: makes no lines
    lines = figure.lines or [key for key in (POLICY, *sweep.grid, *sweep.zip) if key not in taken | zipped]
    others = [key for key in points[0] if key not in taken.union(lines)]
    picture = Picture(
        x=figure.x,
        y=tuple(figure.y or [next(name for name in (*first, *run.metrics) if name != figure.x)]),
        panels=figure.panels,
        lines=tuple(lines),
        along=tuple(key for key in others if len({point[key] for point in points}) > 1),
        log=None if figure.log is None else tuple(figure.log),
    )
    return picture, list(_too_much(picture, sweep, points))


def _too_much(picture: Picture, sweep: Sweep, points: list[dict[str, str]]) -> Iterator[Complaint]:
    """More panels, lines, or points of a line at one x than a figure can show."""
    panels = {point[picture.panels] for point in points} if picture.panels else set()
    if len(panels) > MOST_PANELS:
        text = f"{shown(picture.panels)}: {len(panels):,} panels: write a key with at most {MOST_PANELS} values"
        yield Complaint(("figure", "panels"), text)
    lines = {tuple(point[key] for key in picture.lines) for point in points}
    if len(lines) > MOST_LINES:
        text = f"{shown([*picture.lines])}: {len(lines):,} lines: write keys with at most {MOST_LINES} combinations"
        yield Complaint(("figure", "lines"), text)
    if sweep.design is not None or picture.x not in points[0]:
        return  # a cloud, or any number of points on a line
    sorting = [key for key in (picture.panels, *picture.lines, picture.x) if key is not None]
    apart = [key for key in picture.along if not {key, picture.x} <= sweep.zip.keys()] or picture.along
    if apart and len({tuple(point[key] for key in sorting) for point in points}) < len(points):
        remedy = f"write {' and '.join(map(shown, apart))} too"
        text = f"{shown([*picture.lines])}: several points of a line at one x: {remedy}"
        yield Complaint(("figure", "lines"), text if picture.panels else f"{text}, or make it panels")
