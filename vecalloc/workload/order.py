"""From requests to events: the births of a replica, and the deaths of what was born, in one exact order.

    births   t0      t1  t2          t3 | next stretch         a request is born and, whatever becomes of it,
    deaths       d0          d2   d1    |                      dies a lifetime later
    events   +0  -0  +1  +2  -2   -1  +3 ...

This is done once for all policies of a cell: in the models *drop*, *grow* and *stop* nothing that a policy does changes
the order. At equal times deaths come before births, and among themselves in the order of the allocs.

A *stretch* ends just before a birth, with all deaths up to it behind, so that it knows how long its last state lasts.
What is still alive then is carried over; slots are used again. So a replica needs memory for what lives at once,
however long it runs.

Births come in order, so only the deaths of a stretch are sorted: into as many buckets of equal time as there are births
(about one death each), then within each bucket. That is half the price of a calendar, which has to be ready for births
that nobody knows yet.

What outlives a stretch is *near* or *far*. Only the near is looked through in each stretch; far is what dies after a
horizon, and it is looked through when a stretch passes that. With the horizon sqrt(2 far / births) stretches away both
cost about the same: a birth and death take 25 ns among a hundred live blocks, 100 ns among a million.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecalloc.kernel import inline, kernel, outline
from vecalloc.mechanisms.bits import at
from vecalloc.mechanisms.replicas import widened
from vecalloc.trace import Events
from vecalloc.workload.requests import Births

STRETCH = 1 << 12
"""Births of a stretch at least; half of what is near if that is more."""

_FEW = 24
"""Up to here an insertion sorts the deaths of a bucket faster than a heap."""


class Living(NamedTuple):
    """What has been born and has not died, one row a replica.

    Attributes
    ----------
    requested : int64 (replicas, slots), extents : int64 (groups, replicas, slots)
        Of the block in each slot.
    spare : int32 (replicas, slots)
        Slots that are free: a stack.
    near, far : int32 (replicas, slots)
        Slots of blocks that die up to the horizon, and after it, in the order of their births; not of those that never
        die.
    near_death, far_death : float64 (replicas, slots)
        When they do.
    horizon : float64 (replicas,)
    """

    requested: np.ndarray
    extents: np.ndarray
    spare: np.ndarray
    near: np.ndarray
    far: np.ndarray
    near_death: np.ndarray
    far_death: np.ndarray
    horizon: np.ndarray


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
        Of what is near, in the order of births, then of what is born.
    slot : int32 (items,)
    bucket : int32 (items,)
        Where it is sorted into; the last one is for what outlives the stretch.
    ends : int32 (births + 1,)
        Where buckets end in `order`.
    order : int32 (items,)
        Items by death; those of the last bucket as they were.
    time : float64 (items,)
        Their deaths.
    """

    death: np.ndarray
    slot: np.ndarray
    bucket: np.ndarray
    ends: np.ndarray
    order: np.ndarray
    time: np.ndarray


# --- columns of a cursor, int64 (replicas, 5) ---

_BIRTH, _NUMBER, _SPARE, _NEAR, _FAR = range(5)
"""The next birth of the chunk; requests born so far; free slots; blocks that are near, and far."""


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

    _scratch: Scratch
    _out: Stretch

    def __init__(self, replicas: int, groups: int, marks: NDArray[np.int64]):
        self.slots = 0
        self._cursors = np.zeros((replicas, 5), np.int64)
        integers, floats = np.zeros((replicas, 0), np.int32), np.zeros((replicas, 0))
        self._living = Living(
            requested=np.zeros((replicas, 0), np.int64),
            extents=np.zeros((groups, replicas, 0), np.int64),
            spare=integers,
            near=integers,
            far=integers,
            near_death=floats,
            far_death=floats,
            horizon=np.zeros(replicas),
        )
        self._marks = marks
        self._make_room(0, STRETCH)

    def start(self, marks: NDArray[np.int64]) -> None:
        """Start over with other replicas, as many as before, in the same memory; slots may be other names then."""
        self._cursors[:] = 0
        self._cursors[:, _SPARE] = self.slots
        self._living.spare[:] = np.arange(self.slots - 1, -1, -1)
        self._living.horizon[:] = 0.0
        self._marks = marks
        if self._out.marks.shape != marks.shape:
            self._out = self._out._replace(marks=np.zeros_like(marks))

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
        count, replicas = births.requested.shape[1], len(self._cursors)
        self._cursors[:, _BIRTH] = 0
        until = 0
        while until < count:
            length = min(count - until, max(STRETCH, int(self._cursors[:, _NEAR].max()) // 2))
            until += length
            while int(self._cursors[:, _SPARE].min()) < length:
                self._extend()
            _come_near(births.time, self._living, self._cursors, until, replicas)
            near = int(self._cursors[:, _NEAR].max())
            if len(self._scratch.order) <= near + length or len(self._scratch.ends) <= length:
                self._make_room(2 * near, max(length, STRETCH))
            self._out.marks[:] = -1
            _order(births, self._living, self._scratch, self._out, self._cursors, self._marks, until, replicas)
            yield self._out

    def _make_room(self, near: int, births: int) -> None:
        """Make room for a stretch with so much near and born."""
        groups, replicas, _ = self._living.extents.shape
        items = near + births + 1
        self._scratch = Scratch(
            death=np.zeros(items),
            slot=np.zeros(items, np.int32),
            bucket=np.zeros(items, np.int32),
            ends=np.zeros(births + 1, np.int32),
            order=np.zeros(items, np.int32),
            time=np.zeros(items),
        )
        events = items + births
        self._out = Stretch(
            slot=np.zeros((replicas, events), np.int32),
            requested=np.zeros((replicas, events), np.int64),
            extents=np.zeros((groups, replicas, events), np.int64),
            time=np.zeros((replicas, events + 1), np.float64),
            counts=np.zeros(replicas, np.int64),
            marks=np.zeros_like(self._marks),
        )

    def _extend(self) -> None:
        """Twice as many slots; the new ones lie under those that are free."""
        old, self.slots = self.slots, 2 * self.slots or 2 * STRETCH
        spare, by_slot = self._living.spare, self._living._asdict()
        del by_slot["horizon"]
        living = self._living._replace(**{name: widened(array, self.slots) for name, array in by_slot.items()})
        living.spare[:, self.slots - old :] = spare
        living.spare[:, : self.slots - old] = np.arange(self.slots - 1, old - 1, -1)
        self._living = living
        self._cursors[:, _SPARE] += self.slots - old


@kernel
def _come_near(time, living, cursors, until, replicas):  # type: ignore[no-untyped-def]
    """Move the horizon of each replica whose stretch would pass it, and bring near what dies up to it."""
    for r in range(replicas):
        start, end = time[r, cursors[r, _BIRTH]], time[r, until]
        if end <= living.horizon[r]:
            continue
        far, births = cursors[r, _FAR], until - cursors[r, _BIRTH]
        horizon = end + np.sqrt(2.0 * far / births) * (end - start)
        living.horizon[r] = horizon
        near = cursors[r, _NEAR]
        kept = np.int64(0)
        # Equal deaths were far together, and what is near already dies before: births stay in order.
        for i in range(far):
            slot, death = living.far[r, i], living.far_death[r, i]
            if death <= horizon:
                living.near[r, near] = slot
                living.near_death[r, near] = death
                near += 1
            else:
                living.far[r, kept] = slot
                living.far_death[r, kept] = death
                kept += 1
        cursors[r, _NEAR] = near
        cursors[r, _FAR] = kept


@kernel
def _order(births, living, scratch, out, cursors, marks, until, replicas):  # type: ignore[no-untyped-def]
    """Write the events of each replica up to just before birth `until` of the chunk."""
    groups = len(births.extents)
    for r in range(replicas):
        row = Births(births.time[r], births.death[r], births.requested[r], births.extents)
        alive = Living(
            living.requested[r],
            living.extents,
            living.spare[r],
            living.near[r],
            living.far[r],
            living.near_death[r],
            living.far_death[r],
            living.horizon,
        )
        stretch = Stretch(out.slot[r], out.requested[r], out.extents, out.time[r], out.counts, out.marks[r])
        deaths = _sort_deaths(row, alive, scratch, cursors[r], until)
        if groups == 1:  # said twice, so that the usual case is compiled without a loop over groups: 7 ns a birth
            _merge(r, row, alive, scratch, stretch, cursors[r], marks[r], until, deaths, 1)
        else:
            _merge(r, row, alive, scratch, stretch, cursors[r], marks[r], until, deaths, groups)
        _carry(r, alive, scratch, cursors[r], until, deaths)


@inline
def _sort_deaths(births, living, scratch, cursor, until):  # type: ignore[no-untyped-def]
    """Sort what dies in the stretch; return how much that is."""
    near, birth = cursor[_NEAR], cursor[_BIRTH]
    count = until - birth
    death, ends = scratch.death, scratch.ends
    for b in range(count + 1):
        ends[at(b)] = 0
    start, end = births.time[at(birth)], births.time[at(until)]
    scale = count / (end - start) if end > start else 1.0
    for i in range(near):
        scratch.slot[at(i)] = living.near[at(i)]
        death[at(i)] = living.near_death[at(i)]
        _put_in_bucket(scratch, i, (death[at(i)] - start) * scale, death[at(i)] <= end, count)
    for i in range(near, near + count):
        death[at(i)] = births.death[at(birth + i - near)]
        _put_in_bucket(scratch, i, (death[at(i)] - start) * scale, death[at(i)] <= end, count)

    most = begin = np.int64(0)
    for b in range(count):
        here = np.int64(ends[at(b)])
        ends[at(b)] = begin
        begin += here
        most = max(most, here)
    ends[at(count)] = begin
    deaths = begin
    order, time = scratch.order, scratch.time
    for i in range(near + count):
        mine = np.int64(scratch.bucket[at(i)])
        place = np.int64(ends[at(mine)])
        ends[at(mine)] = place + 1
        order[at(place)] = i
        time[at(place)] = death[at(i)]

    if most > _FEW:
        _sort_crowds(scratch, count)
    for k in range(1, deaths):
        t = time[at(k)]
        if time[at(k - 1)] > t:
            item = order[at(k)]
            j = np.int64(k)
            while j > 0 and time[at(j - 1)] > t:
                order[at(j)] = order[at(j - 1)]
                time[at(j)] = time[at(j - 1)]
                j -= 1
            order[at(j)] = item
            time[at(j)] = t
    return deaths


@inline
def _put_in_bucket(scratch, i, place, dies, count):  # type: ignore[no-untyped-def]
    """Count an item into the bucket of its place, into the last but one if that is none, or the last if it outlives."""
    last = np.float64(count - 1)
    place = place if place < last else last  # also if it is nan: all the stretch in an instant
    b = np.int64(place) if dies else count
    scratch.bucket[at(i)] = b
    scratch.ends[at(b)] += 1


@inline
def _merge(r, births, living, scratch, out, cursor, marks, until, deaths, groups):  # type: ignore[no-untyped-def]
    """Write births and sorted deaths in one order (the extents keep their axes)."""
    near, birth, number = cursor[_NEAR], cursor[_BIRTH], cursor[_NUMBER]
    left = cursor[_SPARE]
    mark = 0
    while mark < len(marks) and marks[mark] < number:
        mark += 1
    n = np.int64(0)
    dead = np.int64(0)
    for i in range(birth, until + 1):
        now = births.time[at(i)]
        while dead < deaths:
            death = scratch.time[at(dead)]
            item = np.int64(scratch.order[at(dead)])
            if death > now or item - near >= i - birth:  # not yet, or it dies the moment that it is born
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
        scratch.slot[at(near + i - birth)] = slot
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
def _carry(r, living, scratch, cursor, until, deaths):  # type: ignore[no-untyped-def]
    """Keep what outlives the stretch, in the order of births; what never dies is nobody's concern any more."""
    items = cursor[_NEAR] + until - cursor[_BIRTH]
    cursor[_BIRTH] = until
    near, far = np.int64(0), cursor[_FAR]
    for k in range(deaths, items):
        slot = scratch.slot[at(scratch.order[at(k)])]
        death = scratch.time[at(k)]
        if death <= living.horizon[r]:
            living.near[at(near)] = slot
            living.near_death[at(near)] = death
            near += 1
        elif death < np.inf:
            living.far[at(far)] = slot
            living.far_death[at(far)] = death
            far += 1
    cursor[_NEAR] = near
    cursor[_FAR] = far


@outline
def _sort_crowds(scratch, count):  # type: ignore[no-untyped-def]
    """Sort crowded buckets: a whole phase may die at once."""
    begin = np.int64(0)
    for b in range(count):
        stop = np.int64(scratch.ends[b])
        if stop - begin > _FEW:
            _heapsort(scratch, begin, stop)
            for k in range(begin, stop):
                scratch.time[k] = scratch.death[scratch.order[k]]
        begin = stop


@outline
def _heapsort(scratch, begin, stop):  # type: ignore[no-untyped-def]
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
