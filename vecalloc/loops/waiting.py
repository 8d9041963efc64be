"""Requests that wait for room: the order of events comes about with the placements.

First come, first served: who is first in line is tried on arrival, and again after the deaths of each instant; those
behind wait.
"""

from typing import NamedTuple

import numpy as np

from vecalloc.kernel import inline, loop
from vecalloc.ledger import (
    ALLOCATED,
    ALLOCS,
    BLOCKS,
    DELAYED,
    FAILED,
    FREES,
    QUEUE,
    UNSTABLE,
)
from vecalloc.loops.cursors import BIN_WIDTH, NEEDS_PASS, NOT_YET, REASON, REFUSED, SERVED, STOP, STRETCH_DONE
from vecalloc.loops.metering import (
    integrate,
    integrate_geometry,
    is_none,
    note_block,
    note_geometry,
    note_now,
    pick_geometry,
    pick_times,
    scatter_of,
)
from vecalloc.loops.words import pick_below
from vecalloc.mechanisms.bits import at
from vecalloc.mechanisms.calendar import Calendar, next_due, pick_calendar, schedule
from vecalloc.mechanisms.registers import BUDGET, FRAGMENTATION, GRANTED, HOLES, LIMIT, NONE, TOO_LARGE
from vecalloc.reclaim.passes import is_due, pick_passes, pin, to_be_pinned, waits_for_failure


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


# --- columns of a flow's cursor, int64 (replicas, FLOW_CURSORS), beside those of cursors.py ---

DECIDED = 0
"""Requests that were placed or dropped: where the stretch has got to."""

ARRIVAL, ARRIVALS, HEAD, HEADS, WORD, WORDS = 8, 9, 10, 11, 12, 13
"""The next arrival, request and random word, each with the end of what is at hand."""

BLOCKED, TRIED, WAITED = 14, 15, 16
"""Of the first in line: has to wait for a death; did not fit at its first try; was not the first when it arrived."""

SPARE, QUEUE_LIMIT = 17, 18
"""Free slots; the longest queue."""

LOOKED = 19
"""How many events were behind when somebody last looked whether a pass is due."""

FLOW_CURSORS = 24

NEEDS_SLOTS, NEEDS_ARRIVALS, NEEDS_REQUESTS, NEEDS_WORDS, IS_UNSTABLE = 4, 5, 6, 7, 8
"""Reasons: something has run out; the queue can only grow."""


@loop
def process_each(pick, alloc, free, largest, cause, pools, flow, ledger, passes, cursors, first, last):
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
        arrivals = pick_times(flow.arrival, r)
        lives = pick_times(flow.life, r)
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
        geometry = pick_geometry(ledger.geometry, r)
        moves = not is_none(passes)
        rules = pick_passes(passes, r)
        always = is_none(arrivals)
        victims = is_none(lives)
        reason = STRETCH_DONE
        scatter = ledger.scatter[r]

        while cursor[DECIDED] < cursor[STOP] and clock[0] < clock[1]:
            if moves and cursor[SERVED] == NOT_YET and not waits_for_failure(rules):
                event = counts[ALLOCS] + counts[FREES]
                due = is_due(rules, registers, cursor[LOOKED], event, np.int64(0), largest(pool))
                cursor[LOOKED] = event
                if due:
                    reason = NEEDS_PASS
                    break
            if cursor[BLOCKED] == 0 and (always or counts[QUEUE] > 0):
                # Who is first in line is tried.
                if cursor[HEAD] == cursor[HEADS]:
                    reason = NEEDS_REQUESTS
                    break
                if cursor[SPARE] == 0:
                    reason = NEEDS_SLOTS
                    break
                extent = extents[at(cursor[HEAD])]
                may_move = moves and cursor[SERVED] == NOT_YET and waits_for_failure(rules)
                if may_move and extent > largest(pool) and cause(pool, extent) == FRAGMENTATION:
                    reason = NEEDS_PASS
                    break
                granted = registers[GRANTED]
                holes = registers[HOLES]
                limit = registers[LIMIT]
                address = alloc(pool, extent)
                if address < 0:
                    why = cause(pool, extent)
                    if moves and why == FRAGMENTATION and cursor[SERVED] == REFUSED:
                        why = BUDGET
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
                    if moves:
                        counts[ALLOCATED] += registers[GRANTED] - granted
                        pin(rules, slot, to_be_pinned(rules, cursor[HEAD]))
                    note_block(counts, 1, extent, requested, end)
                    moved = registers[LIMIT] != limit
                    note_geometry(geometry, counts, cursor[BIN_WIDTH], 1, address, end, registers[HOLES] - holes, moved)
                if keeps:
                    addresses[at(cursor[DECIDED])] = address
                counts[ALLOCS] += 1
                cursor[HEAD] += 1
                cursor[DECIDED] += 1
                cursor[TRIED] = 0
                cursor[SERVED] = NOT_YET
                if not always:
                    counts[QUEUE] -= 1
                    cursor[WAITED] = 1
                scatter += scatter_of(registers, largest(pool))
                if victims:
                    clock[0] += 1.0
                    integrate(counts, integrals, registers, largest(pool), 1.0)
                    integrate_geometry(geometry, counts, integrals, registers[LIMIT], counts[BLOCKS], 1.0)
                continue

            # Nobody can be placed: time goes on to the next death, or to an arrival before it.
            until = np.float64(0.0)
            if victims:
                if counts[BLOCKS] == 0:  # an empty pool, and yet it does not fit: units that are too small
                    reason = IS_UNSTABLE
                    break
                chosen = pick_below(words, cursor, WORD, counts[BLOCKS])
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
                integrate(counts, integrals, registers, big, until - clock[0])
                integrate_geometry(geometry, counts, integrals, registers[LIMIT], counts[BLOCKS], until - clock[0])
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
                if moves:  # a pass looks here for what is live
                    places[at(slot)] = NONE
                end = address + registers[GRANTED] - granted
                note_block(counts, -1, -extent_by[at(slot)], -asked_by[at(slot)], end)
                moved = registers[LIMIT] != limit
                note_geometry(geometry, counts, cursor[BIN_WIDTH], -1, address, end, registers[HOLES] - holes, moved)
                counts[FREES] += 1
                spare[at(cursor[SPARE])] = slot
                cursor[SPARE] += 1
                scatter += scatter_of(registers, largest(pool))
                slot = np.int64(-1)
                if victims:
                    clock[0] += 1.0
                    integrate(counts, integrals, registers, largest(pool), 1.0)
                    integrate_geometry(geometry, counts, integrals, registers[LIMIT], counts[BLOCKS], 1.0)
                else:
                    slot = next_due(calendar, until)
            cursor[BLOCKED] = 0
            cursor[SERVED] = NOT_YET

        counts[UNSTABLE] = 1 if reason == IS_UNSTABLE else 0
        note_now(counts, registers, largest(pool))
        ledger.scatter[r] = scatter
        cursor[REASON] = reason


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
