"""`va.replay` from a script: what it refuses, where it stops, what it keeps."""

import numpy as np
import pytest
from traces import trace_of

import vecalloc as va

OPS = [5, 7, ("free", 0), 100, 9, 100, ("free", 4)]


def small(slot, size, time=None):
    return va.Trace(np.array(slot, np.int32), np.array(size, np.int64), None if time is None else np.array(time))


def test_stop_ends_at_the_first_failure():
    run = va.replay(trace_of(OPS), pool=64, granule=1, on_failure="stop", every=1)
    assert run.addresses.tolist() == [0, 5, -1]
    assert run.series["event"].tolist() == [1, 2, 3, 4]
    assert run.failures == {"too-large": 1, "capacity": 0, "fragmentation": 0}
    assert (run.metrics["allocs"], run.metrics["frees"], run.metrics["blocks_now"]) == (3, 1, 1)


def test_stop_without_a_failure_is_drop():
    stop, drop = (va.replay(trace_of(OPS), pool="2x", granule=1, on_failure=way) for way in ("stop", "drop"))
    assert stop.metrics == drop.metrics
    assert stop.addresses.tolist() == drop.addresses.tolist()


@pytest.mark.parametrize("every", [0, 1, 3])
def test_progress_sees_every_stretch_and_may_end_it(every, monkeypatch):
    monkeypatch.setattr("vecalloc.api._STRETCH", 2)
    seen = []
    va.replay(trace_of(OPS), pool=64, granule=1, every=every, progress=seen.append)
    assert seen == [*range(every or 2, 7, every or 2), 7]
    with pytest.raises(ZeroDivisionError):
        va.replay(trace_of(OPS), pool=64, granule=1, progress=lambda position: 1 / 0)


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        (small([-5], [3]), "not numbered from 0"),
        (small([7], [3]), "not numbered from 0"),
        (small([0, 0], [3, 4]), "event 1 .* slot 0, size 4"),
        (small([0, 0, 0], [3, ~3, ~3]), "event 2 "),
        (small([0, 0], [3, ~4]), "event 1 "),
        (small([0], [1 << 62]), "event 0 "),
        (small([0, 1], [3, 3], [1.0, 0.5]), "event 1 .* time is before"),
        (small([0, 1], [3, 3], [1.0, np.nan]), "event 1 .* time is before"),
        (small([0, 1], [3, 3], [1.0]), "time is not an array"),
        (va.Trace(np.zeros(2, np.int64), np.zeros(2, np.int64)), "slot is not an array of int32"),
        (va.Trace(np.zeros(2, np.int32), np.zeros(3, np.int64)), "size is not an array"),
        ("sqlite3.npz", "load it first"),
    ],
)
def test_a_trace_made_by_hand_is_looked_at(trace, message):
    with pytest.raises(va.InputError, match=message):
        va.replay(trace, pool=64, granule=1)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"bins": 0}, "bins is 0"),
        ({"bins": -1}, "cannot be negative"),
        ({"every": 1.5}, "every is 1.5: write a whole number of events"),
        ({"every": -1}, "cannot be negative"),
        ({"policy": None}, "policy is None"),
        ({"policy": 5}, "policy is 5"),
        ({"clock": None}, "one of event, time"),
        ({"on_failure": "wait"}, "one of drop, grow, stop"),
        ({"granule": 1 << 50}, "up to"),
        ({"pool": 1 << 66, "granule": 1 << 40}, "write at most"),
    ],
)
def test_arguments_that_cannot_be_used(keywords, message):
    with pytest.raises(va.InputError, match=message):
        va.replay(trace_of(OPS), **{"pool": 64, "granule": 1} | keywords)


def test_absurd_sums_are_refused():
    trace = small([0, 1, 2], [1 << 61, 1 << 61, 1 << 61])
    with pytest.raises(va.InputError, match=r"add up to 6.92e\+18 granules"):
        va.replay(trace, pool=64, granule=1)
    assert va.replay(trace, pool=64, granule=16).failures["too-large"] == 3


def test_integrals_that_may_not_fit_become_floats():
    """Seven events in a pool of 2^60 bytes could add up to more than 2^62; what they do add up to is the same."""
    large, small = (va.replay(trace_of(OPS), pool=size, granule=1 << 28) for size in (1 << 60, 1 << 36))
    assert (large.ledger.integrals.dtype, small.ledger.integrals.dtype) == (np.float64, np.int64)
    for name in ("blocks", "holes", "internal_fragmentation", "johnstone_wilson_1"):
        assert large.metrics[name] == small.metrics[name] != 0


# --- blocks that move ---


def gaps():
    """Blocks of 2, 2, 3 and 2 granules in a pool of 10; the first and third are freed; then 4 are asked for."""
    return trace_of([2, 2, 3, 2, ("free", 0), ("free", 2), 4, 7])


def test_what_a_remedy_comes_to():
    run = va.replay(gaps(), pool=10, granule=1, reclaim="compact[bandwidth=4]")
    assert run.addresses.tolist() == [0, 2, 4, 7, 4, -1]  # where they were placed: the second is at 0 now
    assert run.hole_table.tolist() == [[8, 2]]
    assert (run.reclaim, run.passes) == ("compact[bandwidth=4]", 1)
    assert run.failures == {"too-large": 0, "capacity": 1, "fragmentation": 0, "budget": 0}
    told = {name: run.metrics[name] for name in ("passes_ratio", "moved_ratio", "blocks_moved_ratio", "longest_pause")}
    assert told == {"passes_ratio": 1 / 6, "moved_ratio": 4 / 13, "blocks_moved_ratio": 2 / 6, "longest_pause": 1.0}
    assert repr(run) == "<Replay of 6 allocs by first-fit with compact[bandwidth=4], 1 failed>"


def test_without_a_remedy_all_is_as_it_was():
    plain, none = va.replay(gaps(), pool=10, granule=1), va.replay(gaps(), pool=10, granule=1, reclaim="none")
    assert (plain.reclaim, none.reclaim, plain.passes) == ("none", "none", 0)
    assert plain.failures == none.failures == {"too-large": 0, "capacity": 1, "fragmentation": 1}
    assert plain.metrics == none.metrics
    assert repr(plain) == "<Replay of 6 allocs by first-fit, 2 failed>"


@pytest.mark.parametrize(
    "reclaim",
    [
        " compact[ budget = 2.5 , how=two-finger ] ",
        {"kind": "compact", "how": "two-finger", "budget": 2.5},
        ["compact[how=two-finger,budget=2.5]"],
    ],
)
def test_a_remedy_as_people_write_it(reclaim):
    run = va.replay(gaps(), pool=10, granule=1, reclaim=reclaim)
    assert run.reclaim == "compact[budget=2.5,how=two-finger]"


def test_the_budget_is_a_cause():
    run = va.replay(gaps(), pool=10, granule=1, reclaim="compact[budget=3]", metrics=False)  # 3 * 4 > 9
    assert run.failures == {"too-large": 0, "capacity": 1, "fragmentation": 0, "budget": 1}
    with pytest.raises(va.InputError, match="metrics were not asked for"):
        _ = run.metrics


def test_stop_comes_after_the_remedy():
    run = va.replay(gaps(), pool=10, granule=1, reclaim="compact", on_failure="stop")
    assert run.addresses.tolist() == [0, 2, 4, 7, 4, -1]
    refused = va.replay(gaps(), pool=10, granule=1, reclaim="compact[budget=3]", on_failure="stop", every=3)
    assert refused.addresses.tolist() == [0, 2, 4, 7, -1]
    assert refused.failures["budget"] == 1
    assert refused.series["event"].tolist() == [3, 6, 7]


def test_no_events_at_all():
    run = va.replay(trace_of([]), pool=10, granule=1, reclaim="compact[pinned=0.5]")
    assert (len(run.addresses), run.passes, run.hole_table.tolist()) == (0, 0, [[0, 10]])


def driven(heap):
    """Drive a pool for a while; what was asked of it as operations, and the addresses that it gave."""
    rng = np.random.default_rng(4)
    ops, addresses, living = [], [], {}
    for _ in range(600):
        freed = list(living)[int(rng.integers(len(living)))] if rng.random() < len(living) / 60 else None
        if freed is None:
            ops.append(int(rng.geometric(0.1)))
            addresses.append(heap.alloc(ops[-1]))
        else:
            ops.append(("free", freed))
            heap.free(living.pop(freed))
        new = dict(heap.moved.tolist())
        living = {k: new.get(address, address) for k, address in living.items()}
        if freed is None and addresses[-1] is not None:
            living[len(addresses) - 1] = addresses[-1]
    return ops, [-1 if address is None else address for address in addresses]


@pytest.mark.parametrize(
    ("policy", "reclaim"),
    [
        ("first-fit", "compact[budget=3,how=two-finger]"),
        ("best-fit[ties=lifo]", "compact[how=first-window,pinned=0.1]"),
        ("next-fit", "compact[pinned=0.2,when={every=20}]"),
        ("worst-fit", "compact[when={external_fragmentation=0.6}]"),
        ("buddy", "compact[pinned=0.1]"),
    ],
)
@pytest.mark.parametrize("on_failure", ["drop", "grow"])
def test_a_replay_is_a_pool(policy, reclaim, on_failure):
    heap = va.Pool(256, policy, 1, on_failure, reclaim, seed=9)
    ops, addresses = driven(heap)
    run = va.replay(trace_of(ops), policy, 256, 1, on_failure=on_failure, reclaim=reclaim, seed=9)
    assert run.addresses.tolist() == addresses
    assert run.hole_table.tolist() == heap.holes().tolist()
    assert run.passes > 0
    ours, theirs = heap.stats(), run.metrics
    assert ours.pop("failures") == run.failures
    for name in ("peak_live", "overhead"):  # what a pool refused is not live in it; in a trace it is freed later
        del ours[name], theirs[name]
    assert ours == theirs
    if policy == "buddy":
        where = va.replay(trace_of(ops), policy, 256, 1, on_failure=on_failure, reclaim=reclaim, seed=9, geometry=True)
        assert where.metrics | theirs == where.metrics and where.geometry["placed_sum"] > 0
    if "pinned" in reclaim:
        other = va.replay(trace_of(ops), policy, 256, 1, on_failure=on_failure, reclaim=reclaim)
        assert other.ledger.counts.tolist() != run.ledger.counts.tolist()  # other blocks are pinned


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"reclaim": "swap"}, "reclaim is swap: only processes are swapped, and there are none"),
        ({"reclaim": "compact+swap[victim=random]"}, "only processes are swapped"),
        ({"reclaim": "compact", "policy": "static-partition[unit=8]"}, "units of static-partition cannot move"),
        ({"reclaim": "compact[how=two-finger]", "policy": "buddy"}, "blocks of buddy only slide: write how = slide"),
        ({"reclaim": "compact[budget=1]"}, "option 'budget' of compact is 1: write a number above 1"),
        ({"reclaim": {"how": "slide"}}, "kind of reclaim is None: one of compact, swap"),
        ({"reclaim": "compact", "seed": 0.5}, "seed is 0.5: write a whole number"),
        ({"seed": -3}, "seed is -3: it cannot be negative"),
    ],
)
def test_remedies_that_cannot_be_used(keywords, message):
    with pytest.raises(va.InputError, match=message):
        va.replay(trace_of(OPS), **{"pool": 64, "granule": 1} | keywords)
