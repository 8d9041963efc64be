"""Memory maps: a pool drawn as text, one character a granule.

    AAA..BB.     a pool of 8 granules; block A at 0 (3 granules), block B at 5 (2); '.' is free

Adjacent equal letters are one block, so touching blocks need different letters.
"""

from itertools import groupby

FREE = "."


def parse(map):
    """(pool size, [(name, start, size), ...] in address order)."""
    blocks = []
    start = 0
    for name, run in groupby(map):
        size = len(list(run))
        if name != FREE:
            if not name.isalpha():
                raise ValueError(f"{name!r} at {start} in {map!r}: blocks are letters, free granules are {FREE!r}")
            blocks.append((name, start, size))
        start += size
    return start, blocks


def draw(blocks, pool):
    """The map that parse reads back as these blocks."""
    cells = [FREE] * pool
    for name, start, size in blocks:
        if size < 1 or start < 0 or start + size > pool:
            raise ValueError(f"block {name} ({start}, {size}) is not inside a pool of {pool}")
        if any(cell != FREE for cell in cells[start : start + size]):
            raise ValueError(f"block {name} ({start}, {size}) overlaps another")
        cells[start : start + size] = [name] * size
    drawn = "".join(cells)
    if parse(drawn) != (pool, sorted(blocks, key=lambda block: block[1])):
        raise ValueError(
            f"{drawn!r} does not read back: names are single letters, and touching blocks need different ones"
        )
    return drawn
