"""What the four fits share: a plain list of holes, sorted by address, searched from end to end.

Invariant: `_holes` are the maximal free runs below `limit`; no two of them touch. A fit says only which of the adequate
holes it takes (`choose`), never how a hole is carved or merged.

With `grows`, the pool is empty at first and `limit` is the end of the highest live block. What lies above is no hole;
it is used, from its low end, when no hole fits:

    AAA..BB|          alloc 3 -> AAA..BBCCC|         free C, then B -> AAA|    (the run below B went with it)
"""


class HoleList:
    def __init__(self, granules, grows=False, min_split=1, carve="low"):
        assert granules >= 1 and min_split >= 1
        assert carve in ("low", "high")
        self.grows = grows
        self.min_split = min_split
        self.carve = carve
        self.blocks = {}
        self._holes = []
        self.limit = 0
        if not grows:
            self.limit = granules
            self.add_hole((0, granules))

    def choose(self, adequate):
        """The hole to use, of those large enough (in address order, at least one)."""
        raise NotImplementedError

    def alloc(self, extent):
        assert extent >= 1
        adequate = [(start, size) for start, size in self._holes if size >= extent]
        if adequate:
            return self.place_in(self.choose(adequate), extent)
        if self.grows:
            return self.place_at_the_limit(extent)
        return None

    def place_in(self, hole, extent):
        start, size = hole
        remainder = size - extent
        self.remove_hole(hole)
        if remainder < self.min_split:  # too small to be a hole (or nothing at all): granted with the block
            block, granted = start, size
        elif self.carve == "low":
            block, granted = start, extent
            self.add_hole((start + extent, remainder))
        else:
            block, granted = start + remainder, extent
            self.add_hole((start, remainder))
        self.blocks[block] = granted
        return block

    def place_at_the_limit(self, extent):
        block = self.limit
        self.blocks[block] = extent
        self.limit += extent
        return block

    def free(self, start):
        end = start + self.blocks.pop(start)
        below = [hole for hole in self._holes if hole[0] + hole[1] == start]
        above = [hole for hole in self._holes if hole[0] == end]
        for hole in below:
            start = hole[0]
            self.remove_hole(hole)
        for hole in above:
            end = hole[0] + hole[1]
            self.remove_hole(hole)
        if self.grows and end == self.limit:  # the last block: the run it leaves is above the limit, so no hole
            self.limit = start
        else:
            self.add_hole((start, end - start))

    def claim(self, start, granted):
        """Make a live block of just these granules; what is left of their hole are two new holes, the low one first."""
        end = start + granted
        hole = next((low, size) for low, size in self._holes if low <= start and end <= low + size)
        self.remove_hole(hole)
        if hole[0] < start:
            self.add_hole((hole[0], start - hole[0]))
        if end < hole[0] + hole[1]:
            self.add_hole((end, hole[0] + hole[1] - end))
        self.blocks[start] = granted

    def is_free(self, start, granted):
        return any(low <= start and start + granted <= low + size for low, size in self._holes)

    def add_hole(self, hole):
        self._holes.append(hole)
        self._holes.sort()

    def remove_hole(self, hole):
        self._holes.remove(hole)

    def holes(self):
        return list(self._holes)

    def cause(self, extent):
        """Why alloc(extent), just now, returned None."""
        assert not self.grows, "a fit that grows never fails"
        if extent > self.limit:
            return "too-large"
        if extent > sum(size for _, size in self._holes):
            return "capacity"
        return "fragmentation"
