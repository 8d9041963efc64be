"""Numbers picked at random from words of 64 random bits that somebody else has drawn."""

import numpy as np

from vecalloc.kernel import inline
from vecalloc.mechanisms.bits import at


@inline
def pick_below(words, cursor, word, count):
    """A number below `count`: multiply-high of 32 random bits, rejected where it would not be uniform; -1: no bits.

    `word` is the column of the cursor with the next word; the end of what is at hand stands beside it.

    Source: Lemire (2019), *Fast random integer generation in an interval*.
    """
    least = ((1 << 32) - count) % count
    while cursor[word] < cursor[word + 1]:
        bits_of = (words[at(cursor[word])] >> 32) & 0xFFFFFFFF
        cursor[word] += 1
        product = bits_of * count
        if product & 0xFFFFFFFF >= least:
            return product >> 32
    return np.int64(-1)
