"""Next fit: the search goes on where the last block ended, upwards, and wraps once.

The first candidate is the hole that contains the cursor, or else the next one above; whichever hole is taken is used
from its own low end, which may lie below the cursor. A failed search leaves the cursor.
"""

from .hole_list import HoleList


class NextFit(HoleList):
    def __init__(self, granules, grows=False, min_split=1):
        super().__init__(granules, grows, min_split)
        self.cursor = 0

    def choose(self, adequate):
        from_the_cursor_on = [(start, size) for start, size in adequate if start + size > self.cursor]
        return (from_the_cursor_on or adequate)[0]

    def alloc(self, extent):
        block = super().alloc(extent)
        if block is not None:  # in a hole or at the limit; the end includes a remainder that was not split off
            self.cursor = block + self.blocks[block]
        return block
