"""From requests to events: the births of a replica, and the deaths of what was born, in one exact order.

    births   t0      t1  t2          t3 | next stretch         a request is born and, whatever becomes of it,
    deaths       d0          d2   d1    |                      dies a lifetime later
    events   +0  -0  +1  +2  -2   -1  +3 ...

This is done once for all policies of a cell: in the models *drop*, *grow* and *stop* nothing that a policy does changes
the order. At equal times deaths come before births, and among themselves in the order of the allocs.

A *stretch* ends just before a birth, with all deaths up to it behind, so that it knows how long its last state lasts.
What is still alive then is carried over; slots are used again. So a replica needs memory for what lives at once, however
long it runs.

Births come in order, so only the deaths of a stretch are sorted: into as many buckets of equal time as there are births
(about one death each), then within each bucket. That is half the price of a calendar, which has to be ready for births
that nobody knows yet; a stretch is never much shorter than what is carried, so that looking through that stays cheap.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecalloc.kernel import inline, kernel, outline
from vecalloc.mechanisms.bits import at
from vecalloc.trace import Events
from vecalloc.workload.requests import Births

STRETCH = 1 << 12
"""Births of a stretch at least; a quarter of what lives if that is more, up to LONGEST."""

LONGEST = 1 << 18

_FEW = 24
"""Up to here an insertion sorts the deaths of a bucket faster than a heap."""


class Living(NamedTuple):
    """What has been born and has not died, one row a replica.

    Attributes
    ----------
    requested : int64 (replicas, slots), extents : int64 (groups, replicas, slots)
        Of the block in each slot.
    death : float64 (replicas, slots)
    slots : int32 (replicas, slots)
        Those of blocks that will die, in the order of their births.
    spare : int32 (replicas, slots)
        Those that are free: a stack.
    """

    requested: np.ndarray
    extents: np.ndarray
    death: np.ndarray
    slots: np.ndarray
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


class Scratch(NamedTuple):
    """Room to sort the deaths of one stretch of one replica.

    Attributes
    ----------
    death : float64 (items,)
        Of what is carried, in the order of births, then of what is born.
    bucket : int32 (items,)
        Where it is sorted into; -1: it outlives the stretch.
    order : int32 (items,)
        Items by death.
    ends : int32 (births + 1,)
        Where buckets end in `order`.
    slot : int32 (items,)
    """

    death: np.ndarray
    bucket: np.ndarray
    order: np.ndarray
    ends: np.ndarray
    slot: np.ndarray


# --- columns of a cursor, int64 (replicas, 4) ---

_BIRTH, _NUMBER, _SPARE, _CARRIED = range(4)
"""The next birth of the chunk; requests born so far; free slots; blocks that were carried here and will die."""


class Ordering:
    """Puts the requests of some replicas in order, stretch by stretch.

    Parameters
    ----------
    replicas, groups : int
    marks : int64 (replicas, marks)
        Requests before whose birth somebody wants to look, not decreasing in each row.

    Attributes
    ----------
    slots : int
        How many there are.
    """

    def __init__(self, replicas: int, groups: int, marks: NDArray[np.int64]):
        self.slots = 0
        self._groups = groups
        self._cursors = np.zeros((replicas, 4), np.int64)
        self._marks = marks
        self._living = Living(
            np.zeros((replicas, 0), np.int64),
            np.zeros((groups, replicas, 0), np.int64),
            np.zeros((replicas, 0)),
            np.zeros((replicas, 0), np.int32),
            np.zeros((replicas, 0), np.int32),
        )
        self._room(0, 0)

    def stretches(self, births: Births) -> Iterator[Stretch]:
        """Order a chunk of births.

        Parameters
        ----------
        births : Births
            The next requests of every replica.

        Yields
        ------
        Stretch
            Overwritten by the next one.
        """
        count = births.requested.shape[1]
        self._cursors[:, _BIRTH] = 0
        until = 0
        while until < count:
            carried = int(self._cursors[:, _CARRIED].max())
            length = min(count - until, max(STRETCH, min(carried // 4, LONGEST)))
            until += length
            while int(self._cursors[:, _SPARE].min()) < length:
                self._extend()
            if len(self._scratch.order) < carried + length or len(self._scratch.ends) <= length:
                self._room(2 * carried, max(length, STRETCH))
            self._out.marks[:] = -1
            arguments = (births, self._living, self._scratch, self._out, self._cursors, self._marks)
            _order(*arguments, until, len(self._cursors))
            yield self._out

    def _room(self, carried: int, births: int) -> None:
        """Make room for a stretch with so much carried and born."""
        replicas, items = len(self._cursors), carried + births
        integers = (np.zeros(items, np.int32) for _ in range(3))
        self._scratch = Scratch(
            np.zeros(items), next(integers), next(integers), np.zeros(births + 1, np.int32), next(integers)
        )
        events = items + births
        self._out = Stretch(
            np.zeros((replicas, events), np.int32),
            np.zeros((replicas, events), np.int64),
            np.zeros((self._groups, replicas, events), np.int64),
            np.zeros((replicas, events + 1), np.float64),
            np.zeros(replicas, np.int64),
            np.zeros_like(self._marks),
        )

    def _extend(self) -> None:
        """Twice as many slots; the new ones lie under those that are free."""
        old, self.slots = self.slots, 2 * self.slots or 2 * STRETCH

        def wider(array: np.ndarray) -> np.ndarray:
            more = np.zeros((*array.shape[:-1], self.slots), array.dtype)
            more[..., :old] = array
            return more

        living = Living(*map(wider, self._living))
        living.spare[:, self.slots - old :] = self._living.spare
        living.spare[:, : self.slots - old] = np.arange(self.slots - 1, old - 1, -1)
        self._living = living
        self._cursors[:, _SPARE] += self.slots - old


@kernel
def _order(births, living, scratch, out, cursors, marks, until, replicas):  # type: ignore[no-untyped-def]
    """Write the events of each replica up to just before birth `until` of the chunk."""
    for r in range(replicas):
        row = Births(births.time[r], births.death[r], births.requested[r], births.extents)
        alive = Living(living.requested[r], living.extents, living.death[r], living.slots[r], living.spare[r])
        stretch = Stretch(out.slot[r], out.requested[r], out.extents, out.time[r], out.counts, out.marks[r])
        deaths = _sort_deaths(row, alive, scratch, cursors[r], until)
        _merge(r, row, alive, scratch, stretch, cursors[r], marks[r], until, deaths)
        _carry(alive, scratch, cursors[r], until)


@inline
def _sort_deaths(births, living, scratch, cursor, until):  # type: ignore[no-untyped-def]
    """Sort what dies in the stretch; return how much that is."""
    carried, birth = cursor[_CARRIED], cursor[_BIRTH]
    count = until - birth
    start, end = births.time[at(birth)], births.time[at(until)]
    scale = count / (end - start) if end > start else 0.0
    last = np.float64(count - 1)
    ends = scratch.ends
    for b in range(count + 1):
        ends[at(b)] = 0
    for i in range(carried + count):
        if i < carried:
            slot = living.slots[at(i)]
            scratch.slot[at(i)] = slot
            death = living.death[at(slot)]
        else:
            death = births.death[at(birth + i - carried)]
        scratch.death[at(i)] = death
        b = np.int32(-1)
        if death <= end:
            b = np.int32(min((death - start) * scale, last))
            ends[at(b + 1)] += 1
        scratch.bucket[at(i)] = b
    for b in range(count):
        ends[at(b + 1)] += ends[at(b)]
    deaths = np.int64(ends[at(count)])
    for i in range(carried + count):
        b = scratch.bucket[at(i)]
        if b >= 0:
            scratch.order[at(ends[at(b)])] = i
            ends[at(b)] += 1
    begin = np.int64(0)
    for b in range(count):
        stop = np.int64(ends[at(b)])
        if stop - begin > _FEW:
            _heapsort(scratch, begin, stop)
        begin = stop
    order = scratch.order
    for k in range(1, deaths):
        item = order[at(k)]
        death = scratch.death[at(item)]
        j = k
        while j > 0 and scratch.death[at(order[at(j - 1)])] > death:
            order[at(j)] = order[at(j - 1)]
            j -= 1
        order[at(j)] = item
    return deaths


@inline
def _merge(r, births, living, scratch, out, cursor, marks, until, deaths):  # type: ignore[no-untyped-def]
    """Write births and sorted deaths in one order (the extents keep their axes)."""
    groups = len(births.extents)
    carried, birth, number = cursor[_CARRIED], cursor[_BIRTH], cursor[_NUMBER]
    left = cursor[_SPARE]
    mark = 0
    while mark < len(marks) and marks[mark] < number:
        mark += 1
    n = np.int64(0)
    dead = np.int64(0)
    for i in range(birth, until + 1):
        now = births.time[at(i)]
        while dead < deaths:
            item = np.int64(scratch.order[at(dead)])
            death = scratch.death[at(item)]
            if death > now or item - carried >= i - birth:  # not yet, or it dies the moment that it is born
                break
            slot = np.int64(scratch.slot[at(item)])
            out.slot[at(n)] = slot
            out.requested[at(n)] = -living.requested[at(slot)]
            out.time[at(n)] = death
            for g in range(groups):
                out.extents[g, r, at(n)] = -living.extents[g, r, at(slot)]
            living.spare[at(left)] = slot
            left += 1
            n += 1
            dead += 1
        while mark < len(marks) and marks[mark] == number + i - birth:
            out.marks[mark] = n
            mark += 1
        if i == until:
            break
        left -= 1
        slot = np.int64(living.spare[at(left)])
        requested = births.requested[at(i)]
        scratch.slot[at(carried + i - birth)] = slot
        out.slot[at(n)] = slot
        out.requested[at(n)] = requested
        out.time[at(n)] = now
        living.requested[at(slot)] = requested
        for g in range(groups):
            extent = births.extents[g, r, at(i)]
            out.extents[g, r, at(n)] = extent
            living.extents[g, r, at(slot)] = extent
        n += 1
    out.time[at(n)] = births.time[at(until)]
    out.counts[r] = n
    cursor[_NUMBER] = number + until - birth
    cursor[_SPARE] = left


@inline
def _carry(living, scratch, cursor, until):  # type: ignore[no-untyped-def]
    """Keep what outlives the stretch, in the order of births; what never dies is nobody's concern any more."""
    items = cursor[_CARRIED] + until - cursor[_BIRTH]
    cursor[_BIRTH] = until
    kept = np.int64(0)
    for i in range(items):
        if scratch.bucket[at(i)] < 0 and scratch.death[at(i)] < np.inf:
            slot = scratch.slot[at(i)]
            living.slots[at(kept)] = slot
            living.death[at(slot)] = scratch.death[at(i)]
            kept += 1
    cursor[_CARRIED] = kept


@outline
def _heapsort(scratch, begin, stop):  # type: ignore[no-untyped-def]
    """Sort a crowded bucket: a whole phase may die at once."""
    order, count = scratch.order[begin:stop], stop - begin
    for start in range(count // 2 - 1, -1, -1):
        _sift(scratch, order, start, count)
    for end in range(count - 1, 0, -1):
        order[0], order[end] = order[end], order[0]
        _sift(scratch, order, 0, end)


@outline
def _sift(scratch, order, i, end):  # type: ignore[no-untyped-def]
    """Let the item at i sink below all that come after it."""
    item = order[i]
    while True:
        child = 2 * i + 1
        if child >= end:
            break
        if child + 1 < end and _before(scratch, order[child], order[child + 1]):
            child += 1
        if not _before(scratch, item, order[child]):
            break
        order[i] = order[child]
        i = child
    order[i] = item


@inline
def _before(scratch, one, other):  # type: ignore[no-untyped-def]
    """Whether one item dies before another, or at the same time and was born before it."""
    t, u = scratch.death[at(one)], scratch.death[at(other)]
    return t < u or (t == u and one < other)
