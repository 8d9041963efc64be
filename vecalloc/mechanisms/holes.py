"""Splitting and coalescing: what all hole policies do to the bitmaps, whatever index they search.

    before   A A A A . . . . . . B      split(hole at 4, extent 2)      A A A A C C . . . . B
    before   . . A A A . . B            coalesce(block at 2)            . . . . . . . B
    before   A . . . . . B              carve_out(from 2, 3 granules)   A . C C C . B

Each function changes bitmaps and registers and returns what the policy needs to tell its own index. In *grow* the limit
is the end of the highest live block, and the space above it is no hole: a block placed there moves the limit up,
freeing the last block moves it down, over the hole that stood before it.
"""

from typing import NamedTuple, Protocol

import numpy as np

from vecalloc.kernel import inline, rows
from vecalloc.mechanisms.bitmaps import (
    Bitmaps,
    clear_start,
    hole_table,
    is_hole,
    mark_hole,
    new_bitmaps,
    next_start,
    pick_bitmaps,
    previous_start,
    set_start,
    unmark_hole,
)
from vecalloc.mechanisms.registers import (
    CAPACITY,
    CARVE_HIGH,
    FRAGMENTATION,
    GRANTED,
    GROWS,
    HOLES,
    LIMIT,
    MIN_SPLIT,
    NONE,
    REACH,
    TOO_LARGE,
    new_registers,
)


class Holes(NamedTuple):
    """Bitmaps and registers of one replica, or of many with a leading replica axis."""

    bitmaps: Bitmaps
    registers: np.ndarray


class HoleHeap(Protocol):
    """The state of a policy that stands on holes."""

    @property
    def holes(self) -> Holes:
        """Its holes, of many replicas."""
        ...


def new_holes(replicas: int, granules: int, grows: bool, min_split: int = 1, carve_high: bool = False) -> Holes:
    """Return empty pools of `granules` granules: one hole, or in *grow* nothing but room above the limit."""
    holes = Holes(new_bitmaps(replicas, granules), new_registers(replicas))
    limit = 0 if grows else granules
    registers = holes.registers
    registers[:, LIMIT] = limit
    registers[:, REACH] = granules
    registers[:, GROWS] = grows
    registers[:, MIN_SPLIT] = min_split
    registers[:, CARVE_HIGH] = carve_high
    registers[:, HOLES] = not grows
    for p in {0, limit}:
        holes.bitmaps.words[:, 2 * (p >> 6)] |= np.int64(1) << np.int64(p & 63)
        holes.bitmaps.summary[:, p >> 12] |= np.int64(1) << np.int64((p >> 6) & 63)
        holes.bitmaps.digest[:, p >> 18] |= np.int64(1) << np.int64((p >> 12) & 63)
    holes.bitmaps.words[:, 1] |= not grows
    return holes


def extend_holes(old: Holes, granules: int) -> Holes:
    """Return the same pools in arrays that reach `granules` granules (*grow* only)."""
    new = Holes(new_bitmaps(len(old.registers), granules), old.registers)
    for source, target in zip(old.bitmaps, new.bitmaps, strict=True):
        target[:, : source.shape[1]] = source
    new.registers[:, REACH] = granules
    return new


def reach_for(holes: Holes, replica: int, extent: int, most: int) -> int | None:
    """How far the arrays must reach for `extent` granules above the limit, doubling; None beyond `most` granules."""
    needed = int(holes.registers[replica, LIMIT]) + extent
    reach = int(holes.registers[replica, REACH])
    while reach < needed:
        reach *= 2
    return min(reach, most) if needed <= most else None


def table_of_holes(holes: Holes, replica: int) -> np.ndarray:
    """All holes of one replica in address order: int64 (n, 2), start and size in granules."""
    return hole_table(holes.bitmaps.words[replica], int(holes.registers[replica, LIMIT]))


def holes_of_heap(heap: HoleHeap, replica: int) -> np.ndarray:
    """`table_of_holes` of a policy's whole state, whatever index stands beside the holes."""
    return table_of_holes(heap.holes, replica)


@rows
def pick_holes(holes, r):
    """Replica r's rows."""
    return Holes(pick_bitmaps(holes.bitmaps, r), holes.registers[r])


@inline
def why_no_hole_fits(heap, extent):
    """The cause of a failure, for any heap that stands on `holes`."""
    registers = heap.holes.registers
    if extent > registers[LIMIT] and registers[GROWS] == 0:
        return TOO_LARGE
    return CAPACITY if extent > registers[LIMIT] - registers[GRANTED] else FRAGMENTATION


@inline
def split(holes, start, size, extent):
    """Grant `extent` granules of the hole [start, start + size).

    Returns
    -------
    block, rest, remainder : int64
        Start of the block; start and size of what remains a hole (remainder 0: nothing remains).
    """
    bitmaps, registers = holes
    remainder = size - extent
    if remainder < registers[MIN_SPLIT]:
        unmark_hole(bitmaps, start)
        registers[HOLES] -= 1
        registers[GRANTED] += size
        return start, start, np.int64(0)
    registers[GRANTED] += extent
    if registers[CARVE_HIGH] != 0:
        set_start(bitmaps, start + remainder)
        return start + remainder, start, remainder
    unmark_hole(bitmaps, start)
    set_start(bitmaps, start + extent)
    mark_hole(bitmaps, start + extent)
    return start, start + extent, remainder


@inline
def place_at_limit(holes, extent):
    """In *grow*, grant `extent` granules just above the highest live block; NONE otherwise or where arrays end."""
    bitmaps, registers = holes
    limit = registers[LIMIT]
    if registers[GROWS] == 0 or limit + extent > registers[REACH]:
        return np.int64(NONE)
    set_start(bitmaps, limit + extent)
    registers[LIMIT] = limit + extent
    registers[GRANTED] += extent
    return limit


@inline
def carve_out(holes, address, granted):
    """Make a live block of exactly [address, address + granted), all of it inside one hole.

    What is left of the hole below and above stays a hole, however small.

    Returns
    -------
    start, end : int64
        The hole was [start, end).
    """
    bitmaps, registers = holes
    start = previous_start(bitmaps, address)
    end = next_start(bitmaps, address + 1)
    if start < address:
        set_start(bitmaps, address)
    else:
        unmark_hole(bitmaps, start)
        registers[HOLES] -= 1
    if address + granted < end:
        set_start(bitmaps, address + granted)
        mark_hole(bitmaps, address + granted)
        registers[HOLES] += 1
    registers[GRANTED] += granted
    return start, end


@inline
def is_free_in_holes(heap, address, granted):
    """1 if [address, address + granted) lies inside one hole, else 0, for any heap that stands on `holes`."""
    bitmaps, registers = heap.holes
    if address + granted > registers[LIMIT]:
        return np.int64(0)
    if is_hole(bitmaps, previous_start(bitmaps, address)) == 0:
        return np.int64(0)
    return np.int64(next_start(bitmaps, address + 1) >= address + granted)


@inline
def settle_in_holes(heap, start, size):
    """A block was moved to `start`: nothing is kept about a block but its start in the bitmaps."""


@inline
def coalesce(holes, block):
    """Give back the live block that starts at `block` and merge it with the holes beside it.

    Returns
    -------
    start, right, end : int64
        The merged free run is [start, end). If start < block, the hole [start, block) was swallowed; if right < end,
        the hole [right, end) was. In *grow* a run that reaches the limit is no hole and
        the limit falls to its start (`is_at_limit`).
    """
    bitmaps, registers = holes
    right = next_start(bitmaps, block + 1)
    registers[GRANTED] -= right - block
    end = right
    if is_hole(bitmaps, right) != 0:
        end = next_start(bitmaps, right + 1)
        clear_start(bitmaps, right)
        unmark_hole(bitmaps, right)
        registers[HOLES] -= 1
    start = block
    if block > 0:
        before = previous_start(bitmaps, block - 1)
        if is_hole(bitmaps, before) != 0:
            start = before
            clear_start(bitmaps, block)
            registers[HOLES] -= 1
    if registers[GROWS] != 0 and end == registers[LIMIT]:
        clear_start(bitmaps, end)
        unmark_hole(bitmaps, start)
        registers[LIMIT] = start
    else:
        mark_hole(bitmaps, start)
        registers[HOLES] += 1
    return start, right, end


@inline
def is_at_limit(holes, start):
    """Whether a run that `coalesce` returned lies above the limit now: no hole, and not for the index."""
    return start == holes.registers[LIMIT]
