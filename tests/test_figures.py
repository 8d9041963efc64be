"""Figures: one for each kind of sweep, with what the rows say in it."""

import pyarrow as pa
import pytest

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra `report`)")

from matplotlib.axes import Axes  # noqa: E402

from vecalloc.experiment import experiment_of  # noqa: E402
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
