"""Experiment files: what they come to, cell by cell; and what is said, all at once, about one that cannot be run."""

import json
import os
import pickle
import subprocess
import sys
import tomllib
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import qmc, sobol_indices

from vecalloc.errors import InputError
from vecalloc.experiment import (
    DEFAULT_METRICS,
    METRIC_NAMES,
    Picture,
    Warmup,
    experiment_of,
    json_schema,
    load_experiment,
)
from vecalloc.policies.table import POLICIES
from vecalloc.statistics import Target

SMALL = """
question = "Which policy fails least as the load grows?"
[pool]
size = "64KiB"
[workload]
sizes = {dist = "lognorm", s = 1.0, scale = 256, max = "8KiB", bounds = "clip"}
lifetimes = {dist = "expon", scale = 1.0}
load = 0.9
"""
"""The least that can be run, but for the bounds."""

FULL = """#:schema schema.json
question = "Which policy fails least?"

[pool]
size = "1MiB"
granule = 32

[workload]
sizes = {mixture = [{weight = 0.8, dist = "expon"}, {weight = 0.2, table = [[64, 1.0]]}], rounding = "floor"}
lifetimes = {dist = "gamma", a = 2.0}
arrivals = {dist = "expon"}
batch = {dist = "geom", p = 0.5}
rate = 100.0
phases = [{duration = 10.0, rate = 2.0, lifetimes = "phase"}, {duration = 5.0, lifetimes = {dist = "expon"}}]

[policy]
use = ["first-fit", "best-fit[ties=lifo, header=8]", "worst-fit"]
on_failure = "wait"
compare_to = "best-fit[header=8,ties=lifo]"
queue_limit = 1000
reclaim = [{kind = "compact", how = "two-finger", when = "failure", budget = 4, pinned = 0.1, bandwidth = "9 GB/s"}]

[run]
seed = 7
requests = 20_000
warmup = {time = 5.0}
until = {metric = "overhead", relative = 0.05, confidence = 0.99}
cap = 100
confidence = 0.9
metrics = ["failure_ratio", "capacity_ratio"]

[sweep]
grid = {"workload.rate" = [50.0, 100.0], "workload.phases.0.rate" = [1, 2]}
zip = {"pool.size" = ["1MiB", 2097152], "policy.use.0" = ["first-fit", "next-fit"]}
design = {method = "latin-hypercube", points = 3, seed = 5, ranges = {"workload.lifetimes.a" = [1.0, 2.0]}}

[figure]
x = "capacity_ratio"
y = ["failure_ratio", "overhead"]
panels = "policy"
lines = ["workload.rate", "policy.use.0"]
log = ["x", "y"]
"""

PROCESSES = """
question = "Whom to swap?"
[pool]
size = "64KiB"
[workload]
sizes = {dist = "lognorm", s = 1.0, scale = 256, max = "8KiB", bounds = "clip"}
work = {dist = "expon", scale = 2.0}
active = {dist = "expon"}
idle = {mixture = [{weight = 1, dist = "expon"}, {weight = 2, dist = "gamma", a = 2.0}]}
priority = {table = [[1, 0.5], [2, 0.5]]}
load = 0.9
[policy]
reclaim = {kind = "swap", victim = "random", disk = {latency = "1 ms"}, swap_space = "8KiB"}
"""
"""Processes, whose remedy is a table."""


def of(text, folder="."):
    return experiment_of(text, "x", folder)


def swept(tables, base=SMALL):
    """The experiment with this [sweep]."""
    return of(f"{base}\n[sweep]\n{tables}")


def complaints(text, folder="."):
    """The lines of a refusal, without the first, which names the file."""
    with pytest.raises(InputError) as caught:
        of(text, folder)
    first, *lines = str(caught.value).split("\n")
    assert first.startswith("x: ")
    assert lines and all(line.startswith("  ") and line[2] != " " for line in lines)
    return [line[2:] for line in lines]


def only_complaint(text, folder="."):
    lines = complaints(text, folder)
    assert len(lines) == 1, lines
    return lines[0]


# --- what a file comes to --------------------------------------------------------------------------------------------


def test_the_least_that_can_be_run():
    e = of(SMALL)
    assert (e.name, e.question, e.text) == ("x", "Which policy fails least as the load grows?", SMALL)
    assert (e.seed, e.requests, e.warmup, e.replicas, e.until, e.cap) == (
        1,
        10_000,
        Warmup("share", 0.1),
        64,
        None,
        4096,
    )
    assert (e.on_failure, e.queue_limit, e.compare_to, e.confidence) == ("drop", 1 << 20, "best-fit", 0.95)
    assert e.policies == tuple(POLICIES)
    assert e.metrics == DEFAULT_METRICS and set(e.metrics) <= set(METRIC_NAMES)
    assert e.sweep.keys == () and e.sweep.method is None and e.sweep.design_cells == 1
    (cell,) = e.cells
    assert (cell.index, cell.parameters, cell.pool, cell.granule) == (0, {}, 65536, 16)
    assert cell.workload == tomllib.loads(SMALL)["workload"]
    assert (cell.policies, cell.on_failure, cell.queue_limit) == (e.policies, "drop", 1 << 20)
    assert cell.reclaim == "none"
    assert (cell.requests, cell.warmup, cell.seed) == (10_000, e.warmup, 1)


def test_everything_that_can_be_written():
    e = of(FULL)
    assert (e.seed, e.requests, e.warmup, e.replicas) == (7, 20_000, Warmup("time", 5.0), None)
    assert e.until == Target("overhead", None, 0.05, 0.99)
    assert (e.cap, e.confidence, e.on_failure, e.queue_limit) == (100, 0.9, "wait", 1000)
    assert e.metrics == ("failure_ratio", "capacity_ratio", "overhead")
    lifo = "best-fit[header=8,ties=lifo]"
    assert e.policies == ("first-fit", lifo, "worst-fit", "next-fit")
    assert e.compare_to == lifo
    assert len(e.cells) == 2 * 2 * 2 * 3
    assert [cell.index for cell in e.cells] == list(range(24))
    assert e.sweep.keys == (
        "workload.rate", "workload.phases.0.rate", "pool.size", "policy.use.0", "workload.lifetimes.a",
    )  # fmt: skip
    for cell in e.cells:
        p = cell.parameters
        assert tuple(p) == e.sweep.keys
        assert cell.workload["rate"] == p["workload.rate"]
        assert [phase.get("rate") for phase in cell.workload["phases"]] == [p["workload.phases.0.rate"], None]
        assert cell.workload["lifetimes"] == {"dist": "gamma", "a": p["workload.lifetimes.a"]}
        assert (cell.pool, cell.policies[0]) in ((1 << 20, "first-fit"), (1 << 21, "next-fit"))
        assert cell.policies[1:] == (lifo, "worst-fit")
        assert cell.granule == 32
        assert cell.reclaim == "compact[bandwidth=9000000000,budget=4,how=two-finger,pinned=0.1]"


def test_it_can_be_sent_and_not_changed():
    e = of(FULL)
    again = pickle.loads(pickle.dumps(e))
    assert again == e
    for frozen, name in ((e, "seed"), (e.cells[0], "pool"), (e.warmup, "kind"), (e.until, "metric"), (e.sweep, "keys")):
        with pytest.raises(FrozenInstanceError):
            setattr(frozen, name, None)


def test_a_file(tmp_path):
    path = tmp_path / "loads.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())  # as Windows writes it
    e = load_experiment(path)
    assert (e.name, e.folder) == ("loads", tmp_path)
    assert e.cells == of(SMALL).cells
    assert experiment_of(e.text, e.name, e.folder) == e
    assert load_experiment(str(path)) == e


@pytest.mark.parametrize(
    ("written", "warmup"),
    [
        ("0", Warmup("share", 0.0)),
        ("0.25", Warmup("share", 0.25)),
        ("{time = 3}", Warmup("time", 3.0)),
        ("{requests = 9999}", Warmup("requests", 9999.0)),
        ('"mser"', Warmup("mser", 0.0)),
    ],
)
def test_warmups(written, warmup):
    assert of(f"{SMALL}[run]\nwarmup = {written}").warmup == warmup


@pytest.mark.parametrize(
    ("written", "labels"),
    [
        ('"all"', tuple(POLICIES)),
        ('"first-fit"', ("first-fit",)),
        ('"first-fit, best-fit[ties=lifo,header=8]"', ("first-fit", "best-fit[header=8,ties=lifo]")),
        ('["best-fit[header=0]", "best-fit", "next-fit"]', ("best-fit", "next-fit")),
        ('["next-fit", "all"]', ("next-fit", *(name for name in POLICIES if name != "next-fit"))),
    ],
)
def test_policies(written, labels):
    e = of(f"{SMALL}[policy]\nuse = {written}")
    assert e.policies == e.cells[0].policies == labels
    assert e.compare_to == ("best-fit" if "best-fit" in labels else None)


def test_until_has_the_confidence_of_the_table_by_default():
    e = of(f'{SMALL}[run]\nconfidence = 0.8\nuntil = {{metric = "failure_ratio", half_width = 0.1}}')
    assert e.until == Target("failure_ratio", 0.1, None, 0.8)


@pytest.mark.parametrize(
    "arrivals", ['"saturated"\nlifetimes = {dist = "expon"}', '"fill-then-free"'], ids=["saturated", "fill-then-free"]
)
def test_a_queue_that_never_ends_waits(arrivals):
    text = f'question = "?"\n[pool]\nsize = 1024\n[workload]\nsizes = 16\narrivals = {arrivals}\n'
    assert of(text).on_failure == of(text).cells[0].on_failure == "wait"
    assert of(f'{text}[policy]\non_failure = "wait"\nqueue_limit = 3').queue_limit == 3
    for given_ in ("drop", "grow", "stop"):
        line = only_complaint(f'{text}[policy]\non_failure = "{given_}"')
        assert line.startswith(f'policy.on_failure: "{given_}": ') and "wait: leave it out" in line


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ('"none"', "none"),
        ('"compact"', "compact"),
        ('"compact[when={every=10},how=slide]"', "compact[when={every=10}]"),
        ('{kind = "compact", when = {external_fragmentation = 0.5}, budget = "none"}',
         "compact[when={external_fragmentation=0.5}]"),
        ('["compact[budget=2]"]', "compact[budget=2]"),
    ],
)  # fmt: skip
def test_remedies(written, label):
    (cell,) = of(f'{SMALL}[policy]\nuse = ["first-fit", "buddy"]\nreclaim = {written}').cells
    assert (cell.reclaim, cell.on_failure) == (label, "drop")


def test_processes_wait():
    (cell,) = of(PROCESSES).cells
    assert (cell.reclaim, cell.on_failure) == ("swap[latency=0.001,swap_space=8192,victim=random]", "wait")
    assert cell.workload == tomllib.loads(PROCESSES)["workload"]
    written = 'reclaim = ["compact", {kind = "swap", disk = {latency = 0, bandwidth = "inf"}}]\nuse = "best-fit"'
    text = f"{PROCESSES[: PROCESSES.index('reclaim =')]}{written}"
    assert of(text).cells[0].reclaim == "compact+swap[bandwidth=inf,latency=0]"
    assert of(text.replace("]\nuse", ']\non_failure = "wait"\nuse')).cells == of(text).cells
    plain = of(PROCESSES[: PROCESSES.index("[policy]")])
    assert (plain.cells[0].reclaim, plain.on_failure) == ("none", "wait")


def test_laws_beside_files(tmp_path):
    (tmp_path / "fleet.csv").write_text("16, 1.0, 2.0\n64, 3.0, 9.0\n")
    text = 'question = "?"\n[pool]\nsize = "64KiB"\n[workload]\nsizes = {fleet = "fleet.csv"}\nload = 0.5'
    assert of(text, tmp_path).cells[0].workload["sizes"] == {"fleet": "fleet.csv"}
    assert "no such file" in only_complaint(text, tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "fleet.csv").rename(tmp_path / "elsewhere" / "fleet.csv")  # what was said is not remembered
    assert of(text, tmp_path / "elsewhere").cells
    assert "no such file" in only_complaint(text, tmp_path)


# --- sweeps ----------------------------------------------------------------------------------------------------------


def test_the_last_key_of_a_grid_varies_fastest():
    e = swept('grid = {"workload.load" = [0.7, 0.8], "run.seed" = [3, 4, 5]}')
    assert [tuple(c.parameters.values()) for c in e.cells] == [(x, s) for x in (0.7, 0.8) for s in (3, 4, 5)]
    assert [(c.workload["load"], c.seed) for c in e.cells] == [(x, s) for x in (0.7, 0.8) for s in (3, 4, 5)]
    assert e.seed == 3


def test_what_is_swept_need_not_be_written():
    text = SMALL.replace('size = "64KiB"', "").replace("load = 0.9", "")
    text += '[sweep.grid]\n"pool.size" = ["1KiB"]\n"workload.load" = [0.5]\n"run.requests" = [10, 20]'
    e = of(text)
    assert [(c.pool, c.workload["load"], c.requests) for c in e.cells] == [(1024, 0.5, 10), (1024, 0.5, 20)]
    assert (e.requests, e.cells[0].warmup) == (10, Warmup("share", 0.1))


def test_zip_goes_side_by_side_and_is_crossed_with_the_grid():
    e = swept(
        'zip = {"pool.size" = ["1KiB", "2KiB"], "pool.granule" = [16, 32]}\n'
        'grid = {"policy.on_failure" = ["drop", "wait"]}'
    )
    assert [(c.on_failure, c.pool, c.granule) for c in e.cells] == [
        ("drop", 1024, 16), ("drop", 2048, 32), ("wait", 1024, 16), ("wait", 2048, 32),
    ]  # fmt: skip


def test_tables_lists_and_keys_within_them():
    e = swept(
        """grid."workload.lifetimes" = [{dist = "expon"}, {dist = "gamma", a = 2.0}]
        grid."workload.lifetimes.scale" = [1.0, 2.0]
        grid."policy.use" = [["best-fit"], ["best-fit", "first-fit"]]
        grid."workload.sizes.min" = ["16B"]"""
    )
    assert [c.workload["lifetimes"] for c in e.cells[::2]] == [
        {"dist": "expon", "scale": 1.0}, {"dist": "expon", "scale": 2.0},
        {"dist": "gamma", "a": 2.0, "scale": 1.0}, {"dist": "gamma", "a": 2.0, "scale": 2.0},
    ]  # fmt: skip
    assert [c.policies for c in e.cells[:2]] == [("best-fit",), ("best-fit", "first-fit")]
    assert (e.policies, e.compare_to) == (("best-fit", "first-fit"), "best-fit")
    assert e.cells[0].parameters["workload.lifetimes"] == {"dist": "expon"}


def test_default_comparison_needs_best_fit_in_every_cell():
    assert swept('grid."policy.use" = ["best-fit", "first-fit"]').compare_to is None


def test_elements_of_lists():
    base = SMALL.replace(
        '{dist = "expon", scale = 1.0}', '{mixture = [{weight = 1, dist = "expon"}, {weight = 2, dist = "expon"}]}'
    )
    e = swept(
        'grid = {"workload.lifetimes.mixture.1.weight" = [3, 4], "workload.lifetimes.mixture.0.scale" = [9.0]}', base
    )
    assert [c.workload["lifetimes"]["mixture"] for c in e.cells] == [
        [{"weight": 1, "dist": "expon", "scale": 9.0}, {"weight": w, "dist": "expon"}] for w in (3, 4)
    ]


def test_keys_of_remedies():
    base = f'{SMALL}[policy]\nuse = "best-fit"\nreclaim = {{kind = "compact", when = {{every = 9}}}}'
    e = swept('grid = {"policy.reclaim.budget" = [2, "none"], "policy.reclaim.when.every" = [5, 7]}', base)
    assert [c.reclaim for c in e.cells] == [
        "compact[budget=2,when={every=5}]", "compact[budget=2,when={every=7}]", "compact[when={every=5}]",
        "compact[when={every=7}]",
    ]  # fmt: skip
    assert e.cells[0].parameters == {"policy.reclaim.budget": 2, "policy.reclaim.when.every": 5}
    e = swept('grid."policy.reclaim.when" = ["failure", {external_fragmentation = 0.5}]', base)
    assert [tuple(c.parameters.values()) for c in e.cells] == [("failure",), ("{external_fragmentation = 0.5}",)]
    assert [c.reclaim for c in e.cells] == ["compact", "compact[when={external_fragmentation=0.5}]"]
    ranges = '{"policy.reclaim.pinned" = [0.1, 0.2], "policy.reclaim.when.every" = [1, 9]}'
    e = swept(f'design = {{method = "sobol", points = 4, ranges = {ranges}}}', base)
    assert len({c.reclaim for c in e.cells}) == 4
    e = swept(
        'grid = {"policy.reclaim.victim" = ["lru", "random"], "policy.reclaim.disk.bandwidth" = ["inf"]}', PROCESSES
    )
    assert [c.reclaim for c in e.cells] == [
        "swap[bandwidth=inf,latency=0.001,swap_space=8192]",
        "swap[bandwidth=inf,latency=0.001,swap_space=8192,victim=random]",
    ]
    several = PROCESSES.replace("reclaim = {", 'use = "best-fit"\nreclaim = ["compact", {').rstrip() + "]"
    compacts = '["compact[how=slide]", {kind = "compact", budget = 2}]'
    e = swept(f'grid = {{"policy.reclaim.1.relocate" = [true], "policy.reclaim.0" = {compacts}}}', several)
    assert [c.parameters["policy.reclaim.0"] for c in e.cells] == ["compact", "compact[budget=2]"]
    assert e.cells[1].reclaim.startswith("compact[budget=2]+swap[")


def test_whole_remedies_are_columns_by_their_label():
    values = (
        """["none", "compact[how=slide,budget=4]", {kind = "compact", budget = 3}, ["swap[load=true]", "compact"]]"""
    )
    base = f"{PROCESSES[: PROCESSES.index('reclaim =')]}use = 'best-fit'"
    e = swept(f'grid = {{"policy.reclaim" = {values}}}', base)
    labels = ["none", "compact[budget=4]", "compact[budget=3]", "swap[load=true]+compact"]
    assert [c.parameters["policy.reclaim"] for c in e.cells] == [c.reclaim for c in e.cells] == labels
    e = swept('grid = {"policy.reclaim" = [{budget = 3}], "policy.reclaim.kind" = ["compact"]}', base)
    assert [(c.parameters["policy.reclaim"], c.reclaim) for c in e.cells] == [("{budget = 3}", "compact[budget=3]")]


def test_the_base_is_not_changed_by_its_cells():
    e = swept('grid = {"workload.sizes.s" = [0.5, 0.6]}')
    assert [c.workload["sizes"]["s"] for c in e.cells] == [0.5, 0.6]
    assert e.cells[0].workload["lifetimes"] is e.cells[1].workload["lifetimes"]


BOX = 'ranges = {"workload.sizes.s" = [0.5, 1.5], "workload.load" = [0.1, 0.9]}'


def points_of(e):
    return np.array([[c.parameters[key] for key in e.sweep.design_keys] for c in e.cells])


def test_sobol_design():
    e = swept(f'design = {{method = "sobol", points = 16, seed = 3, {BOX}}}')
    unit = qmc.Sobol(2, rng=3).random(16)
    assert np.allclose(points_of(e), qmc.scale(unit, [0.5, 0.1], [1.5, 0.9]), rtol=1e-14, atol=0)
    assert (e.sweep.method, e.sweep.points, e.sweep.design_cells) == ("sobol", 16, 16)
    assert all(type(value) is float for c in e.cells for value in c.parameters.values())
    other = swept(f'design = {{method = "sobol", points = 16, seed = 4, {BOX}}}')
    assert not np.allclose(points_of(e), points_of(other))


def test_latin_hypercube_has_one_point_in_every_slice():
    e = swept(f'design = {{method = "latin-hypercube", points = 10, {BOX}}}')
    unit = (points_of(e) - [0.5, 0.1]) / [1.0, 0.8]
    for column in unit.T:
        assert sorted(np.floor(column * 10)) == list(range(10))


def test_whole_ends_give_whole_numbers_each_as_often():
    e = swept('design = {method = "sobol", points = 256, ranges = {"run.requests" = [10, 13]}}')
    values = [c.requests for c in e.cells]
    assert all(type(value) is int for value in values)
    assert {value: values.count(value) for value in set(values)} == {10: 64, 11: 64, 12: 64, 13: 64}


def test_logarithmic_ranges():
    e = swept(
        'design = {method = "latin-hypercube", points = 100, log = ["workload.load", "run.requests"], '
        'ranges = {"workload.load" = [0.01, 100.0], "run.requests" = [1, 1000]}}'
    )
    loads, requests = points_of(e).T
    slices = np.floor((np.log10(loads) + 2) * 25)
    assert sorted(slices) == list(range(100))
    assert requests.min() == 1 and 900 < requests.max() <= 1000
    assert abs(np.median(requests) - (0.5 * 1000.5) ** 0.5) < 2  # from 0.5 to 1000.5, then rounded


def test_a_design_is_crossed_with_the_grid_and_varies_fastest():
    e = swept(f'design = {{method = "sobol", points = 4, {BOX}}}\ngrid = {{"run.seed" = [1, 2, 3]}}')
    assert [c.seed for c in e.cells] == [1] * 4 + [2] * 4 + [3] * 4
    points = points_of(e)
    assert np.array_equal(points[:4], points[4:8]) and np.array_equal(points[:4], points[8:])


def test_blocks_of_the_sensitivity_design():
    e = swept(f'design = {{method = "sensitivity", points = 8, {BOX}}}\ngrid = {{"run.seed" = [1, 2]}}')
    assert len(e.cells) == 2 * (2 + 2) * 8 and e.sweep.design_cells == 32
    first, second = points_of(e).reshape(2, 32, 2)
    assert np.array_equal(first, second)
    a, b, ab1, ab2 = first.reshape(4, 8, 2)
    assert not np.isclose(a, b).any()
    assert np.array_equal(ab1, np.column_stack([b[:, 0], a[:, 1]]))
    assert np.array_equal(ab2, np.column_stack([a[:, 0], b[:, 1]]))


def test_sensitivity_indices_of_a_known_function():
    """y = x1 + 2 x2 with uniform x: the first-order indices are 1/5 and 4/5 (variances 1 and 4 over 12)."""
    e = swept(
        'design = {method = "sensitivity", points = 256, '
        'ranges = {"workload.sizes.s" = [0.5, 1.5], "workload.load" = [0.5, 1.5]}}'
    )
    y = points_of(e) @ [1.0, 2.0]
    f = y.reshape(4, 256)
    indices = sobol_indices(func={"f_A": f[:1], "f_B": f[1:2], "f_AB": f[2:, None]}, n=256)
    assert np.allclose(indices.first_order, [0.2, 0.8], atol=0.01)
    assert np.allclose(indices.total_order, [0.2, 0.8], atol=0.01)


# --- the figure ------------------------------------------------------------------------------------------------------

BUDGETS = f"""{SMALL}
[policy]
use = ["first-fit", "best-fit"]
reclaim = {{kind = "compact"}}
[run]
metrics = ["failure_ratio", "moved_ratio"]
[sweep.grid]
"policy.reclaim.how" = ["slide", "two-finger"]
"policy.reclaim.budget" = [2, 4]
"""
"""Two swept keys and two metrics, for a figure of them."""


def figure(lines, base=BUDGETS):
    return f"{base}\n[figure]\n{lines}"


@pytest.mark.parametrize(
    ("written", "picture"),
    [
        (
            'x = "moved_ratio"\npanels = "policy"\nlines = ["policy.reclaim.how"]\nlog = ["x", "y"]',
            (
                "moved_ratio",
                ("failure_ratio",),
                "policy",
                ("policy.reclaim.how",),
                ("policy.reclaim.budget",),
                ("x", "y"),
            ),
        ),
        (
            'x = "moved_ratio"\nlines = "policy"\nlog = []',
            ("moved_ratio", ("failure_ratio",), None, ("policy",), ("policy.reclaim.how", "policy.reclaim.budget"), ()),
        ),
        (
            'x = "failure_ratio"',
            (
                "failure_ratio",
                ("moved_ratio",),
                None,
                ("policy", "policy.reclaim.how", "policy.reclaim.budget"),
                (),
                None,
            ),
        ),
        (
            'x = "policy.reclaim.budget"\ny = "moved_ratio"\npanels = "policy.reclaim.how"',
            ("policy.reclaim.budget", ("moved_ratio",), "policy.reclaim.how", ("policy",), (), None),
        ),
    ],
)
def test_pictures(written, picture):
    e = of(figure(written))
    assert e.picture == Picture(*picture)
    assert pickle.loads(pickle.dumps(e.picture)) == e.picture
    assert e.cells == of(BUDGETS).cells


def test_the_first_metric_of_a_picture_is_the_one_that_ends_the_run():
    text = BUDGETS.replace("[sweep.grid]", 'until = {metric = "overhead", relative = 0.1}\n[sweep.grid]')
    assert of(figure('x = "moved_ratio"', text)).picture.y == ("overhead",)
    assert of(figure('x = "overhead"', text)).picture.y == ("failure_ratio",)


def test_what_is_zipped_with_x_or_the_panels_makes_no_lines_and_goes_along():
    base = SMALL + '[sweep]\nzip = {"pool.size" = ["64KiB", "128KiB"], "workload.load" = [0.5, 0.6]}'
    for x in ('x = "workload.load"', 'x = "failure_ratio"\npanels = "workload.load"'):
        picture = of(figure(x, base)).picture
        assert (picture.lines, picture.along) == (("policy",), ("pool.size",))


def test_keys_of_a_design_make_no_lines():
    base = SMALL + '[sweep]\ngrid = {"run.seed" = [1, 2]}\ndesign = {method = "sobol", points = 4, '
    base = f'{base}ranges = {{"workload.load" = [0.5, 1.0], "workload.sizes.s" = [0.5, 1.0]}}}}'
    picture = of(figure('x = "workload.load"\npanels = "policy"', base)).picture
    assert (picture.lines, picture.along) == (("run.seed",), ("workload.sizes.s",))


# --- what is wrong ---------------------------------------------------------------------------------------------------


def replaced(old, new):
    assert old in SMALL
    return SMALL.replace(old, new)


def run(line):
    return f"{SMALL}[run]\n{line}"


def policy(line):
    return f"{SMALL}[policy]\n{line}"


def sweep(line, more=""):
    return f"{SMALL}{more}\n[sweep]\n{line}"


def grid(line, more=""):
    return sweep(f"grid = {{{line}}}", more)


def design(line, ranges='"run.seed" = [1, 9]'):
    return sweep(f"design = {{{line}, ranges = {{{ranges}}}}}")


def pool(size):
    return replaced('"64KiB"', size)


def lifetimes(law):
    return replaced('{dist = "expon", scale = 1.0}', law)


def also(line):
    return replaced("load = 0.9", f"load = 0.9\n{line}")


WRONG = [
    # keys that are not there, and that should not be
    (
        replaced("question", "quest"),
        "quest: ",
        "unknown key (did you mean 'question'?)",
        "question: missing: write one line",
    ),
    (replaced("size =", "sice ="), 'pool.sice: "64KiB"', "unknown key (did you mean 'size'?)", "pool.size: missing"),
    (replaced("[pool]\n", "[pool]\ncolour = 1\n"), "pool.colour: 1: unknown key: the keys here are size, granule"),
    (replaced("load =", "laod ="), "workload.laod: 0.9: unknown key (did you mean 'load'?)"),
    (replaced("lifetimes", "lifetime"), "workload.lifetime: ", "unknown key (did you mean 'lifetimes'?)"),
    (
        replaced("sizes =", "size ="),
        "workload.size: ",
        "(did you mean 'sizes'?)",
        "workload.sizes: missing: write a number, a law",
    ),
    (also("phases = [{duration = 1.0, rat = 2}]"), "workload.phases[0].rat: 2: unknown key (did you mean 'rate'?)"),
    (run("sede = 3"), "run.sede: 3: unknown key (did you mean 'seed'?)"),
    (
        run('until = {metrc = "overhead", relative = 0.1}'),
        'run.until.metrc: "overhead"',
        "(did you mean 'metric'?)",
        "run.until.metric: missing",
    ),
    (policy("polices = 3"), "policy.polices: 3: unknown key"),
    (sweep("grids = {}"), "sweep.grids: {}: unknown key (did you mean 'grid'?)"),
    # tables
    (replaced('[pool]\nsize = "64KiB"', "pool = 3"), "pool: 3: write a table with the size"),
    ('question = "?"', "pool: missing: write a table", "workload: missing: write a table"),
    (SMALL + "[[run]]", "run: [{}]: write a table"),
    (SMALL + "[[sweep]]", "sweep: [{}]: write a table with grid, zip or design"),
    # pool
    (pool('"64KB"'), "pool.size: ", "'64KB' (did you mean 'kB'?): write bytes"),
    (pool('"0.9x"'), "pool.size: ", "'0.9x', a factor", "write a size such as 64KiB"),
    (pool("-5"), "pool.size: ", "-5: it cannot be negative"),
    (pool("1e6"), "pool.size: ", "1000000.0: write a whole number of bytes"),
    (pool("0x" + "f" * 9999), "pool.size: ", "write at most 4611686018427387904"),
    (pool("1000"), "pool.size: 1000 bytes: no positive multiple of the granule 16: write 1008"),
    (pool("0"), "pool.size: 0 bytes", "write 16"),
    (pool("64\ngranule = 24"), "pool.granule: granule is 24: write a power of two"),
    (pool("1979-05-27"), "pool.size: ", "write a whole number of bytes"),
    # laws
    (
        replaced('"lognorm"', '"lognrm"'),
        "workload.sizes.dist is 'lognrm' (did you mean 'lognorm'?)",
        "write a law of scipy.stats",
    ),
    (replaced("s = 1.0,", "s = -1.0,"), "workload.sizes: lognorm refuses s = -1.0"),
    (replaced("s = 1.0,", "t = 1.0,"), "workload.sizes: lognorm has no parameter 't'"),
    (replaced("s = 1.0,", 's = "1",'), 'workload.sizes.s: "1": write a number'),
    (replaced("s = 1.0,", "s = inf,"), "workload.sizes.s: inf: write a number"),
    (replaced("s = 1.0,", ""), "workload.sizes: lognorm needs s"),
    (replaced('dist = "lognorm", s = 1.0, ', ""), "workload.sizes.dist: missing: write the name of a law"),
    (replaced('"clip"', '"clap"'), 'workload.sizes.bounds: "clap" (did you mean \'clip\'?): write "reject"'),
    (replaced('"8KiB"', '"8 KiBs"'), "workload.sizes.max: ", "'8 KiBs' (did you mean 'KiB'?): write bytes"),
    (lifetimes('"long"'), 'workload.lifetimes: "long": write a number, a law'),
    (lifetimes('{trace = "x.npz"}'), 'workload.lifetimes: {trace = "x.npz"}: write a number, a law'),
    (lifetimes("{table = [[1, 2, 3]]}"), "workload.lifetimes.table[0]: [1, 2, 3]: write a list of pairs"),
    (lifetimes("{table = []}"), "workload.lifetimes.table: []: write a list of pairs"),
    (
        lifetimes('{mixture = [{dist = "expon"}]}'),
        "workload.lifetimes.mixture[0].weight: missing: write a number from 0 up",
    ),
    (
        lifetimes('{mixture = [{dist = "expon", weight = -1}]}'),
        "workload.lifetimes.mixture[0].weight: -1: write a number from 0 up",
    ),
    (lifetimes('{dist = "norm"}'), "workload.lifetimes", "can draw -inf"),
    (lifetimes('{dist = "pareto", b = 0.5}'), "workload.load is 0.9", "finite mean", "give a rate"),
    (replaced("sizes = {", "sizes = -1 # {"), "workload.sizes", "-1"),
    # arrivals
    (also("rate = 3.0"), "workload", "load (0.9)", "rate (3.0)", "not both"),
    (replaced("load = 0.9", ""), "workload", "'poisson'", "need a rate: give load"),
    (replaced("load = 0.9", "load = 0"), "workload.load: 0: write a positive number"),
    (replaced("load = 0.9", "load = nan"), "workload.load: nan: write a positive number"),
    (replaced("load = 0.9", "load = true"), "workload.load: true: write a positive number"),
    (replaced("load = 0.9", 'load = "0.9"'), 'workload.load: "0.9": write a positive number'),
    (also('arrivals = "possion"'), "workload.arrivals: \"possion\" (did you mean 'poisson'?): write"),
    (also("arrivals = 3"), 'workload.arrivals: 3: write "poisson"'),
    (also("batch = 0"), "workload.batch: 0: write a whole number from 1 up"),
    (also("batch = 1.5"), "workload.batch: 1.5: write a whole number from 1 up"),
    (also('arrivals = "saturated"'), "workload.load", "'saturated'"),
    (replaced("load = 0.9", 'arrivals = "fill-then-free"'), "workload.lifetimes", "leave it out"),
    (also("phases = []"), "workload.phases: []: write a list of phases"),
    (also("phases = [{rate = 2}]"), "workload.phases[0].duration: missing: write a positive time"),
    (
        also('phases = [{duration = 1, lifetimes = "phse"}]'),
        "workload.phases[0].lifetimes: \"phse\" (did you mean 'phase'?): write",
    ),
    # policies
    (policy('use = ["worst-fit", "bestfit"]'), "policy.use[1]: ", "'bestfit' is not known (did you mean 'best-fit'?)"),
    (policy('use = "bestfit"'), "policy.use: ", "'bestfit' is not known"),
    (policy('use = ["best-fit[tie=lifo]"]'), "policy.use[0]: ", "no option 'tie' (did you mean 'ties'?)"),
    (policy("use = []"), 'policy.use: []: write "all"'),
    (policy("use = [3]"), 'policy.use[0]: 3: write "all"'),
    (
        policy('on_failure = "dorp"'),
        'policy.on_failure: "dorp" (did you mean \'drop\'?): write "drop", "wait", "grow" or "stop"',
    ),
    (
        policy('use = ["first-fit"]\ncompare_to = "best-fit"'),
        'policy.compare_to: "best-fit": not among the policies',
        "write one of first-fit",
    ),
    (policy('compare_to = "bestfit"'), "policy.compare_to: ", "'bestfit' is not known (did you mean 'best-fit'?)"),
    (policy("queue_limit = 5"), "policy.queue_limit: 5: nothing waits: leave it out"),
    (policy('on_failure = "wait"\nqueue_limit = 0'), "policy.queue_limit: 0: write a whole number from 1 up"),
    (
        pool("48") + '[policy]\nuse = ["first-fit", "buddy"]',
        "policy.use[1]: ",
        "pool is 48 bytes, but buddy needs",
        "the next is 64",
    ),
    # remedies
    (policy('reclaim = "compct"'), "policy.reclaim: remedy 'compct' is not known (did you mean 'compact'?)"),
    (policy("reclaim = 3"), 'policy.reclaim: reclaim is 3: write "none", a remedy such as'),
    (policy("reclaim = []"), 'policy.reclaim: reclaim is []: write "none"'),
    (policy('reclaim = ["compact[budget=0.5]"]'), "policy.reclaim[0]: option 'budget' of compact is 0.5: write"),
    (policy('use = "buddy"\nreclaim = ["compact", {kind = "compact"}]'), "policy.reclaim: reclaim has compact twice"),
    (policy('reclaim = {how = "slide"}'), 'policy.reclaim.kind: missing: write "compact" or "swap"'),
    (
        policy('reclaim = {kind = "compat"}'),
        'policy.reclaim.kind: "compat" (did you mean \'compact\'?): write "compact" or "swap"',
    ),
    (
        policy('reclaim = {kind = "compact", hw = 3, budget = 1}'),
        "policy.reclaim.budget: budget is 1: write a number above 1, or none",
        "policy.reclaim.hw: 3: unknown key (did you mean 'how'?): the keys here are kind, how, when",
    ),
    (
        policy('reclaim = {kind = "compact", how = "slid", when = {evry = 3}}'),
        "policy.reclaim.how: how is 'slid' (did you mean 'slide'?): one of slide, first-window",
        "policy.reclaim.when: when is {'evry': 3} (did you mean 'every'?): write failure, {every = 1000}",
    ),
    (
        policy('reclaim = ["compact", {kind = "swap", disk = {latency = "8 mss", speed = 3}}]'),
        "policy.reclaim[1].disk.latency: latency is '8 mss' (did you mean 'ms'?): write seconds",
        "policy.reclaim[1].disk.speed: 3: unknown key: the keys here are latency, bandwidth",
    ),
    (
        policy('use = "best-fit"\nreclaim = {kind = "swap", disk = 8}'),
        'policy.reclaim.disk: 8: write a table such as {latency = "8 ms"',
    ),
    (
        policy('reclaim = "compact[how=two-finger]"'),
        'policy.reclaim: "compact[how=two-finger]": units of static-partition cannot move: leave compaction out',
        'policy.reclaim: "compact[how=two-finger]": how = two-finger, but blocks of buddy only slide: write how',
    ),
    (
        policy('use = "best-fit"\nreclaim = "compact[how=first-window,when={every=3}]"'),
        "policy.reclaim: ",
        "when = {every=3}, but first-window looks for the room that a request needs: write when = failure",
    ),
    (
        policy('reclaim = "swap"'),
        'policy.reclaim: "swap": only processes are swapped, and there are none',
    ),
    (
        PROCESSES + 'on_failure = "drop"',
        'policy.on_failure: "drop": processes wait for room: leave it out, or write wait',
    ),
    (
        PROCESSES.replace('swap_space = "8KiB"', 'swap_space = "8191B"'),
        'policy.reclaim: "swap[',
        "swap_space = 8191 bytes, but a process may have 8192, and could never be swapped: write at least 8192",
    ),
    (
        PROCESSES.replace(', max = "8KiB", bounds = "clip"', ""),
        'policy.reclaim: "swap[',
        "swap_space = 8192 bytes, but a process may have 65536",
        "or bound the sizes by max",
    ),
    (PROCESSES.replace("sizes = {", "sizes = 1979-05-27 # {"), "workload.sizes: 1979-05-27: write a number, a law"),
    (
        PROCESSES.replace(', max = "8KiB", bounds = "clip"', "").replace("lognorm", "lognrm"),
        "workload.sizes.dist is 'lognrm'",
    ),
    (PROCESSES.replace("work = {", "wrok = {"), "workload.wrok: ", "unknown key (did you mean 'work'?)"),
    (PROCESSES.replace('work = {dist = "expon"', 'work = {dist = "expn"'), "workload.work.dist is 'expn'"),
    (PROCESSES.replace('active = {dist = "expon"}', ""), "workload.active is missing"),
    (PROCESSES.replace("load = 0.9", "load = 0.9\nlifetimes = 1"), "workload.lifetimes is 1, but processes"),
    (also("priority = 1"), "workload.priority is 1, but only processes have one"),
    (
        grid('"policy.reclaim.budget" = [2]', '[policy]\nreclaim = "compact"'),
        "sweep.grid.\"policy.reclaim.budget\": no such key (did you mean 'policy.reclaim'?)",
    ),
    (
        grid('"policy.reclaim.budgt" = [2]', '[policy]\nreclaim = {kind = "compact"}'),
        "sweep.grid.\"policy.reclaim.budgt\": no such key (did you mean 'policy.reclaim.budget'?)",
    ),
    (
        grid('"policy.reclaim.how" = ["slide", "first-window"]', '[policy]\nuse = "buddy"\nreclaim.kind = "compact"'),
        'policy.reclaim: "compact[how=first-window]": how = first-window, but blocks of buddy only slide',
        "in 1 of 2 cells, first where policy.reclaim.how",
    ),
    (
        grid('"policy.reclaim" = ["none", "compact"]', '[policy]\nuse = "static-partition"'),
        'policy.reclaim: "compact": units of static-partition cannot move',
        "(swept)",
    ),
    (
        grid('"policy.reclaim.pinned" = [0, 1]', '[policy]\nuse = "buddy"\nreclaim.kind = "compact"'),
        "policy.reclaim.pinned: pinned is 1: write a share from 0 up and below 1 (swept)",
    ),
    # run
    (run("seed = -1"), "run.seed: -1: write a whole number from 0 up"),
    (run("seed = 1.0"), "run.seed: 1.0: write a whole number from 0 up"),
    (run("seed = 0x8000000000000000"), "run.seed: 9223372036854775808: write a whole number"),
    (run("requests = 0"), "run.requests: 0: write a whole number from 1 up"),
    (run("requests = true"), "run.requests: true: write a whole number from 1 up"),
    (run("replicas = 0"), "run.replicas: 0: write a whole number from 1 up"),
    (
        run('replicas = 3\nuntil = {metric = "overhead", relative = 0.1}'),
        "run.replicas: 3: until is given too: write one of them",
    ),
    (run('until = {metric = "overhead"}'), "run.until.half_width: missing: write how narrow", "relative = 0.05"),
    (
        run('until = {metric = "overhead", half_width = 0.1, relative = 0.2}'),
        "run.until.half_width: 0.1: relative is given too, 0.2: write one",
    ),
    (run('until = {metric = "overhead", half_width = 0}'), "run.until.half_width: 0: write a positive number"),
    (
        run('until = {metric = "overhed", half_width = 1}'),
        "run.until.metric: \"overhed\" is no metric (did you mean 'overhead'?): write one of",
    ),
    (
        run('until = {metric = "overhead", half_width = 1, confidence = 95}'),
        "run.until.confidence: 95: write a number between 0 and 1",
    ),
    (run("cap = 10"), "run.cap: 10: there is no until", "leave it out"),
    (run("confidence = 1.0"), "run.confidence: 1.0: write a number between 0 and 1"),
    (run("confidence = 0"), "run.confidence: 0: write a number between 0 and 1"),
    (run('metrics = ["fragmentation"]'), 'run.metrics[0]: "fragmentation" is no metric (did you mean', "write one of"),
    (run("metrics = []"), "run.metrics: []: write a list of metrics"),
    (
        run("warmup = 1"),
        "run.warmup: 1 is no share of the requests: write a number below 1, or {requests = 1}, or {time = 1}",
    ),
    (run("warmup = -0.1"), "run.warmup: -0.1: write a share such as 0.1"),
    (run("warmup = nan"), "run.warmup: nan: write a share such as 0.1"),
    (run('warmup = "msre"'), 'run.warmup: "msre": write a share such as 0.1'),
    (run("warmup = {requests = 1.5}"), "run.warmup: {requests = 1.5}: write a share"),
    (run("warmup = {time = 1, requests = 2}"), "run.warmup: {time = 1, requests = 2}: write a share"),
    (
        run("warmup = {requests = 500}\nrequests = 500"),
        "run.warmup.requests: 500: nothing is left of 500 requests: write fewer",
    ),
    # sweeps
    (grid('"workload.laod" = [1]'), "sweep.grid.\"workload.laod\": no such key (did you mean 'workload.load'?)"),
    (
        sweep('zip = {"workload.phases.0.rate" = [1]}'),
        'sweep.zip."workload.phases.0.rate": no such key',
        "write one of pool",
    ),
    (
        design('method = "sobol", points = 2', '"pol.size" = [1, 2]'),
        "sweep.design.ranges.\"pol.size\": no such key (did you mean 'pool.size'?)",
    ),
    (grid('"workload.sizes.sale" = [1]'), "workload.sizes: lognorm has no parameter 'sale' (did you mean 'scale'?)"),
    (
        grid('"run.replicas" = [1]'),
        'sweep.grid."run.replicas": holds for all cells, and cannot be swept: write it once',
    ),
    (grid('"run.until.metric" = [1]'), 'sweep.grid."run.until.metric": holds for all cells'),
    (grid('"run" = [{}]'), "sweep.grid.run: holds for all cells"),
    (sweep('grid = {question = ["?"]}'), "sweep.grid.question: holds for all cells"),
    (
        sweep("grid = {workload.load = [0.5]}"),
        "sweep.grid.workload: {load = [0.5]}: not a list: write the whole key in quotes",
    ),
    (grid('"workload.load" = 0.5'), 'sweep.grid."workload.load": 0.5: write a list of one value or more'),
    (grid('"workload.load" = []'), 'sweep.grid."workload.load": []: write a list of one value or more'),
    (grid('"workload.load" = [0.5, 0.6, 0.5]'), 'sweep.grid."workload.load": 0.5: stands there 2 times: write it once'),
    (sweep("grid = 3"), "sweep.grid: 3: write a table of keys in quotes"),
    (
        sweep('zip = {"workload.load" = [1, 2], "run.seed" = [1, 2, 3]}'),
        "sweep.zip: lists of unequal length (workload.load has 2, run.seed has 3): write as many",
    ),
    (
        grid('"run.seed" = [1]}\nzip = {"run.seed" = [2]'),
        'sweep.zip."run.seed": swept in grid too: write it in one of them',
    ),
    (design('method = "sobol", points = 12'), "sweep.design.points: 12: Sobol points are a power of two: write 16"),
    (design('method = "sensitivity", points = 3'), "sweep.design.points: 3: ", "write 4"),
    (design('method = "sbol", points = 4'), 'sweep.design.method: "sbol" (did you mean \'sobol\'?): write "sobol"'),
    (design('method = "sobol"'), "sweep.design.points: missing: write a whole number"),
    (
        design('method = "sobol", points = 4', '"run.seed" = [9, 1]'),
        'sweep.design.ranges."run.seed": [9, 1] is no range: write two numbers, the lower one first',
    ),
    (design('method = "sobol", points = 4', '"run.seed" = [1]'), 'sweep.design.ranges."run.seed": [1] is no range'),
    (design('method = "sobol", points = 4', ""), "sweep.design.ranges: {}: write a table of keys"),
    (
        design('method = "sobol", points = 4, log = ["run.sed"]'),
        "sweep.design.log: \"run.sed\": not among the ranges (did you mean 'run.seed'?)",
    ),
    (
        design('method = "sobol", points = 4, log = ["run.seed"]', '"run.seed" = [0, 9]'),
        'sweep.design.ranges."run.seed": 0: has no logarithm: write a positive lower end',
    ),
    (
        design('method = "sensitivity", points = 262144', '"run.seed" = [0, 9], "workload.load" = [1, 2]'),
        "sweep: 1,048,576 cells: write a sweep of at most 1,000,000",
    ),
    (
        grid('"policy.use" = ["first-fit"]').replace("[pool]", "policy = true\n[pool]"),
        "policy: true: write a table with the policies",
    ),
    (replaced("[pool]", '"<dist>" = 1\n[pool]'), '"<dist>": 1: unknown key'),
    (replaced("s = 1.0", '"<dist>" = "a", s = 1.0'), 'workload.sizes."<dist>": "a": write a number'),
    # swept values
    (grid('"workload.load" = [0.5, -1]'), "workload.load: -1: write a positive number", "(swept)"),
    (
        grid('"policy.use.0" = ["next-fit", "nxt-fit"]', '[policy]\nuse = ["best-fit"]'),
        "policy.use.0: ",
        "'nxt-fit' is not known (did you mean 'next-fit'?)",
        "(swept)",
    ),
    (grid('"workload.sizes.s" = [1.0, "a"]'), 'workload.sizes.s: "a": write a number', "(swept)"),
    (
        grid('"workload.lifetimes" = [3.0, {dist = "expn"}]'),
        "workload.lifetimes.dist is 'expn' (did you mean 'expon'?)",
        "(swept)",
    ),
    (
        grid('"workload.sizes.s" = [1.0, -1.0]'),
        "workload.sizes: lognorm refuses s = -1.0",
        "(in 1 of 2 cells, first where workload.sizes.s = -1.0)",
    ),
    (
        grid('"pool.size" = ["64KiB", "48KiB", "1KiB", "80KiB"], "run.seed" = [1, 2]'),
        "policy.use: pool is 49152 bytes, but buddy needs",
        '(in 2 of 8 cells, first where pool.size = "48KiB", run.seed = 1)',
        "pool is 81920 bytes",
    ),
    (
        grid('"run.requests" = [100, 2000]', "[run]\nwarmup = {requests = 500}"),
        "run.warmup.requests: 500: nothing is left of 100 requests: write fewer (in 1 of 2 cells, ",
        "first where run.requests = 100)",
    ),
    (
        grid('"policy.use" = [["best-fit"], ["first-fit"]]', '[policy]\ncompare_to = "best-fit"'),
        'policy.compare_to: "best-fit": not among the policies',
        "in 1 of 2 cells",
    ),
    (
        grid('"workload.arrivals" = ["poisson", "saturated"]'),
        "workload.load",
        "'saturated'",
        '(in 1 of 2 cells, first where workload.arrivals = "saturated")',
    ),
    # figures
    (figure(""), "figure.x: missing: write a metric of run.metrics, or a swept key that has numbers, such as"),
    (figure('x = "moved_ratio"\npanel = "policy"'), "figure.panel: \"policy\": unknown key (did you mean 'panels'?)"),
    (BUDGETS.replace("\nquestion", "\nfigure = 3\nquestion"), "figure: 3: write a table such as {x = "),
    (
        figure('x = "moved_rati"'),
        'figure.x: "moved_rati": neither a metric of run.metrics nor swept',
        "(did you mean 'moved_ratio'?): write one of failure_ratio, moved_ratio, policy.reclaim.how, ",
    ),
    (figure('x = "moved"', SMALL), 'figure.x: "moved": no metric of run.metrics', ": write one of failure_ratio, "),
    (figure('x = "overhead"'), 'figure.x: "overhead": not among run.metrics: write it there too, or here one of '),
    (figure("x = 3"), "figure.x: 3: write a metric"),
    (
        figure('x = "policy.reclaim.how"'),
        'figure.x: "policy.reclaim.how": is swept over "slide", no number: write a metric, or a key swept over numbers',
    ),
    (figure('x = "moved_ratio"\ny = "wait"'), 'figure.y: "wait": not among run.metrics: write it there too'),
    (
        figure('x = "moved_ratio"\ny = ["failure_ratio", "failing_ratio"]'),
        "figure.y: \"failing_ratio\": no metric of run.metrics (did you mean 'failure_ratio'?): write one of failure_",
    ),
    (
        figure('x = "moved_ratio"\ny = ["policy.reclaim.budget"]'),
        'figure.y: "policy.reclaim.budget": no metric of run.metrics: write one of failure_ratio, moved_ratio',
    ),
    (figure('x = "moved_ratio"\ny = [3]'), "figure.y[0]: 3: write a metric of run.metrics, or a list of them"),
    (figure('x = "moved_ratio"\ny = []'), "figure.y: []: write a metric of run.metrics, or a list of them"),
    (
        figure('x = "moved_ratio"', BUDGETS.replace('"failure_ratio", ', "")),
        "figure.y: missing: run.metrics has only moved_ratio: write another metric there too",
    ),
    (figure('x = "moved_ratio"\ny = "moved_ratio"'), 'figure.y: "moved_ratio": is x already: write another one'),
    (figure('x = "moved_ratio"\nlines = ["policy", "policy"]'), 'figure.lines: "policy": stands there 2 times'),
    (figure('x = "policy.reclaim.budget"\npanels = "policy.reclaim.budget"'), "figure.panels: ", "is x already"),
    (figure('x = "moved_ratio"\npanels = "policy"\nlines = "policy"'), "figure.lines: ", "is panels already"),
    (
        figure('x = "moved_ratio"\npanels = "policy.reclaim.hwo"'),
        'figure.panels: "policy.reclaim.hwo": not swept (did you mean \'policy.reclaim.how\'?): write "policy" or ',
    ),
    (
        figure('x = "moved_ratio"\nlines = ["policy", "how"]'),
        'figure.lines: "how": not swept',
        'write "policy" or "policy.reclaim.how" or "policy.reclaim.budget"',
    ),
    (figure('x = "moved_ratio"\npanels = "moved_ratio"'), 'figure.panels: "moved_ratio": is x already'),
    (
        figure('x = "failure_ratio"\npanels = "pool.size"', SMALL),
        'figure.panels: "pool.size": not swept',
        'write "policy"',
    ),
    (figure('x = "moved_ratio"\nlog = ["z"]'), 'figure.log[0]: "z"', "write a list of "),
    (
        figure(
            'x = "policy.reclaim.pinned"\nlog = ["x"]', BUDGETS.replace('budget" = [2', 'pinned" = [0.0, 0.2')
        ).replace(", 4]", "]"),
        'figure.log: "x": policy.reclaim.pinned is swept over 0.0, which has no logarithm: leave "x" out',
    ),
    (
        figure('x = "moved_ratio"\npanels = "policy.reclaim.budget"', BUDGETS.replace("[2, 4]", str([*range(2, 14)]))),
        'figure.panels: "policy.reclaim.budget": 12 panels: write a key with at most 6 values',
    ),
    (
        figure('x = "moved_ratio"\npanels = "policy"', BUDGETS.replace("[2, 4]", "[2, 3, 4, 5, 6]")),
        'figure.lines: ["policy.reclaim.how", "policy.reclaim.budget"]: 10 lines: write keys with at most 8 combin',
    ),
    (
        figure('x = "policy.reclaim.budget"\nlines = "policy.reclaim.how"'),
        'figure.lines: ["policy.reclaim.how"]: several points of a line at one x: write "policy" too',
        ", or make it panels",
    ),
    (
        figure(
            'x = "failure_ratio"',
            sweep('design = {method = "sensitivity", points = 4, ranges = {"workload.load" = [0.5, 0.9]}}'),
        ),
        'figure.x: "failure_ratio": a sensitivity design has a figure of its own, of its indices: leave [figure] out',
    ),
]


@pytest.mark.parametrize(("text", "fragments"), [(text, fragments) for text, *fragments in WRONG])
def test_what_is_wrong_is_named_with_its_value_and_the_remedy(text, fragments):
    lines = complaints(text)
    rest = "\n".join(lines)
    assert any(line.startswith(fragments[0]) for line in lines), rest
    for fragment in fragments:
        assert fragment in rest
    assert len(lines) <= 2, rest  # no complaint that follows from another


def test_everything_at_once():
    lines = complaints(
        """
        question = "Which?"
        [pool]
        size = "64KB"
        [workload]
        sizes = {dist = "lognrm", s = 1.0}
        lifetimes = {dist = "expon", scal = 1.0}
        batch = {dist = "geom", p = 2.0}
        arrivals = "possion"
        lod = 0.9
        [policy]
        use = ["best-fit[tie=lifo]", "buddy"]
        on_failure = "dorp"
        [run]
        seed = -1
        metrics = ["failure"]
        [figure]
        x = "run.requets"
        y = "failur_ratio"
        panels = "polcy"
        [sweep]
        grid = {"run.requets" = [1]}
        design = {method = "sobol", points = 5, ranges = {"run.warmup" = [0.1, 0.2]}}
        """
    )
    starts = [
        'sweep.grid."run.requets": ', "sweep.design.points: 5", "pool.size: ", 'workload.arrivals: "possion"',
        "workload.lod: 0.9", 'policy.on_failure: "dorp"', "run.seed: -1", 'run.metrics[0]: "failure"',
        "policy.use[0]: ",
        "workload.sizes.dist is 'lognrm'", "workload.lifetimes: expon has no parameter 'scal'", "workload.batch: geom",
        'figure.y: "failur_ratio": no metric of run.metrics (did you mean', 'figure.panels: "polcy": not swept',
    ]  # fmt: skip
    assert len(lines) == len(starts), lines
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)


def test_laws_and_load_at_once():
    text = SMALL.replace("s = 1.0", "s = -1.0").replace('"expon"', '"expn"').replace("load = 0.9", "")
    lines = complaints(text)
    assert [line.split(" ")[0] for line in lines] == ["workload.sizes:", "workload.lifetimes.dist", "workload:"]
    assert "need a rate" in lines[2]
    fleet = SMALL.replace(
        '{dist = "lognorm", s = 1.0, scale = 256, max = "8KiB", bounds = "clip"}', '{fleet = "no.csv"}'
    )
    line = only_complaint(fleet.replace('lifetimes = {dist = "expon", scale = 1.0}', ""))  # for a fleet has lifetimes
    assert line.startswith("workload: no.csv: no such file")


def test_a_long_list_is_cut():
    lines = complaints(sweep(f'grid = {{"workload.load" = {[-k for k in range(1000)]}}}'))
    assert len(lines) == 51 and lines[-1] == "and 950 more"


def test_what_holds_everywhere_names_no_cell():
    lines = complaints(sweep('grid = {"workload.load" = [0.5, 0.6]}').replace("[sweep]", "[run]\nseed = -1\n[sweep]"))
    assert lines == ["run.seed: -1: write a whole number from 0 up, which all random streams depend on"]


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"a = 1\nb = \n", ", line 2, column 5: Invalid value; write TOML"),
        (b"[pool]\nsize = 1\nsize = 2\n", ", line 3, column 9: Cannot overwrite a value"),
        (b"[pool\n", ", line 1, column 6: "),
        (b'a = """b\n', ", line 1, the end of the file: "),
        (b"a = 1\nb = '\xff'", ", line 2: is not UTF-8; save the file as UTF-8"),
        (b"a = " + b"9" * 5000, "cannot be read as TOML"),
        (b"a = " + b"[" * 100_000, "cannot be read as TOML"),
        (b"a = 1\0", ", line 1, column 6: "),
        (b" " * ((1 << 24) + 1), "has more than 16777216 bytes"),
    ],
)
def test_files_that_are_no_toml(tmp_path, content, fragment):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_experiment(path)
    assert str(caught.value).startswith(f"{path}") and fragment in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_files(tmp_path):
    for path, fragment in [
        (tmp_path / "x.toml", "no such file; name an experiment"),
        (tmp_path, "is no regular file"),
        ("/dev/zero", "is no regular file"),
        ("a\0b", "no such file"),
        ("x" * 5000, "check the path"),
    ]:
        with pytest.raises(InputError, match=fragment):
            load_experiment(path)


def test_the_path_begins_the_message(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(SMALL.replace("load = 0.9", "load = -1"))
    with pytest.raises(InputError) as caught:
        load_experiment(path)
    assert str(caught.value).startswith(f"{path}: cannot be run as it is\n  workload.load: -1: write")


# --- whatever is written ---------------------------------------------------------------------------------------------


def as_toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {as_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value) if isinstance(value, str | bool) else repr(value)


def places(tree, above=()):
    for key, inner in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield (*above, key)
        yield from places(inner, (*above, key))


SCALARS = st.one_of(
    st.booleans(), st.integers(), st.integers(-(2**70), 2**70), st.floats(), st.floats(0, 2), st.just(10**400),
    st.sampled_from(["", "0.9x", "64KiB", "all", "best-fit", "expon", "phase", "mser", "drop", "<dist>", "a.b", "\n"]),
)  # fmt: skip
KEYS = st.sampled_from(
    ["dist", "mixture", "table", "trace", "fleet", "workload.load", "workload.sizes", "pool", "a", "<dist>", "", "x.0"]
)  # fmt: skip
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS, v, max_size=3), max_leaves=6)


def not_many(file):
    """Whether the design has few points: each one is eight cells with a law of their own, a millisecond each."""
    try:
        points = file["sweep"]["design"]["points"]
    except (LookupError, TypeError):
        return True
    return not isinstance(points, int) or points <= 16 or points > 1_000_000


@given(st.data())
def test_nothing_else_is_ever_raised(data):
    file = tomllib.loads(data.draw(st.sampled_from([FULL, PROCESSES])))
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(list(places(file))))
        tree = file
        for step in path[:-1]:
            tree = tree[step]
        if data.draw(st.booleans()):
            tree[path[-1]] = data.draw(VALUES)
        elif isinstance(tree, dict):
            tree[data.draw(KEYS)] = data.draw(VALUES)
        else:
            del tree[path[-1]]
    assume(not_many(file))
    text = "\n".join(f"{json.dumps(key)} = {as_toml(value)}" for key, value in file.items())
    try:
        e = of(text)
    except InputError as error:
        assert str(error).startswith("x")
    else:
        assert e.cells and pickle.loads(pickle.dumps(e.sweep)) == e.sweep


# --- the schema ------------------------------------------------------------------------------------------------------


def fits(value, schema, root):
    """Whether a value fits a JSON Schema; the few words that ours uses, and no other."""
    known = {
        "$schema", "$defs", "$ref", "title", "description", "default", "type", "properties", "required", "enum",
        "const",
        "additionalProperties", "items", "anyOf", "oneOf", "minItems", "maxItems", "minProperties", "maxProperties",
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    }  # fmt: skip
    assert schema.keys() <= known, schema.keys() - known
    if "$ref" in schema and not fits(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root):
        return False
    if "anyOf" in schema and not any(fits(value, each, root) for each in schema["anyOf"]):
        return False
    if "oneOf" in schema and sum(fits(value, each, root) for each in schema["oneOf"]) != 1:
        return False
    if "type" in schema:
        types = {
            "object": dict,
            "array": list,
            "string": str,
            "integer": int,
            "number": (int, float),
            "boolean": bool,
            "null": type(None),
        }
        wanted = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if isinstance(value, bool) and "boolean" not in wanted:
            return False
        if not any(isinstance(value, types[each]) for each in wanted):
            return False
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        return False
    if isinstance(value, dict):
        fields = schema.get("properties", {})
        others = schema.get("additionalProperties", True)
        return (
            set(schema.get("required", ())) <= value.keys()
            and schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", len(value))
            and all(fits(value[key], fields[key], root) for key in value.keys() & fields.keys())
            and all(
                others if isinstance(others, bool) else fits(value[key], others, root) for key in value.keys() - fields
            )
        )
    if isinstance(value, list):
        few, many = schema.get("minItems", 0), schema.get("maxItems", len(value))
        return few <= len(value) <= many and all(fits(each, schema.get("items", {}), root) for each in value)
    if isinstance(value, int | float):
        return schema.get("minimum", value) <= value <= schema.get("maximum", value) and schema.get(
            "exclusiveMinimum", value - 1
        ) < value < schema.get("exclusiveMaximum", value + 1)
    return True


def test_the_schema_takes_what_can_be_run():
    schema = json_schema()
    assert json.loads(json.dumps(schema)) == schema
    for text in (
        SMALL,
        FULL,
        PROCESSES,
        figure('x = "moved_ratio"\ny = "failure_ratio"\nlog = ["y"]'),
        SMALL.replace('size = "64KiB"', "") + '[sweep.grid]\n"pool.size" = [1024]',
    ):
        assert of(text).cells
        assert fits(tomllib.loads(text), schema, schema)
    for written in ('"mser"', "0.2", "{time = 2}", "{requests = 3}"):
        assert fits(tomllib.loads(run(f"warmup = {written}")), schema, schema)
    for path in sorted((Path(__file__).parents[1] / "experiments").glob("*.toml")):
        assert fits(tomllib.loads(path.read_text()), schema, schema), path


@pytest.mark.parametrize(
    "text",
    [
        replaced("question", "quest"),
        replaced("size =", "sice ="),
        replaced("load =", "laod ="),
        replaced("load = 0.9", "load = -1"),
        replaced('"lognorm"', "3"),
        replaced('"clip"', '"clap"'),
        replaced("s = 1.0", 's = "a"'),
        replaced('{dist = "expon", scale = 1.0}', '{trace = "x"}'),
        replaced("load = 0.9", 'load = 0.9\narrivals = "possion"'),
        replaced("load = 0.9", 'load = 0.9\nphases = [{duration = 1, lifetimes = "x"}]'),
        policy("use = 3"),
        policy('on_failure = "dorp"'),
        policy("reclaim = []"),
        policy('reclaim = {kind = "compct"}'),
        policy('reclaim = {kind = "compact", how = "slid"}'),
        policy('reclaim = {kind = "compact", budget = 1}'),
        policy('reclaim = {kind = "compact", when = {every = 0}}'),
        policy('reclaim = [{kind = "swap", latency = 3}]'),
        policy('reclaim = [{kind = "swap", relocate = "no"}]'),
        run("seed = -1"),
        run("warmup = 2"),
        run('warmup = "msre"'),
        run('metrics = ["no_metric"]'),
        run("confidence = 1.0"),
        sweep('grid = {"workload.load" = 3}'),
        sweep('design = {method = "sobol", points = 0, ranges = {"workload.load" = [0, 1]}}'),
        sweep('design = {method = "sobol", points = 4, ranges = {"workload.load" = [0]}}'),
        figure(""),
        figure("x = 3"),
        figure('x = "moved_ratio"\ny = []'),
        figure('x = "moved_ratio"\nlines = [3]'),
        figure('x = "moved_ratio"\nlog = ["z"]'),
        figure('x = "moved_ratio"\ncolour = "red"'),
    ],
)
def test_the_schema_refuses_what_it_can_see(text):
    schema = json_schema()
    assert complaints(text)
    assert not fits(tomllib.loads(text), schema, schema)


def test_the_schema_beside_the_experiments_is_this_one():
    path = Path(__file__).parents[1] / "experiments" / "schema.json"
    assert json.loads(path.read_text()) == json_schema(), "write it again: vecalloc schema > experiments/schema.json"


def test_every_key_of_the_schema_says_what_it_is():
    schema = json_schema()
    tables = {"file": schema, **schema["$defs"]}
    assert len(tables) > 10
    for name, table in tables.items():
        assert table["title"] and table["description"], name
        assert "_" not in table["title"]
        for key, field in table["properties"].items():
            assert field.get("description"), f"{name}.{key}"


# --- what it takes ---------------------------------------------------------------------------------------------------


def test_reading_an_experiment_needs_no_numba_and_complaining_no_scipy(tmp_path):
    (tmp_path / "x.toml").write_text(FULL)
    (tmp_path / "y.toml").write_text(
        SMALL.replace("load =", "laod =").replace("{dist", "{dits").replace("[pool]", "[pol]")
    )
    code = f"""
import sys
from vecalloc.experiment import json_schema, load_experiment
json_schema()
assert not {{"numba", "scipy"}} & sys.modules.keys(), "importing it needs one"
try: load_experiment({str(tmp_path / "y.toml")!r})
except ValueError: pass
else: raise AssertionError
assert not {{"numba", "scipy"}} & sys.modules.keys(), "complaining needs one"
load_experiment({str(tmp_path / "x.toml")!r})
assert "numba" not in sys.modules and "scipy" in sys.modules
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_many_cells_are_read_in_a_moment():
    e = swept('grid = {"run.seed" = [' + ", ".join(map(str, range(5000))) + '], "workload.load" = [0.5, 0.6]}')
    assert len(e.cells) == 10_000
