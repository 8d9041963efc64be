"""Units of several sizes, fixed when the pool is made, taken and given back whole.

Units are ranked by (size, address), so that the units of one size (a *class*) stand together and the smallest that are
large enough come first:

    address    0     4         12  14             units = [4, 8, 2, 4]
               [  4  |    8    | 2 |   4  ]
    rank          1       3      0     2          classes 2, 4, 8 begin at ranks 0, 1, 3

The layout does not change while a stretch runs; in *grow* a unit is added at the end between two of them.

Where the last freed unit is given out first, the free units of one size stand on a stack, a slice of an array. A unit
that is claimed by its address leaves it from wherever it stands.
"""

from typing import NamedTuple

import numpy as np

from vecalloc.kernel import inline, rows
from vecalloc.mechanisms.bits import at
from vecalloc.mechanisms.registers import CAPACITY, TOO_LARGE


class Units(NamedTuple):
    """The layout of one replica, or of many where the arrays have a leading replica axis.

    Attributes
    ----------
    sizes : int64[classes]
        The different sizes in increasing order, in granules. Shared by all replicas.
    firsts : int64[classes + 1]
        Rank of the first unit of each class, and the number of units.
    starts : int64[units]
        Address of each unit by rank, in granules.
    ranks : int64[units]
        Rank of each unit in address order.
    """

    sizes: np.ndarray
    firsts: np.ndarray
    starts: np.ndarray
    ranks: np.ndarray


def new_units(replicas: int, sizes: np.ndarray) -> Units:
    """Lay out units of these sizes (granules) side by side in this order, the same in every replica."""
    different = np.unique(sizes)
    units = Units(
        different.astype(np.int64),
        np.zeros((replicas, len(different) + 1), np.int64),
        np.zeros((replicas, len(sizes)), np.int64),
        np.zeros((replicas, len(sizes)), np.int64),
    )
    for r in range(replicas):
        _lay_out(units, r, sizes)
    return units


def add_unit(old: Units, replica: int, size: int) -> Units:
    """Return the layout with one more unit of a known size at the end of one replica's pool."""
    count = int(old.firsts[replica, -1])
    _starts, sizes = unit_table(old, replica, np.arange(count)).T
    new = old
    if count == old.starts.shape[1]:
        new = old._replace(
            starts=np.pad(old.starts, ((0, 0), (0, count))), ranks=np.pad(old.ranks, ((0, 0), (0, count)))
        )
    _lay_out(new, replica, np.append(sizes, size))
    return new


def _lay_out(units: Units, r: int, sizes: np.ndarray) -> None:
    starts = np.cumsum(sizes) - sizes
    by_rank = np.lexsort([starts, sizes])
    units.firsts[r] = np.append(np.searchsorted(sizes[by_rank], units.sizes), len(sizes))
    units.starts[r, : len(sizes)] = starts[by_rank]
    units.ranks[r, by_rank] = np.arange(len(sizes))


def unit_table(units: Units, replica: int, ranks: np.ndarray) -> np.ndarray:
    """Start and size of the units of these ranks, in address order: int64 (n, 2)."""
    classes = np.searchsorted(units.firsts[replica], ranks, side="right") - 1
    table = np.stack([units.starts[replica, ranks], units.sizes[classes]], axis=1).astype(np.int64)
    return table[np.argsort(table[:, 0])]


@rows
def pick_units(units, r):
    """Replica r's rows (the sizes are shared)."""
    return Units(units.sizes, units.firsts[r], units.starts[r], units.ranks[r])


@inline
def class_for(units, extent):
    """The class of the smallest size >= extent; the number of classes if there is none."""
    low = np.int64(0)
    high = np.int64(len(units.sizes))
    while low < high:
        middle = (low + high) >> 1
        if units.sizes[at(middle)] < extent:
            low = middle + 1
        else:
            high = middle
    return low


@inline
def class_of(units, rank):
    """The class of the unit of this rank."""
    low = np.int64(0)
    high = np.int64(len(units.sizes) - 1)
    while low < high:
        middle = (low + high + 1) >> 1
        if units.firsts[at(middle)] <= rank:
            low = middle
        else:
            high = middle - 1
    return low


@inline
def rank_at(units, address):
    """The rank of the unit that holds this address; of the last unit for what lies above all of them."""
    low = np.int64(0)
    high = units.firsts[at(len(units.sizes))] - 1
    while low < high:
        middle = (low + high + 1) >> 1
        if units.starts[at(units.ranks[at(middle)])] <= address:
            low = middle
        else:
            high = middle - 1
    return units.ranks[at(low)]


@inline
def is_in_unit(units, rank, address, granted):
    """Whether the unit of this rank, which holds `address` if any does, holds [address, address + granted)."""
    return address + granted <= units.starts[at(rank)] + units.sizes[at(class_of(units, rank))]


@inline
def place_in_stack(stack, bottom, top, address):
    """Where the unit at `address` stands in stack[bottom:top], looked for from the top; bottom - 1 if it does not."""
    i = top - 1
    while i >= bottom and stack[at(i)] != address:
        i -= 1
    return i


@inline
def leave_stack(stack, bottom, top, address):
    """Take the unit at `address` out of stack[bottom:top]: those above it move down."""
    for i in range(place_in_stack(stack, bottom, top, address), top - 1):
        stack[at(i)] = stack[at(i + 1)]


@inline
def cause_in_units(pool, extent):
    """A request is larger than every unit, or every unit that is large enough is taken."""
    return TOO_LARGE if class_for(pool.units, extent) == len(pool.units.sizes) else CAPACITY
