"""Figures: one for each kind of sweep, with what the rows say in it."""

import pyarrow as pa
import pytest

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra `report`)")

from matplotlib.axes import Axes  # noqa: E402
from matplotlib.collections import FillBetweenPolyCollection  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from vecalloc.experiment import METRIC_NAMES, experiment_of  # noqa: E402
from vecalloc.experiment.picture import MOST_LINES  # noqa: E402
from vecalloc.report import figures  # noqa: E402
from vecalloc.report.figures import draw, draw_sensitivities  # noqa: E402

HEAD = """
question = "Which?"
[pool]
size = "64KiB"
[workload]
sizes = 64
lifetimes = 1.0
load = 0.5
[policy]
use = ["first-fit", "best-fit"]
[run]
metrics = ["failure_ratio", "holes"]
[sweep]
"""


def experiment(sweep):
    return experiment_of(HEAD + sweep, "figures", ".")


def table_of(made, value):
    rows = []
    for cell in made.cells:
        for k, policy in enumerate(cell.policies):
            y = value(k, cell)
            rows.append(cell.parameters | {"policy": policy, "failure_ratio": y, "failure_ratio_half_width": y / 10})
    return pa.Table.from_pylist(rows)


@pytest.fixture
def drawn(monkeypatch):
    """What is plotted: a list of (label, x, y), and the scales that were set."""
    lines, scales = [], []
    plot, set_yscale = Axes.plot, Axes.set_yscale

    def spy(self, x, y, **how):
        lines.append((how.get("label"), list(x), list(y)))
        return plot(self, x, y, **how)

    def spy_scale(self, value, **how):
        scales.append(value)
        return set_yscale(self, value, **how)

    monkeypatch.setattr(Axes, "plot", spy)
    monkeypatch.setattr(Axes, "set_yscale", spy_scale)
    return lines, scales


def is_png(data):
    return data is not None and data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 5000


def test_a_line_a_policy(drawn):
    made = experiment('grid = {"workload.load" = [0.9, 0.5, 0.7]}')
    assert is_png(draw(made, table_of(made, lambda k, cell: cell.parameters["workload.load"] + k)))
    lines, scales = drawn
    assert lines == [("first-fit", [0.5, 0.7, 0.9], [0.5, 0.7, 0.9]), ("best-fit", [0.5, 0.7, 0.9], [1.5, 1.7, 1.9])]
    assert scales == []


def test_a_panel_for_each_value_of_a_second_key_and_one_logarithmic_axis_for_all(drawn):
    made = experiment('grid = {"pool.size" = ["64KiB", "1MiB"], "workload.load" = [0.5, 0.7, 0.9]}')
    values = iter([0.0, 0.1, 0.001, 0.2, 0.01, 0.3] * 2)
    assert is_png(draw(made, table_of(made, lambda k, cell: next(values))))
    lines, scales = drawn
    assert len(lines) == 4 and scales == ["log", "log"]
    assert lines[0][2][0] != lines[0][2][0], "a logarithmic axis cannot show 0: the point is left out"
    assert lines[0][2][1:] == [0.001, 0.01]


def test_dots_where_nothing_is_swept(drawn):
    made = experiment("")
    assert is_png(draw(made, table_of(made, lambda k, cell: 0.5)))
    assert drawn[0] == []


def test_what_one_figure_cannot_show():
    made = experiment('grid = {"workload.load" = [0.5, 0.7], "pool.granule" = [1, 2], "run.requests" = [10, 20]}')
    assert draw(made, table_of(made, lambda k, cell: 0.5)) is None


def test_bars_for_sensitivities():
    made = experiment(
        'design = {method = "sensitivity", points = 2, ranges = {"workload.load" = [0.1, 0.9], '
        '"workload.lifetimes" = [1.0, 2.0]}}'
    )
    ends = {"first_order": 0.4, "first_order_low": 0.3, "first_order_high": 0.6}
    rows = [
        {"policy": policy, "metric": metric, "parameter": parameter} | ends
        for policy in made.policies
        for metric in made.metrics
        for parameter in made.sweep.design_keys
    ]
    assert is_png(draw_sensitivities(made, pa.Table.from_pylist(rows)))


# --- pictures that were asked for ------------------------------------------------------------------------------------

COMPACTION = """
question = "What does it cost to move blocks?"
[pool]
size = "64KiB"
[workload]
sizes = 64
lifetimes = 1.0
load = 0.9
[policy]
use = ["first-fit", "best-fit"]
reclaim = {kind = "compact"}
[run]
metrics = ["failure_ratio", "moved_ratio", "utilisation", "holes"]
[sweep.grid]
"policy.reclaim.how" = ["slide", "two-finger"]
"policy.reclaim.when" = ["failure", {external_fragmentation = 0.5}]
"policy.reclaim.budget" = [2, 4, 8]
[figure]
"""


def pictured(written, base=COMPACTION):
    return experiment_of(f"{base}\n{written}", "figures", ".")


def points_of(made, value):
    """Rows with the metrics that `value` gives for a cell and a policy."""
    rows = []
    for cell in made.cells:
        for policy in cell.policies:
            found = value(cell.parameters, policy)
            halves = {f"{name}_half_width": abs(each) / 10 or 1e-3 for name, each in found.items()}
            rows.append(cell.parameters | {"policy": policy} | found | halves)
    return pa.Table.from_pylist(rows)


def cost(parameters, policy):
    """Twice the budget, half of what is moved; failures fall with it, to none at the least budget of a slide."""
    budget, slides = parameters["policy.reclaim.budget"], parameters["policy.reclaim.how"] == "slide"
    later = parameters["policy.reclaim.when"] != "failure"
    failures = 0.01 * budget**2 * (1 + later) * (0 if slides and not later and budget == 2 else 1)
    return {
        "failure_ratio": failures * (2 if policy == "first-fit" else 1),
        "moved_ratio": (1 if slides else 0.5) / budget,
        "utilisation": 0.5 + failures,
        "holes": 9.0,
    }


@pytest.fixture
def figures_drawn(monkeypatch):
    """The matplotlib figures that are saved."""
    kept = []
    savefig = Figure.savefig

    def spy(self, *given, **how):
        kept.append(self)
        return savefig(self, *given, **how)

    monkeypatch.setattr(Figure, "savefig", spy)
    return kept


def legend_of(figure):
    (legend,) = figure.legends
    return legend.get_title().get_text(), [plain(text.get_text()) for text in legend.get_texts()]


def plain(text):
    return text.replace("\N{NO-BREAK SPACE}", " ")


def solid(ax):
    """The lines of a panel that join points: (x, y) of each."""
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines if line.get_linewidth() == 1.3
            and line.get_linestyle() == "-"]  # fmt: skip


def front_of(ax):
    return [list(zip(*line.get_data(), strict=True)) for line in ax.lines if line.get_drawstyle() == "steps-post"]


BY_POLICY = 'x = "moved_ratio"\npanels = "policy"\nlines = ["policy.reclaim.how", "policy.reclaim.when"]\n'


def test_two_metrics_a_panel_a_policy_and_the_budget_along_the_lines(figures_drawn):
    made = pictured(BY_POLICY + "log = []")
    assert is_png(draw(made, points_of(made, cost)))
    (figure,) = figures_drawn
    one, two = figure.axes
    assert (one.get_title(), two.get_title()) == ("first-fit", "best-fit")
    assert (one.get_ylabel(), two.get_ylabel()) == ("failure ratio", "")
    assert one.get_xlabel() == two.get_xlabel() == "moved ratio (per granule allocated)"
    assert (one.get_xscale(), one.get_yscale()) == ("linear", "linear")
    assert len(solid(one)) == len(solid(two)) == 4
    assert solid(two)[0] == ([0.125, 0.25, 0.5], [0.64, 0.16, 0.0]), "in the order of x, not of the budget"
    assert len(one.collections) == 8, "error bars, upright and across"
    assert legend_of(figure) == (
        "how, when",
        [
            "slide, failure",
            "slide, {external_fragmentation = 0.5}",
            "two-finger, failure",
            "two-finger, {external_fragmentation = 0.5}",
            "Pareto front",
            "along a line: budget 2, 4, 8",
        ],
    )


def test_the_front_is_what_no_other_point_betters_in_both(figures_drawn):
    made = pictured(BY_POLICY + "log = []")
    draw(made, points_of(made, cost))
    best_fit = figures_drawn[0].axes[1]
    assert front_of(best_fit) == [[(0.0625, 0.64), (0.125, 0.16), (0.25, 0.04), (0.5, 0.0)]]


@pytest.mark.parametrize(
    ("x", "y", "front"),
    [
        ("moved_ratio", "utilisation", [(0.0625, 1.78)]),  # more of it is better
        ("utilisation", "moved_ratio", [(1.78, 0.0625)]),
        ("moved_ratio", "holes", None),  # neither is
        ("holes", "moved_ratio", None),
    ],
)
def test_which_way_is_better(figures_drawn, x, y, front):
    made = pictured(f'x = "{x}"\ny = "{y}"\npanels = "policy"\nlines = "policy.reclaim.how"\nlog = []')
    draw(made, points_of(made, cost))
    (figure,) = figures_drawn
    assert front_of(figure.axes[1]) == ([front] if front else [])
    assert ("Pareto front" in legend_of(figure)[1]) == (front is not None)


def test_none_on_a_logarithmic_axis_is_an_open_marker_on_its_edge(figures_drawn):
    made = pictured(BY_POLICY + 'log = ["x", "y"]')
    draw(made, points_of(made, cost))
    (figure,) = figures_drawn
    ax = figure.axes[1]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_ylim()[0] == 0.02, "half of the least that is more than none, in any panel"
    opened = [line for line in ax.lines if line.get_markerfacecolor() == "white"]
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in opened] == [([0.5], [0.02])]
    x, y = solid(ax)[0]
    assert x == [0.125, 0.25, 0.5] and y[:2] == [0.64, 0.16] and y[2] != y[2]
    assert "0, off the axis" in legend_of(figure)[1]
    assert front_of(ax)[0][-1] == (0.5, 0.02)


def test_values_over_a_decade_decide_for_an_axis(figures_drawn):
    made = pictured(BY_POLICY)
    draw(made, points_of(made, cost))
    draw(made, points_of(made, lambda *cell: cost(*cell) | {"failure_ratio": 0.5}))
    assert [figure.axes[0].get_yscale() for figure in figures_drawn] == ["log", "linear"]
    assert [figure.axes[0].get_xscale() for figure in figures_drawn] == ["linear", "linear"]


def test_what_has_no_logarithm_stays_linear(figures_drawn):
    made = pictured(BY_POLICY + 'log = ["x", "y"]')
    draw(made, points_of(made, lambda *cell: cost(*cell) | {"failure_ratio": -1.0, "moved_ratio": 0.0}))
    assert (figures_drawn[0].axes[0].get_xscale(), figures_drawn[0].axes[0].get_yscale()) == ("linear", "linear")


def test_a_row_of_panels_each_metric_with_bands_over_a_swept_number(figures_drawn):
    made = pictured(
        'x = "policy.reclaim.budget"\ny = ["failure_ratio", "moved_ratio"]\npanels = "policy.reclaim.how"\n'
        'lines = ["policy", "policy.reclaim.when"]\nlog = ["x"]'
    )
    assert is_png(draw(made, points_of(made, cost)))
    (figure,) = figures_drawn
    assert [ax.get_title() for ax in figure.axes] == ["how slide", "how two-finger", "", ""]
    assert [ax.get_ylabel() for ax in figure.axes] == [
        "failure ratio", "", "moved ratio (per granule allocated)", "",
    ]  # fmt: skip
    assert [ax.get_xlabel() for ax in figure.axes] == ["", "", "budget", "budget"]
    assert [ax.get_xscale() for ax in figure.axes] == ["log"] * 4
    assert [label.get_text() for label in figure.axes[2].get_xticklabels()] == ["2", "4", "8"]
    assert all(isinstance(band, FillBetweenPolyCollection) for ax in figure.axes for band in ax.collections)
    assert [len(ax.collections) for ax in figure.axes] == [4] * 4
    title, texts = legend_of(figure)
    assert title == "policy, when" and texts[0] == "first-fit, failure" and len(texts) == 4


def test_words_of_panels_and_lines(figures_drawn):
    base = HEAD.replace("[sweep]", "[sweep.grid]").replace('["first-fit", "best-fit"]', '["first-fit"]')
    laws = (
        '"workload.lifetimes" = [{dist = "expon", scale = 2.0}, 1.0]\n"workload.load" = [0.5, 1]\n"run.seed" = [1, 2]\n'
    )
    made = pictured(
        '[figure]\nx = "workload.load"\npanels = "run.seed"\nlines = ["policy", "workload.lifetimes"]', base + laws
    )
    rows = [
        {key: str(value) if key == "workload.lifetimes" else float(value) for key, value in cell.parameters.items()}
        | {"policy": "first-fit", "failure_ratio": 0.5, "failure_ratio_half_width": None}
        for cell in made.cells
    ]
    assert is_png(draw(made, pa.Table.from_pylist(rows)))
    (figure,) = figures_drawn
    assert [ax.get_title() for ax in figure.axes] == ["seed 1", "seed 2"]
    assert legend_of(figure) == (
        "policy, lifetimes", ['first-fit, {dist = "expon", scale = 2.0}', "first-fit, 1.0"],
    )  # fmt: skip


def test_the_points_of_a_design_are_not_joined(figures_drawn):
    base = COMPACTION.partition("[sweep.grid]")[0]
    made = pictured(
        '[sweep]\ndesign = {method = "sobol", points = 4, ranges = {"policy.reclaim.budget" = [2.0, 8.0]}}\n'
        '[figure]\nx = "moved_ratio"\nlines = "policy"',
        base,
    )
    extra = {"policy.reclaim.how": "slide", "policy.reclaim.when": "failure"}
    assert is_png(draw(made, points_of(made, lambda parameters, policy: cost(parameters | extra, policy))))
    (figure,) = figures_drawn
    assert solid(figure.axes[0]) == []
    assert legend_of(figure)[1][-1].startswith("not shown: budget ")


def test_lines_that_a_panel_has_not(figures_drawn):
    made = pictured(
        '"policy.use" = ["first-fit", "best-fit"]\n[figure]\nx = "moved_ratio"\npanels = "policy"\n'
        'lines = ["policy.use", "policy.reclaim.how"]',
        COMPACTION.replace("[figure]", ""),
    )
    assert is_png(draw(made, points_of(made, cost)))
    assert [len(solid(ax)) for ax in figures_drawn[0].axes] == [2, 2]


def test_what_the_figures_know_of_metrics_is_of_metrics_that_there_are():
    named = {name for name in figures._UNITS if "." not in name} | figures._MORE_IS_BETTER | figures._LESS_IS_BETTER
    assert named <= set(METRIC_NAMES)
    assert not figures._MORE_IS_BETTER & figures._LESS_IS_BETTER


def test_there_are_as_many_colours_as_lines():
    assert len(set(figures._COLOURS)) == len(set(figures._MARKERS)) == MOST_LINES
