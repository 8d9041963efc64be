"""Worst fit: the largest hole; ties to the lowest address."""

from .hole_list import HoleList


class WorstFit(HoleList):
    def choose(self, adequate):
        largest = max(size for _, size in adequate)
        return next(hole for hole in adequate if hole[1] == largest)
