"""First fit: the hole at the lowest address that is large enough."""

from .hole_list import HoleList


class FirstFit(HoleList):
    def choose(self, adequate):
        return adequate[0]
