"""The calendar: which block dies next, exactly, at a price that does not grow with how many live.

A timing wheel of wheels. A time becomes a whole *tick* (monotone, so order is kept), written with digits of base 256;
an entry hangs in the list of level L and digit d when L is the highest digit in which its tick differs from NOW, and d
is what it has there:

    NOW  = 3 . 7 . 2          level 2 | . . . .[5] . .     an entry at 5.0.1: 5 > 3 on level 2
    tick = 3 . 7 . 6          level 1 | . . . . . . .
                              level 0 | . . . . .[6].      an entry at 3.7.6

Whatever hangs on a lower level comes first, and within a level the smallest digit: the next list is found by two bit
scans. Opening a list of level 0 makes it *due*: its entries are sorted by (time, alloc number), so that the order is
that of the exact times however coarse the ticks are. Opening a higher one spreads it over the levels below; an entry is
moved at most once a level. Sources: Varghese and Lauck (1987), hierarchical timing wheels; Ahuja et al. (1990), radix
heaps.

The caller never asks for what lies beyond a time before which he may still add: NOW stays at or before all that comes.
"""

from typing import NamedTuple

import numpy as np

from vecalloc.kernel import inline, outline, rows
from vecalloc.mechanisms.bits import at, bit, highest, lowest
from vecalloc.mechanisms.bitset import Bitset, discard, first, insert, new_bitset, pick_bitset
from vecalloc.mechanisms.replicas import widened

_DIGIT = 8
"""Bits of a digit: 256 lists a level, so that a million live blocks are two or three levels away."""

_LEVELS = 7
_LAST_TICK = (1 << (_DIGIT * _LEVELS)) - 1
"""What comes later, up to never, shares this tick: it is sorted when the time comes."""

_FEW = 24
"""Up to here insertion sorts a list of entries faster than a heap does."""

# --- columns of `places`, int64 (replicas, 4) ---

_NOW, _OCCUPIED, _DUE, _DUE_END = range(4)
"""The tick that was opened last; bit L is set when level L has entries; what is left of the due list."""


class Calendar(NamedTuple):
    """Entries of one replica, or of many with a leading replica axis; an entry is named by the slot of its block.

    Attributes
    ----------
    heads : int32 (replicas, levels * lists)
        First entry of each list, plus one; 0: empty.
    occupied : Bitset
        Which lists of each level are not empty.
    link : int32 (replicas, slots)
        Next entry of the same list, plus one.
    time : float64 (replicas, slots)
    number : int64 (replicas, slots)
        The order among equal times.
    due : int32 (replicas, slots)
        The opened list in order.
    places : int64 (replicas, 4)
    rate : float64 (replicas,)
        Ticks a unit of time.
    """

    heads: np.ndarray
    occupied: Bitset
    link: np.ndarray
    time: np.ndarray
    number: np.ndarray
    due: np.ndarray
    places: np.ndarray
    rate: np.ndarray


def new_calendar(replicas: int, slots: int, rate: float) -> Calendar:
    """Return empty calendars for so many slots; `rate` ticks a unit of time: best a few for each entry that dies."""
    return Calendar(
        heads=np.zeros((replicas, _LEVELS << _DIGIT), np.int32),
        occupied=new_bitset(replicas, *[1 << _DIGIT] * _LEVELS),
        link=np.zeros((replicas, slots), np.int32),
        time=np.zeros((replicas, slots), np.float64),
        number=np.zeros((replicas, slots), np.int64),
        due=np.zeros((replicas, slots), np.int32),
        places=np.zeros((replicas, 4), np.int64),
        rate=np.full(replicas, rate, np.float64),
    )


def extend_calendar(old: Calendar, slots: int) -> Calendar:
    """Return the same calendars with room for more slots."""
    by_slot = {name: getattr(old, name) for name in ("link", "time", "number", "due")}
    return old._replace(**{name: widened(array, slots) for name, array in by_slot.items()})


@rows
def pick_calendar(calendars, r):
    """Replica r's rows (`rate` keeps its axis: a row of one)."""
    return Calendar(
        calendars.heads[r],
        pick_bitset(calendars.occupied, r),
        calendars.link[r],
        calendars.time[r],
        calendars.number[r],
        calendars.due[r],
        calendars.places[r],
        calendars.rate[r : r + 1],
    )


@inline
def _tick(calendar, time):
    ticks = time * calendar.rate[0]
    return np.int64(ticks) if ticks < np.float64(_LAST_TICK) else np.int64(_LAST_TICK)


@inline
def schedule(calendar, slot, time, number):
    """Enter that the block in `slot` dies at `time`, not before what was due last; `number` orders it among equals."""
    calendar.time[at(slot)] = time
    calendar.number[at(slot)] = number
    tick = _tick(calendar, time)
    places = calendar.places
    if tick == places[_NOW] and places[_DUE] < places[_DUE_END]:
        _enter_due(calendar, slot)
    else:
        _hang(calendar, slot, tick)


@inline
def _hang(calendar, slot, tick):
    """Put an entry into the list of its tick, seen from NOW."""
    places = calendar.places
    level = highest((tick ^ places[_NOW]) | 1) // _DIGIT
    digit = (tick >> (level * _DIGIT)) & ((1 << _DIGIT) - 1)
    h = (level << _DIGIT) + digit
    head = calendar.heads[at(h)]
    calendar.link[at(slot)] = head
    calendar.heads[at(h)] = slot + 1
    if head == 0:
        insert(calendar.occupied, level, digit)
        places[_OCCUPIED] |= bit(level)


@inline
def next_due(calendar, until):
    """Take out the entry that is due first and give its slot; -1 if none is due up to and including time `until`."""
    places = calendar.places
    while places[_DUE] == places[_DUE_END]:
        if places[_OCCUPIED] == 0 or not _open(calendar, _tick(calendar, until)):
            return np.int64(-1)
    slot = np.int64(calendar.due[at(places[_DUE])])
    if calendar.time[at(slot)] > until:
        return np.int64(-1)
    places[_DUE] += 1
    return slot


@inline
def _open(calendar, last):
    """Open the next list unless it begins after tick `last`."""
    places = calendar.places
    level = lowest(places[_OCCUPIED])
    digit = first(calendar.occupied, level)
    shift = level * _DIGIT
    tick = (((places[_NOW] >> shift) >> _DIGIT) << _DIGIT | digit) << shift
    if tick > last:
        return False
    places[_NOW] = tick
    h = (level << _DIGIT) + digit
    entry = np.int64(calendar.heads[at(h)])
    calendar.heads[at(h)] = 0
    if discard(calendar.occupied, level, digit):
        places[_OCCUPIED] &= ~bit(level)
    if level == 0:
        _fill_due(calendar, entry)
        return True
    while entry > 0:
        after = np.int64(calendar.link[at(entry - 1)])
        _hang(calendar, entry - 1, _tick(calendar, calendar.time[at(entry - 1)]))
        entry = after
    return True


@inline
def _fill_due(calendar, entry):
    """Make a list due, in order."""
    places = calendar.places
    places[_DUE] = 0
    places[_DUE_END] = 0
    count = 0
    while entry > 0:
        slot = entry - 1
        entry = np.int64(calendar.link[at(slot)])
        count += 1
        if count <= _FEW:
            _enter_due(calendar, slot)
        else:
            calendar.due[at(places[_DUE_END])] = slot
            places[_DUE_END] += 1
    if count > _FEW:
        _sort_due(calendar, count)


@inline
def _before(calendar, one, other):
    """Whether one entry comes before another."""
    t, u = calendar.time[at(one)], calendar.time[at(other)]
    return t < u or (t == u and calendar.number[at(one)] < calendar.number[at(other)])


@inline
def _enter_due(calendar, slot):
    """Put an entry into its place in the due list."""
    places, due = calendar.places, calendar.due
    if places[_DUE_END] == len(due):  # what has been taken out makes room: there are no more entries than slots
        _shift_due(calendar)
    i = places[_DUE_END]
    while i > places[_DUE] and _before(calendar, slot, np.int64(due[at(i - 1)])):
        due[at(i)] = due[at(i - 1)]
        i -= 1
    due[at(i)] = slot
    places[_DUE_END] += 1


@outline
def _shift_due(calendar):
    places, due = calendar.places, calendar.due
    for i in range(places[_DUE], places[_DUE_END]):
        due[i - places[_DUE]] = due[i]
    places[_DUE_END] -= places[_DUE]
    places[_DUE] = 0


@outline
def _sort_due(calendar, count):
    """Heapsort: a whole phase may die at once, in any order."""
    due = calendar.due
    for start in range(count // 2 - 1, -1, -1):
        _sift(calendar, start, count)
    for end in range(count - 1, 0, -1):
        due[0], due[end] = due[end], due[0]
        _sift(calendar, 0, end)


@outline
def _sift(calendar, i, end):
    """Let the entry at i sink below all that come after it."""
    due = calendar.due
    entry = np.int64(due[i])
    while True:
        child = 2 * i + 1
        if child >= end:
            break
        if child + 1 < end and _before(calendar, np.int64(due[child]), np.int64(due[child + 1])):
            child += 1
        if not _before(calendar, entry, np.int64(due[child])):
            break
        due[i] = due[child]
        i = child
    due[i] = entry
