"""From requests to events: the births of a replica, and the deaths of what was born, in one exact order.

    births   t0      t1  t2          t3 | next stretch         a request is born and, whatever becomes of it,
    deaths       d0          d2   d1    |                      dies a lifetime later
    events   +0  -0  +1  +2  -2   -1  +3 ...

This is done once for all policies of a cell: in the models *drop*, *grow* and *stop* nothing that a policy does changes
the order. Only deaths need sorting, for births come in order: they wait in the calendar until the birth they precede. At
equal times deaths come before births, and among themselves in the order of the allocs.

A *stretch* ends just before a birth, with all deaths up to it behind, so that it knows how long its last state lasts.
Deaths that are still to come stay in the calendar; slots are used again. So a replica needs memory for what lives at
once, however long it runs.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecalloc.kernel import inline, kernel, outline
from vecalloc.mechanisms.bits import at
from vecalloc.mechanisms.calendar import (
    Calendar,
    extend_calendar,
    new_calendar,
    next_due,
    pick_calendar,
    put_back,
    schedule,
)
from vecalloc.trace import Events
from vecalloc.workload.requests import Births


class Living(NamedTuple):
    """What has been born and has not died: its size by slot, and the slots that are free (a stack)."""

    requested: np.ndarray
    extents: np.ndarray
    spare: np.ndarray


class Stretch(NamedTuple):
    """Events of all replicas, ready for the policies.

    Attributes
    ----------
    slot, requested, extents, time : arrays
        As in `Events`, with a leading axis of groups for the extents.
    counts : int64 (replicas,)
        How many events each replica has.
    marks : int64 (replicas, marks)
        Where a replica stands just before the birth of a marked request, all deaths up to it behind; -1: not here.
    """

    slot: NDArray[np.int32]
    requested: NDArray[np.int64]
    extents: NDArray[np.int64]
    time: NDArray[np.float64]
    counts: NDArray[np.int64]
    marks: NDArray[np.int64]

    def events(self, group: int = 0) -> Events:
        """The events as policies of one group see them."""
        return Events(self.slot, self.requested, self.extents[group], self.time)


# --- columns of a cursor, int64 (replicas, 6) ---

_BIRTH, _UNTIL, _NUMBER, _SPARE, _EVENTS, _REASON = range(6)
"""The next birth of the chunk; the birth before which the stretch ends; requests born so far; free slots; events in the
stretch; why the kernel left the replica."""

_DONE, _FULL, _NEEDS_SLOTS = range(3)


class Ordering:
    """Puts the requests of some replicas in order, stretch by stretch.

    Parameters
    ----------
    replicas, groups : int
    rate : float
        Requests a unit of time, roughly: it sets the width of the calendar's ticks and has no effect on the order.
    marks : int64 (replicas, marks)
        Requests before whose birth somebody wants to look, increasing in each row.
    length : int
        Events of a stretch, at most.
    """

    def __init__(self, replicas: int, groups: int, rate: float, marks: NDArray[np.int64], length: int = 8192):
        slots = 64
        self.slots = slots
        self._calendars: Calendar = new_calendar(replicas, slots, 2 * rate)
        self._living = Living(
            np.zeros((replicas, slots), np.int64),
            np.zeros((groups, replicas, slots), np.int64),
            np.tile(np.arange(slots, dtype=np.int32)[::-1], (replicas, 1)),
        )
        self._cursors = np.zeros((replicas, 6), np.int64)
        self._cursors[:, _SPARE] = slots
        self._marks = marks
        self._out = Stretch(
            np.zeros((replicas, length), np.int32),
            np.zeros((replicas, length), np.int64),
            np.zeros((groups, replicas, length), np.int64),
            np.zeros((replicas, length + 1), np.float64),
            np.zeros(replicas, np.int64),
            np.zeros_like(marks),
        )

    def stretches(self, births: Births, length: int = 4096) -> Iterator[Stretch]:
        """Order a chunk of births.

        Parameters
        ----------
        births : Births
            The next requests of every replica.
        length : int
            Births of a stretch, at most.

        Yields
        ------
        Stretch
            Overwritten by the next one.
        """
        count = births.requested.shape[1]
        self._cursors[:, _BIRTH] = 0
        for until in [*range(length, count, length), count]:
            self._cursors[:, _UNTIL] = until
            while True:
                yield self._fill(births)
                if not (self._cursors[:, _REASON] == _FULL).any():
                    break

    def _fill(self, births: Births) -> Stretch:
        self._cursors[:, _EVENTS] = 0
        self._out.marks[:] = -1
        while True:
            arguments = (births, self._living, self._calendars, self._out, self._cursors, self._marks)
            _order(*arguments, len(self._cursors))
            if not (self._cursors[:, _REASON] == _NEEDS_SLOTS).any():
                self._out.counts[:] = self._cursors[:, _EVENTS]
                return self._out
            self._extend()

    def _extend(self) -> None:
        """Twice as many slots; the new ones lie under those that are free."""
        old, self.slots = self.slots, 2 * self.slots
        self._calendars = extend_calendar(self._calendars, self.slots)

        def wider(array: np.ndarray) -> np.ndarray:
            return np.concatenate([array, np.zeros_like(array)], axis=-1)

        spare = np.zeros((len(self._cursors), self.slots), np.int32)
        spare[:, :old] = np.arange(self.slots - 1, old - 1, -1, dtype=np.int32)
        spare[:, old:] = self._living.spare
        self._living = Living(wider(self._living.requested), wider(self._living.extents), spare)
        self._cursors[:, _SPARE] += old


@kernel
def _order(births, living, calendars, out, cursors, marks, replicas):  # type: ignore[no-untyped-def]
    """Write events until each replica is at the end of its stretch or has to stop."""
    for r in range(replicas):
        calendar = pick_calendar(calendars, r)
        row = Births(births.time[r], births.death[r], births.requested[r], births.extents)
        alive = Living(living.requested[r], living.extents, living.spare[r])
        stretch = Stretch(out.slot[r], out.requested[r], out.extents, out.time[r], out.counts, out.marks[r])
        _order_one(r, row, alive, calendar, stretch, cursors[r], marks[r])


@inline
def _order_one(r, births, living, calendar, out, cursor, marks):  # type: ignore[no-untyped-def]
    """The same for one replica's rows (the extents keep their axes)."""
    room = len(out.slot)
    groups = len(births.extents)
    number = cursor[_NUMBER]
    mark = 0
    while mark < len(marks) and marks[mark] < number:
        mark += 1
    n = cursor[_EVENTS]
    i = cursor[_BIRTH]
    until = cursor[_UNTIL]
    left = cursor[_SPARE]
    reason = _DONE
    while True:
        now = births.time[at(i)]
        while n < room:
            slot = next_due(calendar, now)
            if slot < 0:
                break
            out.slot[at(n)] = slot
            out.requested[at(n)] = -living.requested[at(slot)]
            out.time[at(n)] = calendar.time[at(slot)]
            for g in range(groups):
                out.extents[g, r, at(n)] = -living.extents[g, r, at(slot)]
            living.spare[at(left)] = slot
            left += 1
            n += 1
        if n == room:  # what comes next may be a death or this birth: the stretch ends before it
            reason = _FULL
            break
        if mark < len(marks) and marks[mark] == number:
            out.marks[mark] = n
            mark += 1
        if i == until:
            break
        if left == 0:
            reason = _NEEDS_SLOTS
            break
        left -= 1
        slot = np.int64(living.spare[at(left)])
        requested = births.requested[at(i)]
        out.slot[at(n)] = slot
        out.requested[at(n)] = requested
        out.time[at(n)] = now
        living.requested[at(slot)] = requested
        for g in range(groups):
            extent = births.extents[g, r, at(i)]
            out.extents[g, r, at(n)] = extent
            living.extents[g, r, at(slot)] = extent
        if births.death[at(i)] < np.inf:
            schedule(calendar, slot, births.death[at(i)], number)
        n += 1
        number += 1
        i += 1
    cursor[_EVENTS] = n
    cursor[_BIRTH] = i
    cursor[_NUMBER] = number
    cursor[_SPARE] = left
    cursor[_REASON] = reason
    out.time[at(n)] = _end(calendar, births.time[at(i)], reason)


@outline
def _end(calendar, birth, reason):  # type: ignore[no-untyped-def]
    """How long the last state lasts: until the birth that ends the stretch, or a death before it that found no room."""
    if reason == _FULL:
        slot = next_due(calendar, birth)
        if slot >= 0:
            put_back(calendar)
            return calendar.time[at(slot)]
    return birth
