"""The order of events, one by one, against a heap of deaths in plain Python."""

import hashlib
import heapq
import subprocess
import sys
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from studies import PEAK

from vecalloc.workload import order
from vecalloc.workload.order import Ordering
from vecalloc.workload.requests import Births

NO_MARKS = np.zeros((1, 0), np.int64)


def births_from(times, deaths, requested, lengths, groups=1):
    """Births of all replicas, (replicas, requests + 1) times and so on, cut into chunks of these lengths."""
    begin = 0
    for length in lengths:
        here = slice(begin, begin + length)
        extents = np.stack([requested[:, here] // (g + 1) + 1 for g in range(groups)])
        yield Births(times[:, begin : begin + length + 1].copy(), deaths[:, here], requested[:, here], extents)
        begin += length


def expected_of(times, deaths, requested):
    """Events of one replica: (request, time, bytes, negative in a free)."""
    events, living = [], []
    for number, now in enumerate(times):
        while living and living[0][0] <= now:
            death, dead = heapq.heappop(living)
            events.append((dead, death, -requested[dead]))
        if number < len(deaths):
            events.append((number, now, requested[number]))
            if deaths[number] < float("inf"):
                heapq.heappush(living, (deaths[number], number))
    return events


class Reader:
    """Reads stretches as `expected_of` writes them, and looks after slots and marks."""

    def __init__(self, replicas, groups, marks):
        self.events = [[] for _ in range(replicas)]
        self.live = [{} for _ in range(replicas)]
        self.born = [0] * replicas
        self.marks = [{} for _ in range(replicas)]
        self.groups, self.asked = groups, marks
        self.ends = [[] for _ in range(replicas)]

    def read(self, stretch):
        for r, events in enumerate(self.events):
            count = int(stretch.counts[r])
            for mark, place in enumerate(stretch.marks[r].tolist()):
                if place >= 0:
                    assert place <= count
                    self.marks[r].setdefault(int(self.asked[r, mark]), set()).add(len(events) + place)
            for n in range(count):
                slot, requested = int(stretch.slot[r, n]), int(stretch.requested[r, n])
                extents = stretch.extents[:, r, n].tolist()
                if extents[0] > 0:
                    assert slot not in self.live[r], "two blocks in one slot"
                    self.live[r][slot] = self.born[r]
                    request = self.born[r]
                    self.born[r] += 1
                else:
                    request = self.live[r].pop(slot)
                sign = 1 if extents[0] > 0 else -1
                assert extents == [sign * (abs(requested) // (g + 1) + 1) for g in range(self.groups)]
                events.append((request, float(stretch.time[r, n]), requested))
            self.ends[r].append(float(stretch.time[r, count]))


def compare(times, deaths, requested, lengths, stretch, groups=1, marks=None, ordering=None):
    """Order births in chunks of these lengths and stretches of so many; return the ordering."""
    replicas = len(times)
    marks = np.zeros((replicas, 0), np.int64) if marks is None else marks
    reader = Reader(replicas, groups, marks)
    with patch.object(order, "STRETCH", stretch):
        ordering = ordering or Ordering(replicas, groups, marks)
        for births in births_from(times, deaths, requested, lengths, groups):
            for each in ordering.stretches(births):
                reader.read(each)
    for r in range(replicas):
        expected = expected_of(times[r].tolist(), deaths[r].tolist(), requested[r].tolist())
        assert reader.events[r] == expected
        assert reader.ends[r][-1] == times[r, -1]
        where = {event[0]: n for n, event in reversed(list(enumerate(expected)))}  # the first of a request is its birth
        where[len(deaths[r])] = len(expected)
        assert reader.marks[r] == {mark: {where[mark]} for mark in marks[r].tolist() if mark in where}
    return ordering


GAPS = {
    "whole": st.integers(0, 2).map(float),
    "all at once": st.just(0.0),
    "fine": st.floats(1e-30, 1e-3),
    "any": st.floats(1e-9, 1e6),
}
LIVES = {
    "whole": st.integers(0, 5).map(float),
    "none": st.just(0.0),
    "fine": st.floats(1e-30, 1e-2),
    "any": st.floats(1e-9, 1e7),
    "for ever": st.just(float("inf")),
}


@st.composite
def histories(draw):
    lengths = draw(st.lists(st.integers(1, 25), min_size=1, max_size=4))
    count, replicas = sum(lengths), draw(st.integers(1, 3))
    gaps = st.one_of(*(GAPS[kind] for kind in draw(st.sets(st.sampled_from(sorted(GAPS)), min_size=1))))
    lives = st.one_of(*(LIVES[kind] for kind in draw(st.sets(st.sampled_from(sorted(LIVES)), min_size=1))))

    def table(values, columns):
        row = st.lists(values, min_size=columns, max_size=columns)
        return np.array(draw(st.lists(row, min_size=replicas, max_size=replicas)))

    times = np.cumsum(np.hstack([np.zeros((replicas, 1)), table(gaps, count)]), axis=1)
    deaths = times[:, :-1] + table(lives, count)
    requested = table(st.integers(0, 100), count).astype(np.int64)
    marks = np.sort(table(st.integers(0, count + 2), draw(st.integers(1, 3))).astype(np.int64), axis=1)
    return times, deaths, requested, lengths, draw(st.sampled_from([1, 3, 8, 64])), draw(st.integers(1, 2)), marks


@pytest.mark.jitless
@given(histories())
def test_as_plain_python(history):
    compare(*history)


@pytest.mark.jitless
@given(histories(), histories())
def test_the_same_memory_serves_other_replicas(one, other):
    """All but the names of slots is as if nothing had been there before."""
    replicas, groups = min(len(one[0]), len(other[0])), min(one[5], other[5])

    def cut(times, deaths, requested, lengths, stretch, _, marks):
        return *(table[:replicas] for table in (times, deaths, requested)), lengths, stretch, groups, marks[:replicas]

    one, other = cut(*one), cut(*other)
    used = compare(*one)
    used.start(other[6])
    compare(*other, ordering=used)


def drawn(count, live, seed=0, replicas=1):
    rng = np.random.default_rng(seed)
    times = np.cumsum(np.hstack([np.zeros((replicas, 1)), rng.exponential(1.0, (replicas, count))]), axis=1)
    deaths = times[:, :-1] + rng.exponential(live, (replicas, count))
    return times, deaths, rng.integers(0, 1000, (replicas, count))


@pytest.mark.parametrize("live", [0.01, 1, 30, 1000, 20_000])
def test_many_requests(live):
    ordering = compare(*drawn(40_000, live), [16384, 16384, 7232], 512, marks=np.array([[0, 5, 16384, 39_999, 40_000]]))
    # As many slots as live at once and a stretch bears, doubled until they are enough.
    assert ordering.slots <= 2 * (1.2 * live + 200 + max(512, live / 2)) + 2 * 512


def test_default_stretches():
    ordering = compare(*drawn(50_000, 100, replicas=3), [16384, 16384, 16384, 848], order.STRETCH)
    assert ordering.slots == 2 * order.STRETCH


@pytest.mark.jitless
@pytest.mark.parametrize("spread", [0.0, 1e-9, 1e-3])
@pytest.mark.parametrize("order_of_deaths", ["rising", "falling", "mixed"])
def test_a_burst(spread, order_of_deaths):
    """A whole phase dies in one bucket, sorted by a heap; equal deaths go in the order of births."""
    count = 300
    rank = {"rising": np.arange(count), "falling": np.arange(count)[::-1], "mixed": np.arange(count) * 7 % 11}
    times = np.append(np.arange(count) / count, [50.0, 1000.0])[None]
    deaths = np.append(2.0 + spread * rank[order_of_deaths], 60.0)[None]
    requested = np.arange(count + 1)[None]
    compare(times, deaths, requested, [count + 1], 1024)
    compare(times, deaths, requested, [100, 101, 100], 50)


@pytest.mark.parametrize("end", [5e-324, 1e-308, 1e-300, 1e300])
def test_extreme_times(end):
    """The width of a bucket may be no number."""
    times = np.array([[0.0, 0.0, 0.0, end, end, end]])
    deaths = np.array([[0.0, end, np.inf, end, 1.5 * end]])
    for lengths in ([5], [1, 4], [2, 1, 2]):
        compare(times, deaths, np.arange(5)[None], lengths, 8)


@example(0)
@given(st.integers(0, 2**32))
def test_far_and_near(seed):
    """Lives of very different length: what is far comes near in time, and equal deaths keep the order of births."""
    rng = np.random.default_rng(seed)
    count = 2000
    times = np.floor(np.cumsum(np.append(0.0, rng.exponential(rng.choice([0.1, 1.0, 30.0]), count))))[None]
    lives = np.floor(10.0 ** rng.uniform(0, 4, count))[None]
    compare(times, times[:, :-1] + lives, rng.integers(0, 9, (1, count)), [700, 900, 400], int(rng.choice([16, 100])))


def test_golden_order():
    """Slots are part of what is replayed: whoever changes their order raises REVISION of workload.requests."""
    times, deaths, requested = drawn(30_000, 300.0, seed=1)
    digest = hashlib.sha256()
    ordering = Ordering(1, 1, NO_MARKS)
    for births in births_from(times, np.floor(deaths), requested, [16384, 13616]):
        for stretch in ordering.stretches(births):
            for column in (stretch.slot, stretch.requested, stretch.extents[0], stretch.time):
                digest.update(column[0, : stretch.counts[0]].tobytes())
    found = digest.hexdigest()[:16]
    assert found == "f3ccb20aa74a76d0", "the order of events has changed: raise REVISION in workload/requests.py"


MEMORY = """
import sys
import numpy as np
from vecalloc.workload.order import Ordering
from vecalloc.workload.requests import Requests, births_of, workload_of

requests = int(sys.argv[1])
workload = workload_of({"sizes": {"dist": "expon", "scale": 100}, "lifetimes": {"dist": "expon"}, "rate": 100})
ordering, room = Ordering(1, 1, np.zeros((1, 0), np.int64)), {}
source = Requests(workload, 100.0, 1, 0, requests)
events = 0
while source.at_hand:
    for stretch in ordering.stretches(births_of([source], 16, [(0, 1)], room)):
        events += int(stretch.counts[0])
print(events, ordering.slots, PEAK)
""".replace("PEAK", PEAK)


def test_memory_does_not_grow_with_requests():
    (events, slots, few), (more_events, more_slots, many) = (
        map(
            int,
            subprocess.run([sys.executable, "-c", MEMORY, str(count)], capture_output=True, check=True).stdout.split(),
        )
        for count in (200_000, 5_000_000)
    )
    assert 25 * (events - 1000) < more_events <= 2 * 5_000_000
    assert more_slots == slots
    assert many - few < 8 << 10, "KiB: 160 MB of requests have left more than 8 MiB behind"
    assert many < 1 << 20
