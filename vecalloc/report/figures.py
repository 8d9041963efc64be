"""One figure for an experiment: its first metric against what was swept, a line a policy, a band for the interval.

    one swept number      a line a policy over it
    a second swept key    small multiples: a panel for each of its values
    nothing, or words     a dot a policy with its interval
    a sensitivity design  bars: how much of each metric's variance a parameter accounts for

An experiment that says in [figure] what to show gets that: panels side by side, a row of them for each metric, and in
each panel lines over a swept number, or points of two metrics with both intervals. Of two metrics for which it is known
which way is better, a grey step line joins the ringed points that no other one betters in both, the *Pareto front*:
what is to be had for what it costs. The points of a design fill a box in no order, and are not joined.

A logarithmic axis cannot show 0. The usual figure leaves such a point out; one that was asked for has it as an open
marker on the edge of the panel, half the least value from the rest, with a dotted line to it.

Colours are those of Okabe and Ito (2008), which the colour-blind can tell apart; lines also differ in their markers.
"""

from io import BytesIO
from pathlib import PurePath
from textwrap import fill
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from vecalloc.experiment import METRIC_NAMES, Experiment, Picture
from vecalloc.experiment.picture import MOST_PANELS
from vecalloc.experiment.toml import as_toml

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_MARKERS = "os^vDPX*"
_DECADE = 10
"""Values that differ by more than this factor, all above 0, are shown on a logarithmic axis."""

_CHARACTERS_AN_INCH = 13.5
"""Of text, at most."""

_WIDEST = 44
"""Characters of a line of the legend."""

_NO_BREAK = "\N{NO-BREAK SPACE}"
_EQUALS = f"{_NO_BREAK}={_NO_BREAK}"

_MOST_TOLD = 8
"""Values of a swept key that are told one by one."""

_WIDTHS = (4.6, 4.2, 3.6, 3.0)
"""Of a panel, in inches: of a single one, of two side by side, of three, of more."""

_HEIGHT, _HEIGHT_OF_MANY = 3.6, 2.7
"""Of a panel: of a single row, of several."""

_GREY = "#888888"
_LINE: dict[str, Any] = {"linewidth": 1.3, "markersize": 4.5}
_RING: dict[str, Any] = {"marker": "o", "markersize": 8.5, "markerfacecolor": "none", "markeredgewidth": 0.9}
_FRONT: dict[str, Any] = _RING | {"color": _GREY, "linewidth": 0.9, "drawstyle": "steps-post"}
_EDGE: dict[str, Any] = _LINE | {"color": _GREY, "linestyle": ":", "marker": "o", "markerfacecolor": "white"}
_NOTHING: dict[str, Any] = {"linestyle": "none"}

_UNITS = {
    "pool.size": "bytes",
    "pool.granule": "bytes",
    "policy.reclaim.bandwidth": "bytes/s",
    "policy.reclaim.disk.latency": "s",
    "policy.reclaim.disk.bandwidth": "bytes/s",
    "policy.reclaim.swap_space": "bytes",
    "peak_live": "bytes",
    "peak_placed": "bytes",
    "high_water_mark": "bytes",
    "live_requested": "bytes",
    "granted_now": "bytes",
    "free_now": "bytes",
    "largest_now": "bytes",
    "moved_ratio": "per granule allocated",
    "blocks_moved_ratio": "per request",
    "moving_time": "s per request",
    "longest_pass": "bytes",
    "longest_pause": "s",
    "throughput": "per unit of time",
    "swaps_in": "per process",
    "swaps_out": "per process",
    "swapped_bytes": "per unit of time",
}

_MORE_IS_BETTER = {"utilisation", "throughput", "working"}
_LESS_IS_BETTER = {
    "queue", "wait", "waiting_time", "returning_time", "slowdown", "slowdown_p99", "high_water_mark", "overhead",
    "internal_fragmentation", "external_fragmentation", "external_fragmentation_events", "holes_per_block",
    "johnstone_wilson_1", "johnstone_wilson_2", "johnstone_wilson_3", "johnstone_wilson_4", "moving_time",
    "longest_pass", "longest_pause", "swaps_in", "swaps_out", "swapped_bytes",
}  # fmt: skip
"""And each that is called a ratio: they are of failures, and of work that is not asked for."""

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
    """Draw the rows of an experiment: its picture where it has one.

    Parameters
    ----------
    experiment : Experiment
    table : pyarrow.Table
        Its rows.

    Returns
    -------
    bytes or None
        A PNG; None if more was swept than one figure can show, and no picture says what to.
    """
    rows = table.to_pylist()
    if experiment.picture is not None:
        return _Chart(experiment, experiment.picture, rows).draw()
    keys = list(experiment.sweep.keys)
    metric = experiment.until.metric if experiment.until is not None else experiment.metrics[0]
    numbers = [key for key in keys if all(_is_number(row[key]) for row in rows)]
    along = max(numbers, key=lambda key: len({row[key] for row in rows}), default=None)
    across = [key for key in keys if key != along]
    if len(across) > 1 or experiment.sweep.method is not None:
        return None
    panels = list(dict.fromkeys(row[across[0]] for row in rows)) if across else [None]
    if len(panels) > MOST_PANELS:
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
                ax.set_title(_title(experiment, across[0], panel), fontsize=9)
        axes[0].set_ylabel(_axis_label(metric))
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
    if legend is not None:
        legend.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return _png(figure, experiment)


def _png(figure: Figure, experiment: Experiment) -> bytes:
    """With the question above it."""
    figure.suptitle(fill(experiment.question, int(_CHARACTERS_AN_INCH * figure.get_figwidth())), fontsize=10)
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
    ax.set_xlabel(_axis_label(along))
    if floor:
        ax.set_yscale("log")
        ax.set_ylim(bottom=floor)
    else:
        ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))


def _floor(values: list[float], asked: bool | None = None) -> float:
    """Where a logarithmic axis begins, below all that is not 0 (which it cannot show); 0: a linear one will do.

    One that is `asked` for is left linear only where no value is above 0, or one is below.
    """
    seen = [value for value in values if value > 0]
    if asked is False or not seen or min(values) < 0 or (asked is None and max(seen) <= _DECADE * min(seen)):
        return 0.0
    return min(seen) / 2


def _dots(ax: Axes, experiment: Experiment, rows: list[dict[str, Any]], metric: str) -> None:
    y, half = _values(rows, metric)
    at = np.arange(len(rows))
    ax.errorbar(y, at, xerr=half, fmt="o", color=_COLOURS[0], capsize=3, markersize=4)
    ax.set_yticks(at, [str(row["policy"]) for row in rows])
    ax.invert_yaxis()
    ax.set_xlabel(_axis_label(metric))


def _values(rows: list[dict[str, Any]], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """The metric and its half-width, nan where it is not known."""
    half = [row[f"{metric}_half_width"] for row in rows]
    return np.array([row[metric] for row in rows], float), np.array(half, float)


# --- a picture that was asked for ------------------------------------------------------------------------------------


class _Placed(NamedTuple):
    """Where values and the ends of their intervals are drawn on an axis; what it cannot show is on its edge."""

    at: np.ndarray
    low: np.ndarray
    high: np.ndarray
    on_edge: np.ndarray

    @property
    def bars(self) -> np.ndarray:
        """The lengths of error bars; nan where the interval is not known."""
        return np.array([self.at - self.low, self.high - self.at])


class _Chart:
    """The rows of an experiment as its picture has them."""

    def __init__(self, experiment: Experiment, picture: Picture, rows: list[dict[str, Any]]) -> None:
        self.experiment, self.picture, self.rows = experiment, picture, rows
        self.panels = list(dict.fromkeys(row[picture.panels] for row in rows)) if picture.panels else [None]
        self.lines = list(dict.fromkeys(map(self._line_of, rows)))
        self.of_metrics = picture.x in METRIC_NAMES
        self.joined = experiment.sweep.method is None
        self.floors = {name: self._floor_of(name) for name in (picture.x, *picture.y)}

    def draw(self) -> bytes:
        """All panels, with a legend beside them."""
        picture, labels = self.picture, self._labels()
        height = _HEIGHT if len(picture.y) == 1 else _HEIGHT_OF_MANY
        width = len(self.panels) * _WIDTHS[min(len(self.panels), len(_WIDTHS)) - 1]
        beside = max((len(line) for _, text in labels for line in text.split("\n")), default=0)
        with matplotlib.rc_context(_STYLE):
            size = (width + 1.4 + beside / _CHARACTERS_AN_INCH, 0.5 + height * len(picture.y))
            figure = Figure(figsize=size, layout="constrained")
            grid = figure.subplots(len(picture.y), len(self.panels), sharex=True, sharey="row", squeeze=False)
            for metric, axes in zip(picture.y, grid, strict=True):
                for panel, ax in zip(self.panels, axes, strict=True):
                    self._panel(ax, panel, metric)
                self._finish(axes[0], metric)
                axes[0].set_ylabel(_axis_label(metric))
            for panel, top, bottom in zip(self.panels, grid[0], grid[-1], strict=True):
                if picture.panels is not None:
                    top.set_title(_title(self.experiment, picture.panels, panel), fontsize=9)
                bottom.set_xlabel(_axis_label(picture.x))
            if labels:
                handles = [Line2D([], [], label=text, **how) for how, text in labels]
                title = ", ".join(map(_words, picture.lines))
                figure.legend(handles=handles, loc="outside right center", title=title, alignment="left", frameon=False)
            return _png(figure, self.experiment)

    def _line_of(self, row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[key] for key in self.picture.lines)

    def _floor_of(self, name: str) -> float:
        """As `_floor`, where the picture says nothing else."""
        log, axis = self.picture.log, "x" if name == self.picture.x else "y"
        asked = axis in log if log is not None else (None if name in METRIC_NAMES else False)
        return _floor([row[name] for row in self.rows], asked)

    def _panel(self, ax: Axes, panel: Any, metric: str) -> None:
        x = self.picture.x
        here = [row for row in self.rows if self.picture.panels is None or row[self.picture.panels] == panel]
        for name, set_scale in ((x, ax.set_xscale), (metric, ax.set_yscale)):
            if self.floors[name]:
                set_scale("log")
        if self._has_front(metric):
            front = _front(here, x, metric)
            ax.plot(self._placed(front, x).at, self._placed(front, metric).at, clip_on=False, **_FRONT)
        for k, line in enumerate(self.lines):
            if mine := [row for row in here if self._line_of(row) == line]:
                self._points(ax, mine, metric, k)

    def _points(self, ax: Axes, rows: list[dict[str, Any]], metric: str, k: int) -> None:
        """The points of a line in the order of x, with their intervals."""
        rows = sorted(rows, key=lambda row: row[self.picture.x])
        x, y = self._placed(rows, self.picture.x), self._placed(rows, metric)
        on_edge = x.on_edge | y.on_edge
        if self.joined and not self.of_metrics:
            ax.fill_between(x.at, y.low, y.high, color=_COLOURS[k], alpha=0.25, linewidth=0)
        else:
            ax.errorbar(x.at, y.at, y.bars, x.bars, fmt="none", ecolor=_COLOURS[k], elinewidth=0.9, alpha=0.7)
        if self.joined:
            ax.plot(x.at, y.at, color=_COLOURS[k], linestyle=":", linewidth=1.0)
            ax.plot(x.at, np.where(on_edge, np.nan, y.at), color=_COLOURS[k], linewidth=_LINE["linewidth"])
        how = _style(k) | {"linestyle": "none", "zorder": 3}
        ax.plot(x.at[~on_edge], y.at[~on_edge], **how)
        if on_edge.any():
            ax.plot(x.at[on_edge], y.at[on_edge], **how, markerfacecolor="white", clip_on=False)

    def _placed(self, rows: list[dict[str, Any]], name: str) -> _Placed:
        half = np.array([row.get(f"{name}_half_width") for row in rows], float)
        value, lowest = np.array([row[name] for row in rows], float), self.floors[name] or -np.inf
        at, low, high = (np.maximum(each, lowest) for each in (value, value - half, value + half))
        return _Placed(at, low, high, value < lowest)

    def _finish(self, ax: Axes, metric: str) -> None:
        """Let an axis begin where what it cannot show is, or upright at 0 if it is linear; tell its values plainly."""
        x = self.picture.x
        if self._has_edge(x):
            ax.set_xlim(left=self.floors[x])
        if self._has_edge(metric) or not self.floors[metric]:
            ax.set_ylim(bottom=self.floors[metric] or min(0.0, ax.get_ylim()[0]))
        for name, axis in ((x, ax.xaxis), (metric, ax.yaxis)):
            if self.floors[name]:
                swept = {row[name] for row in self.rows} if name == x and not self.of_metrics else set()
                _logarithmic_ticks(axis, sorted(swept))

    def _has_edge(self, name: str) -> bool:
        """Whether there is a 0 that the axis cannot show."""
        return bool(self.floors[name]) and min(row[name] for row in self.rows) < self.floors[name]

    def _has_front(self, metric: str) -> bool:
        """Whether points can better each other: on both axes it is known which way is better."""
        return all(_way(name) for name in (self.picture.x, metric))

    def _labels(self) -> list[tuple[dict[str, Any], str]]:
        """What the legend says: for each line how it is drawn, and what it is of; then what else there is to know."""
        keys, labels = self.picture.lines, []
        plain = {} if self.joined else {"linestyle": "none"}
        for k, line in enumerate(self.lines if keys else []):
            values = [_said(self.experiment, key, value) for key, value in zip(keys, line, strict=True)]
            labels.append((_style(k) | plain, _wrapped("", values)))
        if any(map(self._has_front, self.picture.y)):
            labels.append((_FRONT, "Pareto front"))
        if any(map(self._has_edge, self.floors)):
            labels.append((_EDGE | plain, "0, off the axis"))
        for key in self.picture.along:
            values = list(dict.fromkeys(_said(self.experiment, key, row[key]) for row in self.rows))
            head = f"along a line: {_words(key)} " if self.joined else f"not shown: {_words(key)} "
            labels.append((_NOTHING, _wrapped(head, values if len(values) <= _MOST_TOLD else [])))
        return labels


def _front(rows: list[dict[str, Any]], x: str, y: str) -> list[dict[str, Any]]:
    """The rows that no other one betters in both metrics, from the best x to the best y."""
    front: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda row: (_way(x) * row[x], _way(y) * row[y])):
        if not front or _way(y) * row[y] < _way(y) * front[-1][y]:
            front.append(row)
    return front


def _way(name: str) -> int:
    """1 for a metric of which less is better, -1 for one of which more is, 0 for any other column."""
    if name in _MORE_IS_BETTER:
        return -1
    return int(name in _LESS_IS_BETTER or (name in METRIC_NAMES and name.endswith("_ratio")))


def _logarithmic_ticks(axis: Axis, values: list[float]) -> None:
    """At these values if they are few, or at 1, 2, 5, 10, ... where powers of 10 are too few; written in full."""
    low, high = np.log10(axis.get_view_interval())
    if 0 < len(values) <= _MOST_TOLD:
        axis.set_ticks(values, [f"{value:g}" for value in values])
        axis.set_minor_locator(NullLocator())
    elif np.floor(high) <= np.ceil(low):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _style(k: int) -> dict[str, Any]:
    """How the k-th line looks."""
    return _LINE | {"color": _COLOURS[k], "marker": _MARKERS[k]}


def _wrapped(head: str, values: list[str]) -> str:
    """Values side by side in lines that are not too long, each of them whole where it can be."""
    parts = [value.replace(*((" ", _NO_BREAK) if len(value) <= _WIDEST else (" = ", _EQUALS))) for value in values]
    return fill(head + ", ".join(parts), _WIDEST, break_long_words=False, break_on_hyphens=False)


# --- words -----------------------------------------------------------------------------------------------------------


def _title(experiment: Experiment, key: str, value: Any) -> str:
    """What a panel is of: a policy by its name, else a key and its value."""
    return _wrapped("" if key == "policy" else f"{_words(key)} ", [_said(experiment, key, value)])


def _said(experiment: Experiment, key: str, value: Any) -> str:
    """A value of a swept key: tables as a file has them, of files the name."""
    if isinstance(value, bool):
        return str(value).lower()
    if key.endswith((".fleet", ".trace")):
        return PurePath(value).stem
    if isinstance(value, str) and value[:1] in ("{", "["):  # a law, say, of which the column has Python's text
        written = (cell.parameters[key] for cell in experiment.cells)
        return next((as_toml(each) for each in written if isinstance(each, dict | list) and str(each) == value), value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _axis_label(name: str) -> str:
    """A column as the axis says it, with its unit where it has one."""
    unit = _UNITS.get(".".join(part for part in name.split(".") if not part.isdigit()))
    return f"{_words(name)} ({unit})" if unit else _words(name)


def _words(name: str) -> str:
    """A column in words: "workload.load" is the load."""
    return name.rpartition(".")[2].replace("_", " ")
