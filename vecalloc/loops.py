"""The event loops, written once for all policies, and resumable.

`replay_each` runs events whose order is known before: recorded traces, and synthetic ones in the models *drop*, *grow*
and *stop*. `process_each` runs requests that wait for room, where the order comes about with the placements.

A policy binds each loop to its own `alloc`, `free`, ... in a kernel of a few lines; the loop is copied into that
kernel before types are inferred, so nothing is called through a pointer. A call runs replicas `first .. last - 1`, each
from where its cursor stands, until the stretch ends (`STOP`) or something needs somebody else: a request that only a
larger state can hold, or a first failure where the run is to stop. The cursor keeps the place; entering again goes on
as if nothing had been in between.

What a policy supplies, each inlined:

    pick(pools, r) -> pool, registers       replica r's rows
    alloc(pool, extent) -> address          in granules, NONE when no memory is available; nothing changes then
    free(pool, address)                     of a live block
    largest(pool) -> granules               the largest hole, 0 if there is none
    cause(pool, extent)                     why `extent` did not fit: TOO_LARGE, CAPACITY or FRAGMENTATION
"""

from typing import NamedTuple

import numpy as np

from vecalloc.kernel import inline, loop, outline, rows
from vecalloc.ledger import (
    ALLOCS,
    BLOCKS,
    BOTTOM_TAKEN,
    DELAYED,
    DEMAND,
    DURATION,
    EXACT_FITS,
    FAILED,
    FREES,
    HIGH_AT_PEAK,
    HIGH_WATER,
    I_BLOCKS,
    I_ENDS,
    I_GRANTED,
    I_HIGH_WATER,
    I_HOLES,
    I_LARGEST,
    I_LIMIT,
    I_LIVE,
    I_QUEUE,
    I_REQUESTED,
    I_TOP,
    IGNORED,
    LIVE,
    LOAD,
    NEIGHBOURS,
    NOW_GRANTED,
    NOW_HOLES,
    NOW_LARGEST,
    NOW_LIMIT,
    PEAK_LIVE,
    PEAK_REQUESTED,
    PLACED_SUM,
    QUEUE,
    REQUESTED,
    REQUESTED_AT_HIGH,
    UNSTABLE,
    Geometry,
    Orders,
)
from vecalloc.mechanisms.bits import at, highest
from vecalloc.mechanisms.bitset import Bitset, discard, insert, last
from vecalloc.mechanisms.calendar import Calendar, next_due, pick_calendar, schedule
from vecalloc.mechanisms.registers import GRANTED, HOLES, LIMIT, TOO_LARGE

# --- columns of a cursor, int64 (replicas, CURSORS): where a replica stands, and how it is to run ---

POSITION = 0
"""The next event."""

STOP = 1
"""Where this stretch ends."""

REASON = 2
"""Why the loop left the replica: one of the next three."""

NEXT_ALLOC = 3
"""How many allocs of the chunk are behind."""

ON_FAILURE = 4
"""DROP, GROW or HALT."""

METERED = 5
"""1: write down everything of `metrics`; 0: addresses and failures only."""

BIN_WIDTH = 6
"""Granules a bin of the histogram of placed addresses."""

CURSORS = 8

STRETCH_DONE, NEEDS_ROOM, HALTED = 0, 1, 2
"""The stretch has been run; the next event needs a larger state; a request failed and the run is to stop there."""

DROP, GROW, HALT = 0, 1, 2
"""What becomes of a request that does not fit: dropped; the pool grows; the replica stops."""


@loop
def replay_each(pick, alloc, free, largest, cause, pools, events, ledger, cursors, first, last):
    """Run replicas first .. last - 1 of a fixed order of events until each is done with its stretch or has to stop."""
    keeps = ledger.addresses.shape[1] > 0
    for r in range(first, last):
        cursor = cursors[r]
        if cursor[REASON] == HALTED:
            continue
        pool, registers = pick(pools, r)
        slots = events.slot[r]
        sizes = events.requested[r]
        extents = events.extent[r]
        times = _pick_times(events.time, r)
        counts = ledger.counts[r]
        integrals = ledger.integrals[r]
        places = ledger.places[r]
        addresses = ledger.addresses[r]
        geometry = _pick_geometry(ledger.geometry, r)

        metered = cursor[METERED] != 0
        on_failure = cursor[ON_FAILURE]
        n = cursor[NEXT_ALLOC]
        reason = STRETCH_DONE
        i = cursor[POSITION]
        stop = cursor[STOP]

        # Running values live in registers of the machine while the stretch lasts.
        blocks = counts[BLOCKS]
        requested = counts[REQUESTED]
        live = counts[LIVE]
        demand = counts[DEMAND]
        load = counts[LOAD]
        peak_live = counts[PEAK_LIVE]
        peak_requested = counts[PEAK_REQUESTED]
        high = counts[HIGH_WATER]
        high_at_peak = counts[HIGH_AT_PEAK]
        requested_at_high = counts[REQUESTED_AT_HIGH]
        duration = integrals[DURATION]
        scatter = ledger.scatter[r]
        sum_requested = integrals[I_REQUESTED]
        sum_live = integrals[I_LIVE]
        sum_granted = integrals[I_GRANTED]
        sum_limit = integrals[I_LIMIT]
        sum_largest = integrals[I_LARGEST]
        sum_holes = integrals[I_HOLES]
        sum_blocks = integrals[I_BLOCKS]
        sum_high = integrals[I_HIGH_WATER]

        while i < stop:
            extent = extents[at(i)]
            slot = at(slots[at(i)])
            granted = registers[GRANTED]
            holes = registers[HOLES]
            limit = registers[LIMIT]
            if extent > 0:
                address = alloc(pool, extent)
                if address < 0:
                    why = cause(pool, extent)
                    if on_failure == GROW and why != TOO_LARGE:
                        reason = NEEDS_ROOM
                        break
                    counts[FAILED + why] += 1
                    if on_failure == HALT:
                        reason = HALTED
                places[slot] = address
                if keeps:
                    addresses[at(n)] = address
                n += 1
                step = 1
            else:
                address = places[slot]
                if address >= 0:
                    free(pool, address)
                else:
                    counts[IGNORED] += 1
                step = -1

            if metered:
                lasts = _lasts(times, i)
                demand += extent
                load = max(load, demand)
                if address >= 0:
                    blocks += step
                    live += extent
                    requested += sizes[at(i)]
                    peak_live = max(peak_live, live)
                    end = address + registers[GRANTED] - granted
                    if end > high:
                        high = end
                        requested_at_high = requested
                    if requested > peak_requested:
                        peak_requested = requested
                        high_at_peak = high
                    _note_geometry(
                        geometry,
                        counts,
                        cursor[BIN_WIDTH],
                        step,
                        address,
                        end,
                        registers[HOLES] - holes,
                        registers[LIMIT] != limit,
                    )
                total_free = registers[LIMIT] - registers[GRANTED]
                big = largest(pool)
                duration += lasts
                sum_requested += lasts * requested
                sum_live += lasts * live
                sum_granted += lasts * registers[GRANTED]
                sum_limit += lasts * registers[LIMIT]
                sum_largest += lasts * big
                sum_holes += lasts * registers[HOLES]
                sum_blocks += lasts * blocks
                sum_high += lasts * high
                if total_free > 0:
                    scatter += 1.0 - big / total_free
                _integrate_geometry(geometry, counts, integrals, registers[LIMIT], blocks, lasts)
            i += 1
            if reason == HALTED:
                break

        counts[ALLOCS] += n - cursor[NEXT_ALLOC]
        counts[FREES] += (i - cursor[POSITION]) - (n - cursor[NEXT_ALLOC])
        counts[BLOCKS] = blocks
        counts[REQUESTED] = requested
        counts[LIVE] = live
        counts[DEMAND] = demand
        counts[LOAD] = load
        counts[PEAK_LIVE] = peak_live
        counts[PEAK_REQUESTED] = peak_requested
        counts[HIGH_WATER] = high
        counts[HIGH_AT_PEAK] = high_at_peak
        counts[REQUESTED_AT_HIGH] = requested_at_high
        counts[NOW_GRANTED] = registers[GRANTED]
        counts[NOW_HOLES] = registers[HOLES]
        counts[NOW_LIMIT] = registers[LIMIT]
        counts[NOW_LARGEST] = largest(pool)
        integrals[DURATION] = duration
        ledger.scatter[r] = scatter
        integrals[I_REQUESTED] = sum_requested
        integrals[I_LIVE] = sum_live
        integrals[I_GRANTED] = sum_granted
        integrals[I_LIMIT] = sum_limit
        integrals[I_LARGEST] = sum_largest
        integrals[I_HOLES] = sum_holes
        integrals[I_BLOCKS] = sum_blocks
        integrals[I_HIGH_WATER] = sum_high
        cursor[POSITION] = i
        cursor[NEXT_ALLOC] = n
        cursor[REASON] = reason


@rows
def _pick_geometry(geometry, r):
    """Replica r's rows."""
    if geometry is None:
        return None
    return Geometry(geometry.ends[r], geometry.ends_table, geometry.histogram[r], _pick_orders(geometry.orders, r))


@rows
def _pick_orders(orders, r):
    if orders is None:
        return None
    return Orders(orders.passed_up[r], orders.half_used[r], orders.half_used_integral[r])


@rows
def _pick_times(times, r):
    """Replica r's times, None if the event index is the clock."""
    if times is None:
        return None
    return times[r]


@inline
def _lasts(times, i):
    """How long the state after event i lasts: a whole number by the event index, a float by the times."""
    if times is None:
        return np.int64(1)
    return times[at(i + 1)] - times[at(i)]


@outline
def _note_geometry(geometry, counts, bin_width, step, address, end, new_holes, limit_moved):
    """One alloc (step 1) or free (step -1): `end` is address + granted, or address - granted in a free."""
    if geometry is None:
        return
    ends = Bitset(geometry.ends, geometry.ends_table)
    if step > 0:
        counts[PLACED_SUM] += address
        geometry.histogram[min(address // bin_width, len(geometry.histogram) - 1)] += 1
        insert(ends, 0, end)
        counts[BOTTOM_TAKEN] += address == 0
        counts[EXACT_FITS] += new_holes < 0
    else:
        discard(ends, 0, address + (address - end))
        counts[BOTTOM_TAKEN] -= address == 0
        if geometry.orders is None:  # buddies merge as far as it goes: they have no number of neighbours
            # A run that joins the space above the limit is no hole: it leaves none, where others leave one.
            counts[NEIGHBOURS + (-new_holes if limit_moved else 1 - new_holes)] += 1
    _note_orders(geometry.orders, step, highest(abs(end - address)), new_holes)


@outline
def _note_orders(orders, step, order, new_holes):
    """A block of 2^order was split off (each split leaves a free half) or freed and merged."""
    if orders is None:
        return
    if step > 0:
        found = order + new_holes + 1
        orders.half_used[found] -= 1
        for o in range(order, found):
            orders.passed_up[o] += 1
            orders.half_used[o] += 1
    else:
        merged = order + 1 - new_holes
        for o in range(order, merged):
            orders.half_used[o] -= 1
        orders.half_used[merged] += 1


@outline
def _integrate_geometry(geometry, counts, integrals, limit, blocks, lasts):
    """Add to the integrals how long the present geometry lasts."""
    if geometry is None:
        return
    ends = Bitset(geometry.ends, geometry.ends_table)
    top = last(ends, 0) if blocks > 0 else np.int64(0)
    integrals[I_TOP] += lasts * top
    integrals[I_ENDS] += lasts * ((1 if limit > 0 and counts[BOTTOM_TAKEN] == 0 else 0) + (1 if top < limit else 0))
    _integrate_orders(geometry.orders, limit, lasts)


@outline
def _integrate_orders(orders, limit, lasts):
    if orders is None:
        return
    for o in range(highest(limit)):  # a wholly free pool is no half of a pair
        orders.half_used_integral[o] += lasts * orders.half_used[o]


# --- requests that wait ----------------------------------------------------------------------------------------------


class Flow(NamedTuple):
    """Requests that come, wait, live and die, one row a replica.

    Attributes
    ----------
    arrival : float64 (replicas, arrivals) or None
        When the requests to come arrive; None: there is always one more.
    requested, extent : int64 (replicas, requests)
        Bytes and granules of the next requests to be first in line.
    life : float64 (replicas, requests) or None
        How long their blocks live from placement on; None: until they are picked as victims.
    words : int64 (replicas, words)
        Random bits that victims are picked by.
    clock : float64 (replicas, 2)
        What time it is, and when the stretch ends.
    calendar : Calendar
    slots : int32 (replicas, 2, slots)
        Slots that are free (a stack); slots of live blocks (in no order), where victims are picked.
    sizes : int64 (replicas, 2, slots)
        Bytes and granules of the block in each slot.
    """

    arrival: np.ndarray | None
    requested: np.ndarray
    extent: np.ndarray
    life: np.ndarray | None
    words: np.ndarray
    clock: np.ndarray
    calendar: Calendar
    slots: np.ndarray
    sizes: np.ndarray


# --- columns of a flow's cursor, int64 (replicas, FLOW_CURSORS); STOP, REASON, BIN_WIDTH stand where they do above ---

DECIDED = 0
"""Requests that were placed or dropped: where the stretch has got to."""

ARRIVAL, ARRIVALS, HEAD, HEADS, WORD, WORDS = 8, 9, 10, 11, 12, 13
"""The next arrival, request and random word, each with the end of what is at hand."""

BLOCKED, TRIED, WAITED = 14, 15, 16
"""Of the first in line: has to wait for a death; did not fit at its first try; was not the first when it arrived."""

SPARE, QUEUE_LIMIT = 17, 18
"""Free slots; the longest queue."""

FLOW_CURSORS = 24

NEEDS_SLOTS, NEEDS_ARRIVALS, NEEDS_REQUESTS, NEEDS_WORDS, IS_UNSTABLE = 3, 4, 5, 6, 7
"""Why the loop left a replica, beside STRETCH_DONE: something has run out; the queue can only grow."""


@loop
def process_each(pick, alloc, free, largest, cause, pools, flow, ledger, cursors, first, last):
    """Run replicas first .. last - 1 until so many requests are decided or it is so late, or something has run out.

    First come, first served: who is first in line is tried on arrival, and again after the deaths of each instant;
    those behind wait. What an empty pool could not hold is dropped when its turn comes, and holds nobody up.
    """
    keeps = ledger.addresses.shape[1] > 0
    for r in range(first, last):
        cursor = cursors[r]
        if cursor[REASON] == IS_UNSTABLE:
            continue
        pool, registers = pick(pools, r)
        calendar = pick_calendar(flow.calendar, r)
        arrivals = _pick_times(flow.arrival, r)
        lives = _pick_times(flow.life, r)
        asked = flow.requested[r]
        extents = flow.extent[r]
        words = flow.words[r]
        clock = flow.clock[r]
        spare = flow.slots[r, 0]
        living = flow.slots[r, 1]
        asked_by = flow.sizes[r, 0]
        extent_by = flow.sizes[r, 1]
        counts = ledger.counts[r]
        integrals = ledger.integrals[r]
        places = ledger.places[r]
        addresses = ledger.addresses[r]
        geometry = _pick_geometry(ledger.geometry, r)
        always = _is_none(arrivals)
        victims = _is_none(lives)
        reason = STRETCH_DONE
        scatter = ledger.scatter[r]

        while cursor[DECIDED] < cursor[STOP] and clock[0] < clock[1]:
            if cursor[BLOCKED] == 0 and (always or counts[QUEUE] > 0):
                # Who is first in line is tried.
                if cursor[HEAD] == cursor[HEADS]:
                    reason = NEEDS_REQUESTS
                    break
                if cursor[SPARE] == 0:
                    reason = NEEDS_SLOTS
                    break
                extent = extents[at(cursor[HEAD])]
                granted = registers[GRANTED]
                holes = registers[HOLES]
                limit = registers[LIMIT]
                address = alloc(pool, extent)
                if address < 0:
                    why = cause(pool, extent)
                    if why != TOO_LARGE:
                        counts[DELAYED + why] += 1 - cursor[TRIED]
                        cursor[TRIED] = 1
                        cursor[BLOCKED] = 1
                        continue
                    counts[FAILED + why] += 1
                else:
                    counts[DELAYED] += cursor[WAITED] & ~cursor[TRIED]
                    cursor[SPARE] -= 1
                    slot = at(spare[at(cursor[SPARE])])
                    places[slot] = address
                    requested = asked[at(cursor[HEAD])]
                    asked_by[slot] = requested
                    extent_by[slot] = extent
                    if victims:
                        living[at(counts[BLOCKS])] = slot
                    else:
                        _schedule(calendar, slot, clock[0], lives, cursor[HEAD], counts[ALLOCS])
                    end = address + registers[GRANTED] - granted
                    _note_block(counts, 1, extent, requested, end)
                    moved = registers[LIMIT] != limit
                    _note_geometry(
                        geometry, counts, cursor[BIN_WIDTH], 1, address, end, registers[HOLES] - holes, moved
                    )
                if keeps:
                    addresses[at(cursor[DECIDED])] = address
                counts[ALLOCS] += 1
                cursor[HEAD] += 1
                cursor[DECIDED] += 1
                cursor[TRIED] = 0
                if not always:
                    counts[QUEUE] -= 1
                    cursor[WAITED] = 1
                scatter += _scatter(registers, largest(pool))
                if victims:
                    clock[0] += 1.0
                    _integrate(counts, integrals, registers, largest(pool), 1.0)
                    _integrate_geometry(geometry, counts, integrals, registers[LIMIT], counts[BLOCKS], 1.0)
                continue

            # Nobody can be placed: time goes on to the next death, or to an arrival before it.
            until = np.float64(0.0)
            if victims:
                if counts[BLOCKS] == 0:  # an empty pool, and yet it does not fit: units that are too small
                    reason = IS_UNSTABLE
                    break
                chosen = _pick_victim(words, cursor, counts[BLOCKS])
                if chosen < 0:
                    reason = NEEDS_WORDS
                    break
                slot = at(living[at(chosen)])
                living[at(chosen)] = living[at(counts[BLOCKS] - 1)]
            else:
                if not always and cursor[ARRIVAL] == cursor[ARRIVALS]:
                    reason = NEEDS_ARRIVALS
                    break
                until = _next_arrival(arrivals, cursor[ARRIVAL])
                slot = next_due(calendar, until)
                if slot >= 0:
                    until = calendar.time[at(slot)]
                elif until == np.inf:  # nothing will ever die, and nobody else comes
                    reason = IS_UNSTABLE
                    break
                big = largest(pool)
                _integrate(counts, integrals, registers, big, until - clock[0])
                _integrate_geometry(geometry, counts, integrals, registers[LIMIT], counts[BLOCKS], until - clock[0])
                clock[0] = until
            if slot < 0:
                cursor[ARRIVAL] += 1
                counts[QUEUE] += 1
                if counts[QUEUE] == 1:
                    cursor[BLOCKED] = 0
                    cursor[WAITED] = 0
                if counts[QUEUE] > cursor[QUEUE_LIMIT]:
                    reason = IS_UNSTABLE
                    break
                continue
            while slot >= 0:  # all deaths of this instant, in the order of the allocs
                address = places[at(slot)]
                granted = registers[GRANTED]
                holes = registers[HOLES]
                limit = registers[LIMIT]
                free(pool, address)
                end = address + registers[GRANTED] - granted
                _note_block(counts, -1, -extent_by[at(slot)], -asked_by[at(slot)], end)
                moved = registers[LIMIT] != limit
                _note_geometry(geometry, counts, cursor[BIN_WIDTH], -1, address, end, registers[HOLES] - holes, moved)
                counts[FREES] += 1
                spare[at(cursor[SPARE])] = slot
                cursor[SPARE] += 1
                scatter += _scatter(registers, largest(pool))
                slot = np.int64(-1)
                if victims:
                    clock[0] += 1.0
                    _integrate(counts, integrals, registers, largest(pool), 1.0)
                    _integrate_geometry(geometry, counts, integrals, registers[LIMIT], counts[BLOCKS], 1.0)
                else:
                    slot = next_due(calendar, until)
            cursor[BLOCKED] = 0

        counts[UNSTABLE] = 1 if reason == IS_UNSTABLE else 0
        counts[NOW_GRANTED] = registers[GRANTED]
        counts[NOW_HOLES] = registers[HOLES]
        counts[NOW_LIMIT] = registers[LIMIT]
        counts[NOW_LARGEST] = largest(pool)
        ledger.scatter[r] = scatter
        cursor[REASON] = reason


@inline
def _is_none(x):
    """Whether an argument is None: known when the kernel is compiled."""
    return x is None


@inline
def _next_arrival(arrivals, i):
    """When the next request arrives; never, if there is always one."""
    if arrivals is None:
        return np.inf
    return arrivals[at(i)]


@inline
def _schedule(calendar, slot, now, lives, i, number):
    """Enter when the block dies, unless it never does, or not by itself."""
    if lives is not None and lives[at(i)] < np.inf:
        schedule(calendar, slot, now + lives[at(i)], number)


@inline
def _note_block(counts, step, extent, requested, end):
    """One block more or less (extent and requested are negative then): what lives now, and the peaks."""
    counts[BLOCKS] += step
    counts[LIVE] += extent
    counts[DEMAND] = counts[LIVE]
    counts[REQUESTED] += requested
    counts[PEAK_LIVE] = max(counts[PEAK_LIVE], counts[LIVE])
    counts[LOAD] = counts[PEAK_LIVE]
    if end > counts[HIGH_WATER]:
        counts[HIGH_WATER] = end
        counts[REQUESTED_AT_HIGH] = counts[REQUESTED]
    if counts[REQUESTED] > counts[PEAK_REQUESTED]:
        counts[PEAK_REQUESTED] = counts[REQUESTED]
        counts[HIGH_AT_PEAK] = counts[HIGH_WATER]


@inline
def _scatter(registers, big):
    """1 - largest hole / total free, 0 if the pool is full."""
    total_free = registers[LIMIT] - registers[GRANTED]
    return 1.0 - big / total_free if total_free > 0 else 0.0


@inline
def _integrate(counts, integrals, registers, big, lasts):
    """Add to the integrals how long the present state lasts."""
    integrals[DURATION] += lasts
    integrals[I_REQUESTED] += lasts * counts[REQUESTED]
    integrals[I_LIVE] += lasts * counts[LIVE]
    integrals[I_GRANTED] += lasts * registers[GRANTED]
    integrals[I_LIMIT] += lasts * registers[LIMIT]
    integrals[I_LARGEST] += lasts * big
    integrals[I_HOLES] += lasts * registers[HOLES]
    integrals[I_BLOCKS] += lasts * counts[BLOCKS]
    integrals[I_HIGH_WATER] += lasts * counts[HIGH_WATER]
    integrals[I_QUEUE] += lasts * counts[QUEUE]


@inline
def _pick_victim(words, cursor, count):
    """One of `count` at random: multiply-high of 32 random bits, rejected where it would not be uniform; -1: no bits.

    Source: Lemire (2019), *Fast random integer generation in an interval*.
    """
    least = ((1 << 32) - count) % count
    while cursor[WORD] < cursor[WORDS]:
        bits_of = (words[at(cursor[WORD])] >> 32) & 0xFFFFFFFF
        cursor[WORD] += 1
        product = bits_of * count
        if product & 0xFFFFFFFF >= least:
            return product >> 32
    return np.int64(-1)
