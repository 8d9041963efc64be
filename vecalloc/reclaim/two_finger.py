"""two-finger: the lowest hole takes the highest block that fits into it; else the next hole is tried.

    . . A . B C C      ->      C C A . B . .      ->      C C A B . . .

One finger goes up over the holes, the other looks from the top for a block that is small enough. A tree of minima over
the sizes finds it in the logarithm of their number. What has moved lies below all holes that are still to come, so
nothing moves twice.

Source: Edwards' two-finger algorithm (in Saunders 1974, *The LISP system for the Q-32 computer*), whose cells are all
of one size; here blocks fit or do not.
"""

import numpy as np

from vecalloc.kernel import inline, outline
from vecalloc.mechanisms.bits import at
from vecalloc.reclaim.layout import stay

_NEVER = np.iinfo(np.int64).max


@outline
def plan_two_finger(blocks, n, limit, tree):
    """Say where each of the n blocks goes.

    Parameters
    ----------
    tree : int64 (2 * leaves,)
        Room for the minima; leaves is a power of two, at least n.
    """
    leaves = len(tree) >> 1
    for b in range(leaves):
        tree[at(leaves + b)] = blocks.size[at(b)] if b < n and blocks.stays[at(b)] == 0 else _NEVER
    for node in range(leaves - 1, 0, -1):
        tree[at(node)] = min(tree[at(2 * node)], tree[at(2 * node + 1)])
    p = np.int64(0)  # all below is as it will be
    i = np.int64(0)  # as many blocks stand there
    q = np.int64(0)  # the lowest block above that has not moved away
    for b in range(n):
        blocks.to[at(b)] = -1
    while i < n:
        while blocks.to[at(q)] >= 0:
            q += 1
        hole = blocks.start[at(q)] - p
        while hole > 0 and tree[1] <= hole:
            b = _highest_at_most(tree, leaves, hole)
            _leave(tree, leaves + b)
            blocks.to[at(b)] = p
            blocks.line[at(i)] = b
            i += 1
            p += blocks.size[at(b)]
            hole -= blocks.size[at(b)]
            if b == q:
                while q < n and blocks.to[at(q)] >= 0:
                    q += 1
                hole = (blocks.start[at(q)] if q < n else limit) - p
        if q < n:
            _leave(tree, leaves + q)
            stay(blocks, q, i)
            i += 1
            p = blocks.start[at(q)] + blocks.size[at(q)]


@inline
def _highest_at_most(tree, leaves, size):
    """The last leaf of at most `size`; the root says that there is one."""
    node = np.int64(1)
    while node < leaves:
        node = 2 * node + 1
        if tree[at(node)] > size:
            node -= 1
    return node - leaves


@outline
def _leave(tree, node):
    """A block is out of reach from now on."""
    tree[at(node)] = _NEVER
    while node > 1:
        node >>= 1
        least = min(tree[at(2 * node)], tree[at(2 * node + 1)])
        if tree[at(node)] == least:
            return
        tree[at(node)] = least
