"""The event loop, written once for all policies, and resumable.

A policy binds `replay_each` to its own `alloc`, `free`, ... in a kernel of a few lines; the loop is copied into that
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

import numpy as np

from vecalloc.kernel import inline, loop, outline, rows
from vecalloc.ledger import (
    ALLOCS,
    BLOCKS,
    BOTTOM_TAKEN,
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
    REQUESTED,
    REQUESTED_AT_HIGH,
    Geometry,
    Orders,
)
from vecalloc.mechanisms.bits import at, highest
from vecalloc.mechanisms.bitset import Bitset, discard, insert, last
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
