"""The calendar against a heap: what is due comes out in the exact order of times, and of numbers among equals."""

import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecalloc.kernel import kernel
from vecalloc.mechanisms.calendar import extend_calendar, new_calendar, next_due, pick_calendar, schedule

pytestmark = pytest.mark.jitless


@kernel
def enter(calendars, replica, slots, times, numbers):
    """Schedule blocks."""
    calendar = pick_calendar(calendars, replica)
    for i in range(len(slots)):
        schedule(calendar, slots[i], times[i], numbers[i])


@kernel
def take(calendars, replica, until, most, due):
    """Write what is due up to a time, at most so much; return how much that was."""
    calendar = pick_calendar(calendars, replica)
    for i in range(most):
        slot = next_due(calendar, until)
        if slot < 0:
            return i
        due[i] = slot
    return most


class Both:
    """A calendar and a heap that are asked the same."""

    def __init__(self, rate, slots=4, replicas=2):
        self.calendar = new_calendar(replicas, slots, rate)
        self.slots = slots
        self.heaps = [[] for _ in range(replicas)]
        self.spare = [list(range(slots)) for _ in range(replicas)]
        self.number = 0

    def enter(self, r, times):
        while len(self.spare[r]) < len(times):
            self.calendar = extend_calendar(self.calendar, 2 * self.slots)
            for spare in self.spare:
                spare.extend(range(self.slots, 2 * self.slots))
            self.slots *= 2
        slots = [self.spare[r].pop() for _ in times]
        numbers = list(range(self.number, self.number + len(times)))
        self.number += len(times)
        for entry in zip(times, numbers, slots, strict=True):
            heapq.heappush(self.heaps[r], entry)
        enter(self.calendar, r, np.array(slots, np.int64), np.array(times, float), np.array(numbers, np.int64))

    def take(self, r, until, most):
        """Take what is due, at most so much; return the time of the last one, or `until` if there was no more."""
        heap, due = self.heaps[r], np.zeros(most, np.int64)
        count = take(self.calendar, r, until, most, due)
        last = until
        for slot in due[:count].tolist():
            time, _, expected = heapq.heappop(heap)
            assert slot == expected
            assert time <= until
            assert self.calendar.time[r, slot] == time
            self.spare[r].append(slot)
            last = time
        assert count == most or not heap or heap[0][0] > until
        return last if count == most else until


GAPS = st.one_of(st.integers(0, 3).map(float), st.floats(1e-6, 1e-3), st.floats(1e-6, 1e6), st.just(0.0))
LIVES = st.one_of(
    st.just(0.0), st.integers(0, 6).map(float), st.floats(1e-9, 1e-3), st.floats(1e-3, 1e9), st.just(1e300)
)
MOMENTS = st.lists(st.tuples(st.integers(0, 1), GAPS, st.lists(LIVES, max_size=5), st.integers(1, 9)), max_size=30)


@given(MOMENTS, st.sampled_from([1e-6, 0.1, 1.0, 7.3, 1e6]))
def test_as_a_heap(moments, rate):
    """Time goes on to the next moment, or as far as what is taken out; then blocks are entered."""
    both = Both(rate)
    now = [0.0, 0.0]
    for r, gap, lives, most in moments:
        now[r] = both.take(r, now[r] + gap, most)
        both.enter(r, [now[r] + life for life in lives])
    for r in range(2):
        both.take(r, np.inf, len(both.heaps[r]) + 1)
        assert not both.heaps[r]


@pytest.mark.parametrize("count", [20, 24, 25, 26, 300])
@pytest.mark.parametrize("spread", [0.0, 1e-6])
def test_many_due_in_one_tick(count, spread):
    """Short lists are sorted as they are filled, long ones by a heap."""
    both = Both(1.0, slots=count)
    both.enter(0, [5.0 + spread * (k * 7 % 11) for k in range(count)])
    both.take(0, 4.0, count)
    both.take(0, 5.0 + 3e-6, count)
    both.enter(0, [5.0 + 1e-5, 5.0 + 4e-6, 6.0])  # into the list that is being taken out
    both.take(0, 5.5, 2 * count)
    both.take(0, np.inf, 2 * count)
    assert not both.heaps[0]


def test_a_full_list_shifts():
    """All slots are in the due list when one is taken out and entered again: there is room at its front only."""
    both = Both(1.0, slots=8)
    both.enter(0, [1.0 + 0.01 * k for k in range(8)])
    now = 0.0
    for k in range(40):
        now = both.take(0, 1.5, 1)
        both.enter(0, [min(now + 0.09, 1.49 + 0.0001 * k)])
    both.take(0, np.inf, 9)
    assert both.slots == 8


def test_what_never_dies_comes_last():
    both = Both(10.0)
    both.enter(0, [np.inf, 3.0, 1e200, np.inf])
    both.take(0, 1e100, 9)
    both.enter(0, [1e150, 1e250])
    both.take(0, 1e300, 9)
    assert len(both.heaps[0]) == 2
    both.take(0, np.inf, 9)
    assert not both.heaps[0]


def test_a_long_life_of_short_lives():
    """Every level is passed, by far and by near entries."""
    rng = np.random.default_rng(0)
    both = Both(3.0, slots=64)
    now = 0.0
    for gap in rng.exponential(1.0, 300) * 10.0 ** rng.integers(-2, 5, 300):
        now = both.take(0, now + gap, 1000)
        both.enter(0, (now + rng.exponential(1.0, 3) * 10.0 ** rng.integers(-2, 7, 3)).tolist())
    both.take(0, np.inf, 1000)
    assert not both.heaps[0]
