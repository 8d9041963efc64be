"""slide: every block moves down as far as it can, and their order is kept.

    A . . B C . p . D      ->      A B C . . . p D .        p must not move; nobody passes it

Source: Knuth, TAOCP vol. 1, section 2.5, exercise 33 (compacting); the Lisp 2 collector keeps the same order.
"""

import numpy as np

from vecalloc.kernel import outline
from vecalloc.mechanisms.bits import at, lowest


@outline
def plan_slide(blocks, n):
    """Say where each of the n blocks goes."""
    end = np.int64(0)
    for b in range(n):
        to = end if blocks.stays[at(b)] == 0 else blocks.start[at(b)]
        blocks.to[at(b)] = to
        blocks.line[at(b)] = b
        end = to + blocks.size[at(b)]


@outline
def slide_cost(bitmaps, limit, granted):
    """Granules that a slide moves if no block is pinned: all that lie above the lowest hole."""
    for w in range((limit >> 6) + 1):
        word = bitmaps.words[at(2 * w + 1)]
        if word != 0:
            return granted - ((np.int64(w) << 6) + lowest(word))
    return np.int64(0)
