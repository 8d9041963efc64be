"""Processes that work and idle in turn, and are rolled out to a disk while they idle, for others to have their memory.

    placed  ->  working -> idle -> working ... -> finished        in memory
                            |       ^
                           out     read                           by way of the disk
                            v       |
                           idle -> in the line -> placed again

A process works only while it is active and in memory; its idle time runs by the clock wherever it is. One line, first
come first served, holds those that are new and those that return; only its head is tried. If it does not fit, blocks
are moved or idle processes rolled out, in the order that was asked for; else it waits. Memory is occupied from a
placement on, and until what stood there has been written.

At one instant transfers that are done come first, then phases that end, by process number; then the line is tried, then
others arrive. Who is to be rolled out is found by freeing the memory of one idle process after the other until a hole
is large enough, and claiming it all back: so it is the policy itself that says what a hole would be. (Holes that were
supposed are new ones to policies that keep them by age: with `ties = "lifo"` they are on top afterwards.)
"""

import numpy as np

from vecalloc.kernel import inline, loop
from vecalloc.ledger import (
    ALLOCATED,
    ALLOCS,
    BYTES_IN,
    BYTES_OUT,
    COMPLETED,
    DELAYED,
    FAILED,
    FREES,
    I_BUSY,
    I_IMAGES,
    I_WORKING,
    IMAGE_BYTES,
    IMAGES,
    QUEUE,
    RETURNS,
    SLOWDOWN,
    SWAPS_IN,
    SWAPS_OUT,
    UNSTABLE,
    WAITED,
    WAITED_AGAIN,
    WORKING,
)
from vecalloc.loops.cursors import NEEDS_PASS, NOT_YET, REASON, REFUSED, SERVED, STOP, STRETCH_DONE
from vecalloc.loops.metering import integrate, is_none, note_block, note_now, scatter_of
from vecalloc.loops.waiting import (
    ARRIVAL,
    ARRIVALS,
    DECIDED,
    HEAD,
    HEADS,
    IS_UNSTABLE,
    NEEDS_ARRIVALS,
    NEEDS_REQUESTS,
    NEEDS_SLOTS,
    NEEDS_WORDS,
    QUEUE_LIMIT,
    SPARE,
    TRIED,
    WORD,
    WORDS,
)
from vecalloc.loops.words import pick_below
from vecalloc.mechanisms.bits import at
from vecalloc.mechanisms.calendar import next_due, schedule
from vecalloc.mechanisms.registers import BUDGET, FRAGMENTATION, GRANTED, NONE, SWAP_SPACE, TOO_LARGE
from vecalloc.reclaim.crowd import (
    ACTIVE,
    ARRIVED,
    COMPACT,
    COMPACT_SWAP,
    DOING,
    EXTENT,
    HAS_IMAGE,
    IDLE,
    IDLE_COUNT,
    IDLE_SLOTS,
    IDLES,
    IMPORTANCE,
    IS_OUT,
    JOINED,
    LARGEST_IDLE,
    LINE_FIRST,
    LINE_LENGTH,
    LINED_UP,
    LOADS,
    NEW,
    NEXT,
    NO_NODE,
    NODE,
    NODES_SPARE,
    NUMBER,
    OLD,
    OLD_GRANTED,
    ORDER,
    PINNED,
    RANDOM,
    READS,
    RELOCATES,
    SIZE,
    SMALLEST_SUFFICIENT,
    SPACE,
    SPARE_SLOTS,
    SWAP,
    SWAP_COMPACT,
    TRANSFER_COUNT,
    TRANSFER_FIRST,
    VICTIM,
    WAIT_UNIT,
    WORKS,
    begin_idling,
    count_in_bin,
    end_idling,
    end_phase,
    join_line,
    leave_line,
    note_slowdown,
    pick_crowd,
    take_phases,
)
from vecalloc.reclaim.passes import pick_passes, pin, to_be_pinned
from vecalloc.reclaim.swapping import (
    IN,
    OUT,
    T_DIRECTION,
    T_GRANTED,
    T_SLOT,
    T_START,
    add_transfer,
    best_by_rule,
    drop_transfer,
    heap_by_size,
    next_transfer_ends,
    place_of,
    take_smallest,
    transfer_at,
)

# --- columns of a crowd's cursor, beside those of cursors.py, waiting.py and crowd.py ---

LINE_MOVES, CAUSE = 14, 16
"""Whether the line is to be tried; the cause so far of a head for which a pass is to be made."""

NEEDS_NODES, NEEDS_LINE = 9, 10
"""Reasons: nodes for phases have run out; so has the line."""

_NOBODY, _NO_SPACE, _NO_WORDS = -1, -2, -3
"""Instead of a number of victims: nobody is in the way whose leaving would help; the swap space is full; random bits
have run out."""


@loop
def swap_each(pick, alloc, free, largest, cause, claim, is_free, pools, crowds, ledger, passes, cursors, first, last):
    """Run replicas first .. last - 1 until so many processes are decided or it is so late, or something has run out."""
    keeps = ledger.addresses.shape[1] > 0
    for r in range(first, last):
        cursor = cursors[r]
        if cursor[REASON] == IS_UNSTABLE:
            continue
        pool, registers = pick(pools, r)
        crowd = pick_crowd(crowds, r)
        rules = pick_passes(passes, r)
        moves = not is_none(passes)
        counts = ledger.counts[r]
        integrals = ledger.integrals[r]
        places = ledger.places[r]
        addresses = ledger.addresses[r]
        scatter = ledger.scatter[r]
        clock = crowd.clock
        order = crowd.settings[ORDER]
        reason = STRETCH_DONE

        while cursor[DECIDED] < cursor[STOP] and clock[0] < clock[1]:
            if cursor[LINE_MOVES] != 0 and cursor[LINE_LENGTH] > 0:
                # The head of the line is tried.
                slot = np.int64(crowd.line[at(cursor[LINE_FIRST])])
                is_new = slot == NEW
                reason = _what_lacks(crowd, cursor, is_new)
                if reason != STRETCH_DONE:
                    break
                bound = not is_new and crowd.settings[RELOCATES] == 0
                extent = crowd.extent[at(cursor[HEAD])] if is_new else crowd.facts[EXTENT, at(max(slot, 0))]
                granted = registers[GRANTED]
                address = np.int64(NONE)
                if not bound:
                    address = alloc(pool, extent)
                else:
                    extent = crowd.facts[OLD_GRANTED, at(slot)]
                    if is_free(pool, crowd.facts[OLD, at(slot)], extent) != 0:
                        address = crowd.facts[OLD, at(slot)]
                        claim(pool, address, extent)
                if address < 0:
                    why = cause(pool, extent)
                    if is_new and why == TOO_LARGE:
                        counts[FAILED + why] += 1
                        if keeps:
                            addresses[at(cursor[DECIDED])] = NONE
                        scatter += _decide(crowd, cursor, counts, registers, largest(pool))
                        continue
                    told = np.int64(why)
                    if cursor[SERVED] != NOT_YET:
                        told = np.int64(BUDGET) if cursor[SERVED] == REFUSED else cursor[CAUSE]
                    may_move = moves and cursor[SERVED] == NOT_YET and why == FRAGMENTATION
                    waits = False
                    if may_move and order in (COMPACT, COMPACT_SWAP):
                        cursor[CAUSE] = told
                        reason = NEEDS_PASS
                        break
                    if order in (SWAP, COMPACT_SWAP) or (order == SWAP_COMPACT and cursor[SERVED] == NOT_YET):
                        victims = _choose_victims(
                            free, claim, is_free, largest, pool, crowd, cursor, counts, places, slot, extent, bound
                        )
                        if victims == _NO_WORDS:
                            reason = NEEDS_WORDS
                            break
                        waits = victims >= 0
                        for i in range(victims):
                            _roll_out(crowd, cursor, counts, places, rules, crowd.scratch[2, at(i)])
                        if victims == _NO_SPACE:
                            told = np.int64(SWAP_SPACE)
                    if may_move and not waits and order == SWAP_COMPACT:
                        cursor[CAUSE] = told
                        reason = NEEDS_PASS
                        break
                    counts[DELAYED + told] += 1 - cursor[TRIED]
                    cursor[TRIED] = 1
                    cursor[SERVED] = NOT_YET
                    cursor[LINE_MOVES] = 0
                    continue
                joined = crowd.came[at(cursor[HEAD])] if is_new else crowd.times[JOINED, at(max(slot, 0))]
                counts[DELAYED] += cursor[TRIED] == 0 and clock[0] > joined
                if is_new:
                    integrals[WAITED] += clock[0] - joined
                    count_in_bin(crowd.waits, (clock[0] - joined) / WAIT_UNIT)
                    slot = _settle_in(crowd, cursor, counts, rules)
                else:
                    integrals[WAITED_AGAIN] += clock[0] - joined
                    counts[RETURNS] += 1
                places[at(2 * slot)] = address
                crowd.facts[OLD, at(slot)] = address
                crowd.facts[OLD_GRANTED, at(slot)] = registers[GRANTED] - granted
                size = crowd.facts[SIZE, at(slot)]
                note_block(counts, 1, crowd.facts[EXTENT, at(slot)], size, address + registers[GRANTED] - granted)
                counts[ALLOCATED] += registers[GRANTED] - granted
                if is_new and crowd.settings[LOADS] == 0:
                    pin(rules, 2 * slot, crowd.facts[PINNED, at(slot)])
                    _work(crowd, counts, slot)
                else:
                    pin(rules, 2 * slot, 1)
                    crowd.facts[DOING, at(slot)] = READS
                    add_transfer(crowd, cursor, slot, IN)
                if is_new:
                    if keeps:
                        addresses[at(cursor[DECIDED])] = address
                    scatter += _decide(crowd, cursor, counts, registers, largest(pool))
                else:
                    _leave_head(crowd, cursor, counts)
                continue
            cursor[LINE_MOVES] = 0

            # Time goes on to what is due next, or to an arrival before it.
            if cursor[ARRIVAL] == cursor[ARRIVALS]:
                reason = NEEDS_ARRIVALS
                break
            if cursor[LINE_LENGTH] + crowd.slots.shape[1] >= len(crowd.line):  # all may return at one instant
                reason = NEEDS_LINE
                break
            arrival = crowd.arrival[at(cursor[ARRIVAL])]
            until = min(arrival, next_transfer_ends(crowd, cursor))
            slot = next_due(crowd.calendar, until)
            if slot >= 0:
                until = crowd.calendar.time[at(slot)]
            elif until == np.inf:  # nothing will ever happen, and nobody else comes
                reason = IS_UNSTABLE
                break
            _pass_time(crowd, cursor, counts, integrals, registers, largest(pool), until)
            transfers_due = next_transfer_ends(crowd, cursor) == until
            if slot < 0 and not transfers_due:
                cursor[ARRIVAL] += 1
                join_line(crowd, cursor, NEW)
                counts[QUEUE] += 1
                if counts[QUEUE] > cursor[QUEUE_LIMIT]:
                    reason = IS_UNSTABLE
                    break
                cursor[LINE_MOVES] = 1 if cursor[LINE_LENGTH] == 1 else 0
                continue
            if transfers_due:
                if slot >= 0:  # transfers come first, and may let somebody begin a phase that ends at this instant
                    schedule(crowd.calendar, slot, until, crowd.facts[NUMBER, at(slot)])
                while next_transfer_ends(crowd, cursor) == until:
                    i = at(cursor[TRANSFER_FIRST])
                    slot = crowd.transfers[T_SLOT, i]
                    direction = crowd.transfers[T_DIRECTION, i]
                    start = crowd.transfers[T_START, i]
                    granted = crowd.transfers[T_GRANTED, i]
                    drop_transfer(crowd, cursor)
                    if direction == OUT:
                        free(pool, start)
                        places[at(2 * slot + 1)] = NONE
                        _note_written(crowd, counts, slot, start - granted)
                        scatter += scatter_of(registers, largest(pool))
                    else:
                        pin(rules, 2 * slot, crowd.facts[PINNED, at(slot)])
                        _note_read(crowd, counts, slot)
                slot = next_due(crowd.calendar, until)
            while slot >= 0:  # all phases that end at this instant, by process number
                doing = crowd.facts[DOING, at(slot)]
                if doing == WORKS:
                    counts[WORKING] -= 1
                    node = crowd.facts[NODE, at(slot)]
                    if crowd.nodes[NEXT, at(node)] != NO_NODE:
                        begin_idling(crowd, cursor, slot)
                        _end_at(crowd, slot, crowd.phases[IDLE, at(node)])
                    else:
                        free(pool, places[at(2 * slot)])
                        integrals[SLOWDOWN] += _finish(crowd, cursor, counts, places, slot)
                        scatter += scatter_of(registers, largest(pool))
                else:
                    end_phase(crowd, cursor, slot)
                    if doing == IDLES:
                        end_idling(crowd, cursor, slot)
                        _work(crowd, counts, slot)
                    else:
                        crowd.facts[DOING, at(slot)] = LINED_UP
                        crowd.times[JOINED, at(slot)] = until
                        join_line(crowd, cursor, slot)
                        counts[QUEUE] += 1
                slot = next_due(crowd.calendar, until)
            cursor[LINE_MOVES] = 1

        counts[UNSTABLE] = 1 if reason == IS_UNSTABLE else 0
        note_now(counts, registers, largest(pool))
        ledger.scatter[r] = scatter
        cursor[REASON] = reason


# --- the line --------------------------------------------------------------------------------------------------------


@inline
def _what_lacks(crowd, cursor, is_new):
    """What has to be supplied before the head is tried, as a reason; STRETCH_DONE: nothing."""
    if crowd.settings[VICTIM] == RANDOM and cursor[WORDS] - cursor[WORD] < 2 * cursor[IDLE_COUNT] + 64:
        return NEEDS_WORDS
    if not is_new:
        return STRETCH_DONE
    if cursor[HEAD] == cursor[HEADS]:
        return NEEDS_REQUESTS
    if cursor[SPARE] == 0:
        return NEEDS_SLOTS
    phases = crowd.offset[at(cursor[HEAD] + 1)] - crowd.offset[at(cursor[HEAD])]
    return NEEDS_NODES if cursor[NODES_SPARE] < phases else STRETCH_DONE


@inline
def _leave_head(crowd, cursor, counts):
    """The head has left the line."""
    leave_line(crowd, cursor)
    counts[QUEUE] -= 1
    cursor[TRIED] = 0
    cursor[SERVED] = NOT_YET


@inline
def _decide(crowd, cursor, counts, registers, big):
    """A new process has been placed or dropped; return the scatter of what is free now."""
    _leave_head(crowd, cursor, counts)
    counts[ALLOCS] += 1
    cursor[HEAD] += 1
    cursor[DECIDED] += 1
    return scatter_of(registers, big)


@inline
def _settle_in(crowd, cursor, counts, rules):
    """Give the newcomer at the head a slot, and copy into it what is known of him."""
    cursor[SPARE] -= 1
    slot = np.int64(crowd.slots[SPARE_SLOTS, at(cursor[SPARE])])
    head = at(cursor[HEAD])
    crowd.facts[NUMBER, at(slot)] = counts[ALLOCS]
    crowd.facts[SIZE, at(slot)] = crowd.requested[head]
    crowd.facts[EXTENT, at(slot)] = crowd.extent[head]
    crowd.facts[HAS_IMAGE, at(slot)] = 0
    crowd.facts[PINNED, at(slot)] = to_be_pinned(rules, cursor[HEAD])
    crowd.times[ARRIVED, at(slot)] = crowd.came[head]
    crowd.times[IMPORTANCE, at(slot)] = crowd.priority[head]
    take_phases(crowd, cursor, slot, cursor[HEAD])
    return slot


# --- phases ----------------------------------------------------------------------------------------------------------


@inline
def _end_at(crowd, slot, length):
    """Its phase ends after so much time."""
    schedule(crowd.calendar, slot, crowd.clock[0] + length, crowd.facts[NUMBER, at(slot)])


@inline
def _work(crowd, counts, slot):
    """A process in memory begins to work."""
    crowd.facts[DOING, at(slot)] = WORKS
    counts[WORKING] += 1
    _end_at(crowd, slot, crowd.phases[ACTIVE, at(crowd.facts[NODE, at(slot)])])


@inline
def _finish(crowd, cursor, counts, places, slot):
    """Its work is done and its memory freed; return its slow-down."""
    granted = crowd.facts[OLD_GRANTED, at(slot)]
    note_block(counts, -1, -crowd.facts[EXTENT, at(slot)], -crowd.facts[SIZE, at(slot)], places[at(2 * slot)] - granted)
    counts[FREES] += 1
    counts[COMPLETED] += 1
    places[at(2 * slot)] = NONE
    end_phase(crowd, cursor, slot)
    crowd.slots[SPARE_SLOTS, at(cursor[SPARE])] = slot
    cursor[SPARE] += 1
    return note_slowdown(crowd, slot)


@inline
def _pass_time(crowd, cursor, counts, integrals, registers, big, until):
    """Let the present state last until then."""
    lasts = until - crowd.clock[0]
    integrate(counts, integrals, registers, big, lasts)
    integrals[I_WORKING] += lasts * counts[WORKING]
    integrals[I_IMAGES] += lasts * counts[IMAGES]
    integrals[I_BUSY] += lasts if cursor[TRANSFER_COUNT] > 0 else 0.0
    crowd.clock[0] = until


# --- the disk --------------------------------------------------------------------------------------------------------


@inline
def _roll_out(crowd, cursor, counts, places, rules, slot):
    """An idle process is to be written; its memory is occupied until that is done, its image takes space from now."""
    end_idling(crowd, cursor, slot)
    start = places[at(2 * slot)]
    places[at(2 * slot)] = NONE
    places[at(2 * slot + 1)] = start
    pin(rules, 2 * slot + 1, 1)
    crowd.facts[DOING, at(slot)] = IS_OUT
    crowd.facts[HAS_IMAGE, at(slot)] = 1
    crowd.facts[OLD, at(slot)] = start
    counts[IMAGES] += 1
    counts[IMAGE_BYTES] += crowd.facts[SIZE, at(slot)]
    add_transfer(crowd, cursor, slot, OUT)


@inline
def _note_written(crowd, counts, slot, end):
    """A process has been written, and its memory freed; `end` is the start of its block - granted."""
    size = crowd.facts[SIZE, at(slot)]
    note_block(counts, -1, -crowd.facts[EXTENT, at(slot)], -size, end)
    counts[FREES] += 1
    counts[SWAPS_OUT] += 1
    counts[BYTES_OUT] += size


@inline
def _note_read(crowd, counts, slot):
    """A process has been read: its image is no more, and it works."""
    size = crowd.facts[SIZE, at(slot)]
    counts[SWAPS_IN] += 1
    counts[BYTES_IN] += size
    if crowd.facts[HAS_IMAGE, at(slot)] != 0:
        crowd.facts[HAS_IMAGE, at(slot)] = 0
        counts[IMAGES] -= 1
        counts[IMAGE_BYTES] -= size
    _work(crowd, counts, slot)


# --- victims ---------------------------------------------------------------------------------------------------------


@loop
def _choose_victims(free, claim, is_free, largest, pool, crowd, cursor, counts, places, slot, extent, bound):
    """Choose who is to be rolled out for the head of the line: into row 2 of `scratch`.

    Returns
    -------
    int64
        How many; 0: the writes under way will do; or _NOBODY, _NO_SPACE or _NO_WORDS.
    """
    freed = np.int64(0)
    for k in range(cursor[TRANSFER_COUNT]):
        i = at(transfer_at(crowd, cursor, np.int64(k)))
        if crowd.transfers[T_DIRECTION, i] == OUT:
            crowd.scratch[0, at(freed)] = crowd.transfers[T_START, i]
            crowd.scratch[1, at(freed)] = crowd.transfers[T_GRANTED, i]
            free(pool, crowd.transfers[T_START, i])
            freed += 1
    left = cursor[IDLE_COUNT]
    for i in range(left):
        crowd.scratch[3, at(i)] = crowd.slots[IDLE_SLOTS, at(i)]
    candidates = crowd.scratch[3]
    first_word = cursor[WORD]
    space = crowd.settings[SPACE] - counts[IMAGE_BYTES]
    rule = crowd.settings[VICTIM]
    old = crowd.facts[OLD, at(max(slot, 0))]
    victims = np.int64(0)
    while victims >= 0:
        if (is_free(pool, old, extent) != 0) if bound else (largest(pool) >= extent):
            break
        chosen = np.int64(_NOBODY)
        if bound:
            chosen = _lowest_in_the_way(crowd, places, candidates, left, victims, old, old + extent)
        elif left == 0:
            chosen = np.int64(_NOBODY)
        elif rule == RANDOM:
            chosen = pick_below(crowd.words, cursor, WORD, left)
            if chosen < 0:
                chosen = np.int64(_NO_WORDS)
                cursor[WORD] = first_word
        elif rule == SMALLEST_SUFFICIENT:
            heap_by_size(crowd, candidates, crowd.scratch[4], left)
            for count in range(left, 0, -1):
                tried = take_smallest(crowd, crowd.scratch[4], np.int64(count))
                free(pool, places[at(2 * tried)])
                suffices = largest(pool) >= extent
                claim(pool, places[at(2 * tried)], crowd.facts[OLD_GRANTED, at(tried)])
                if suffices:
                    chosen = place_of(candidates, tried)
                    break
            if chosen < 0:
                chosen = best_by_rule(crowd, np.int64(LARGEST_IDLE), candidates, left)
        else:
            chosen = best_by_rule(crowd, rule, candidates, left)
        if chosen < 0:
            victims = chosen
        else:
            victim = candidates[at(chosen)]
            size = crowd.facts[SIZE, at(victim)]
            if size > space:
                victims = np.int64(_NO_SPACE)
            else:
                space -= size
                left -= 1
                candidates[at(chosen)] = candidates[at(left)]
                crowd.scratch[2, at(victims)] = victim
                victims += 1
                crowd.scratch[0, at(freed)] = places[at(2 * victim)]
                crowd.scratch[1, at(freed)] = crowd.facts[OLD_GRANTED, at(victim)]
                free(pool, places[at(2 * victim)])
                freed += 1
    while freed > 0:
        freed -= 1
        claim(pool, crowd.scratch[0, at(freed)], crowd.scratch[1, at(freed)])
    return victims


@inline
def _lowest_in_the_way(crowd, places, candidates, left, victims, start, end):
    """Of the candidates that overlap a range, the place in their list of the lowest; _NOBODY if others do too."""
    chosen = np.int64(_NOBODY)
    overlapping = np.int64(0)
    for i in range(left):
        slot = candidates[at(i)]
        p = places[at(2 * slot)]
        if p < end and start < p + crowd.facts[OLD_GRANTED, at(slot)]:
            overlapping += 1
            if chosen < 0 or p < places[at(2 * candidates[at(chosen)])]:
                chosen = np.int64(i)
    for slot in range(crowd.slots.shape[1]):
        p = places[at(2 * slot)]
        if p >= 0 and p < end and start < p + crowd.facts[OLD_GRANTED, at(slot)]:
            overlapping -= 1
    for i in range(victims):  # they are supposed to be gone
        slot = crowd.scratch[2, at(i)]
        p = places[at(2 * slot)]
        if p < end and start < p + crowd.facts[OLD_GRANTED, at(slot)]:
            overlapping += 1
    return chosen if overlapping == 0 else np.int64(_NOBODY)
