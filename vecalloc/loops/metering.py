"""What every loop writes into the ledger: what lives now, its peaks and integrals, and where blocks lie."""

import numpy as np

from vecalloc.kernel import inline, kernel, outline, rows
from vecalloc.ledger import (
    BLOCKS,
    BOTTOM_TAKEN,
    DEMAND,
    DURATION,
    EXACT_FITS,
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
    Geometry,
    Orders,
)
from vecalloc.mechanisms.bits import at, highest
from vecalloc.mechanisms.bitset import Bitset, discard, insert, last
from vecalloc.mechanisms.registers import GRANTED, HOLES, LIMIT


@rows
def pick_geometry(geometry, r):
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
def pick_times(times, r):
    """Replica r's times, None if the event index is the clock."""
    if times is None:
        return None
    return times[r]


@inline
def lasts_of(times, i):
    """How long the state after event i lasts: a whole number by the event index, a float by the times."""
    if times is None:
        return np.int64(1)
    return times[at(i + 1)] - times[at(i)]


@outline
def note_geometry(geometry, counts, bin_width, step, address, end, new_holes, limit_moved):
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
def integrate_geometry(geometry, counts, integrals, limit, blocks, lasts):
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


@inline
def is_none(x):
    """Whether an argument is None: known when the kernel is compiled."""
    return x is None


@inline
def note_block(counts, step, extent, requested, end):
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
def note_now(counts, registers, big):
    """The state at the end of a stretch; `big` is the largest hole."""
    counts[NOW_GRANTED] = registers[GRANTED]
    counts[NOW_HOLES] = registers[HOLES]
    counts[NOW_LIMIT] = registers[LIMIT]
    counts[NOW_LARGEST] = big


@inline
def scatter_of(registers, big):
    """1 - largest hole / total free, 0 if the pool is full."""
    total_free = registers[LIMIT] - registers[GRANTED]
    return 1.0 - big / total_free if total_free > 0 else 0.0


@inline
def integrate(counts, integrals, registers, big, lasts):
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


@kernel
def note_moves(ledger, changes):
    """Blocks have moved: so have their ends."""
    geometry = ledger.geometry
    for k in range(len(changes.replica)):
        r = changes.replica[k]
        ends = Bitset(geometry.ends[r], geometry.ends_table)
        moved = changes.moved[k, : changes.count[k, 2]]
        for i in range(len(moved)):
            discard(ends, 0, moved[i, 0] + moved[i, 2])
            ledger.counts[r, BOTTOM_TAKEN] -= moved[i, 0] == 0
        for i in range(len(moved)):
            insert(ends, 0, moved[i, 1] + moved[i, 2])
            ledger.counts[r, BOTTOM_TAKEN] += moved[i, 1] == 0
