"""Best fit: the smallest hole that is large enough; ties to the lowest address, or (lifo) to the newest hole.

A hole is as old as its present size: a remainder after carving and a merged hole after a free are new holes.
"""

from .hole_list import HoleList


class BestFit(HoleList):
    def __init__(self, granules, grows=False, min_split=1, carve="low", ties="lowest"):
        assert ties in ("lowest", "lifo")
        self.ties = ties
        self.by_age = []  # the same holes, oldest first
        super().__init__(granules, grows, min_split, carve)

    def add_hole(self, hole):
        super().add_hole(hole)
        self.by_age.append(hole)

    def remove_hole(self, hole):
        super().remove_hole(hole)
        self.by_age.remove(hole)

    def choose(self, adequate):
        smallest = min(size for _, size in adequate)
        if self.ties == "lifo":
            return [hole for hole in self.by_age if hole[1] == smallest][-1]
        return next(hole for hole in adequate if hole[1] == smallest)
