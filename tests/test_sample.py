"""A sample of a workload in which requests wait: what the process of one policy did, as a Trace.

Event by event it is what plain Python does with the same requests; and a replay of it places every block where the
process had it.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.waiting import Waiting
from test_process import VARIANTS, Tables, reference_of

import vecalloc as va
from vecalloc import ledger as c
from vecalloc.batch import Batch, simulate_batch
from vecalloc.errors import InputError
from vecalloc.formats.slots import check
from vecalloc.process import Process
from vecalloc.spec import make_plan
from vecalloc.workload import Requests, sample, workload_of
from vecalloc.workload.recorded_process import record
from vecalloc.workload.streams import CHUNK

SIZES = {"dist": "expon", "scale": 300, "max": 4096, "bounds": "clip"}
MODELS = {
    "wait": {"lifetimes": {"dist": "expon"}, "load": 1.1, "on_failure": "wait"},
    "wait in batches": {
        "lifetimes": {"dist": "gamma", "a": 0.25},
        "arrivals": "tick",
        "batch": {"dist": "geom", "p": 0.02},
        "on_failure": "wait",
    },
    "saturated": {"lifetimes": {"dist": "expon"}, "arrivals": "saturated"},
    "fill": {"arrivals": "fill-then-free"},
}
POLICIES = ["first-fit", "best-fit[ties=lifo]", "next-fit", "buddy", "static-partition[units=[64KiB,1KiB,4KiB,2KiB]]"]
POOL = 1 << 17


def asked_of(model):
    return {"sizes": SIZES, **MODELS[model]}


def process_of(policy, model, seed, replica, requests):
    """What an experiment runs."""
    asked = asked_of(model)
    asked.pop("on_failure", None)
    workload = workload_of(asked)
    plan, rate = make_plan(policy, POOL, 16), workload.rate_in(POOL)
    source = Requests(workload, rate, seed, replica, requests)
    timed, mortal = workload.arrivals.timed, workload.lifetimes is not None
    process = Process(plan, [source], timed, mortal, rate, 1 << 20, keep=requests)
    process.run_until(requests)
    return process


# --- against plain Python --------------------------------------------------------------------------------------------


class Watched:
    """A reference policy that notes every alloc and free that came about, and when."""

    def __init__(self, policy):
        self.policy, self.clock = policy, None
        self.events, self.times = [], []

    def __getattr__(self, name):
        return getattr(self.policy, name)

    def alloc(self, extent):
        address = self.policy.alloc(extent)
        if address is not None:
            self.note(extent, address)
        return address

    def free(self, address):
        self.policy.free(address)
        self.note(None, address)

    def note(self, *event):
        self.events.append(event)
        self.times.append(self.clock.now)


def replayed_by(reference, slots, sizes):
    """The events, as a reference policy serves them."""
    at, events = {}, []
    for slot, size in zip(slots.tolist(), sizes.tolist(), strict=True):
        if size >= 0:
            assert slot not in at
            at[slot] = reference.alloc(size)
            events.append((size, at[slot]))
        else:
            reference.free(at[slot])
            events.append((None, at.pop(slot)))
    return events


@pytest.mark.jitless
@pytest.mark.parametrize("model", ["wait", "saturated", "fill"])
@pytest.mark.parametrize("label", VARIANTS)
def test_as_plain_python(label, model):
    """Too large ones, lives of no time and many deaths at once among them."""

    @given(st.integers(0, 2**32), st.sampled_from([0.5, 3.0, 6.0]), st.integers(0, 120), st.booleans())
    def look(seed, load, requests, whole):
        rng = np.random.default_rng(seed)
        scale = np.floor if whole else lambda x: x
        arrivals = scale(np.cumsum(rng.exponential(1 / load, 40 * requests + 7)))
        sizes = np.where(rng.random(requests) < 0.05, 65, rng.integers(1, 9, requests))
        lives = scale(rng.exponential(10 / 4, requests))
        words = rng.integers(-(2**63), 2**63, 5000)
        source = Tables(arrivals, sizes, lives, words, 7)
        process = Process(make_plan(label, 64, 1), [source], model == "wait", model != "fill", load, 1 << 20)
        reference = Watched(reference_of(label, 64))
        expected = reference.clock = Waiting(
            reference,
            arrivals.tolist() if model == "wait" else None,
            sizes.tolist(),
            lives.tolist() if model != "fill" else None,
            iter(words.tolist()),
        )
        expected.run(requests)
        slot, size, time = record(process, requests)
        assert replayed_by(reference_of(label, 64), slot, size) == reference.events
        assert time.tolist() == pytest.approx(reference.times, rel=1e-12)
        check(va.Trace(slot, size, time))
        served = va.replay(va.Trace(slot, size, time), label, 64, 1)
        assert served.addresses.tolist() == [address for extent, address in reference.events if extent is not None]

    look()


# --- against what an experiment does ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_replay_places_every_block_where_the_experiment_has_it(policy, model):
    requests, seed, replica = 3000, 7, 5
    trace = sample(requests, seed, replica, POOL, policy, **asked_of(model))
    process = process_of(policy, model, seed, replica, requests)
    placed = process.ledger.addresses[0]
    run = va.replay(trace, policy, POOL, clock="time")
    assert run.addresses.tolist() == [16 * address for address in placed.tolist() if address >= 0]
    assert set(run.failures.values()) == {0}
    ours, theirs = run.ledger.counts[0], process.ledger.counts[0]
    for column in (c.FREES, c.BLOCKS, c.REQUESTED, c.LIVE, c.PEAK_LIVE, c.HIGH_WATER, c.NOW_HOLES, c.NOW_LARGEST):
        assert ours[column] == theirs[column]
    assert trace.meta["dropped"] == requests - trace.allocs == theirs[c.FAILED]
    check(va.Trace(trace.slot, trace.size, trace.time))


@pytest.mark.parametrize("model", MODELS)
def test_time_averages_are_those_of_the_experiment(model):
    """From the first event on; in fill-then-free the last event has its unit of time as well."""
    trace = sample(4000, 3, 1, POOL, "first-fit", **asked_of(model))
    assert (np.diff(trace.time) >= 0).all()
    process = process_of("first-fit", model, 3, 1, 4000)
    longer = 1.0 if model == "fill" else 0.0
    ours, theirs = (
        ledger.integrals[0] for ledger in (va.replay(trace, pool=POOL, clock="time").ledger, process.ledger)
    )
    assert theirs[c.DURATION] == pytest.approx(trace.time[-1] + longer, rel=1e-12)
    for column, last in ((c.I_REQUESTED, c.REQUESTED), (c.I_LIVE, c.LIVE), (c.I_BLOCKS, c.BLOCKS)):
        assert ours[column] + longer * process.ledger.counts[0, last] == pytest.approx(theirs[column], rel=1e-9)


@pytest.mark.parametrize("model", MODELS)
def test_counts_are_those_of_a_batch(model):
    asked, policies = asked_of(model), ("best-fit", "static-partition[unit=2KiB]")
    asked.pop("on_failure", None)
    lines = simulate_batch(
        Batch(workload_of(asked), POOL, 16, policies, policies, "wait", 1 << 20, 7, 2000, ("share", 0.0), 4, 7)
    )
    for row, replica, allocs, frees, dropped, peak in zip(
        *(lines[name].tolist() for name in ("row", "replica", "allocs", "frees", "too_large", "peak_live")), strict=True
    ):
        trace = sample(2000, 7, replica, POOL, policies[row], **asked_of(model))
        assert (trace.allocs, len(trace) - trace.allocs) == (allocs - dropped, frees)
        assert trace.meta["dropped"] == dropped
        assert va.replay(trace, policies[row], POOL).ledger.counts[0, c.PEAK_LIVE] == peak
        assert (dropped > 0) == policies[row].startswith("static")


@pytest.mark.parametrize("model", ["wait", "fill"])
def test_more_requests_begin_like_fewer(model):
    """Across chunks of draws, and slots that become more."""
    many, few = (
        sample(n, 2, 0, "1MiB", "best-fit[ties=lifo]", sizes=SIZES, **MODELS[model]) for n in (CHUNK + 900, 2000)
    )
    assert many.allocs == CHUNK + 900 and many.slots > 1024
    assert all(np.array_equal(getattr(many, name)[: len(few)], getattr(few, name)) for name in ("slot", "size", "time"))
    assert few.is_alloc[-1]
    again = sample(2000, 2, 0, 1 << 20, "best-fit[ties=lifo]", 16, sizes=SIZES, **MODELS[model])
    assert all(np.array_equal(getattr(again, name), getattr(few, name)) for name in ("slot", "size", "time"))
    other = sample(2000, 2, 1, 1 << 20, "best-fit[ties=lifo]", sizes=SIZES, **MODELS[model])
    assert not np.array_equal(other.size, few.size)


def test_where_nobody_waits_the_order_is_the_fixed_one():
    asked = {"sizes": {"dist": "randint", "low": 1, "high": 64}, "lifetimes": {"dist": "expon"}, "rate": 5.0}
    fixed = sample(3000, seed=4, **asked)
    waits = sample(3000, seed=4, pool="64KiB", policy="next-fit", on_failure="wait", **asked)
    last = np.flatnonzero(fixed.is_alloc)[-1] + 1  # a trace of those that wait ends with the last placement
    assert np.array_equal(waits.size, fixed.size[:last]) and np.array_equal(waits.time, fixed.time[:last])


def test_deaths_come_before_the_placements_that_they_make_room_for():
    """Two at a time fit, each for a unit of time: two die, two are placed, all in the same instant."""
    trace = sample(6, pool=32, policy="first-fit", sizes=16, lifetimes=1.0, arrivals="saturated")
    assert trace.is_alloc.tolist() == [True] * 2 + [False, False, True, True] * 2
    assert trace.time.tolist() == [0.0] * 2 + [1.0] * 4 + [2.0] * 4


def test_other_policies_replay_the_same_order():
    trace = sample(5000, pool=POOL, policy="best-fit", **asked_of("saturated"))
    failures = {name: sum(va.replay(trace, name, POOL).failures.values()) for name in ("best-fit", "worst-fit")}
    assert failures["best-fit"] == 0 < failures["worst-fit"]


@pytest.mark.parametrize("granule", [1, 64, "64"])
def test_the_granule_is_the_pools(granule):
    asked = {"sizes": SIZES, "pool": POOL, "policy": "first-fit[alignment=32,header=8]", "granule": granule}
    trace = sample(2000, arrivals="fill-then-free", **asked)
    run = va.replay(trace, asked["policy"], POOL, granule)
    assert set(run.failures.values()) == {0} and trace.allocs == 2000
    assert sum(va.replay(trace, asked["policy"], POOL, 128).failures.values()) > 0


@pytest.mark.parametrize("on_failure", ["drop", "grow", "stop"])
def test_a_fixed_order_is_the_same_whatever_becomes_of_requests(on_failure):
    plain, named = (
        sample(500, rate=3.0, sizes=SIZES, lifetimes=1.0, **more) for more in ({}, {"on_failure": on_failure})
    )
    assert np.array_equal(plain.slot, named.slot) and np.array_equal(plain.time, named.time)
    assert plain.meta == named.meta and "policy" not in plain.meta


def test_a_sample_says_where_it_comes_from():
    asked = {"seed": 3, "replica": 2, "policy": "best-fit[ties=lowest,min_split=32]", "sizes": SIZES}
    meta = sample(20, pool="64KiB", arrivals="fill-then-free", **asked).meta
    assert meta.pop("workload")["arrivals"]["kind"] == "fill-then-free"
    assert meta == {
        "source": "vecalloc.workload.sample",
        "seed": 3,
        "replica": 2,
        "on_failure": "wait",
        "policy": "best-fit[min_split=32]",
        "pool": 65536,
        "granule": 16,
        "dropped": 0,
    }
    assert len(sample(0, pool="64KiB", arrivals="fill-then-free", **asked)) == 0


# --- what cannot be ---------------------------------------------------------------------------------------------------

WAIT = {"lifetimes": 1.0, "rate": 1.0, "on_failure": "wait"}
HERE = {"pool": "1KiB", "policy": "first-fit"}


@pytest.mark.parametrize(
    "given, message",
    [
        (
            {"arrivals": "saturated", "lifetimes": 1.0},
            "sample.arrivals is 'saturated': which block dies when depends on the policy and its pool there, so give "
            "policy (such as 'first-fit') and pool (such as '1MiB')",
        ),
        ({"arrivals": "fill-then-free", "pool": "1KiB"}, "there, so give policy (such as 'first-fit')"),
        (WAIT, "sample.on_failure is 'wait': which block dies when depends on the policy and its pool there"),
        (WAIT | {"policy": "first-fit"}, "there, so give pool (such as '1MiB')"),
        (WAIT | HERE | {"policy": "worse-fit"}, "policy 'worse-fit' is not known (did you mean 'worst-fit'?)"),
        (WAIT | HERE | {"pool": "0.9x"}, "there is no trace here: write a size"),
        (WAIT | HERE | {"granule": 24}, "granule is 24: write a power of two"),
        (WAIT | HERE | {"seed": -1}, "seed is -1"),
        (WAIT | HERE | {"on_failure": "waits"}, "sample.on_failure is 'waits' (did you mean 'wait'?)"),
        (WAIT | HERE | {"on_failure": "drop"}, "sample.policy is 'first-fit', but where nothing waits the order of"),
        (
            HERE | {"arrivals": "fill-then-free", "on_failure": "drop"},
            "sample.on_failure is 'drop', but with arrivals = 'fill-then-free' requests wait: leave it out",
        ),
        (
            WAIT | HERE | {"phases": [{"duration": 1, "lifetimes": "phase"}]},
            "lifetimes = 'phase' does not go with on_failure = 'wait'",
        ),
    ],
)
def test_what_cannot_be_sampled(given, message):
    with pytest.raises(InputError) as error:
        sample(100, sizes=16, **given)
    assert message in str(error.value)


def test_what_nothing_makes_room_for():
    eternal = {"sizes": 16, "lifetimes": {"dist": "uniform", "loc": 1e300, "scale": 1e300}, "arrivals": "saturated"}
    assert sample(64, **HERE, **eternal).allocs == 64
    eternal = {"sizes": 16, "lifetimes": 1.0, "phases": [{"duration": 1, "lifetimes": "forever"}], "rate": 1e6}
    with pytest.raises(InputError) as error:
        sample(100, **HERE, on_failure="wait", **eternal)
    assert str(error.value).startswith(
        "after 64 of 100 requests there is no room for the next one in 1,024 bytes of first-fit, nor will there be soon"
    )
    assert str(error.value).endswith("ask for 64 requests, a larger pool, or less load")
    assert sample(64, **HERE, on_failure="wait", **eternal).allocs == 64
