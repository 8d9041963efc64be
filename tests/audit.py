"""Is this a heap at all? Checks what must hold whatever the policy, and so knows none.

No two things overlap; all lies inside the limit; every granule is a block's or a hole's; holes are maximal. For buddies
"maximal" means that no two free buddies were left apart; for units, that blocks and holes are exactly the units.
"""


def audit(granules_limit, blocks, holes, buddies=False, units=None):
    """blocks: (start, granted) pairs; holes: (start, size) pairs; units: the sizes of all, side by side from 0."""
    blocks = [(int(start), int(size)) for start, size in blocks]
    holes = [(int(start), int(size)) for start, size in holes]
    check_apart_and_inside(granules_limit, blocks + holes)
    if units is not None:
        check_units(granules_limit, blocks + holes, units)
        return
    total = sum(size for _, size in blocks + holes)
    assert total == granules_limit, f"blocks and holes make {total} granules of {granules_limit}"
    if buddies:
        check_buddies(blocks, holes)
    else:
        check_maximal(holes)


def check_apart_and_inside(limit, pieces):
    end = 0
    for start, size in sorted(pieces):
        assert size >= 1, f"empty piece at {start}"
        assert start >= end, f"the piece at {start} overlaps what ends at {end}, or lies below 0"
        end = start + size
    assert end <= limit, f"something ends at {end}, above the limit {limit}"


def check_maximal(holes):
    starts = {start for start, _ in holes}
    for start, size in holes:
        assert start + size not in starts, f"holes at {start} and {start + size} touch"


def check_buddies(blocks, holes):
    for start, size in blocks + holes:
        assert size & (size - 1) == 0, f"{size} at {start} is no power of two"
        assert start % size == 0, f"{size} at {start} is not aligned to its size"
    free = set(holes)
    for start, size in holes:
        assert (start ^ size, size) not in free, f"the buddies at {start} and {start ^ size} are both free"


def check_units(limit, pieces, units):
    laid_out = []
    end = 0
    for size in units:
        laid_out.append((end, int(size)))
        end += int(size)
    assert end <= limit, f"the units end at {end}, above the limit {limit}"
    assert sorted(pieces) == laid_out, "blocks and holes are not exactly the units"
