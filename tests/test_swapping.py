"""Swapping, operation by operation, against the naive reference.

Where the JIT is off every alloc that was served, every free and every claim is compared, in order and with its
address: the memory maps of the two are then the same after every event, those supposed while victims are chosen
included. With the JIT: addresses, holes, every count and every integral after each decision.
"""

from itertools import accumulate
from math import floor, log2
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import REFERENCES
from reference.swapping import Swapping as Reference

from vecalloc import ledger as c
from vecalloc.kernel import JIT
from vecalloc.reclaim.compactor import Compactor
from vecalloc.reclaim.crowd import WAIT_UNIT
from vecalloc.reclaim.table import Compact, Swap
from vecalloc.spec import make_plan, parse_policy
from vecalloc.swapping import SLOTS, Swapping

pytestmark = pytest.mark.jitless

VARIANTS = [
    "first-fit", "first-fit[carve=high,min_split=3]", "best-fit", "best-fit[ties=lifo]", "worst-fit",
    "next-fit[min_split=2]", "buddy", "buddy[order=lifo]", "static-partition[unit=4]",
    "static-partition[order=lifo,units=[4,2,2,8]]",
]  # fmt: skip
COMPILED = ["best-fit", "buddy", "static-partition[unit=4]"] if JIT else VARIANTS

RULES = ["lru", "largest-idle", "smallest-sufficient", "random", "lowest-priority"]
GRANULES = 16


class Newcomers(NamedTuple):
    arrival: np.ndarray
    size: np.ndarray
    priority: np.ndarray
    offset: np.ndarray
    active: np.ndarray
    idle: np.ndarray


class Listed:
    """A source of processes as the reference takes them, a few at a time."""

    def __init__(self, processes, words, few=7):
        self.processes, self.words, self.few = processes, words, few
        self.told = self.came = 0

    def next_arrivals(self):
        times = [arrival for arrival, *_ in self.processes[self.came : self.came + self.few]]
        self.came += self.few
        return np.array(times or [np.inf])

    def next_processes(self):
        chunk = self.processes[self.told : self.told + self.few]
        self.told += self.few
        phases = [phase for *_, phases in chunk for phase in phases]
        offset = [0, *accumulate(len(phases) for *_, phases in chunk)]
        active, idle = np.array(phases, float).reshape(-1, 2).T
        arrival, size, _, priority, _ = zip(*chunk, strict=True)
        return Newcomers(np.array(arrival), np.array(size), np.array(priority), np.array(offset), active, idle)

    def next_words(self):
        return np.array([next(self.words) for _ in range(self.few)])


def words_of(seed):
    return iter(np.random.default_rng(seed).integers(-(2**63), 2**63, 200_000).tolist())


def pair(label, processes, settings, seed=0):
    """The engine and the reference, on the same processes."""
    policy, options = parse_policy(label)
    shown = {k: v for k, v in options.items() if v != policy.option(k).default}
    shown = {k: list(v) if isinstance(v, tuple) else v for k, v in shown.items()}
    remedies = tuple(
        Compact(how=settings["how"], budget=settings["budget"])
        if kind == "compact"
        else Swap(settings["victim"], *settings["disk"], settings["swap_space"], settings["relocate"], settings["load"])
        for kind in settings["remedies"]
    )
    compactor = None
    if "compact" in settings["remedies"]:
        flags = iter([n in settings["pinned"] for n in range(len(processes) + 8)])
        pin = lambda count: np.array([next(flags) for _ in range(count)], np.uint8)  # noqa: E731
        compactor = Compactor(remedies[settings["remedies"].index("compact")], 1, 2 * SLOTS, [pin])
    plan = make_plan(label, GRANULES, 1)
    source = Listed(processes, words_of(seed))
    engine = Swapping(plan, [source], remedies, 1.0, settings.get("queue_limit", 1 << 20), len(processes), compactor)
    swap_space = float("inf") if settings["swap_space"] is None else settings["swap_space"]
    reference = Reference(
        REFERENCES[policy.name](GRANULES, **shown),
        processes,
        words=words_of(seed),
        **(settings | {"swap_space": swap_space}),
    )
    return engine, reference


class Log:
    """Every alloc that is served, free and claim, in order."""

    def __init__(self):
        self.seen = []

    def of(self, name, function, answers=False):
        def logged(*arguments):
            answer = function(*arguments)
            address = answer if name == "alloc" else arguments[-1 if name == "free" else -2]
            if address is not None and address >= 0:
                self.seen.append((name, int(address)))
            return answer

        return logged


def follow(label, processes, settings, monkeypatch=None, seed=0):
    engine, reference = pair(label, processes, settings, seed)
    ours, theirs = Log(), Log()
    if not JIT:
        for name in ("alloc", "free", "claim"):
            monkeypatch.setattr(engine.policy, name, ours.of(name, getattr(engine.policy, name)))
            setattr(reference.policy, name, theirs.of(name, getattr(reference.policy, name)))
    for decided in range(1, len(processes) + 1):
        engine.run_until(decided)
        reference.run(decided)
        assert ours.seen == theirs.seen
        compare(engine, reference)
        if reference.unstable:
            break
    return engine, reference


def compare(engine, reference):
    counts, integrals = engine.ledger.counts[0], engine.ledger.integrals[0]
    decided = int(counts[c.ALLOCS])
    assert engine.ledger.addresses[0, :decided].tolist() == reference.addresses
    holes = [tuple(hole) for hole in engine.policy.holes(engine.state, 0).tolist()]
    assert holes == sorted(reference.policy.holes())
    assert sorted(p for p in engine.ledger.places[0].tolist() if p >= 0) == sorted(reference.policy.blocks)
    assert bool(counts[c.UNSTABLE]) == reference.unstable
    told = {name: int(counts[getattr(c, name)]) for name in (
        "FREES", "COMPLETED", "SWAPS_IN", "SWAPS_OUT", "BYTES_IN", "BYTES_OUT", "BLOCKS", "QUEUE", "IMAGES",
        "IMAGE_BYTES", "PASSES", "BLOCKS_MOVED", "MOVED", "LONGEST_PASS", "PASSES_REFUSED", "ALLOCATED", "WORKING",
    )}  # fmt: skip
    assert told == {
        "FREES": reference.frees, "COMPLETED": reference.completed, "SWAPS_IN": reference.swaps_in,
        "SWAPS_OUT": reference.swaps_out, "BYTES_IN": reference.bytes_in, "BYTES_OUT": reference.bytes_out,
        "BLOCKS": len(reference.policy.blocks), "QUEUE": len(reference.line), "IMAGES": len(reference.images),
        "IMAGE_BYTES": sum(reference.images.values()), "PASSES": reference.passes,
        "BLOCKS_MOVED": reference.blocks_moved, "MOVED": reference.granules_moved, "LONGEST_PASS": reference.longest,
        "PASSES_REFUSED": reference.refused, "ALLOCATED": reference.allocated,
        "WORKING": sum(process.doing == "working" for process in reference.processes),
    }  # fmt: skip
    assert counts[c.FAILED] == reference.dropped
    assert counts[c.DELAYED : c.DELAYED + 5].tolist() == list(reference.delayed.values())
    slow = np.flatnonzero(engine.crowd.slowdowns[0]).tolist()
    assert {b: int(engine.crowd.slowdowns[0, b]) for b in slow} == reference.slowdowns
    waits = {}
    for time, kind, number, _ in reference.log:
        if kind == "place":
            wait = max((time - reference.processes[number].arrival) / WAIT_UNIT, 1.0)
            waits[floor(64 * log2(wait))] = waits.get(floor(64 * log2(wait)), 0) + 1
    waited = np.flatnonzero(engine.crowd.waits[0]).tolist()
    assert {b: int(engine.crowd.waits[0, b]) for b in waited} == waits
    assert integrals[[
        c.DURATION, c.I_BLOCKS, c.I_WORKING, c.I_QUEUE, c.I_IMAGES, c.I_BUSY, c.WAITED, c.WAITED_AGAIN, c.SLOWDOWN
    ]].tolist() == pytest.approx([
        reference.now, reference.block_time, reference.working_time, reference.line_time, reference.image_time,
        reference.busy_time, reference.waited_new, reference.waited_returning, reference.slowdown,
    ])  # fmt: skip
    assert engine.crowd.clock[0, 0] == reference.now


def crowd(rng, count, most, whole, gap=1.0):
    """More than there is room for, at times that are all different or often the same."""
    scale = np.floor if whole else np.asarray
    arrivals = scale(np.cumsum(rng.exponential(gap, count))).tolist()
    sizes = rng.integers(0, most + 1, count).tolist()
    return [
        (
            arrival,
            size,
            max(size, 1),
            float(rng.integers(3)),
            [tuple(scale(rng.exponential([2.0, 8.0])).tolist()) for _ in range(rng.integers(1, 5))],
        )
        for arrival, size in zip(arrivals, sizes, strict=True)
    ]


@st.composite
def settings_for(draw, label):
    remedies = [["swap"], ["swap"], ["swap", "compact"], ["compact", "swap"], ["compact"], []]
    if label.startswith("static"):
        remedies = [["swap"], []]
    chosen = draw(st.sampled_from(remedies))
    return {
        "disk": draw(st.sampled_from([(0.0, float("inf")), (0.0, 2.0), (0.5, 7.0), (0.0, 7.0)])),
        "remedies": chosen,
        "how": "slide" if label.startswith("buddy") else draw(st.sampled_from(["slide", "first-window", "two-finger"])),
        "budget": draw(st.sampled_from([None, 1.5, 4.0])),
        "pinned": draw(st.sets(st.integers(0, 11))),
        "victim": draw(st.sampled_from(RULES)),
        "swap_space": draw(st.sampled_from([None, None, 6, 15])),
        "relocate": draw(st.booleans()) if chosen == ["swap"] else True,
        "load": draw(st.booleans()) if "swap" in chosen else False,
    }


@pytest.mark.skipif(JIT, reason="the same paths as the crowds, too many decisions to step through compiled kernels")
@pytest.mark.parametrize("label", VARIANTS)
@given(data=st.data(), seed=st.integers(0, 2**32), whole=st.booleans())
def test_every_operation(label, data, seed, whole):
    processes = crowd(np.random.default_rng(seed), 30, 6, whole)
    with pytest.MonkeyPatch.context() as patch:
        follow(label, processes, data.draw(settings_for(label)), patch, seed)


PLAIN = {
    "disk": (0.1, 30.0), "remedies": ["swap"], "how": "slide", "budget": None, "pinned": (), "victim": "lru",
    "swap_space": None, "relocate": True, "load": False,
}  # fmt: skip


@pytest.mark.parametrize("label", COMPILED)
@pytest.mark.parametrize("victim", RULES)
@pytest.mark.parametrize("relocate", [True, False])
def test_crowds(label, victim, relocate, monkeypatch):
    """More than twice as many processes as there are slots, lines and nodes to begin with."""
    processes = crowd(np.random.default_rng(8), 300, 4, False, 0.3)
    engine, reference = follow(label, processes, PLAIN | {"victim": victim, "relocate": relocate}, monkeypatch)
    assert reference.swaps_out > 100 and reference.swaps_in > 50
    assert engine.crowd.slots.shape[2] > SLOTS


@pytest.mark.parametrize("label", [label for label in COMPILED if not label.startswith("static")])
@pytest.mark.parametrize("remedies", [["compact", "swap"], ["swap", "compact"]])
def test_crowds_that_are_moved_too(label, remedies, monkeypatch):
    processes = crowd(np.random.default_rng(9), 200, 5, False)
    settings = PLAIN | {"remedies": remedies, "pinned": range(0, 200, 9), "budget": 3.0}
    _, reference = follow(label, processes, settings, monkeypatch)
    assert reference.swaps_out > 50 and reference.passes > 0


def test_a_line_that_is_too_long_is_unstable(monkeypatch):
    processes = crowd(np.random.default_rng(3), 90, 5, False)
    _, reference = follow("best-fit", processes, PLAIN | {"queue_limit": 20, "disk": (5.0, 1.0)}, monkeypatch)
    assert reference.unstable


def test_a_swap_takes_latency_and_size_over_bandwidth():
    """Gallery W1: 10 MB at 40 MB/s and 8 ms are 258 ms each way; and back again, 516 ms."""
    processes = [(0.0, 10**7, 10**7, 0.0, [(1.0, 5.0), (1.0, 0.0)]), (2.0, 10**7, 10**7, 0.0, [(1.0, 0.0)])]
    plan = make_plan("first-fit", 10**7, 1)
    engine = Swapping(plan, [Listed(processes, words_of(0))], (Swap("lru", 0.008, 40e6),), 1.0, 100)
    engine.run_until(2)
    assert engine.now[0] == 2.258
    engine.run_until(3, 6.9)
    counts, integrals = engine.ledger.counts[0], engine.ledger.integrals[0]
    assert (counts[c.SWAPS_OUT], counts[c.SWAPS_IN], counts[c.COMPLETED]) == (1, 1, 2)
    assert integrals[c.I_BUSY] == pytest.approx(0.516)
    assert integrals[c.SLOWDOWN] == pytest.approx(7.258 / 7 + 1.258)


def test_doubling_quanta_are_few_swaps():
    """Gallery W1: a program of 30 quanta that runs for 1, 2, 4, 8 and 15 of them is read five times, with its first."""
    job = (0.0, 4, 4, 0.0, [(1.0, 100.0), (2.0, 100.0), (4.0, 100.0), (8.0, 100.0), (15.0, 0.0)])
    others = [(50.0 + 100 * k, 4, 4, 0.0, [(1.0, 0.0)]) for k in range(4)]
    plan = make_plan("first-fit", 4, 1)
    swap = Swap("lru", 0.0, float("inf"), load=True)
    engine = Swapping(plan, [Listed([job, *others], words_of(0))], (swap,), 1.0, 100)
    engine.run_until(6, 1000.0)
    counts = engine.ledger.counts[0]
    assert counts[c.COMPLETED] == 5
    assert counts[c.SWAPS_IN] - len(others) == 5 and counts[c.SWAPS_OUT] == 4
