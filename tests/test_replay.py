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
