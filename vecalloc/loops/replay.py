"""Events whose order is known before: recorded traces, and synthetic ones in the models *drop*, *grow* and *stop*."""

from vecalloc.kernel import loop
from vecalloc.ledger import (
    ALLOCATED,
    ALLOCS,
    BLOCKS,
    DEMAND,
    DURATION,
    FAILED,
    FREES,
    HIGH_AT_PEAK,
    HIGH_WATER,
    I_BLOCKS,
    I_GRANTED,
    I_HIGH_WATER,
    I_HOLES,
    I_LARGEST,
    I_LIMIT,
    I_LIVE,
    I_REQUESTED,
    IGNORED,
    LIVE,
    LOAD,
    PEAK_LIVE,
    PEAK_REQUESTED,
    REQUESTED,
    REQUESTED_AT_HIGH,
)
from vecalloc.loops.cursors import BIN_WIDTH, NEEDS_PASS, NOT_YET, REASON, REFUSED, SERVED, STOP, STRETCH_DONE
from vecalloc.loops.metering import (
    integrate_geometry,
    is_none,
    lasts_of,
    note_geometry,
    note_now,
    pick_geometry,
    pick_times,
)
from vecalloc.mechanisms.bits import at
from vecalloc.mechanisms.registers import BUDGET, FRAGMENTATION, GRANTED, HOLES, LIMIT, NONE, TOO_LARGE
from vecalloc.reclaim.passes import is_due, pick_passes, pin, to_be_pinned, waits_for_failure

# --- columns of a cursor, int64 (replicas, CURSORS), beside those of cursors.py ---

POSITION = 0
"""The next event."""

NEXT_ALLOC = 3
"""How many allocs of the chunk are behind."""

ON_FAILURE = 4
"""DROP, GROW or HALT."""

METERED = 5
"""1: write down everything of `metrics`; 0: addresses and failures only."""

CURSORS = 8

DROP, GROW, HALT = 0, 1, 2
"""What becomes of a request that does not fit: dropped; the pool grows; the replica stops."""

NEEDS_ROOM, HALTED = 2, 3
"""Reasons: the next event needs a larger state; a request failed and the run is to stop there."""


@loop
def replay_each(pick, alloc, free, largest, cause, pools, events, ledger, passes, cursors, first, last):
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
        times = pick_times(events.time, r)
        counts = ledger.counts[r]
        integrals = ledger.integrals[r]
        places = ledger.places[r]
        addresses = ledger.addresses[r]
        geometry = pick_geometry(ledger.geometry, r)
        moves = not is_none(passes)
        rules = pick_passes(passes, r)

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

        behind = counts[ALLOCS] + counts[FREES] - i
        while i < stop:
            extent = extents[at(i)]
            slot = at(slots[at(i)])
            if moves and cursor[SERVED] == NOT_YET:
                due = is_due(rules, registers, max(behind + i - 1, 0), behind + i, extent, largest(pool))
                if due and (not waits_for_failure(rules) or cause(pool, extent) == FRAGMENTATION):
                    reason = NEEDS_PASS
                    break
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
                    if moves and why == FRAGMENTATION and cursor[SERVED] == REFUSED:
                        why = BUDGET
                    counts[FAILED + why] += 1
                    if on_failure == HALT:
                        reason = HALTED
                elif moves:
                    counts[ALLOCATED] += registers[GRANTED] - granted
                    pin(rules, slot, to_be_pinned(rules, n))
                places[slot] = address
                if keeps:
                    addresses[at(n)] = address
                n += 1
                step = 1
            else:
                address = places[slot]
                if address >= 0:
                    free(pool, address)
                    if moves:  # a pass looks here for what is live
                        places[slot] = NONE
                else:
                    counts[IGNORED] += 1
                step = -1
            if moves:
                cursor[SERVED] = NOT_YET

            if metered:
                lasts = lasts_of(times, i)
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
                    note_geometry(
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
                integrate_geometry(geometry, counts, integrals, registers[LIMIT], blocks, lasts)
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
        note_now(counts, registers, largest(pool))
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
