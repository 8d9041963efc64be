"""Static partition: the pool is cut once into units, and a block is always a whole unit.

`unit=8` cuts as many equal units as the pool holds (default: a 64th of the pool, at least a granule); `units=[4, 4]`
lays these side by side from 0, whatever `granules` says. A request takes the smallest free unit that is large enough;
of equals the lowest address, or (lifo) the last freed; never-used units lie on that stack, the lowest address on top.
With `grows`, when no free unit is large enough, one is added at the end and used at once.
"""


class StaticPartition:
    def __init__(self, granules, grows=False, unit=None, units=None, order="lowest"):
        assert granules >= 1
        assert unit is None or units is None
        assert order in ("lowest", "lifo")
        self.grows = grows
        self.lifo = order == "lifo"
        if units is not None:
            sizes = list(units)
            self.sizes_to_add = sorted(sizes)
        else:
            if unit is None:
                unit = max(1, granules // 64)
            sizes = [unit] * (granules // unit)
            self.sizes_to_add = [unit]
        self.units = []  # (start, size) of every unit, in address order
        self.limit = 0
        for size in sizes:
            self.add_unit(size)
        self.stack = self.units[::-1]  # the free units, the last freed at the end
        self.blocks = {}

    def add_unit(self, size):
        unit = (self.limit, size)
        self.units.append(unit)
        self.limit += size
        return unit

    def alloc(self, extent):
        assert extent >= 1
        adequate = [(start, size) for start, size in self.stack if size >= extent]
        if adequate:
            unit = self.choose(adequate)
            self.stack.remove(unit)
        elif self.grows and extent <= max(self.sizes_to_add):
            unit = self.add_unit(min(size for size in self.sizes_to_add if size >= extent))
        else:
            return None
        start, size = unit
        self.blocks[start] = size
        return start

    def choose(self, adequate):
        smallest = min(size for _, size in adequate)
        equals = [unit for unit in adequate if unit[1] == smallest]
        return equals[-1] if self.lifo else min(equals)

    def free(self, start):
        self.stack.append((start, self.blocks.pop(start)))

    def claim(self, start, granted):
        """Take the unit at `start`, wherever it stands among the free ones."""
        self.stack.remove((start, granted))
        self.blocks[start] = granted

    def is_free(self, start, granted):
        return any(low <= start and start + granted <= low + size for low, size in self.stack)

    def holes(self):
        return sorted(self.stack)

    def cause(self, extent):
        """Why alloc(extent), just now, returned None."""
        if extent > max((size for _, size in self.units), default=0):
            return "too-large"
        return "capacity"
