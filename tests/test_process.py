"""Requests that wait: every policy against plain Python, address by address."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import REFERENCES
from reference.waiting import Waiting
from test_compaction import rules

from vecalloc import ledger as c
from vecalloc.kernel import JIT
from vecalloc.process import SLOTS, Process
from vecalloc.reclaim.compactor import Compactor
from vecalloc.reclaim.table import Compact
from vecalloc.simulate import Simulation
from vecalloc.spec import make_plan
from vecalloc.trace import events_of
from vecalloc.workload import Requests, sample, workload_of

VARIANTS = {
    "first-fit": {},
    "first-fit[carve=high]": {"carve": "high"},
    "best-fit": {},
    "best-fit[ties=lifo]": {"ties": "lifo"},
    "worst-fit": {},
    "next-fit": {},
    "buddy": {},
    "buddy[order=lifo]": {"order": "lifo"},
    "static-partition[unit=4]": {"unit": 4},
    "static-partition[order=lifo,unit=4]": {"unit": 4, "order": "lifo"},
    "static-partition[units=[8,4,4,16,2,30]]": {"units": [8, 4, 4, 16, 2, 30]},
    "static-partition[order=lifo,units=[8,4,4,16,2,30]]": {"units": [8, 4, 4, 16, 2, 30], "order": "lifo"},
}
MODELS = ("wait", "saturated", "fill")

MOVING = [(label, model) for label in VARIANTS if "static" not in label for model in MODELS]
COMPILED = [("first-fit", "wait"), ("best-fit[ties=lifo]", "saturated"), ("buddy", "fill")]
"""Policies whose blocks move, and those of them that are compiled for it, a model each: the others only take longer."""


class Tables:
    """A source that hands out what was drawn before, a few at a time."""

    def __init__(self, arrivals, sizes, lives, words, step):
        self.arrivals, self.sizes, self.lives, self.words = arrivals, sizes, lives, words
        self.step, self.arrived, self.at, self.word = step, 0, 0, 0

    def next_arrivals(self):
        self.arrived += self.step
        return self.arrivals[self.arrived - self.step : self.arrived]

    def next_requests(self):
        self.at += self.step
        return self.sizes[self.at - self.step : self.at], self.lives[self.at - self.step : self.at]

    def next_words(self):
        self.word += self.step
        return self.words[self.word - self.step : self.word]


def reference_of(label, granules):
    return REFERENCES[label.partition("[")[0]](granules, grows=False, **VARIANTS[label])


def tables(rng, load, requests, whole, step):
    # Several deaths, and deaths and arrivals, at the same time when times are whole.
    scale = np.floor if whole else lambda x: x
    arrivals = scale(np.cumsum(rng.exponential(1 / load, 40 * requests)))
    sizes = np.where(rng.random(requests) < 0.05, 65, rng.integers(1, 9, requests))
    lives = scale(rng.exponential(10 / 4, requests))
    words = rng.integers(-(2**63), 2**63, 5000)
    return Tables(arrivals, sizes, lives, words, step)


def compare(
    label, model, seed, load, requests, replicas=2, step=7, stops=3, queue_limit=1 << 20, whole=False,
    rule=None, pinned=0.0,
):  # fmt: skip
    """Run both to each stop, and look whether they stand at the same there. With a rule blocks move."""
    rng = np.random.default_rng(seed)
    plan = make_plan(label, 64, 1)
    sources = [tables(rng, load, requests, whole, step) for _ in range(replicas)]
    flags = (rng.random((replicas, requests)) < pinned).astype(np.uint8)
    compactor = compaction = None
    if rule is not None:
        pins = [iter(row).__next__ for row in flags]
        takers = [lambda count, pin=pin: np.array([pin() for _ in range(count)]) for pin in pins] if pinned else []
        compactor = Compactor(rule, replicas, SLOTS, takers)
        when = rule.when if rule.when == "failure" else {rule.when: getattr(rule, rule.when)}
        compaction = {"how": rule.how, "when": when, "budget": rule.budget}
    process = Process(
        plan, sources, model == "wait", model != "fill", load, queue_limit, keep=requests, compactor=compactor
    )
    expected = [
        Waiting(
            reference_of(label, 64),
            source.arrivals.tolist() if model == "wait" else None,
            source.sizes.tolist(),
            source.lives.tolist() if model != "fill" else None,
            iter(source.words.tolist()),
            queue_limit,
            compaction,
            set(np.flatnonzero(row).tolist()),
        )
        for source, row in zip(sources, flags, strict=True)
    ]
    for stop in np.linspace(0, requests, stops + 1).astype(int)[1:].tolist():
        process.run_until(stop)
        for r, reference in enumerate(expected):
            reference.run(stop)
            same(process, r, reference)
    return process, expected


def same(process, r, expected):
    counts, integrals = process.ledger.counts[r], process.ledger.integrals[r]
    decided = len(expected.addresses)
    assert process.ledger.addresses[r, :decided].tolist() == expected.addresses
    assert counts[c.ALLOCS] == decided
    assert counts[c.FAILED : c.FAILED + len(c.CAUSES)].tolist() == [expected.failed, 0, 0, 0, 0]
    assert counts[c.DELAYED : c.QUEUE].tolist() == [*expected.delayed.values(), 0, 0][:5]
    assert counts[c.FREES] == expected.frees
    assert counts[c.BLOCKS] == len(expected.live)
    assert counts[c.UNSTABLE] == expected.unstable
    assert integrals[c.DURATION] == pytest.approx(expected.now, rel=1e-12)
    assert integrals[c.I_LIVE] == pytest.approx(expected.live_time, rel=1e-9)
    assert integrals[c.I_QUEUE] == pytest.approx(expected.waited_time, rel=1e-9)
    heap = expected.heap
    told = counts[[c.PASSES, c.BLOCKS_MOVED, c.MOVED, c.LONGEST_PASS, c.PASSES_REFUSED]].tolist()
    assert told == [heap.passes, heap.blocks_moved, heap.granules_moved, heap.longest, heap.refused]
    assert process.policy.holes(process.state, r).tolist() == [list(hole) for hole in sorted(heap.policy.holes())]
    if process.compactor is not None:
        assert counts[c.ALLOCATED] == heap.allocated
        starts = sorted(start for start, _ in heap.blocks.values())
        assert sorted(place for place in process.ledger.places[r].tolist() if place >= 0) == starts
        heap.check()


@pytest.mark.jitless
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("label", VARIANTS)
def test_as_plain_python(label, model):
    @given(st.integers(0, 2**32), st.sampled_from([0.5, 3.0, 6.0]), st.integers(1, 120), st.booleans())
    def check(seed, load, requests, whole):
        compare(label, model, seed, load, requests, whole=whole)

    check()


@pytest.mark.jitless
@pytest.mark.parametrize(("label", "model"), COMPILED if JIT else MOVING)
def test_passes_as_plain_python(label, model):
    """Looked at after every request."""

    @given(
        st.data(), st.integers(0, 2**32), st.sampled_from([0.5, 3.0, 6.0]), st.integers(1, 60), st.booleans(),
        st.sampled_from([0.0, 0.3]),
    )  # fmt: skip
    def check(data, seed, load, requests, whole, pinned):
        how = data.draw(st.sampled_from(["slide"] if "buddy" in label else ["slide", "first-window", "two-finger"]))
        rule = data.draw(rules(how))
        compare(label, model, seed, load, requests, stops=requests, whole=whole, rule=rule, pinned=pinned)

    check()


@pytest.mark.jitless
@pytest.mark.parametrize(("label", "model"), COMPILED)
@pytest.mark.parametrize("budget", [None, 6.0])
def test_many_passes(label, model, budget):
    """Many chunks of requests and slots that are used again; pinned blocks; a budget that runs out and recovers."""
    process, expected = compare(label, model, 8, 6.0, 600, step=50, rule=Compact(budget=budget), pinned=0.05)
    for reference in expected:
        assert reference.heap.passes > 10
        assert (reference.heap.refused > 0) == (reference.delayed["budget"] > 0) == (budget is not None)
    assert (process.ledger.counts[:, c.DELAYED + 2] > 0).all()  # around blocks that are pinned


def test_a_pass_before_anything_has_come():
    """The least threshold there is: every pool is as fragmented, an empty one too."""
    compare("first-fit", "wait", 1, 3.0, 30, rule=Compact(when="external_fragmentation", external_fragmentation=1e-17))


@pytest.mark.parametrize("model", MODELS)
def test_many_requests_and_slots(model):
    compare("best-fit", model, 5, 4.0, 2000, step=500)


def test_an_overloaded_queue_ends_as_unstable():
    process, _ = compare("first-fit", "wait", 3, 60.0, 3000, step=400, queue_limit=200)
    assert process.ledger.counts[:, c.UNSTABLE].tolist() == [1, 1]
    assert process.ledger.counts[:, c.QUEUE].tolist() == [201, 201]


def test_what_nothing_makes_room_for_is_unstable():
    """All units are free, and the first in line waits for one that is larger: not too large for an empty pool."""
    plan = make_plan("first-fit", 64, 1)
    eternal = Tables(np.zeros(0), np.full(20, 8), np.full(20, np.inf), np.zeros(0, np.int64), 20)
    process = Process(plan, [eternal], False, True, 1.0, 100)
    process.run_until(20)
    assert process.ledger.counts[0, c.UNSTABLE] == 1
    assert process.ledger.counts[0, c.BLOCKS] == 8


def test_nobody_comes_and_nothing_dies():
    """The last requests have come, the first in line does not fit, and what lives lives forever."""
    arrivals = np.concatenate([np.arange(20.0), [np.inf]])
    eternal = Tables(arrivals, np.full(20, 8), np.full(20, np.inf), np.zeros(0, np.int64), 21)
    process = Process(make_plan("first-fit", 64, 1), [eternal], True, True, 1.0, 100)
    process.run_until(20)
    assert process.ledger.counts[0, c.UNSTABLE] == 1
    assert process.ledger.counts[0, c.QUEUE] == 12
    assert np.isfinite(process.ledger.integrals).all()


@pytest.mark.parametrize("label", VARIANTS)
def test_both_loops_keep_the_same_ledger(label):
    """Where nobody ever waits the order is that of the trace: every count and integral is the same, to the bit."""
    largest = 4 if "unit=4" in label else 8  # nothing is too large
    sizes = {"dist": "randint", "low": 1, "high": largest + 1}
    asked = {"sizes": sizes, "lifetimes": {"dist": "expon"}, "rate": 5.0}
    plan, requests = make_plan(label, 1024 if "units" not in label else 64, 1), 3000
    if "units" in label:  # a partition of six units has room for a few at a time
        asked |= {"sizes": 2, "rate": 0.05}
    trace = sample(requests, seed=7, **asked)
    last = np.flatnonzero(trace.is_alloc)[-1] + 1  # a replica that waits ends with the placement of its last request
    fixed = Simulation(plan, 1, trace.slots, workers=1)
    fixed.step(events_of(type(trace)(trace.slot[:last], trace.size[:last], trace.time[:last]), 1, timed=True))
    source = Requests(workload_of(asked), asked["rate"], 7, 0, requests)
    process = Process(plan, [source], True, True, asked["rate"], 1 << 20)
    process.run_until(requests)
    assert process.ledger.counts[0, c.DELAYED : c.DELAYED + 3].sum() == 0
    assert process.ledger.counts[0, c.FREES] > requests // 2
    assert fixed.ledger.counts.tolist() == process.ledger.counts.tolist()
    assert fixed.ledger.integrals.tolist() == process.ledger.integrals.tolist()
    assert fixed.ledger.scatter.tolist() == process.ledger.scatter.tolist()
