"""Arrays with a leading replica axis: pools that are all alike, and more room for what has a slot.

Of pools that are all alike one is made, and the others are copies of what is in it. A state is arrays in NamedTuples:
those with a leading replica axis have two axes or more; tables that all replicas share have one. A new pool is almost
empty, so only what is not zero is copied: pages that nobody has touched stay so.
"""

from typing import Any

import numpy as np


def copies_of(state: Any, replicas: int) -> Any:
    """The state of one replica -> that of many, all alike.

    Parameters
    ----------
    state : NamedTuple
        Arrays of shape (1, ...), shared tables of shape (n,), and NamedTuples of such.
    replicas : int
    """
    if isinstance(state, tuple):
        return type(state)(*(copies_of(field, replicas) for field in state))
    if state.ndim < 2:
        return state
    many = np.zeros((replicas, *state.shape[1:]), state.dtype)
    where = np.flatnonzero(state)
    many.reshape(replicas, -1)[:, where] = state.ravel()[where]
    return many


def widened(array: np.ndarray, length: int, fill: int = 0) -> np.ndarray:
    """The array with its last axis as long as `length`, what is new filled.

    Parameters
    ----------
    array : array (..., n)
    length : int
        At least n.
    fill : int
    """
    wider = np.zeros((*array.shape[:-1], length), array.dtype)  # pages that nobody touches cost nothing
    if fill:
        wider[..., array.shape[-1] :] = fill
    wider[..., : array.shape[-1]] = array
    return wider


def deepened(stack: np.ndarray) -> np.ndarray:
    """Stacks of free numbers, (replicas, n), with as many again: the new ones, n .. 2n - 1, lie under the others."""
    old = stack.shape[1]
    deeper = np.empty((len(stack), 2 * old), stack.dtype)
    deeper[:, :old] = np.arange(2 * old - 1, old - 1, -1)
    deeper[:, old:] = stack
    return deeper


def with_row(table: np.ndarray, row: int, values: np.ndarray) -> np.ndarray:
    """The table with these values at the beginning of a row: itself, or a wider one if they need it."""
    if len(values) > table.shape[1]:
        table = widened(table, len(values))
    table[row, : len(values)] = values
    return table
