"""One figure for an experiment: its first metric against what was swept, a line a policy, a band for the interval.

    one swept number      a line a policy over it
    a second swept key    small multiples: a panel for each of its values
    nothing, or words     a dot a policy with its interval
    a sensitivity design  bars: how much of each metric's variance a parameter accounts for

Colours are those of Okabe and Ito (2008), which the colour-blind can tell apart; lines also differ in their markers.
"""

from io import BytesIO
from pathlib import PurePath
from typing import Any

import matplotlib
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vecalloc.experiment import Experiment

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_MARKERS = "os^vDPX*"
_MOST_PANELS = 6
_DECADE = 10
"""Values that differ by more than this factor, all above 0, are shown on a logarithmic axis."""

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "svg.hashsalt": "vecalloc",
}


def draw(experiment: Experiment, table: pa.Table) -> bytes | None:
    """Draw the rows of an experiment.

    Parameters
    ----------
    experiment : Experiment
    table : pyarrow.Table
        Its rows.

    Returns
    -------
    bytes or None
        A PNG; None if more was swept than one figure can show.
    """
    keys = list(experiment.sweep.keys)
    metric = experiment.until.metric if experiment.until is not None else experiment.metrics[0]
    rows = table.to_pylist()
    numbers = [key for key in keys if all(_is_number(row[key]) for row in rows)]
    along = max(numbers, key=lambda key: len({row[key] for row in rows}), default=None)
    across = [key for key in keys if key != along]
    if len(across) > 1 or experiment.sweep.method is not None:
        return None
    panels = list(dict.fromkeys(row[across[0]] for row in rows)) if across else [None]
    if len(panels) > _MOST_PANELS:
        return None
    floor = _floor([row[metric] for row in rows])
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(1.6 + 4.2 * len(panels), 3.8), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for panel, ax in zip(panels, axes, strict=True):
            here = [row for row in rows if panel is None or row[across[0]] == panel]
            if along is None:
                _dots(ax, experiment, here, metric)
            else:
                _lines(ax, experiment, here, metric, along, floor)
            if panel is not None:
                ax.set_title(
                    f"{_words(across[0])} {PurePath(panel).stem if isinstance(panel, str) else panel}", fontsize=9
                )
        axes[0].set_ylabel(_words(metric))
        return _finished(figure, experiment, axes[-1] if along is not None else None)


def draw_sensitivities(experiment: Experiment, table: pa.Table) -> bytes:
    """Draw first-order Sobol indices.

    Parameters
    ----------
    experiment : Experiment
    table : pyarrow.Table
        As `vecalloc.study.sensitivities_of` gives it.

    Returns
    -------
    bytes
        A PNG: a panel a metric, a group of bars a parameter, a bar a policy, with its interval.
    """
    metrics, parameters = experiment.metrics, experiment.sweep.design_keys
    rows = {(row["metric"], row["policy"], row["parameter"]): row for row in table.to_pylist()}
    width = 0.8 / len(experiment.policies)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(1.6 + 3.4 * len(metrics), 3.8), layout="constrained")
        axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for metric, ax in zip(metrics, axes, strict=True):
            for k, policy in enumerate(experiment.policies):
                mine = [rows[metric, policy, parameter] for parameter in parameters]
                at = np.arange(len(parameters)) + (k - (len(experiment.policies) - 1) / 2) * width
                value = np.array([row["first_order"] for row in mine])
                ends = [[row["first_order_low"] for row in mine], [row["first_order_high"] for row in mine]]
                ax.bar(at, value, width, color=_COLOURS[k % len(_COLOURS)], label=policy)
                ax.errorbar(
                    at, value, yerr=np.abs(np.array(ends) - value), fmt="none", ecolor="#444444", elinewidth=0.8
                )
            ax.set_xticks(range(len(parameters)), [_words(parameter) for parameter in parameters])
            ax.set_title(_words(metric), fontsize=9)
        axes[0].set_ylabel("first-order Sobol index")
        return _finished(figure, experiment, axes[-1])


def _finished(figure: Figure, experiment: Experiment, legend: Axes | None) -> bytes:
    """Title and legend, as a PNG."""
    figure.suptitle(experiment.question, fontsize=10)
    if legend is not None:
        legend.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    out = BytesIO()
    figure.savefig(out, dpi=130, metadata={"Software": None})
    return out.getvalue()


def _lines(ax: Axes, experiment: Experiment, rows: list[dict[str, Any]], metric: str, along: str, floor: float) -> None:
    for k, policy in enumerate(experiment.policies):
        mine = sorted((row for row in rows if row["policy"] == policy), key=lambda row: row[along])
        x = np.array([row[along] for row in mine], float)
        y, half = _values(mine, metric)
        y[y < floor] = np.nan
        colour = _COLOURS[k % len(_COLOURS)]
        ax.fill_between(
            x, np.maximum(y - half, floor) if floor else y - half, y + half, color=colour, alpha=0.25, linewidth=0
        )
        ax.plot(x, y, color=colour, marker=_MARKERS[k % len(_MARKERS)], markersize=4, linewidth=1.3, label=policy)
    ax.set_xlabel(_words(along))
    if floor:
        ax.set_yscale("log")
        ax.set_ylim(bottom=floor)
    else:
        ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))


def _floor(values: list[float]) -> float:
    """Where a logarithmic axis begins, below all that is not 0 (which it cannot show); 0: a linear one will do."""
    seen = [value for value in values if value > 0]
    if min(values) < 0 or not seen or max(seen) <= _DECADE * min(seen):
        return 0.0
    return min(seen) / 2


def _dots(ax: Axes, experiment: Experiment, rows: list[dict[str, Any]], metric: str) -> None:
    y, half = _values(rows, metric)
    at = np.arange(len(rows))
    ax.errorbar(y, at, xerr=half, fmt="o", color=_COLOURS[0], capsize=3, markersize=4)
    ax.set_yticks(at, [str(row["policy"]) for row in rows])
    ax.invert_yaxis()
    ax.set_xlabel(_words(metric))


def _values(rows: list[dict[str, Any]], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """The metric and its half-width, nan where it is not known."""
    half = [row[f"{metric}_half_width"] for row in rows]
    return np.array([row[metric] for row in rows], float), np.array(half, float)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _words(name: str) -> str:
    """A column as the axis says it: "workload.load" is the load."""
    return name.rpartition(".")[2].replace("_", " ")
