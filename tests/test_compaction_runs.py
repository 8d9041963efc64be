"""Experiments in which blocks move: what their rows are, and what compaction can and cannot change."""

import csv

import numpy as np
import pytest
from reference import REFERENCES
from reference.waiting import Waiting
from studies import ROOT, SMALL, rows_text, run
from test_sweep import experiment, kept

from vecalloc import batch, sweep
from vecalloc import ledger as c
from vecalloc.batch import Batch, simulate_batch
from vecalloc.errors import InputError
from vecalloc.experiment import load_experiment
from vecalloc.metrics import METRICS
from vecalloc.reclaim.compactor import Compactor
from vecalloc.rows import rows_of
from vecalloc.simulate import Simulation, Switches
from vecalloc.spec import label_of_reclaim, make_plan, parse_reclaim
from vecalloc.trace import events_of, extents_of
from vecalloc.workload import Requests, order, sample, workload_of
from vecalloc.workload.pins import Pins

POLICIES = ["first-fit", "buddy"]
"""All ways and policies are compared event by event elsewhere; here two are enough."""

FULL = {"kind": "compact", "budget": 2.0, "pinned": 0.05}
SLIDE = {"kind": "compact"}

POOL, GRANULE, SEED, REQUESTS = 8192, 16, 5, 300


def compacting(reclaim=FULL, **changes):
    """Changes of SMALL: its crowded cell, with compaction."""
    return {
        "policy/use": POLICIES,
        "policy/reclaim": reclaim,
        "sweep": None,
        "workload/load": 1.1,
        "run/warmup": 0.0,
        "run/replicas": 6,
        **{key.replace("__", "/"): value for key, value in changes.items()},
    }


def batch_of(reclaim=FULL, policies=POLICIES, on_failure="drop", replicas=3, requests=REQUESTS, load=1.1, **options):
    return Batch(
        workload=workload_of(SMALL["workload"] | {"load": load}),
        pool=POOL,
        granule=GRANULE,
        policies=tuple(policies),
        ids=tuple(policies),
        on_failure=on_failure,
        queue_limit=1 << 20,
        seed=SEED,
        requests=requests,
        warmup=("share", 0.0),
        first=0,
        last=replicas,
        reclaim=label_of_reclaim(parse_reclaim(reclaim)),
        **options,
    )


def lines_of(policy, all_lines, policies=POLICIES):
    mine = all_lines["row"] == policies.index(policy)
    return {name: values[mine] for name, values in all_lines.items()}


# --- a row is the same, whoever ran it -------------------------------------------------------------------------------


@pytest.mark.jitless
@pytest.mark.parametrize("on_failure", ["drop", "wait"])
def test_rows_do_not_depend_on_threads_and_batches(tmp_path, monkeypatch, on_failure):
    changes = compacting(policy__on_failure=on_failure, run__requests=150, run__metrics=list(METRICS))
    run(tmp_path / "a", changes, executor="threads:1")
    run(tmp_path / "b", changes, executor="threads:2")
    monkeypatch.setattr(batch, "TOGETHER", 2)
    monkeypatch.setattr(sweep.Plan, "cut", lambda plan, span, workers: _cut(span, 3))
    run(tmp_path / "c", changes)
    assert rows_text(tmp_path / "a") == rows_text(tmp_path / "b") == rows_text(tmp_path / "c")
    again = run(tmp_path / "a", changes)
    assert (again.progress.replicas, again.comparison.verdict) == (0, "identical")
    assert min(row["passes_ratio"] for row in again.table.to_pylist()) > 0


def _cut(span, size):
    for first in range(span.first, span.last, size):
        yield sweep._Span(span.task, span.rows, first, min(first + size, span.last))


@pytest.mark.jitless
@pytest.mark.parametrize("geometry", [False, True])
@pytest.mark.parametrize("on_failure", ["drop", "grow", "stop"])
def test_lines_are_those_of_a_replayed_trace(monkeypatch, on_failure, geometry):
    """In many stretches, in memory that other replicas have used: the same blocks are pinned, and the same moved."""
    monkeypatch.setattr(order, "STRETCH", 32)
    monkeypatch.setattr(batch, "TOGETHER", 1)
    lines = simulate_batch(batch_of(on_failure=on_failure, geometry=geometry))
    (rule,) = parse_reclaim(FULL)
    assert lines["passes"].sum() > 0 and lines["passes_refused"].sum() > 0
    for policy in POLICIES:
        mine = lines_of(policy, lines)
        for replica in range(3):
            trace = sample(REQUESTS + 1, SEED, replica, POOL, **SMALL["workload"] | {"load": 1.1})
            births = np.flatnonzero(trace.is_alloc)
            events = events_of(trace, GRANULE, timed=True)
            compactor = Compactor(rule, 1, trace.slots, [Pins(rule.pinned, SEED, replica)])
            simulation = Simulation(
                make_plan(policy, POOL, GRANULE), 1, trace.slots, on_failure, Switches(geometry=geometry), 1, compactor
            )
            simulation.begin(events)
            simulation.advance(events, births[REQUESTS])
            counts = dict(zip(c.COUNT_NAMES, simulation.ledger.counts[0].tolist(), strict=False))
            assert {name: mine[name][replica] for name in c.COUNT_NAMES} == counts
            integrals = simulation.ledger.integrals[0, : len(c.INTEGRAL_NAMES)].tolist()
            assert [mine[name][replica] for name in c.INTEGRAL_NAMES] == integrals


@pytest.mark.jitless
def test_lines_of_who_waits_are_those_of_plain_python():
    requests = 150
    lines = simulate_batch(batch_of(on_failure="wait", requests=requests))
    workload = workload_of(SMALL["workload"] | {"load": 1.1})
    passes = 0
    for policy in POLICIES:
        mine = lines_of(policy, lines)
        for replica in range(3):
            source = Requests(workload, workload.rate_in(POOL), SEED, replica, requests)
            arrivals = source.next_arrivals()
            sizes, lives = source.next_requests()
            plain = Waiting(
                REFERENCES[policy](POOL // GRANULE, grows=False),
                arrivals.tolist(),
                extents_of(sizes, GRANULE).tolist(),
                lives.tolist(),
                compaction={"how": "slide", "when": "failure", "budget": FULL["budget"]},
                pinned=set(np.flatnonzero(Pins(FULL["pinned"], SEED, replica)(requests)).tolist()),
            )
            plain.run(requests)
            heap = plain.heap
            expected = {
                "allocs": requests, "frees": plain.frees, "passes": heap.passes, "blocks_moved": heap.blocks_moved,
                "moved": heap.granules_moved, "longest_pass": heap.longest, "passes_refused": heap.refused,
                "allocated": heap.allocated,
            } | {f"delayed_{cause}": count for cause, count in plain.delayed.items()}  # fmt: skip
            assert {name: mine[name][replica] for name in expected} == expected
            passes += heap.passes
    assert passes > 20


# --- what compaction changes, and what not ---------------------------------------------------------------------------


@pytest.mark.parametrize("on_failure", ["drop", "grow", "wait"])
def test_where_nothing_ever_fails_it_changes_nothing(on_failure):
    with_passes, without = (
        simulate_batch(batch_of(reclaim, on_failure=on_failure, load=0.15)) for reclaim in (SLIDE, "none")
    )
    if on_failure == "grow":  # there are no failures, and so no passes, only below the limit
        assert with_passes["passes"].sum() > 0
        assert (with_passes["high_water"] <= without["high_water"]).all()
        return
    assert with_passes["passes"].sum() == with_passes["passes_refused"].sum() == 0
    assert (with_passes["allocated"] >= with_passes["high_water"]).all()
    for name, values in without.items():
        if name != "allocated":
            assert (with_passes[name] == values).all(), name


@pytest.mark.jitless
@pytest.mark.parametrize("on_failure", ["drop", "wait"])
def test_when_all_blocks_slide_nothing_fails_for_fragmentation(on_failure):
    lines, without = (simulate_batch(batch_of(reclaim, on_failure=on_failure)) for reclaim in (SLIDE, "none"))
    failed = "fragmentation" if on_failure == "drop" else "delayed_fragmentation"
    assert (without[failed] > 0).all()
    assert (lines[failed] == 0).all()
    assert (lines["passes"] > 0).all()
    assert lines["moved"].sum() >= lines["blocks_moved"].sum() >= lines["passes"].sum()
    assert lines["longest_pass"].max() <= POOL // GRANULE


@pytest.mark.parametrize("on_failure", ["drop", "grow", "wait"])
@pytest.mark.parametrize("when", ["failure", {"every": 10}, {"external_fragmentation": 0.3}], ids=str)
def test_no_more_is_moved_than_the_budget_allows(when, on_failure):
    reclaim = {"kind": "compact", "when": when, "budget": 2.5, "pinned": 0.05}
    lines = simulate_batch(batch_of(reclaim, on_failure=on_failure, replicas=10))
    assert (2.5 * lines["moved"] <= lines["allocated"]).all()
    assert (lines["moved"] > 0).any()
    free = simulate_batch(batch_of(reclaim | {"budget": 1.01}, on_failure=on_failure, replicas=10))
    assert free["moved"].sum() > lines["moved"].sum()


def test_the_same_requests_are_pinned_under_every_policy():
    """Alone or with others, and whatever the others do with them."""
    together = simulate_batch(batch_of(policies=["first-fit", "buddy", "first-fit[header=8]"]))
    alone = simulate_batch(batch_of(policies=["buddy"]))
    second = lines_of("buddy", together)
    for name in alone:
        if name != "row":
            assert (alone[name] == second[name]).all(), name


def test_what_does_not_go_together_is_refused():
    with pytest.raises(InputError, match="units of static-partition cannot move"):
        simulate_batch(batch_of(SLIDE, ["static-partition"]))
    with pytest.raises(InputError, match="only processes are swapped"):
        simulate_batch(batch_of("swap", on_failure="wait"))


# --- rows ------------------------------------------------------------------------------------------------------------


def test_a_budget_is_swept(tmp_path):
    names = ["passes_ratio", "refused_ratio", "moved_ratio", "budget_ratio", "moving_time"]
    budgets = ["none", 6.0, 2.0]
    reclaim = {"kind": "compact", "bandwidth": "1 GB/s"}
    table = run(
        tmp_path, compacting(reclaim, sweep={"grid": {"policy.reclaim.budget": budgets}}, run__metrics=names)
    ).table.to_pylist()
    assert [(row["policy.reclaim.budget"], row["policy"]) for row in table] == [
        (str(budget), policy) for budget in budgets for policy in POLICIES
    ]
    assert len({row["id"] for row in table}) == 6
    for k in (0, 1):
        free, tight, wide = table[k::2]
        assert free["refused_ratio"] == free["budget_ratio"] == 0 < wide["budget_ratio"] < tight["budget_ratio"]
        assert free["moved_ratio"] > wide["moved_ratio"] > tight["moved_ratio"] > 0
        for row in (tight, wide):
            assert row["moved_ratio"] <= 1 / float(row["policy.reclaim.budget"])
            assert 0 < row["refused_ratio"] < 1
            lines = kept(tmp_path)[row["id"]]
            moved, allocs = (sum(lines[name].to_pylist()) for name in ("moved", "allocs"))
            assert row["moving_time"] == pytest.approx(moved * GRANULE / 1e9 / allocs)


def test_remedies_are_swept_by_their_labels(tmp_path):
    ways = ["none", {"kind": "compact", "how": "slide"}, "compact[how=two-finger,pinned=0.5]"]
    swept = compacting(None, policy__use=["first-fit"], sweep={"grid": {"policy.reclaim": ways}}, run__replicas=2)
    table = run(tmp_path, swept).table.to_pylist()
    assert [row["policy.reclaim"] for row in table] == ["none", "compact", "compact[how=two-finger,pinned=0.5]"]
    plain = run(tmp_path / "plain", compacting(None, policy__use=["first-fit"], run__replicas=2)).table.to_pylist()
    assert plain[0]["id"] == table[0]["id"]


def test_the_cut_of_a_warmup_takes_passes_off_too(tmp_path):
    """MSER-5 keeps what is moved by batch."""
    changes = compacting(run__warmup="mser", run__metrics=["passes_ratio", "moved_ratio", "longest_pass"])
    for row in run(tmp_path, changes).table.to_pylist():
        lines = kept(tmp_path)[row["id"]]
        cut = row["warmup_batches"]
        parts = {
            name: np.array([np.frombuffer(x, np.int64)[cut:].sum() for x in lines[f"{name}/batches"].to_pylist()]).sum()
            for name in ("allocs", "passes", "moved", "allocated")
        }
        assert row["passes_ratio"] == parts["passes"] / parts["allocs"]
        assert row["moved_ratio"] == parts["moved"] / parts["allocated"]
        assert row["longest_pass"] == GRANULE * np.mean(lines["longest_pass"].to_pylist())


def test_ids_without_remedies_are_as_they_were():
    """Those of the rows that are committed."""
    with open(ROOT / "results" / "quickstart" / "rows.csv") as file:
        committed = [line["id"] for line in csv.DictReader(file)]
    assert [row.sample.id for row in rows_of(load_experiment(ROOT / "experiments" / "quickstart.toml"))] == committed


def test_an_id_holds_all_of_the_remedies():
    def ids(reclaim):
        return {row.sample.id for row in rows_of(experiment(compacting(reclaim)))}

    variants = [None, SLIDE, FULL, FULL | {"bandwidth": "5 GB/s"}, SLIDE | {"when": {"every": 100}}]
    assert len(set().union(*map(ids, variants))) == len(POLICIES) * len(variants)
    assert ids(None) == ids("none")
    assert ids(SLIDE) == ids("compact[how=slide,budget=none]")
