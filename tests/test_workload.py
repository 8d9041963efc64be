"""Requests as they are drawn: whose random numbers they are, when they come, how long they live; and as a trace.

Where a mean is known, what is drawn meets it within its 99.9 % interval over replicas.
"""

import hashlib
import subprocess
import sys
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import REFERENCES
from reference.waiting import Waiting
from scipy import stats
from studies import PEAK

import vecalloc as va
from vecalloc import ledger as c
from vecalloc.batch import Batch, simulate_batch
from vecalloc.errors import InputError
from vecalloc.formats.slots import check
from vecalloc.process import Process
from vecalloc.spec import make_plan
from vecalloc.workload import sample, workload_of
from vecalloc.workload.arrivals import ArrivalTimes
from vecalloc.workload.laws import Law
from vecalloc.workload.phases import phases_of
from vecalloc.workload.requests import Requests, Workload, births_of
from vecalloc.workload.streams import CHUNK, LIFETIMES, SIZES, generator_of

PROFILES = sorted((Path(__file__).parents[2] / "shared" / "traces" / "fleetbench").glob("TCMALLOC_*.csv")) or [
    pytest.param(None, marks=pytest.mark.skip(reason="the shared fleet profiles are not here"))
]

SIZED = {"sizes": {"dist": "expon", "scale": 100}, "lifetimes": {"dist": "expon", "scale": 2.0}}


def workload(**more):
    return workload_of(SIZED | more)


def within(values, expected):
    """Whether a mean lies in its 99.9 % interval over independent replicas."""
    values = np.asarray(values, np.float64)
    half_width = stats.t.ppf(0.9995, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    assert half_width < 0.1 * expected, "too wide to say anything"
    return abs(values.mean() - expected) <= half_width


# --- streams ---------------------------------------------------------------------------------------------------------


def test_a_chunk_is_a_function_of_its_name():
    keys = list(product([0, 1, 2**40, 2**63 - 1], [0, 1, 7], [0, 1, 6], [0, 1, 2**33]))
    draws = [generator_of(*key).integers(0, 2**63, 2).tobytes() for key in keys]
    assert len(set(draws)) == len(keys)
    assert draws == [generator_of(*key).integers(0, 2**63, 2).tobytes() for key in keys]


def test_golden_streams():
    digest = hashlib.sha256()
    for key in product([1, 2**62 + 1], [0, 3], range(7), [0, 5]):
        generator = generator_of(*key)
        for draw in (
            generator.integers(0, 1 << 64, 9, dtype=np.uint64),
            generator.random(9),
            generator.standard_normal(9),
        ):
            digest.update(draw.tobytes())
    found = digest.hexdigest()[:16]
    assert found == "3fa8ee4069fb902d", "streams are other numbers now: raise REVISION in workload/requests.py"


def test_chunks_and_replicas_do_not_know_each_other():
    asked = workload(rate=5.0, batch={"dist": "geom", "p": 0.5})
    together = births_of([Requests(asked, 5.0, 9, r, 100) for r in range(4)], 16, [(0, 1), (8, 32)])
    alone = births_of([Requests(asked, 5.0, 9, 2, 100)], 16, [(0, 1), (8, 32)])
    for many, one in zip(together, alone, strict=True):
        assert np.array_equal(many[..., 2:3, :], one)
    source = Requests(asked, 5.0, 9, 2, CHUNK + 50)
    source.next_requests()
    sizes, lives = source.next_requests()
    assert np.array_equal(sizes, asked.sizes.draw(generator_of(9, 2, SIZES, 1), 50))
    assert np.array_equal(lives, asked.lifetimes.draw(generator_of(9, 2, LIFETIMES, 1), 50))


# --- arrivals --------------------------------------------------------------------------------------------------------

KINDS = {
    "poisson": {"arrivals": "poisson"},
    "tick": {"arrivals": "tick"},
    "renewal": {"arrivals": {"dist": "gamma", "a": 3.0, "scale": 17.0}},
    "table": {"arrivals": {"table": [[0, 3], [1, 1], [5, 1]]}},
    "batches": {"arrivals": "poisson", "batch": 4},
    "batches of a law": {"arrivals": "poisson", "batch": {"dist": "geom", "p": 0.25}},
    "batches a tick": {"arrivals": "tick", "batch": {"dist": "randint", "low": 1, "high": 8}},
    "batches of a renewal": {"arrivals": {"dist": "uniform", "scale": 2.0}, "batch": {"table": [[1, 1], [9, 1]]}},
    "phases": {
        "arrivals": "poisson",
        "phases": [{"duration": 1.5, "rate": 2.0}, {"duration": 1}, {"duration": 0.5, "rate": 0}],
    },
}


def times_of(arrivals, rate, replica=0, total=1000):
    return ArrivalTimes(arrivals, rate, 1, replica, total).take(total)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.02, 50.0])
def test_requests_arrive_at_their_rate(kind, rate):
    arrivals = workload(rate=rate, **KINDS[kind]).arrivals
    ends = []
    for replica in range(60):
        times = times_of(arrivals, rate, replica, 4000)
        assert times[0] == 0
        assert np.all(np.diff(times) >= 0)
        ends.append(times[-1] * rate / 4000)
    circle = 4.0 / 3.0 if kind == "phases" else 1.0  # 3 time units bring as much as 4 of the plain rate
    # A batch is begun and not ended: half a batch or so in 4,000 is less than the interval.
    assert kind == "tick" or within(ends, 1 / circle)
    if kind == "tick":
        assert np.array_equal(times, np.arange(4001) / rate)


def test_batches_are_as_large_as_the_law_says():
    arrivals = workload(rate=3.0, batch={"dist": "geom", "p": 0.25}).arrivals
    sizes = [np.unique(times_of(arrivals, 3.0, r, 20_000), return_counts=True)[1][:-1] for r in range(40)]
    assert within([each.mean() for each in sizes], 4.0)
    assert within([(each == 1).mean() for each in sizes], 0.25)
    times = times_of(workload(rate=3.0, batch=5).arrivals, 3.0, 0, 100)
    assert np.unique(times, return_counts=True)[1].tolist() == [5] * 20 + [1]


def test_without_a_rate_gaps_are_what_the_law_says():
    whole = workload(arrivals={"table": [[1, 2], [2, 1]]}, batch=3)
    assert whole.rate_in(1) == 3 / (4 / 3)
    gaps = np.diff(times_of(whole.arrivals, whole.rate_in(1)))
    assert set(gaps.tolist()) == {0.0, 1.0, 2.0}
    assert np.array_equal(times_of(workload(arrivals="tick").arrivals, 1.0), np.arange(1001))
    ticks = workload(arrivals="tick", batch=2)
    assert np.array_equal(times_of(ticks.arrivals, ticks.rate_in(1)), np.arange(1001) // 2)


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(st.integers(0, 90), min_size=1, max_size=8))
def test_how_arrivals_are_asked_for_makes_no_difference(kind, counts):
    arrivals = workload(rate=3.0, **KINDS[kind]).arrivals
    total = sum(counts)
    whole = ArrivalTimes(arrivals, 3.0, 4, 0, total).take(total)
    parts = ArrivalTimes(arrivals, 3.0, 4, 0, total)
    begin = 0
    for count in counts:
        assert np.array_equal(parts.take(count), whole[begin : begin + count + 1])
        begin += count


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_of_arrivals_fit_together(kind):
    """The last request of a chunk knows when the first of the next one comes."""
    source = Requests(workload(rate=3.0, **KINDS[kind]), 3.0, 1, 0, 2 * CHUNK + 1)
    births = [births_of([source], 1, [(0, 1)]) for _ in range(3)]
    assert [each.requested.shape[1] for each in births] == [CHUNK, CHUNK, 1]
    assert births[0].time[0, -1] == births[1].time[0, 0]
    assert births[1].time[0, -1] == births[2].time[0, 0]
    waits = Requests(workload(rate=3.0, **KINDS[kind]), 3.0, 1, 0, 2 * CHUNK + 1)
    arrived = np.concatenate([waits.next_arrivals() for _ in range(4)])
    known = CHUNK if "batch" in KINDS[kind] else 2 * CHUNK + 1  # of the last chunk only what is asked for is drawn
    assert np.array_equal(arrived[:known], np.concatenate([each.time[0, :-1] for each in births])[:known])
    assert len(arrived) == 4 * CHUNK and (np.diff(arrived) >= 0).all()


@pytest.mark.parametrize("batch", [10**12, {"dist": "zipf", "a": 2.01}, {"table": [[1, 1], [1e18, 1]]}])
def test_batches_larger_than_all_requests(batch):
    times = times_of(workload(rate=1.0, batch=batch).arrivals, 1.0, 0, CHUNK)
    assert times[0] == 0 and len(times) == CHUNK + 1 and np.isfinite(times).all()


def test_times_that_are_no_numbers():
    with pytest.raises(InputError, match=r"a rate of 1e-307 requests arrive at inf: choose a larger rate"):
        times_of(workload(rate=1e-307).arrivals, 1e-307, 0, 10_000)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"arrivals": "poison"}, "workload.arrivals is 'poison' (did you mean 'poisson'?)"),
        ({"arrivals": 3}, "workload.arrivals is 3: write one of"),
        ({"arrivals": {"dist": "norm"}}, "workload.arrivals can draw -inf (norm), but must be at least 0"),
        ({"arrivals": {"table": [[0, 1]]}}, "gaps of this law have the mean 0.0: choose one with a mean > 0"),
        ({"arrivals": {"dist": "pareto", "b": 0.5}}, "gaps of this law have the mean inf"),
        ({"arrivals": "saturated", "rate": None, "batch": 2}, "workload.batch does not go with arrivals = 'saturated'"),
        ({"arrivals": "saturated"}, "workload.rate does not go with arrivals = 'saturated'"),
        ({"arrivals": "fill-then-free", "rate": None}, "workload.lifetimes: in 'fill-then-free' blocks live until"),
        ({"batch": 0}, "workload.batch can draw 0"),
        ({"batch": 1.5}, "workload.batch: a batch is a whole number of requests"),
        ({"batch": True}, "workload.batch is True"),
        ({"batch": {"dist": "expon", "loc": 1}}, "workload.batch: a batch is a whole number of requests"),
        ({"batch": {"dist": "zipf", "a": 1.5}}, "workload.batch: a batch is a whole number of requests"),
        ({"rate": 0}, "workload.rate is 0: write a number above 0"),
        ({"rate": "fast"}, "workload.rate is 'fast': write a number above 0"),
        ({"rate": None}, "arrivals = 'poisson' need a rate: give load (such as 0.9) or rate"),
        ({"load": 0.9}, "workload: give load (0.9) or rate (1.0), not both"),
        (
            {"rate": None, "load": 0.9, "lifetimes": {"dist": "pareto", "b": 0.9}},
            "a load needs laws with a finite mean",
        ),
        ({"rate": None, "load": 0.9, "lifetimes": 0}, "a load needs laws with a finite mean above 0"),
        ({"speed": 1}, "workload.speed is not known"),
        ({"lifetimes": None}, "workload.lifetimes is missing"),
        ({"lifetimes": {"dist": "norm"}}, "workload.lifetimes can draw -inf"),
        ({"phases": []}, "workload.phases is []: write a list of segments"),
        ({"phases": [3]}, "workload.phases.0 is 3: write a segment such as"),
        ({"phases": [{"rate": 1}]}, "workload.phases.0.duration is missing"),
        ({"phases": [{"duration": 0}]}, "workload.phases.0.duration is 0: write a number above 0"),
        (
            {"phases": [{"duration": 1, "rate": -1}]},
            "workload.phases.0.rate is -1: write a number that is not negative",
        ),
        ({"phases": [{"duration": 1, "rate": 0}]}, "workload.phases: nothing ever arrives"),
        ({"phases": [{"duration": 1e308}] * 2}, "workload.phases: a circle lasts inf"),
        (
            {"phases": [{"duration": 1e-200, "rate": 1e-200}]},
            "workload.phases: a circle lasts 1e-200, in which 0 are due",
        ),
        (
            {"phases": [{"duration": 1, "lifetimes": "fase"}]},
            "workload.phases.0.lifetimes is 'fase' (did you mean 'phase'?)",
        ),
        (
            {"phases": [{"duration": 1, "lifetime": 3}]},
            "workload.phases.0.lifetime is not known (did you mean 'lifetimes'?)",
        ),
    ],
)
def test_what_cannot_be_asked_for(given, message):
    with pytest.raises(InputError) as error:
        workload(**({"rate": 1.0} | given))
    assert message in str(error.value)


# --- load ------------------------------------------------------------------------------------------------------------


def offered(asked, pool, replicas=200, requests=1000):
    """Bytes x life that arrive, as a share of the pool, for each replica."""
    rate = asked.rate_in(pool)
    for replica in range(replicas):
        births = births_of([Requests(asked, rate, 3, replica, requests)], 16, [(0, 1)])
        lives = births.death - births.time[:, :-1]
        yield float((births.requested * lives).sum() / (births.time[0, -1] * pool))


LOADS = {
    "plain": {},
    "clipped": {"sizes": {"dist": "lognorm", "s": 1.5, "scale": 256, "min": 16, "max": "2KiB", "bounds": "clip"}},
    "rejected": {"sizes": {"dist": "lognorm", "s": 1.5, "scale": 256, "max": "1KiB", "bounds": "reject"}},
    "hyperexponential": {
        "lifetimes": {"mixture": [{"weight": 0.9, "dist": "expon"}, {"weight": 0.1, "dist": "expon", "scale": 9}]}
    },
    "ticks": {"arrivals": "tick", "lifetimes": 5.0},
    "batches": {"batch": {"dist": "geom", "p": 0.5}},
    "renewal": {"arrivals": {"dist": "gamma", "a": 3}},
}


@pytest.mark.parametrize("kind", LOADS)
def test_a_load_is_what_is_offered(kind):
    asked = workload(load=0.8, **LOADS[kind])
    assert within(list(offered(asked, 1 << 16)), 0.8)


@pytest.mark.parametrize("bounds", [{}, {"min": 32, "max": 65536, "bounds": "clip"}, {"max": 4096, "bounds": "reject"}])
@pytest.mark.parametrize("profile", PROFILES)
def test_a_load_of_a_fleet(profile, bounds):
    """The life goes with the size, also of a size that bounds have moved."""
    pool = 1 << 30
    asked = workload_of({"sizes": {"fleet": str(profile), **bounds}, "load": 1.5})
    assert asked.rate_in(pool) * asked.sizes.mean_size_life() == pytest.approx(1.5 * pool, rel=1e-12)
    # The bytes alive are those of a few long lives. What can be seen is each life against the mean life of its size.
    units = []
    for replica in range(30):
        sizes, lives = Requests(asked, asked.rate_in(pool), 5, replica, CHUNK).next_requests()
        same, means = asked.sizes.draw_with_lives(generator_of(5, replica, SIZES, 0), CHUNK)
        assert np.array_equal(sizes, same)
        units.append((lives / means).mean())
    assert within(units, 1.0)


def test_a_load_of_a_small_fleet(tmp_path):
    (tmp_path / "fleet.csv").write_text("16,6,3\n64,3,3\n1000,1,5\n")
    for bounds in ({}, {"max": 200, "bounds": "clip"}, {"min": 32, "bounds": "reject"}):
        asked = workload_of({"sizes": {"fleet": "fleet.csv", **bounds}, "load": 0.8}, folder=tmp_path)
        assert within(list(offered(asked, 1 << 16)), 0.8)
    # Little: num_live blocks of each size live at the rate of the profile.
    assert workload_of({"sizes": {"fleet": "fleet.csv"}, "rate": 10}, folder=tmp_path).mean_size_life() * 10 == (
        pytest.approx(16 * 3 + 64 * 3 + 1000 * 5)
    )


def test_a_load_needs_a_pool_and_scales_with_it():
    asked = workload(load=0.5)
    assert asked.rate_in(1 << 20) == pytest.approx(0.5 * (1 << 20) / (2.0 * asked.sizes.mean()))
    assert asked.rate_in(1 << 21) == 2 * asked.rate_in(1 << 20)
    phased = workload(load=0.5, phases=[{"duration": 1, "rate": 3.0}])
    assert phased.rate_in(1 << 20) == asked.rate_in(1 << 20)
    for without_times in ({"arrivals": "saturated"}, {"arrivals": "fill-then-free", "lifetimes": None}):
        assert workload(**without_times).rate_in(1 << 20) > 0


# --- phases ----------------------------------------------------------------------------------------------------------

PHASES = st.lists(
    st.tuples(st.integers(1, 16).map(lambda n: n / 4), st.integers(0, 3).map(float)), min_size=1, max_size=5
).filter(lambda rows: any(rate for _, rate in rows))


def phases_from(rows):
    return phases_of([{"duration": duration, "rate": rate} for duration, rate in rows], "phases", Path("."))


@given(PHASES, st.lists(st.integers(0, 4000).map(lambda n: n / 12), max_size=30))
def test_time_runs_as_fast_as_requests_are_due(rows, clock):
    """Against exact fractions: the time at which the clock has run so far; a clock that stands still is passed."""
    even = np.sort(np.array(clock))
    phases = phases_from(rows)
    moved = phases.moved(even)
    assert np.all(np.diff(moved) >= 0)
    segment, ends = phases.segments_of(moved)
    durations = [Fraction(duration) for duration, _ in rows]
    rates = [Fraction(rate) for _, rate in rows]
    due = sum(d * r for d, r in zip(durations, rates, strict=True))
    for u, t, k, end in zip(even.tolist(), moved.tolist(), segment.tolist(), ends.tolist(), strict=True):
        circle, left = divmod(Fraction(u), due)
        time, at = circle * sum(durations), 0
        while left >= durations[at] * rates[at]:
            left -= durations[at] * rates[at]
            time += durations[at]
            at += 1
        # Where a fraction falls beside its float, so may a request that is due as a segment ends.
        exact = time + left / rates[at]
        assert t == pytest.approx(float(exact), rel=1e-12, abs=1e-12) or left < 1e-9
        if Fraction(u).denominator < 100:
            assert k == at
        begin = end - rows[k][0]
        assert begin <= t < end


@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.7, 1 / 3, 1.1]), min_size=1, max_size=4),
    st.sampled_from([0.1, 1 / 3, 0.7]),
    st.integers(0, 10**7),
)
def test_each_time_lies_in_one_segment(durations, tick, start):
    """begin <= time < end to the bit, where ticks and segments often end together but for a rounding error."""
    phases = phases_from([(duration, 1.0) for duration in durations])
    times = (start + np.arange(200)) * tick
    segment, ends = phases.segments_of(times)
    assert np.all(times < ends)
    again, later = phases.segments_of(ends)
    assert np.array_equal(again, (segment + 1) % len(durations))
    assert np.all(later > ends)
    assert np.all(np.diff(ends) >= 0)


def test_requests_of_each_segment():
    rows = [(2.0, 1.0), (1.0, 4.0), (3.0, 0.0), (0.5, 0.5)]
    asked = workload(rate=10.0, phases=[{"duration": d, "rate": r} for d, r in rows])
    counts = []
    for replica in range(100):
        times = times_of(asked.arrivals, 10.0, replica, 2000)
        whole = np.floor(times[-1] / 6.5)
        segment, _ = asked.arrivals.phases.segments_of(times[(times < whole * 6.5) & (times > 0)])
        counts.append(np.bincount(segment, minlength=4) / whole)
    counts = np.array(counts)
    assert not counts[:, 2].any()
    for k in (0, 1, 3):
        assert within(counts[:, k], 10.0 * rows[k][0] * rows[k][1])


def events_of(**asked):
    """Events of a sample: (alloc number, whether it is born, time)."""
    trace = sample(**(SIZED | asked))
    live, events, born = {}, [], 0
    for slot, size, time in zip(trace.slot.tolist(), trace.size.tolist(), trace.time.tolist(), strict=True):
        if size >= 0:
            live[slot] = born
            events.append((born, True, time))
            born += 1
        else:
            events.append((live.pop(slot), False, time))
    return events


def test_what_dies_with_its_phase():
    """In the order of the allocs, at its very end, before what arrives then: eight ticks a unit of time."""
    phases = [{"duration": 0.75, "lifetimes": "phase"}, {"duration": 0.5, "lifetimes": "forever"}]
    events = events_of(requests=2000, arrivals="tick", rate=8.0, phases=phases)
    expected, begun = [], []
    for number in range(2000):
        place = number % 10
        if place == 6:
            expected += [(dead, False, number / 8) for dead in begun]
            begun = []
        if place < 6:
            begun.append(number)
        expected.append((number, True, number / 8))
    assert events[: len(expected)] == expected
    assert not any(born for _, born, _ in events[len(expected) :])


def test_laws_of_phases():
    """A law of its own, in its segment only; the usual one elsewhere; for ever is for ever."""
    phases = [{"duration": 1, "lifetimes": 0.25}, {"duration": 1}, {"duration": 1, "lifetimes": "forever"}]
    asked = workload(rate=40.0, phases=phases, lifetimes={"dist": "uniform", "loc": 5.0})
    births = births_of([Requests(asked, 40.0, 1, r, 3000) for r in range(20)], 16, [(0, 1)])
    times, lives = births.time[:, :-1], births.death - births.time[:, :-1]
    segment, _ = asked.arrivals.phases.segments_of(times)
    assert lives[segment == 0] == pytest.approx(0.25)
    assert lives[segment == 1].min() >= 5.0 - 1e-9 and lives[segment == 1].max() <= 6.0 + 1e-9
    assert np.isinf(lives[segment == 2]).all()
    plain = workload(rate=40.0, lifetimes={"dist": "uniform", "loc": 5.0}, phases=[{"duration": 3}])
    usual = births_of([Requests(plain, 40.0, 1, r, 3000) for r in range(20)], 16, [(0, 1)])
    assert np.array_equal(births.time, usual.time) and np.array_equal(births.requested, usual.requested)
    assert np.array_equal(births.death[segment == 1], usual.death[segment == 1])


def test_laws_of_phases_where_requests_wait():
    """The law is that of the segment in which a request arrives; its life starts at placement."""
    phases = [
        {"duration": 1, "lifetimes": {"dist": "expon", "scale": 3.0}},
        {"duration": 2, "lifetimes": "forever"},
        {"duration": 1},
    ]
    total = 2 * CHUNK + 100
    asked = workload(rate=100.0, phases=phases)
    source, same = (Requests(asked, 100.0, 2, 0, total) for _ in range(2))
    for _ in range(3):
        sizes, lives = source.next_requests()
        births = births_of([same], 16, [(0, 1)])
        assert np.array_equal(sizes, births.requested[0])
        assert np.array_equal(births.time[0, :-1] + lives, births.death[0])
    until_the_end = Requests(workload(rate=1.0, phases=[{"duration": 1, "lifetimes": "phase"}]), 1.0, 1, 0, 10)
    with pytest.raises(InputError, match=r"workload.phases: lifetimes = 'phase' does not go with on_failure = 'wait'"):
        until_the_end.next_requests()


# --- what a law must not draw ----------------------------------------------------------------------------------------


class Wrong(Law):
    """Draws what no law of lifetimes may."""

    def __init__(self, value):
        self.value = value

    def draw(self, generator, count):
        return np.array([1.0] * (count - 1) + [self.value])

    def mean(self):
        return 1.0

    def sf(self, x):
        raise AssertionError("lifetimes are drawn and averaged, their tail is nobody's question")

    def support(self):
        return 0.0, 1.0

    def canonical(self):
        return {}


@pytest.mark.parametrize("value", [np.nan, -1.0, -np.inf])
def test_lifetimes_that_are_none(value):
    fine = workload(rate=1.0)
    wrong = Workload(fine.sizes, Wrong(value), fine.arrivals, None, 1.0)
    for read in (lambda s: s.next_requests(), lambda s: births_of([s], 16, [(0, 1)])):
        with pytest.raises(InputError, match=f"workload.lifetimes: the law drew {value}, which is no lifetime"):
            read(Requests(wrong, 1.0, 1, 0, 10))


def test_room_is_used_again():
    asked, room = workload(rate=1.0), {}
    first = births_of([Requests(asked, 1.0, 1, 0, 100)], 16, [(0, 1)], room)
    kept = [table.copy() for table in first]
    again = births_of([Requests(asked, 1.0, 1, 1, 100)], 16, [(0, 1)], room)
    assert again is first and not np.array_equal(again.time, kept[0])
    births_of([Requests(asked, 1.0, 1, 0, 100)], 16, [(0, 1)], room)
    assert all(np.array_equal(*pair) for pair in zip(first, kept, strict=True))
    assert births_of([Requests(asked, 1.0, 1, 0, 99)], 16, [(0, 1)], room) is not first
    assert births_of([Requests(asked, 1.0, 1, 0, 100)], 16, [(0, 1)]) is not first


# --- as a trace ------------------------------------------------------------------------------------------------------


def test_a_sample_is_a_trace():
    trace = sample(5000, seed=3, replica=2, load=0.9, pool="64KiB", **SIZED)
    assert trace.allocs == 5000
    assert trace.slot.dtype == np.int32 and trace.size.dtype == np.int64 and trace.time.dtype == np.float64
    assert np.all(np.diff(trace.time) >= 0) and trace.time[0] == 0
    check(va.Trace(trace.slot, trace.size, trace.time))  # every free is of a live block, and repeats its size
    assert trace.meta["seed"] == 3 and trace.meta["workload"]["load"] == 0.9
    run = va.replay(trace, "best-fit", "64KiB", clock="time")
    assert run.metrics["utilisation"] > 0.3
    assert sample(0, rate=1.0, **SIZED).allocs == 0
    assert sample(1, rate=1.0, **SIZED).allocs == 1


@pytest.mark.parametrize("requests", [1, 3000, CHUNK, CHUNK + 1])
def test_a_sample_is_what_an_experiment_meets(requests):
    asked = {"sizes": {"dist": "expon", "scale": 300}, "lifetimes": {"dist": "expon"}, "load": 1.1}
    policies = ("first-fit", "best-fit[ties=lifo]", "buddy")
    lines = simulate_batch(
        Batch(workload_of(asked), 1 << 16, 16, policies, policies, "drop", 1, 7, requests, ("share", 0.0), 4, 6)
    )
    for row, replica in zip(lines["row"].tolist(), lines["replica"].tolist(), strict=True):
        trace = sample(requests, seed=7, replica=replica, pool=1 << 16, **asked)
        run = va.replay(trace, policies[row], 1 << 16, clock="time")
        line = (lines["row"] == row) & (lines["replica"] == replica)
        for cause in ("too-large", "capacity", "fragmentation"):
            assert run.failures[cause] == lines[cause.replace("-", "_")][line]
        assert requests == 1 or sum(run.failures.values()) > 0
        assert lines["allocs"][line] == requests
        assert run.ledger.counts[0, c.PEAK_LIVE] == lines["peak_live"][line]


@pytest.mark.parametrize(
    "given, message",
    [
        ({"arrivals": "saturated"}, "sample.arrivals is 'saturated': which block dies when depends on the policy"),
        ({"load": 0.9}, "sample.load refers to a pool: give pool, or a rate"),
        ({"rate": 1, "requests": -1}, "requests is -1"),
        ({"rate": 1, "seed": 0.5}, "seed is 0.5"),
        ({"rate": 1, "pool": "much"}, "pool"),
        ({"rates": 1}, "sample.rates is not known (did you mean 'rate'?)"),
    ],
)
def test_what_cannot_be_sampled(given, message):
    with pytest.raises(InputError) as error:
        sample(**(SIZED | given))
    assert message in str(error.value)


GOLDEN = {
    "3878885a1b9c48f7": {"rate": 100.0},
    "0d888da677967d85": {"arrivals": "tick", "batch": {"dist": "geom", "p": 0.3}, "lifetimes": 40.0},
    "85cdde5a10389a1f": {"arrivals": {"dist": "gamma", "a": 2.0}, "load": 0.9, "pool": "1MiB"},
    "4a74c31a08c82c29": {
        "rate": 50.0,
        "phases": [
            {"duration": 3, "lifetimes": {"dist": "gamma", "a": 0.5}},
            {"duration": 1, "rate": 5.0, "lifetimes": "phase"},
            {"duration": 2, "rate": 0.0},
            {"duration": 5, "rate": 0.5, "lifetimes": "forever"},
        ],
    },
}


@pytest.mark.parametrize("digest", GOLDEN)
def test_golden_events(digest):
    """Rounded to a millionth: the last bit of a logarithm is another one on another machine."""
    trace = sample(20_000, seed=11, replica=5, **(SIZED | GOLDEN[digest]))
    tables = trace.slot, trace.size, np.rint(trace.time * 1e6).astype(np.int64)
    found = hashlib.sha256(b"".join(table.tobytes() for table in tables)).hexdigest()[:16]
    assert found == digest, "requests are drawn or ordered in another way: raise REVISION in workload/requests.py"


# --- requests that wait, drawn chunk by chunk ------------------------------------------------------------------------


@pytest.mark.parametrize("requests", [1, CHUNK - 1, CHUNK, CHUNK + 1])
@pytest.mark.parametrize("arrivals", ["poisson", "saturated", "fill-then-free"])
def test_waiting_requests_come_chunk_by_chunk(requests, arrivals):
    """What the source hands out piece by piece, against the same in one piece in plain Python."""
    asked = {"sizes": {"dist": "randint", "low": 1, "high": 9}, "arrivals": arrivals}
    asked |= {"rate": 6.0} if arrivals == "poisson" else {}
    asked |= {} if arrivals == "fill-then-free" else {"lifetimes": {"dist": "expon"}}
    checked = workload_of(asked)
    process = Process(
        make_plan("best-fit", 32, 1),
        [Requests(checked, 6.0, 1, 0, requests)],
        checked.arrivals.timed,
        checked.lifetimes is not None,
        6.0,
        1 << 20,
        keep=requests,
    )
    process.run_until(requests)
    source = Requests(checked, 6.0, 1, 0, requests)
    pieces = [source.next_requests() for _ in range(-(-requests // CHUNK))]
    sizes, lives = (np.concatenate(column).tolist() for column in zip(*pieces, strict=True))
    words = np.concatenate([source.next_words() for _ in range(3)]).tolist()
    arrived = np.concatenate([source.next_arrivals() for _ in range(3)]).tolist()  # they go on beyond the last request
    expected = Waiting(
        REFERENCES["best-fit"](32, grows=False),
        arrived if arrivals == "poisson" else None,
        sizes,
        lives if arrivals != "fill-then-free" else None,
        iter(words),
    )
    expected.run(requests)
    assert process.ledger.addresses[0].tolist() == expected.addresses
    assert process.ledger.counts[0, c.FREES] == expected.frees
    assert process.ledger.integrals[0, c.I_QUEUE] == pytest.approx(expected.waited_time, rel=1e-9)


OVERLOADED = """
import sys
from vecalloc import ledger as c
from vecalloc.process import Process
from vecalloc.spec import make_plan
from vecalloc.workload.requests import Requests, workload_of

limit = int(sys.argv[1])
asked = workload_of({"sizes": 64, "lifetimes": {"dist": "expon"}, "rate": 100.0})
process = Process(make_plan("first-fit", 1024, 16), [Requests(asked, 100.0, 1, 0, 10**9)], True, True, 100.0, limit)
process.run_until(10**9)
print(*process.ledger.counts[0, [c.UNSTABLE, c.QUEUE]], PEAK)
""".replace("PEAK", PEAK)


def numbers_of(script, argument):
    """What a script prints that is run by itself."""
    done = subprocess.run([sys.executable, "-c", script, str(argument)], capture_output=True, check=True)
    return [float(word) for word in done.stdout.split()]


def test_an_overloaded_queue_takes_no_memory():
    (unstable, queue, few), (_, longer, many) = (numbers_of(OVERLOADED, limit) for limit in (10_000, 2_000_000))
    assert (unstable, queue, longer) == (1, 10_001, 2_000_001)
    assert many - few < 8 << 10, "KiB: two million that wait have left more than 8 MiB behind"


LOCKSTEP = """
import sys, time
from vecalloc.batch import Batch, simulate_batch
from vecalloc.workload import workload_of

requests = int(sys.argv[1])
policies = ("first-fit", "best-fit", "worst-fit", "next-fit", "buddy", "static-partition")
sizes = {"dist": "lognorm", "s": 1.0, "scale": 256, "max": "8KiB", "bounds": "clip"}
asked = workload_of({"sizes": sizes, "lifetimes": {"dist": "expon"}, "load": 0.9})
start = time.perf_counter()
batch = Batch(asked, 1 << 16, 16, policies, policies, "drop", 1, 1, requests, ("share", 0.1), 0, 1)
lines = simulate_batch(batch)
print(int(lines["allocs"].sum()), PEAK, time.perf_counter() - start)
""".replace("PEAK", PEAK)


@pytest.mark.slow
def test_a_long_replica_of_six_policies():
    """A hundred million requests take what a hundred thousand take, so a thousand million do."""
    (_, few, _), (decided, many, _) = (numbers_of(LOCKSTEP, count) for count in (100_000, 100_000_000))
    assert decided == 6 * 90_000_000
    assert many - few < 8 << 10, "KiB: something grows with the requests"
    assert many < 1 << 20
