"""From an experiment to its rows: what is simulated, what is not, what a row rests on, and what stands in it."""

import math

import numpy as np
import pyarrow as pa
import pytest
from reference import REFERENCES
from reference.waiting import Waiting
from studies import SMALL, changed, rows_text, run, toml

import vecalloc as va
from vecalloc import batch, statistics, sweep
from vecalloc import ledger as c
from vecalloc.errors import InputError
from vecalloc.experiment import experiment_of
from vecalloc.metrics import COUNTS_OF_EVENTS, METRICS, Account
from vecalloc.rows import Sample, account_of, cut_of, from_table, rows_of
from vecalloc.store import Store, environment
from vecalloc.trace import extents_of
from vecalloc.workload import Requests, sample, workload_of

REPLICAS = SMALL["run"]["replicas"]
ALL = 2 * 2 * REPLICAS
"""Lines of SMALL: cells x policies x replicas."""


def experiment(changes=None, name="small"):
    text = "\n".join(f"{key} = {toml(value)}" for key, value in changed(changes or {}).items())
    return experiment_of(text, name, ".")


def kept(tmp_path, name="small"):
    """Row id -> lines, from the store of a run."""
    return Store(tmp_path / "results" / name, name, environment()).read()


def texts_by_row(tmp_path):
    """Cell and policy -> the text of the row."""
    header, *lines = rows_text(tmp_path).splitlines()
    assert header.startswith("workload.load,policy,pool,")
    return {tuple(line.split(",")[:2]): line for line in lines}


# --- only what is missing is simulated -------------------------------------------------------------------------------


def test_a_finished_experiment_is_not_run_again(tmp_path):
    first = run(tmp_path)
    assert (first.progress.replicas, first.progress.kept, first.comparison.verdict) == (ALL, 0, "new")
    assert (first.progress.cells_done, first.progress.cells) == (2, 2)
    text = rows_text(tmp_path)
    again = run(tmp_path)
    assert (again.progress.replicas, again.progress.kept, again.comparison.verdict) == (0, ALL, "identical")
    assert rows_text(tmp_path) == text
    assert again.table.equals(first.table)


@pytest.mark.parametrize("replicas", [1, 3, 8, 1000])
def test_rows_do_not_depend_on_batches(tmp_path, monkeypatch, replicas):
    """Nor on which replicas advance side by side."""
    run(tmp_path / "a")
    monkeypatch.setattr(sweep.Plan, "cut", lambda plan, span, workers: _cut(span, replicas))
    monkeypatch.setattr(batch, "TOGETHER", {1: 5, 3: 2, 8: 8, 1000: 1}[replicas])
    run(tmp_path / "b")
    assert rows_text(tmp_path / "a") == rows_text(tmp_path / "b")


def _cut(span, size):
    for first in range(span.first, span.last, size):
        yield sweep._Span(span.task, span.rows, first, min(first + size, span.last))


def test_another_policy_leaves_the_rows_as_they_were(tmp_path):
    run(tmp_path)
    before = texts_by_row(tmp_path)
    done = run(tmp_path, {"policy/use": ["buddy", "first-fit", "best-fit"]})
    after = texts_by_row(tmp_path)
    assert done.progress.replicas == 2 * REPLICAS  # the new policy alone
    assert len(after) == 6
    assert {row: after[row] for row in before} == before


def test_another_cell_leaves_the_rows_as_they_were(tmp_path):
    run(tmp_path)
    before = texts_by_row(tmp_path)
    done = run(tmp_path, {"sweep/grid": {"workload.load": [0.9, 0.7, 1.1]}})
    after = texts_by_row(tmp_path)
    assert done.progress.replicas == 2 * REPLICAS
    assert len(after) == 6
    assert {row: after[row] for row in before} == before


def test_another_metric_needs_no_simulation(tmp_path):
    before = run(tmp_path).table
    done = run(tmp_path, {"run/metrics": ["utilisation", "holes", "failure_ratio"]})
    assert done.progress.replicas == 0
    assert "utilisation_half_width" in done.table.column_names
    assert done.table.select(before.column_names).equals(before)


def test_more_replicas_continue_from_what_is_there(tmp_path):
    run(tmp_path)
    done = run(tmp_path, {"run/replicas": 20})
    assert (done.progress.replicas, done.progress.kept) == (2 * 2 * 8, ALL)
    assert done.table["replicas"].to_pylist() == [20] * 4
    fewer = run(tmp_path)  # though there are 20
    assert (fewer.progress.replicas, fewer.progress.kept) == (0, 80)
    run(tmp_path / "fresh")
    assert rows_text(tmp_path) == rows_text(tmp_path / "fresh")


def test_gaps_are_filled_and_no_more(tmp_path):
    """Whoever is killed leaves some batches out of the middle."""
    run(tmp_path)
    text = rows_text(tmp_path)
    lines = kept(tmp_path)
    ids = sorted(lines)
    holes = {ids[0]: [0, 5, 6], ids[2]: [6, 11]}
    store = Store(tmp_path / "results" / "small", "small", environment())
    store.begin(fresh=True)
    for id, table in lines.items():
        whole = np.array([replica not in holes.get(id, []) for replica in table["replica"].to_pylist()])
        store.add(table.filter(pa.array(whole)).append_column("id", pa.array([id] * int(whole.sum()))))
    done = run(tmp_path)
    assert (done.progress.replicas, done.progress.kept) == (5, ALL - 5)
    assert rows_text(tmp_path) == text


@pytest.mark.parametrize(
    "change",
    [
        {"run/seed": 6},
        {"pool/size": "16KiB"},
        {"pool/granule": 32},
        {"run/requests": 301},
        {"run/warmup": 0.21},
        {"workload/sizes/scale": 129},
        {"workload/lifetimes": {"dist": "gamma", "a": 2.0}},
        {"workload/batch": 2},
        {"policy/on_failure": "grow"},
        {"policy/use": ["first-fit[carve=high]", "best-fit[ties=lifo]"]},
    ],
    ids=str,
)
def test_a_changed_experiment_never_mixes_with_old_rows(tmp_path, change):
    first = run(tmp_path, {"run/replicas": 2})
    done = run(tmp_path, {"run/replicas": 2, **change})
    assert (done.progress.replicas, done.progress.kept) == (8, 0)
    assert not set(first.table["id"].to_pylist()) & set(done.table["id"].to_pylist())


@pytest.mark.parametrize(
    "change", [{"run/replicas": 7}, {"run/confidence": 0.9}, {"policy/compare_to": "best-fit"}, {"question": "?"}]
)
def test_what_does_not_change_the_replicas_does_not_change_the_ids(change):
    def ids(changes):
        return [row.sample.id for row in rows_of(experiment(changes))]

    assert ids(change) == ids({})


def test_cells_that_come_to_the_same_are_simulated_once(tmp_path):
    grid = {"workload.lifetimes": [{"dist": "expon"}, {"dist": "expon", "scale": 1.0}]}
    changes = {"sweep/grid": grid, "policy/compare_to": "best-fit"}
    done = run(tmp_path, changes)
    assert done.progress.replicas == 2 * REPLICAS
    assert (done.progress.cells_done, done.progress.cells) == (2, 2)
    numbers = done.table.drop_columns(["workload.lifetimes"]).to_pylist()
    assert numbers[:2] * 2 == numbers
    assert run(tmp_path, changes).progress.replicas == 0


# --- shards ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [2, 3, 7])
def test_shards_add_up_to_the_whole(tmp_path, shards):
    parts = [run(tmp_path, shard=(k + 1, shards)) for k in range(shards)]
    assert all(part.table is None and part.comparison is None for part in parts)
    simulated = [part.progress.replicas for part in parts]
    assert sum(simulated) == ALL
    if shards != 3:
        assert min(simulated) > 0
    merged = run(tmp_path)
    assert (merged.progress.replicas, merged.progress.kept) == (0, ALL)
    run(tmp_path / "whole")
    assert rows_text(tmp_path) == rows_text(tmp_path / "whole")


def test_shards_of_a_target_are_whole_cells(tmp_path):
    target = {"run/replicas": None, "run/until": {"metric": "holes", "relative": 0.2}, "run/cap": 48}
    parts = [run(tmp_path, target, shard=(k + 1, 3)).progress for k in range(3)]
    assert [part.cells for part in parts] == [1, 1, 0]
    assert [part.replicas > 0 for part in parts] == [True, True, False]
    assert run(tmp_path, target).progress.replicas == 0


def test_no_shard_forgets_what_others_did(tmp_path):
    with pytest.raises(InputError, match="--fresh with --shard"):
        run(tmp_path, shard=(1, 2), fresh=True)


# --- targets ---------------------------------------------------------------------------------------------------------

UNTIL = {"run/replicas": None, "run/requests": 150, "run/cap": 200, "run/metrics": ["holes", "failure_ratio"]}


def until(**target):
    return UNTIL | {"run/until": {"metric": "holes", **target}}


def test_each_row_stops_at_its_own_first_look_that_is_narrow_enough(tmp_path):
    done = run(tmp_path, until(half_width=0.3))
    stops = done.table["replicas"].to_pylist()
    assert len(set(stops)) > 1, "a test of rows that stop apart needs some that do"
    assert done.table["met"].to_pylist() == [True] * 4
    assert done.progress.replicas == sum(stops)
    found = experiment(until(half_width=0.3))
    target = statistics.Target("holes", 0.3, None, found.until.confidence)
    for row, stop in zip(rows_of(found), stops, strict=True):
        row.sample.add(from_table(kept(tmp_path)[row.sample.id]))
        assert row.sample.have == stop
        assert stop in statistics.looks(200)
        for look in statistics.looks(200):
            estimate = statistics.estimate_ratio(*METRICS["holes"](account_of(row, look, 0)), target.confidence)
            assert target.met(estimate) == (look >= stop)
            if look == stop:
                break


def test_a_row_rests_on_its_own_look_even_if_there_are_more_replicas(tmp_path):
    first = run(tmp_path, until(half_width=0.3))
    text = rows_text(tmp_path)
    tighter = run(tmp_path, until(half_width=0.2))
    assert tighter.progress.kept == first.progress.replicas
    assert tighter.progress.replicas == sum(tighter.table["replicas"].to_pylist()) - tighter.progress.kept > 0
    again = run(tmp_path, until(half_width=0.3))
    assert again.progress.replicas == 0
    assert rows_text(tmp_path) == text
    fixed = run(tmp_path, {"run/requests": 150, "run/replicas": 20})
    assert fixed.progress.replicas == 0
    assert fixed.table["replicas"].to_pylist() == [20] * 4


def test_rows_that_reach_the_cap_say_so(tmp_path):
    done = run(tmp_path, until(half_width=1e-9) | {"run/cap": 40})
    assert done.table["replicas"].to_pylist() == [40] * 4
    assert done.table["met"].to_pylist() == [False] * 4
    assert done.progress.half_width > done.progress.target == 1e-9
    mixed = run(tmp_path, until(half_width=0.3) | {"run/cap": 40})
    assert set(mixed.table["met"].to_pylist()) == {False, True}
    assert mixed.progress.replicas == 0


def test_a_larger_cap_continues(tmp_path):
    run(tmp_path, until(half_width=1e-9) | {"run/cap": 40})
    done = run(tmp_path, until(half_width=1e-9) | {"run/cap": 50})
    assert done.progress.replicas == 4 * 10
    assert done.table["replicas"].to_pylist() == [50] * 4


def test_a_relative_target(tmp_path):
    done = run(tmp_path, until(relative=0.04))
    table = done.table
    for mean, half, met in zip(*(table[x].to_pylist() for x in ("holes", "holes_half_width", "met")), strict=True):
        assert met and half <= 0.04 * mean
    assert done.progress.target == pytest.approx(0.04 * max(table["holes"].to_pylist()), rel=0.5)


def test_a_pair_rests_on_what_both_have(tmp_path):
    changes = until(half_width=0.3) | {"policy/compare_to": "best-fit"}
    table = run(tmp_path, changes).table.to_pylist()
    found = experiment(changes)
    rows = rows_of(found)
    for row in rows:
        row.sample.add(from_table(kept(tmp_path)[row.sample.id]))
    apart = 0
    for k in (0, 2):
        first, best = table[k], table[k + 1]
        replicas = min(first["replicas"], best["replicas"])
        apart += first["replicas"] != best["replicas"]
        expected = statistics.estimate_difference(
            *METRICS["holes"](account_of(rows[k], replicas, 0)),
            *METRICS["holes"](account_of(rows[k + 1], replicas, 0)),
            found.confidence,
        )
        assert first["holes_difference"] == expected.mean
        assert first["holes_difference_half_width"] == expected.half_width
        assert first["holes_variance_reduction"] == expected.variance_reduction
        assert best["holes_difference"] is best["holes_variance_reduction"] is None
    assert apart


# --- what a row says -------------------------------------------------------------------------------------------------


def test_a_row_is_its_replicas(tmp_path):
    """Each number of the table again, from the lines in the store."""
    changes = {"run/confidence": 0.9, "run/metrics": list(METRICS), "policy/on_failure": "grow"}
    table = run(tmp_path, changes).table
    lines = kept(tmp_path)
    for row in table.to_pylist():
        own = {name: lines[row["id"]][name].to_numpy() for name in lines[row["id"]].column_names}
        counts = np.zeros((REPLICAS, c.COUNTS), np.int64)
        integrals = np.zeros((REPLICAS, c.INTEGRALS))
        counts[:, : len(c.COUNT_NAMES)] = np.column_stack([own[name] for name in c.COUNT_NAMES])
        integrals[:, : len(c.INTEGRAL_NAMES)] = np.column_stack([own[name] for name in c.INTEGRAL_NAMES])
        account = Account(counts, integrals, own["scatter"], 16, 512, grows=True)
        assert (row["pool"], row["replicas"], row["confidence"]) == (8192, REPLICAS, 0.9)
        for metric, definition in METRICS.items():
            expected = statistics.estimate_ratio(*definition(account), 0.9, metric in COUNTS_OF_EVENTS)
            assert row[metric] == expected.mean
            error, half = expected.standard_error, expected.half_width
            assert row[f"{metric}_standard_error"] == (error if math.isfinite(error) else None)
            assert row[f"{metric}_half_width"] == (half if math.isfinite(half) else None)


def test_one_replica_has_no_interval(tmp_path):
    table = run(tmp_path, {"run/replicas": 1, "policy/compare_to": "best-fit"}).table
    for name in ("holes_half_width", "holes_standard_error", "holes_difference_half_width"):
        assert table[name].to_pylist() == [None] * 4
    assert None not in table["holes"].to_pylist()


def test_swept_keys_are_columns_of_their_kind(tmp_path):
    grid = {
        "workload.load": [0.7, 1],
        "policy.on_failure": ["drop", "wait"],
        "workload.lifetimes": [{"dist": "expon"}, 1.0],
    }
    table = run(tmp_path, {"sweep/grid": grid, "run/replicas": 2}).table
    assert table.column_names[:4] == [*grid, "policy"]
    assert table["workload.load"].to_pylist() == [0.7] * 8 + [1.0] * 8
    assert set(table["workload.lifetimes"].to_pylist()) == {"{'dist': 'expon'}", "1.0"}
    assert set(zip(table["policy.on_failure"].to_pylist(), table["unstable"].to_pylist(), strict=True)) == {
        ("drop", None),
        ("wait", 0),
    }


# --- samples ---------------------------------------------------------------------------------------------------------


def test_a_sample_knows_its_gaps():
    there = Sample("x")
    assert (there.have, there.missing(0, 5), there.lines) == (0, [(0, 5)], {})
    there.add({"replica": np.array([4, 5, 9]), "a": np.array([40, 50, 90])})
    assert (there.have, there.missing(0, 12), there.missing(5, 6)) == (0, [(0, 4), (6, 9), (10, 12)], [])
    there.add({"replica": np.array([0, 1, 2, 3, 4]), "a": np.array([0, 10, 20, 30, 40])})
    assert (there.have, there.missing(2, 8), there.missing(12, 14)) == (6, [(6, 8)], [(12, 14)])
    assert there.lines["replica"].tolist() == [0, 1, 2, 3, 4, 5, 9]
    assert there.lines["a"].tolist() == [0, 10, 20, 30, 40, 50, 90]
    there.add({"replica": np.array([6, 7, 8]), "a": np.array([60, 70, 80])})
    assert there.have == 10


# --- warm-ups --------------------------------------------------------------------------------------------------------

REQUESTS, SEED, POOL, GRANULE = 400, 11, 8192, 16
WORKLOAD = SMALL["workload"]
POLICIES = ["first-fit", "best-fit[header=8,ties=lifo]", "buddy", "next-fit"]


def lines_of(tmp_path, changes):
    """Policy -> columns of its replicas."""
    common = {"run/requests": REQUESTS, "run/seed": SEED, "run/replicas": 3, "sweep": None, "policy/use": POLICIES}
    done = run(tmp_path, common | changes)
    lines = kept(tmp_path)
    table = done.table.to_pylist()
    return {row["policy"]: from_table(lines[row["id"]]) for row in table}


def trace_of(replica, requests, **changes):
    """A replica's events, and those up to the alloc of each request, itself included."""
    trace = sample(requests + 1, SEED, replica, POOL, **WORKLOAD | changes)
    return trace, np.flatnonzero(trace.is_alloc)


def replayed(trace, events, policy, on_failure):
    part = va.Trace(trace.slot[:events], trace.size[:events], trace.time[:events])
    return va.replay(part, policy, POOL, GRANULE, clock="time", on_failure=on_failure).ledger


def until_birth(trace, births, request, policy, on_failure="drop"):
    """What the ledger says just before the birth of a request, all before it behind: counts, integrals, scatter."""
    before = replayed(trace, births[request], policy, on_failure)
    to_birth = replayed(trace, births[request] + 1, policy, on_failure)  # its own event lasts no time
    return before.counts[0], to_birth.integrals[0], before.scatter[0]


def marks_of(kind, amount, trace, births):
    """The request before which the warm-up ends."""
    if kind == "share":
        return int(amount * REQUESTS)
    return int(np.searchsorted(trace.time[births], amount)) if kind == "time" else amount


@pytest.mark.parametrize("on_failure", ["drop", "grow"])
@pytest.mark.parametrize(
    ("warmup", "kind", "amount"),
    [
        (0.0, "share", 0.0),
        (0.37, "share", 0.37),
        ({"requests": 123}, "requests", 123),
        ({"time": 2.5}, "time", 2.5),
    ],
)
def test_lines_are_those_of_a_replayed_trace(tmp_path, warmup, kind, amount, on_failure):
    """A replica is one trace, replayed; its warm-up is a shorter trace, taken off."""
    found = lines_of(tmp_path, {"run/warmup": warmup, "policy/on_failure": on_failure})
    for policy in POLICIES:
        for replica in range(3):
            trace, births = trace_of(replica, REQUESTS)
            counts, integrals, scatter = until_birth(trace, births, REQUESTS, policy, on_failure)
            mark = marks_of(kind, amount, trace, births)
            if mark:
                early, early_integrals, early_scatter = until_birth(trace, births, mark, policy, on_failure)
                counts = np.where(c.ADDS_UP, counts - early, counts)
                integrals, scatter = integrals - early_integrals, scatter - early_scatter
            lines = found[policy]
            assert {name: lines[name][replica] for name in c.COUNT_NAMES} == dict(
                zip(c.COUNT_NAMES, counts, strict=False)
            )
            assert [lines[name][replica] for name in c.INTEGRAL_NAMES] == integrals[: len(c.INTEGRAL_NAMES)].tolist()
            assert lines["scatter"][replica] == scatter


def test_stop_ends_with_the_first_failure(tmp_path):
    found = lines_of(tmp_path, {"policy/on_failure": "stop", "workload/load": 1.2, "run/warmup": 0.0})
    for policy in POLICIES:
        lines = found[policy]
        assert (lines["too_large"] + lines["capacity"] + lines["fragmentation"]).tolist() == [1, 1, 1]
        for replica in range(3):
            trace, _ = trace_of(replica, REQUESTS, load=1.2)
            run_ = va.replay(trace, policy, POOL, GRANULE, clock="time", on_failure="stop")
            assert lines["allocs"][replica] == run_.ledger.counts[0, c.ALLOCS] < REQUESTS


def test_batches_add_up_to_the_whole(tmp_path):
    """With MSER-5 the sums are kept by batch: differences of 65 shorter runs."""
    found = lines_of(tmp_path, {"run/warmup": "mser"})
    trace, births = trace_of(1, REQUESTS)
    marks = [REQUESTS * k // batch.BATCHES for k in range(batch.BATCHES + 1)]
    for policy in POLICIES[:2]:
        lines = found[policy]
        runs = [until_birth(trace, births, mark, policy) for mark in marks if mark]
        counts = np.diff([0 * runs[0][0], *(run[0] for run in runs)], axis=0)
        integrals = np.diff([0 * runs[0][1], *(run[1] for run in runs)], axis=0)
        for k, name in enumerate(c.COUNT_NAMES):
            if c.ADDS_UP[k]:
                assert lines[f"{name}/batches"][1].tolist() == counts[:, k].tolist()
                assert lines[name][1] == runs[-1][0][k]
            else:
                assert f"{name}/batches" not in lines
        for k, name in enumerate(c.INTEGRAL_NAMES):
            assert lines[f"{name}/batches"][1].tolist() == integrals[:, k].tolist()
        assert lines["scatter/batches"].shape == (3, batch.BATCHES)


@pytest.mark.parametrize(
    ("warmup", "requests"), [(0.0, 0), (0.25, 100), ({"requests": 37}, 37), ({"time": 1.5}, None)], ids=str
)
def test_lines_of_who_waits_are_those_of_plain_python(tmp_path, warmup, requests):
    policies = ["first-fit", "buddy"]
    found = lines_of(
        tmp_path, {"run/warmup": warmup, "policy/on_failure": "wait", "policy/use": policies, "workload/load": 1.1}
    )
    workload = workload_of(WORKLOAD | {"load": 1.1})
    for policy in policies:
        for replica in range(3):
            source = Requests(workload, workload.rate_in(POOL), SEED, replica, REQUESTS)
            arrivals = source.next_arrivals()
            sizes, lives = source.next_requests()
            plain = Waiting(
                REFERENCES[policy](POOL // GRANULE, grows=False),
                arrivals.tolist(),
                extents_of(sizes, GRANULE).tolist(),
                lives.tolist(),
            )
            tallies = tallied(plain)
            if requests is None:  # decisions before that time
                decided = int(np.searchsorted([tally[5] for tally in tallies], warmup["time"]))
            else:
                decided = requests
            expected = tallies[-1] - (tallies[decided - 1] if decided else 0)
            lines = {name: values[replica] for name, values in found[policy].items()}
            got = [
                lines["allocs"], lines["frees"], lines["delayed_queue"], lines["delayed_capacity"],
                lines["delayed_fragmentation"], lines["duration"], lines["time_live"], lines["time_queue"],
            ]  # fmt: skip
            if requests is None:
                assert got[0] == expected[0] < REQUESTS
                end = tallies[-1][5]
                # It ends with the first event from that time on, at the latest with the next decision.
                assert end - tallies[decided][5] <= got[5] <= end - warmup["time"]
            else:
                assert got[:5] == expected[:5].tolist()
                assert got[5:] == pytest.approx(expected[5:].tolist(), rel=1e-9, abs=1e-12)


def tallied(plain):
    """What is behind when 1, 2, ... requests have been decided: (decisions, 8)."""
    tallies = []

    class Noted(list):
        def append(self, address):
            super().append(address)
            tallies.append(
                [len(self), plain.frees, *plain.delayed.values(), plain.now, plain.live_time, plain.waited_time]
            )

    plain.addresses = Noted()
    plain.run(REQUESTS)
    return np.array(tallies)


def test_a_warmup_that_outlasts_the_replica(tmp_path):
    for on_failure in ("drop", "wait"):
        with pytest.raises(InputError, match=r"run\.warmup is 1000 units of time, but a replica of 300 requests ends"):
            run(tmp_path, {"run/warmup": {"time": 1000.0}, "policy/on_failure": on_failure})


# --- MSER-5 ----------------------------------------------------------------------------------------------------------

FILLING = {
    "run/warmup": "mser",
    "run/requests": 2000,
    "workload/lifetimes": {"dist": "expon", "scale": 1.0},
    "run/replicas": 40,
    "run/metrics": ["utilisation", "failure_ratio", "peak_live"],
    "policy/compare_to": "best-fit",
}
"""Pools start empty, and take some lifetimes to fill."""


def with_lines(tmp_path, changes):
    found = experiment(changes)
    lines = kept(tmp_path)
    rows = rows_of(found)
    for row in rows:
        row.sample.add(from_table(lines[row.sample.id]))
    return rows


def test_mser_cuts_what_it_takes_to_fill_the_pools(tmp_path):
    table = run(tmp_path, FILLING).table.to_pylist()
    cuts = [row["warmup_batches"] for row in table]
    assert all(1 <= cut <= 32 for cut in cuts)
    for row, told in zip(with_lines(tmp_path, FILLING), table, strict=True):
        # The same from the lines, by hand.
        first = {name: values[:32] for name, values in row.sample.lines.items()}
        granted, largest = first["time_granted/batches"] * 16, first["time_largest/batches"] * 16
        limit, duration = first["time_limit/batches"] * 16, first["duration/batches"]
        series = [
            (first["time_requested/batches"], 8192 * duration),
            (first["time_holes/batches"], duration),
            (limit - granted - largest, limit - granted),
        ]
        expected = max(statistics.mser_cut(*pair) for pair in series)
        assert told["warmup_batches"] == expected
        requested = row.sample.lines["time_requested/batches"][:, expected:].sum()
        duration = row.sample.lines["duration/batches"][:, expected:].sum()
        assert told["utilisation"] == pytest.approx(requested / (8192 * duration), rel=1e-12)
        failed = sum(row.sample.lines[f"{x}/batches"][:, expected:].sum() for x in c.COUNT_NAMES[3:6])
        assert told["failure_ratio"] == failed / row.sample.lines["allocs/batches"][:, expected:].sum()
        assert told["peak_live"] == 16 * row.sample.lines["load"].mean()  # a peak has no batches


def test_later_replicas_do_not_move_the_cut(tmp_path):
    few = run(tmp_path, FILLING | {"run/replicas": 32}).table["warmup_batches"].to_pylist()
    more = run(tmp_path, FILLING | {"run/replicas": 64}).table["warmup_batches"].to_pylist()
    assert few == more


def test_the_cut_of_few_replicas_follows_from_them_alone(tmp_path):
    few = FILLING | {"run/replicas": 3}
    run(tmp_path, few)
    text = rows_text(tmp_path)
    run(tmp_path, FILLING)
    assert run(tmp_path, few).progress.replicas == 0
    assert rows_text(tmp_path) == text
    rows = with_lines(tmp_path, FILLING)
    assert [cut_of(row, 3) for row in rows] != [cut_of(row, 40) for row in rows]


def test_a_pair_uses_the_later_cut(tmp_path):
    table = run(tmp_path, FILLING).table.to_pylist()
    rows = with_lines(tmp_path, FILLING)
    cuts = [row["warmup_batches"] for row in table]
    assert cuts[0] != cuts[1] or cuts[2] != cuts[3]
    for k in (0, 2):
        cut = max(cuts[k], cuts[k + 1])
        expected = statistics.estimate_difference(
            *METRICS["utilisation"](account_of(rows[k], 40, cut)),
            *METRICS["utilisation"](account_of(rows[k + 1], 40, cut)),
        )
        assert table[k]["utilisation_difference"] == expected.mean
        assert table[k]["utilisation_difference_half_width"] == expected.half_width


# --- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_failure", ["drop", "grow", "stop", "wait"])
def test_what_becomes_of_requests_that_do_not_fit(tmp_path, on_failure):
    names = ["failure_ratio", "delayed_ratio", "allocs", "utilisation", "queue"]
    done = run(tmp_path, {"policy/on_failure": on_failure, "run/metrics": names, "run/warmup": 0.0})
    crowded = done.table.to_pylist()[2:]  # load 1.1
    for row in crowded:
        assert (row["failure_ratio"] > 0) == (on_failure in ("drop", "stop"))
        assert (row["delayed_ratio"] > 0) == (row["queue"] > 0) == (on_failure == "wait")
        assert (row["allocs"] < 300) == (on_failure == "stop")
        assert ("unstable" in row) == (on_failure == "wait")
        assert 0 < row["utilisation"] < 1


def test_replicas_whose_queue_grows_without_end_are_counted(tmp_path):
    overloaded = {"policy/on_failure": "wait", "policy/queue_limit": 20, "workload/load": 3.0, "sweep": None}
    done = run(tmp_path, overloaded)
    assert done.table["unstable"].to_pylist() == [REPLICAS] * 2
    calm = run(tmp_path, overloaded | {"workload/load": 0.2})
    assert calm.table["unstable"].to_pylist() == [0, 0]


@pytest.mark.parametrize("arrivals", ["saturated", "fill-then-free"])
def test_pools_that_are_always_full(tmp_path, arrivals):
    changes = {
        "policy/on_failure": "wait",
        "policy/compare_to": "best-fit",
        "workload/arrivals": arrivals,
        "workload/load": None,
        "sweep": None,
        "run/metrics": ["utilisation", "failure_ratio"],
    }
    if arrivals == "fill-then-free":
        changes["workload/lifetimes"] = None
    table = run(tmp_path, changes).table.to_pylist()
    assert len(table) == 2
    for row in table:
        assert 0.5 < row["utilisation"] < 1
        assert row["failure_ratio"] == row["unstable"] == 0
    again = run(tmp_path, changes)
    assert again.progress.replicas == 0


def test_policies_that_see_other_extents_share_a_cell(tmp_path):
    """Headers and alignments make groups of a batch; alone, each policy comes to the same."""
    use = ["first-fit", "first-fit[header=8]", "buddy", "best-fit[alignment=64]"]
    together = run(tmp_path, {"policy/use": use}).table
    for k, policy in enumerate(use):
        alone = run(tmp_path / str(k), {"policy/use": [policy]}).table.to_pylist()
        assert alone == together.to_pylist()[k::4]
