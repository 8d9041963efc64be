"""The processes of a replica: what each is and does, who idles, who stands in the line, what is left to be done.

    slots       a number of facts and times for each process that has been placed and has not finished
    phases      a list for each, of (active, idle) lengths in nodes that are used again
    idle        those that idle in memory, in the order in which victims are picked at random
    line        first come, first served: slots of those that return, NEW for each that has just arrived

A process has two memory slots in the ledger's places: `2 slot`, where it is, and `2 slot + 1`, from where it is being
written, for it may have been placed again before that is done.
"""

from typing import NamedTuple

import numpy as np

from vecalloc.kernel import inline, rows
from vecalloc.mechanisms.bits import at
from vecalloc.mechanisms.calendar import Calendar, pick_calendar

# --- columns of `settings`, int64 ---

VICTIM, ORDER, RELOCATES, LOADS, SPACE = range(5)
"""The rule for victims; which remedies there are, in which order; whether processes may return elsewhere; whether new
ones are read from the disk; bytes of the swap space."""

SETTINGS = 5

LRU, LARGEST_IDLE, SMALLEST_SUFFICIENT, RANDOM, LOWEST_PRIORITY = range(5)
"""Rules for victims."""

NOTHING, COMPACT, SWAP, COMPACT_SWAP, SWAP_COMPACT = range(5)
"""Orders of remedies."""

LATENCY, BANDWIDTH = 0, 1
"""Columns of `disk`, float64: time, bytes a unit of time."""

# --- rows of `facts`, int64 ---

NUMBER, SIZE, EXTENT, OLD, OLD_GRANTED, DOING, HAS_IMAGE, NODE, IDLE_PLACE, PINNED = range(10)
"""The how-manieth process it is; bytes and granules asked for; where its block is or last was, and what was granted;
what it does; whether it has an image on the swap space; its present phase; its place in the list of the idle; whether
compaction must not move it."""

FACTS = 10

LINED_UP, WORKS, READS, IDLES, IS_OUT = range(5)
"""What a process does: it waits in the line; works; is being read; idles in memory; idles while it is being written or
has been."""

# --- rows of `times`, float64 ---

ARRIVED, LENGTH, JOINED, SINCE, IMPORTANCE = range(5)
"""When it arrived; how long it takes if it never waits; when it joined the line; since when it idles; its priority."""

TIMES = 5

SPARE_SLOTS, IDLE_SLOTS = 0, 1
"""Rows of `slots`: a stack; a list."""

ACTIVE, IDLE = 0, 1
"""Rows of `phases`: lengths."""

NEXT, SPARE_NODES = 0, 1
"""Rows of `nodes`: the node of the phase that follows, NO_NODE after the last; a stack."""

NO_NODE = -1

NEW = -1
"""In the line: one that has just arrived."""

BINS_PER_OCTAVE = 64
BINS = 64 * BINS_PER_OCTAVE
"""Of a histogram on a logarithmic scale: what is at least 2^(k / 64) times its unit is in bin k or above, the last one
takes what is beyond, the first one what is below."""

WAIT_UNIT = 2.0**-30
"""Of the histogram of waiting times; slow-downs are counted from 1 up."""


class Crowd(NamedTuple):
    """Processes, one row a replica but for `settings` and `disk`, which all share.

    Attributes
    ----------
    settings : int64[5]
    disk : float64[2]
    arrival : float64 (replicas, arrivals)
        When those to come arrive.
    came, priority : float64 (replicas, newcomers)
        Of the next that will be first in line: when they arrived, and their priority.
    requested, extent : int64 (replicas, newcomers)
        Bytes and granules.
    offset : int64 (replicas, newcomers + 1)
        Where the phases of each begin.
    active, idle : float64 (replicas, phases)
        Their lengths.
    words : int64 (replicas, words)
        Random bits that victims are picked by.
    clock : float64 (replicas, 2)
        What time it is, and when the stretch ends.
    calendar : Calendar
        When phases end, by slot.
    facts : int64 (replicas, FACTS, slots)
    times : float64 (replicas, TIMES, slots)
    slots : int32 (replicas, 2, slots)
    line : int32 (replicas, places)
        A ring.
    transfers : int64 (replicas, 4, 2 slots)
        A ring of what the disk has to do: slot, direction, start and granted granules of the block.
    ends : float64 (replicas, 2 slots)
        When each transfer is done.
    phases : float64 (replicas, 2, nodes)
    nodes : int32 (replicas, 2, nodes)
    scratch : int64 (replicas, 5, 2 slots)
        Starts and granules of blocks that are freed to see what would be; victims; candidates; the same as a heap.
    slowdowns, waits : int64 (replicas, BINS)
        Processes that have finished, by slow-down; processes that have been placed, by the time that took.
    """

    settings: np.ndarray
    disk: np.ndarray
    arrival: np.ndarray
    came: np.ndarray
    priority: np.ndarray
    requested: np.ndarray
    extent: np.ndarray
    offset: np.ndarray
    active: np.ndarray
    idle: np.ndarray
    words: np.ndarray
    clock: np.ndarray
    calendar: Calendar
    facts: np.ndarray
    times: np.ndarray
    slots: np.ndarray
    line: np.ndarray
    transfers: np.ndarray
    ends: np.ndarray
    phases: np.ndarray
    nodes: np.ndarray
    scratch: np.ndarray
    slowdowns: np.ndarray
    waits: np.ndarray


# --- columns of a crowd's cursor, int64 (replicas, CROWD_CURSORS); 0 .. 19 are those of loops/ ---

LINE_FIRST, LINE_LENGTH, IDLE_COUNT = 20, 21, 22
"""The ring of the line; how many idle in memory."""

TRANSFER_FIRST, TRANSFER_COUNT = 23, 24
"""The ring of the disk."""

NODES_SPARE = 25

CROWD_CURSORS = 32


@rows
def pick_crowd(crowd, r):
    """Replica r's rows."""
    return Crowd(
        crowd.settings,
        crowd.disk,
        crowd.arrival[r],
        crowd.came[r],
        crowd.priority[r],
        crowd.requested[r],
        crowd.extent[r],
        crowd.offset[r],
        crowd.active[r],
        crowd.idle[r],
        crowd.words[r],
        crowd.clock[r],
        pick_calendar(crowd.calendar, r),
        crowd.facts[r],
        crowd.times[r],
        crowd.slots[r],
        crowd.line[r],
        crowd.transfers[r],
        crowd.ends[r],
        crowd.phases[r],
        crowd.nodes[r],
        crowd.scratch[r],
        crowd.slowdowns[r],
        crowd.waits[r],
    )


@inline
def join_line(crowd, cursor, who):
    """A slot, or NEW, goes to the end of the line, which has room."""
    i = cursor[LINE_FIRST] + cursor[LINE_LENGTH]
    if i >= len(crowd.line):
        i -= len(crowd.line)
    crowd.line[at(i)] = who
    cursor[LINE_LENGTH] += 1


@inline
def leave_line(crowd, cursor):
    """The head leaves."""
    cursor[LINE_FIRST] += 1
    if cursor[LINE_FIRST] == len(crowd.line):
        cursor[LINE_FIRST] = 0
    cursor[LINE_LENGTH] -= 1


@inline
def begin_idling(crowd, cursor, slot):
    """A process in memory idles from now on."""
    crowd.facts[DOING, at(slot)] = IDLES
    crowd.facts[IDLE_PLACE, at(slot)] = cursor[IDLE_COUNT]
    crowd.times[SINCE, at(slot)] = crowd.clock[0]
    crowd.slots[IDLE_SLOTS, at(cursor[IDLE_COUNT])] = slot
    cursor[IDLE_COUNT] += 1


@inline
def end_idling(crowd, cursor, slot):
    """It no longer idles in memory: the last one of the list takes its place."""
    cursor[IDLE_COUNT] -= 1
    last = crowd.slots[IDLE_SLOTS, at(cursor[IDLE_COUNT])]
    place = crowd.facts[IDLE_PLACE, at(slot)]
    crowd.slots[IDLE_SLOTS, at(place)] = last
    crowd.facts[IDLE_PLACE, at(np.int64(last))] = place


@inline
def take_phases(crowd, cursor, slot, newcomer):
    """Copy the phases of a newcomer into nodes of its slot; there are enough."""
    first = crowd.offset[at(newcomer)]
    end = crowd.offset[at(newcomer + 1)]
    following = np.int64(NO_NODE)
    for i in range(end - 1, first - 1, -1):
        cursor[NODES_SPARE] -= 1
        node = np.int64(crowd.nodes[SPARE_NODES, at(cursor[NODES_SPARE])])
        crowd.phases[ACTIVE, at(node)] = crowd.active[at(i)]
        crowd.phases[IDLE, at(node)] = crowd.idle[at(i)]
        crowd.nodes[NEXT, at(node)] = following
        following = node
    crowd.facts[NODE, at(slot)] = following
    length = np.float64(0.0)
    for i in range(first, end):
        length += crowd.active[at(i)]
        if i < end - 1:
            length += crowd.idle[at(i)]
    crowd.times[LENGTH, at(slot)] = length


@inline
def end_phase(crowd, cursor, slot):
    """Its present phase is over: the next one is its present one."""
    node = crowd.facts[NODE, at(slot)]
    crowd.facts[NODE, at(slot)] = crowd.nodes[NEXT, at(node)]
    crowd.nodes[SPARE_NODES, at(cursor[NODES_SPARE])] = node
    cursor[NODES_SPARE] += 1


@inline
def note_slowdown(crowd, slot):
    """A process has finished: enter its slow-down, and return it."""
    length = crowd.times[LENGTH, at(slot)]
    slowdown = (crowd.clock[0] - crowd.times[ARRIVED, at(slot)]) / length if length > 0 else 1.0
    count_in_bin(crowd.slowdowns, slowdown)
    return slowdown


@inline
def count_in_bin(histogram, value):
    """One more of this value, in units of the histogram."""
    k = np.int64(BINS_PER_OCTAVE * np.log2(max(value, 1.0)))
    histogram[at(min(k, BINS - 1))] += 1
