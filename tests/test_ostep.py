"""The malloc simulator of *Operating Systems: Three Easy Pieces* (homework vm-freespace), followed step by step.

What it answered is recorded in shared/oracles/ostep. With coalescing and a list sorted by address it is textbook first,
best and worst fit; the first of equal holes in list order, which is the lowest, wins.
"""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

import vecalloc as va

ORACLES = Path(__file__).parents[2] / "shared" / "oracles" / "ostep"

pytestmark = pytest.mark.skipif(
    not ORACLES.is_dir(), reason=f"{ORACLES} is not here: the recorded answers are not ours to copy"
)


def runs_of(name):
    with gzip.open(ORACLES / f"{name}.json.gz") as file:
        return json.load(file)["runs"]


def is_ours(flags):
    """Whether a run is one of our policies: coalescing at once, holes in address order, a power of two to align to."""
    align = flags["a"]
    return flags["C"] and flags["l"] == "ADDRSORT" and (align <= 0 or align & (align - 1) == 0)


def pool_for(flags, **options):
    return va.Pool(
        flags["S"], f"{flags['p'].lower()}-fit", granule=1, header=flags["H"], alignment=max(1, flags["a"]), **options
    )


def follow(run):
    """Replay a run on a Pool; returns how many times equal holes competed for a request."""
    flags = run["flags"]
    pool, base = pool_for(flags), flags["b"]
    address_of, contests = {}, 0
    for op in run["ops"]:
        if op["op"] == "alloc":
            before = pool.holes()
            address = pool.alloc(op["size"])
            assert (address is not None) == op["ok"], run["argv"]
            if op["ok"]:
                assert address == op["block"] - base, run["argv"]
                assert op["printed"] == op["block"] + flags["H"]
                address_of[op["ptr"]] = address
                chosen = before[np.searchsorted(before[:, 0], address, side="right") - 1]
                contests += np.count_nonzero(before[:, 1] == chosen[1]) > 1
        else:
            assert op["rc"] == 0
            pool.free(address_of.pop(op["ptr"]))
        assert pool.holes().tolist() == [[start - base, size] for start, size in op["free_list"]], run["argv"]
    failed = sum(op["op"] == "alloc" and not op["ok"] for op in run["ops"])
    assert sum(pool.stats()["failures"].values()) == failed
    return contests


@pytest.mark.parametrize(
    ("name", "expected", "operations"), [("coalesce_addrsort", 60, 5400), ("readme_and_homework", 7, None)]
)
def test_every_operation(name, expected, operations):
    runs = [run for run in runs_of(name) if is_ours(run["flags"])]
    contests = dict.fromkeys(("FIRST", "BEST", "WORST"), 0)
    for run in runs:
        contests[run["flags"]["p"]] += follow(run)
    assert len(runs) == expected
    if operations:
        assert sum(len(run["ops"]) for run in runs) == operations
        # Ties were there to be decided, so the agreement says that theirs go to the lowest address, too.
        assert contests == {"FIRST": 18, "BEST": 13, "WORST": 19}


def test_the_recorded_answers_can_tell_policies_apart():
    """Each other fit and each other reading of a tie would have been noticed."""
    runs = [run for run in runs_of("coalesce_addrsort") if is_ours(run["flags"])]

    def agrees(run, policy, **options):
        flags = run["flags"]
        pool, address_of = va.Pool(flags["S"], policy, granule=1, **options), {}
        for op in run["ops"]:
            if op["op"] == "free":
                pool.free(address_of.pop(op["ptr"]))
                continue
            address_of[op["ptr"]] = pool.alloc(op["size"])
            if address_of[op["ptr"]] != (op["block"] if op["ok"] else None):
                return False
        return True

    for fit in ("FIRST", "BEST", "WORST"):
        mine = [run for run in runs if run["flags"]["p"] == fit]
        for other in ("first-fit", "best-fit", "worst-fit", "next-fit"):
            same = sum(agrees(run, other) for run in mine)
            assert (same == len(mine)) == (other == f"{fit.lower()}-fit"), (fit, other, same)
    best = [run for run in runs if run["flags"]["p"] == "BEST"]
    assert not all(agrees(run, "best-fit", ties="lifo") for run in best)
