"""Pool in the hand: small heaps whose every address can be worked out on paper."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from string import ascii_letters

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maps import draw, parse
from reference import REFERENCES
from reference.compaction import Compactor as ReferenceCompactor
from studies import PEAK

from vecalloc import InputError, InvalidFree, Pool
from vecalloc import ledger as columns
from vecalloc.kernel import JIT
from vecalloc.metrics import METRICS, OF_PROCESSES
from vecalloc.policies.table import POLICIES
from vecalloc.reclaim.table import HOWS, Compact
from vecalloc.spec import label_of_reclaim, parse_policy, parse_reclaim
from vecalloc.workload.pins import Pins

pytestmark = [
    pytest.mark.jitless,
    # Without the JIT, 64-bit words are numpy scalars, which say so when they wrap.
    pytest.mark.filterwarnings("ignore:overflow encountered in scalar:RuntimeWarning"),
]

ROOT = Path(__file__).parents[1]


def pool(size=160, policy="first-fit", granule=1, **options):
    """A pool that counts single bytes."""
    return Pool(size, policy, granule, **options)


def with_holes(policy, *sizes, **options):
    """A full pool in which every second block, first of all the first, was freed: holes of sizes[0], sizes[2], ..."""
    heap = pool(sum(sizes), policy, **options)
    at = heap.alloc_many(sizes)
    heap.free_many(at[::2])
    return heap


# --- where each policy puts a block ---

HOLES = (30, 1, 10, 1, 40, 1, 10)  # holes at 0 (30), 31 (10), 42 (40), 83 (10)


@pytest.mark.parametrize(
    ("policy", "asked", "addresses"),
    [
        ("first-fit", [10, 30, 10, 11], [0, 42, 10, None]),
        ("best-fit", [10, 30, 10, 11], [31, 0, 83, 42]),
        ("best-fit[ties=lifo]", [10, 10, 10, 11], [83, 31, 0, 10]),
        ("worst-fit", [10, 10, 11, 20], [42, 0, 52, 10]),
        ("next-fit", [5, 10, 31, 30, 5], [0, 5, 42, None, 73]),  # the cursor starts at the end of the pool
        ("first-fit[carve=high]", [10, 30, 10], [0, 21, 11]),  # holes at 0 (10), 11 (40), 52 (10), 63 (30)
        ("best-fit[carve=high]", [9, 30], [1, 63]),
        ("worst-fit[carve=high]", [10, 10], [41, 31]),
        ("first-fit[min_split=5]", [26, 1], [0, 31]),  # a rest of 4 goes with the block
    ],
)
def test_addresses(policy, asked, addresses):
    heap = with_holes(policy, *HOLES)
    assert [heap.alloc(n) for n in asked] == addresses


def test_buddies():
    heap = pool(16, "buddy")
    assert [heap.alloc(n) for n in (3, 1, 5, 2, 2, 1)] == [0, 4, 8, 6, None, 5]
    heap.free(0)
    assert heap.holes().tolist() == [[0, 4]]  # its buddy [4, 8) is taken
    for address in (4, 5, 6):
        heap.free(address)
    assert heap.holes().tolist() == [[0, 8]]
    heap.free(8)
    assert heap.holes().tolist() == [[0, 16]]


def test_buddies_last_freed_first():
    heaps = pool(8, "buddy"), pool(8, "buddy[order=lifo]")
    for heap in heaps:
        heap.alloc_many([1] * 8)
        heap.free_many([2, 4])
    assert [heap.alloc(1) for heap in heaps] == [2, 4]


def test_equal_units():
    heap = pool(43, "static-partition", unit=10)  # four units, and 3 bytes that nobody can have
    assert [heap.alloc(n) for n in (1, 10, 11, 7, 9, 1)] == [0, 10, None, 20, 30, None]
    assert heap.stats()["failures"] == {"too-large": 1, "capacity": 1, "fragmentation": 0}
    heap.free_many([10, 0])
    assert heap.holes().tolist() == [[0, 10], [10, 10]]  # free units, not runs of them
    assert heap.alloc(2) == 0
    lifo = pool(40, "static-partition", unit=10, order="lifo")
    lifo.alloc_many([1] * 4)
    lifo.free_many([0, 20])
    assert [lifo.alloc(1), lifo.alloc(1)] == [20, 0]


def test_unequal_units():
    heap = pool(40, "static-partition", units=[10, 20, 5, 5])
    assert [heap.alloc(n) for n in (4, 4, 4, 4, 4)] == [30, 35, 0, 10, None]
    assert heap.blocks().tolist() == [[0, 4, 10], [10, 4, 20], [30, 4, 5], [35, 4, 5]]


# --- sizes ---


def test_a_granule_at_least():
    heap = Pool(64)
    assert [heap.alloc(n) for n in (0, 1, 16, 17)] == [0, 16, 32, None]
    assert heap.blocks().tolist() == [[0, 0, 16], [16, 1, 16], [32, 16, 16]]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_pool_of_one_granule(policy):
    heap = Pool(16, policy)
    assert heap.alloc(17) is None
    assert heap.alloc(0) == 0
    assert heap.alloc(1) is None
    assert heap.holes().shape == (0, 2)
    assert heap.blocks().tolist() == [[0, 0, 16]]
    heap.free(0)
    assert heap.blocks().shape == (0, 3)
    assert heap.holes().tolist() == [[0, 16]]
    assert heap.alloc(16) == 0


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.uint64])
def test_sizes_of_numpy(kind):
    heap = Pool(1024)
    assert heap.alloc(kind(100)) == 0
    address = heap.alloc(kind(1))
    assert address == 112 and type(address) is int
    assert heap.alloc_many(np.array([16, 17], kind)).tolist() == [128, 144]
    heap.free(kind(112))
    heap.free_many(np.array([0, 128], np.int64))
    assert heap.blocks().tolist() == [[144, 17, 32]]


def test_header():
    heap = Pool(128, "first-fit[header=8]")
    assert [heap.alloc(n) for n in (8, 9, 0)] == [0, 16, 48]
    assert heap.blocks().tolist() == [[0, 8, 16], [16, 9, 32], [48, 0, 16]]


def test_alignment():
    heap = Pool(256, "first-fit", alignment=64)
    assert [heap.alloc(n) for n in (1, 65, 1, 1)] == [0, 64, 192, None]
    assert heap.blocks()[:, 2].tolist() == [64, 128, 64]
    assert Pool(256, "first-fit[alignment=8]").alloc_many([1, 1]).tolist() == [0, 16]  # the granule is coarser


def test_min_split():
    heap = pool(20, "first-fit", min_split=4)
    assert heap.alloc(17) == 0
    assert heap.blocks().tolist() == [[0, 17, 20]]
    assert heap.holes().shape == (0, 2)
    heap.free(0)
    assert heap.alloc(16) == 0
    assert heap.holes().tolist() == [[16, 4]]


@pytest.mark.parametrize("size", [-1, 1.5, 16.0, "16", None, True, 1 << 62])
def test_sizes_that_are_none(size):
    heap = pool()
    with pytest.raises(InputError, match="size"):
        heap.alloc(size)
    assert heap.stats()["allocs"] == 0
    assert heap.alloc(1 << 61) is None  # the largest that can be asked for


# --- frees that are none ---


def test_a_block_is_freed_once():
    heap = Pool(1024)
    address = heap.alloc(100)
    heap.free(address)
    with pytest.raises(InvalidFree, match="no live block has the address 0: it was freed before"):
        heap.free(address)


def test_an_address_inside_a_block():
    heap = Pool(1024)
    heap.alloc_many([100, 100])
    for address, start in (1, 0), (111, 0), (128, 112), (223, 112):
        with pytest.raises(InvalidFree, match=f"{address} lies inside the block at {start}"):
            heap.free(address)
    assert len(heap.blocks()) == 2


@pytest.mark.parametrize("address", [224, -1, 1024, 1 << 40, -(1 << 63)])
def test_strangers(address):
    heap = Pool(1024)
    heap.alloc_many([100, 100])
    with pytest.raises(InvalidFree, match=f"no live block has the address {address}"):
        heap.free(address)
    assert isinstance(InvalidFree(), ValueError)


@pytest.mark.parametrize("address", [None, 1.5, "0", 2**70, -16])
def test_what_is_no_address_cannot_be_freed(address):
    pool = Pool(64)
    pool.alloc(16)
    with pytest.raises(InvalidFree, match="no live block has"):
        pool.free(address)
    assert len(pool.blocks()) == 1


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        ([0, 32, 0], "address 0 is freed twice in one call"),
        ([0, 5], "lies inside the block at 0"),
        ([0, 16, 500], "no live block"),
        ([-1, 0], "no live block"),
    ],
)
def test_nothing_is_freed_if_one_address_is_invalid(addresses, said):
    heap = Pool(1024)
    heap.alloc_many([16] * 4)
    before = heap.blocks().tolist(), heap.holes().tolist(), heap.stats()
    with pytest.raises(InvalidFree, match=said):
        heap.free_many(addresses)
    assert (heap.blocks().tolist(), heap.holes().tolist(), heap.stats()) == before
    heap.free_many([0, 16, 32, 48])
    assert heap.holes().tolist() == [[0, 1024]]


# --- many at once ---


def test_many():
    heap = Pool(64)
    addresses = heap.alloc_many([16, 100, 17, 16, 1])
    assert addresses.dtype == np.int64
    assert addresses.tolist() == [0, -1, 16, 48, -1]
    heap.free_many(addresses[addresses >= 0][::-1])
    assert heap.holes().tolist() == [[0, 64]]


def test_more_blocks_than_there_were_slots():
    heap = Pool(1 << 16)
    addresses = heap.alloc_many(np.full(1000, 16))
    assert addresses.tolist() == list(range(0, 16000, 16))
    heap.free_many(addresses[::2])
    assert heap.alloc_many([16] * 500).tolist() == addresses[::2].tolist()
    assert len(heap.blocks()) == 1000


def test_none_at_all():
    heap = Pool(64)
    for nothing in ([], np.zeros(0), np.zeros(0, np.int32)):
        addresses = heap.alloc_many(nothing)
        assert (addresses.dtype, addresses.shape) == (np.int64, (0,))
        assert heap.free_many(nothing) is None
    assert heap.stats()["allocs"] == 0


@pytest.mark.parametrize("array", [[1.0, 2.0], np.array([16.0]), [True], ["16"], [None], [[16, 16]], [1 << 70]])
def test_arrays_of_something_else(array):
    heap = Pool(64)
    heap.alloc(16)
    with pytest.raises(InputError, match="sizes must be whole numbers in one dimension"):
        heap.alloc_many(array)
    with pytest.raises(InputError, match="addresses must be whole numbers in one dimension"):
        heap.free_many(array)
    assert heap.blocks().tolist() == [[0, 16, 16]]


def test_negative_sizes_are_named():
    heap = Pool(64)
    with pytest.raises(InputError, match=r"sizes\[2\] is -3"):
        heap.alloc_many([16, 16, -3, -4])
    with pytest.raises(InputError, match=r"sizes\[1\] is 4611686018427387904"):
        heap.alloc_many([16, 1 << 62])
    assert heap.blocks().shape == (0, 3)


# --- looking at it ---


def test_tables():
    heap = with_holes("first-fit", 30, 1, 10, 1, 40)
    for table in (heap.holes(), heap.blocks()):
        assert table.dtype == np.int64
    assert heap.holes().tolist() == [[0, 30], [31, 10], [42, 40]]
    assert heap.blocks().tolist() == [[30, 1, 1], [41, 1, 1]]
    heap.free(30)
    assert heap.holes().tolist() == [[0, 41], [42, 40]]  # holes are maximal
    buddies = Pool(256, "buddy")
    buddies.alloc_many([40, 1])
    assert buddies.blocks().tolist() == [[0, 40, 64], [64, 1, 16]]
    assert buddies.holes().tolist() == [[80, 16], [96, 32], [128, 128]]


def test_one_line_map():
    heap = Pool(160)
    assert repr(heap) == "Pool(160, 'first-fit', granule=16)  |..........|"
    heap.alloc_many([40, 16])
    heap.free(0)
    assert repr(heap) == "Pool(160, 'first-fit', granule=16)  |...#......|"
    large = Pool(2048, "best-fit[ties=lifo]", on_failure="drop")
    large.alloc_many([1024, 16])
    assert repr(large) == f"Pool(2048, 'best-fit[ties=lifo]', granule=16)  |{'#' * 32}+{'.' * 31}|"
    assert repr(Pool(16)) == "Pool(16, 'first-fit', granule=16)  |.|"


def test_stats():
    """Five events; after each of them:

                      requested  granted  free  largest  holes  blocks  high water
    alloc 40 -> 0            40       48   112      112      1       1          48
    alloc 16 -> 48           56       64    96       96      1       2          64
    free 0                   16       16   144       96      2       1          64
    alloc 1000, too large    16       16   144       96      2       1          64
    alloc 100, in pieces     16       16   144       96      2       1          64
    sum                     144      160   640      496      8       6         304
    """
    heap = Pool(160)
    heap.alloc_many([40, 16])
    heap.free(0)
    assert heap.alloc(1000) is None
    assert heap.alloc(100) is None
    stats = heap.stats()
    assert list(stats) == [name for name in METRICS if name not in OF_PROCESSES] + ["failures"]
    assert stats.pop("failures") == {"too-large": 1, "capacity": 0, "fragmentation": 1}
    assert all(type(value) in (int, float) for value in stats.values())
    assert stats == pytest.approx({
        "allocs": 4, "frees": 1, "ignored_frees": 0, "failure_ratio": 2 / 4,
        "too_large_ratio": 1 / 4, "capacity_ratio": 0, "fragmentation_ratio": 1 / 4,
        "budget_ratio": 0, "swap_space_ratio": 0, "delayed_ratio": 0, "queue": 0, "wait": 0,
        "peak_live": 16 + 1008, "peak_placed": 64, "high_water_mark": 64, "overhead": 64 / 1024,
        "internal_fragmentation": 1 - 144 / 160, "external_fragmentation": 1 - 496 / 640,
        "external_fragmentation_events": 3 * (1 - 96 / 144) / 5, "utilisation": 144 / (5 * 160),
        "holes": 8 / 5, "blocks": 6 / 5, "holes_per_block": 8 / 6,
        "johnstone_wilson_1": 304 / 144 - 1, "johnstone_wilson_2": 64 / 56 - 1,
        "johnstone_wilson_3": 64 / 56 - 1, "johnstone_wilson_4": 64 / 56 - 1,
        "passes_ratio": 0, "refused_ratio": 0, "moved_ratio": 0, "blocks_moved_ratio": 0,
        "moving_time": 0, "longest_pass": 0, "longest_pause": 0,
        "live_requested": 16, "granted_now": 16, "free_now": 144, "largest_now": 96, "holes_now": 2, "blocks_now": 1,
    })  # fmt: skip


def test_capacity_and_fragmentation():
    heap = with_holes("first-fit", 30, 1, 10, 1, 40)
    for size in (41, 80, 81, 82, 83):
        assert heap.alloc(size) is None
    assert heap.stats()["failures"] == {"too-large": 1, "capacity": 2, "fragmentation": 2}


def test_stats_of_an_untouched_pool():
    stats = Pool(160).stats()
    assert stats["allocs"] == stats["utilisation"] == stats["overhead"] == 0
    assert stats["free_now"] == stats["largest_now"] == 160
    assert stats["holes_now"] == 1


@pytest.mark.parametrize(
    ("policy", "size"), [("first-fit", 0), ("best-fit[ties=lifo]", 0), ("buddy", 64), ("static-partition[unit=16]", 64)]
)
def test_size_of_an_untouched_pool_that_grows(policy, size):
    heap = Pool(64, policy, on_failure="grow")
    assert heap.size == size
    assert len(repr(heap).split("|")[1]) == max(1, size // 16)


# --- a pool that grows ---


@pytest.mark.parametrize("policy", ["first-fit", "best-fit[ties=lifo]", "next-fit", "buddy", "buddy[order=lifo]"])
def test_what_was_placed_before_an_error_is_live(policy):
    heap = Pool(1024, policy, on_failure="grow")
    with pytest.raises(InputError, match="would grow beyond"):
        heap.alloc_many([16, 32, 1 << 60, 16])
    live = heap.blocks()
    assert live[:, 1].tolist() == [16, 32] and heap.stats()["blocks_now"] == 2
    spare = len(heap._spare)
    for _ in range(5):
        with pytest.raises(InputError, match="would grow beyond"):
            heap.alloc(1 << 60)
    assert len(heap._spare) == spare
    heap.free_many(live[:, 0])
    assert heap.stats()["granted_now"] == 0 and len(heap.blocks()) == 0


@pytest.mark.parametrize("policy", ["first-fit", "best-fit", "best-fit[ties=lifo]", "worst-fit", "next-fit"])
def test_growing_at_the_top(policy):
    heap = Pool(64, policy, on_failure="grow")
    assert heap.alloc_many([40, 16, 2000]).tolist() == [0, 48, 64]
    assert heap.size == 2064
    heap.free(0)
    assert heap.holes().tolist() == [[0, 48]]
    assert heap.alloc(49) == 2064  # no hole fits
    assert heap.alloc(48) == 0  # a hole does
    assert heap.blocks().tolist() == [[0, 48, 48], [48, 16, 16], [64, 2000, 2000], [2064, 49, 64]]
    heap.free_many([2064, 64])
    assert heap.size == 64  # what lies above the highest live block is no hole
    assert heap.holes().shape == (0, 2)
    assert repr(heap).startswith(f"Pool(64, {policy!r}, granule=16, on_failure='grow')  |####|")
    assert sum(heap.stats()["failures"].values()) == 0


def test_growing_buddies_double():
    heap = Pool(64, "buddy", on_failure="grow")
    assert heap.alloc_many([40, 1, 100]).tolist() == [0, 64, 128]
    assert heap.size == 256
    assert heap.holes().tolist() == [[80, 16], [96, 32]]


def test_growing_partitions_add_a_unit():
    heap = Pool(64, "static-partition", unit=32, on_failure="grow")
    assert heap.alloc_many([1, 32, 16, 33]).tolist() == [0, 32, 64, -1]
    assert heap.size == 96
    assert heap.stats()["failures"]["too-large"] == 1


def test_other_ways_are_refused():
    for way in ("stop", "wait", "", None):
        with pytest.raises(InputError, match=r"on_failure of a Pool is .* one of drop, grow"):
            Pool(64, on_failure=way)


def test_options_that_cannot_be_used():
    with pytest.raises(InputError, match="did you mean 'min_split'"):
        Pool(64, "first-fit", min_spilt=8)
    with pytest.raises(InputError, match="given twice"):
        Pool(64, "first-fit[header=8]", header=8)
    with pytest.raises(InputError, match="write at most"):
        Pool(64, "first-fit", header=1 << 63)


# --- the largest pools ---

LARGE = """
import sys, time
from vecalloc import Pool
policy, size = sys.argv[1], int(sys.argv[2])
small = Pool(64, policy, 1); small.free(small.alloc(1))  # compiled by now
start = time.perf_counter()
heap = Pool(size, policy, 1)
made = time.perf_counter() - start
addresses = [heap.alloc(size // 64), heap.alloc(3)]
heap.free_many(addresses)
again = heap.alloc(size // 64)
worked = time.perf_counter() - start - made
print(made, worked, PEAK >> 10, again, *addresses)
""".replace("PEAK", PEAK)


@pytest.mark.slow
@pytest.mark.skipif(not JIT, reason="minutes of plain Python")
@pytest.mark.parametrize(
    ("policy", "granules"),
    [(name, 1 << 32) for name in POLICIES] + [("best-fit[ties=lifo]", 1 << 30), ("buddy[order=lifo]", 1 << 30)],
)
def test_the_largest_pools_cost_little(policy, granules):
    command = [sys.executable, "-c", LARGE, policy, str(granules)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    made, worked, mebibytes, again, first, _ = map(float, done.stdout.split())
    assert (again, first) == (0, 0)
    assert worked < 0.1  # seconds
    assert made < 5
    assert mebibytes < 1536


@pytest.mark.parametrize(
    "policy", ["first-fit", "best-fit[header=8,ties=lifo]", "next-fit[alignment=64]", "buddy", "static-partition"]
)
@pytest.mark.parametrize("on_failure", ["drop", "grow"])
def test_one_at_a_time_is_as_many_at_once(policy, on_failure):
    rng = np.random.default_rng(5)
    one, many = (Pool(4096, policy, on_failure=on_failure) for _ in range(2))
    live = []
    for _ in range(60):
        sizes = rng.integers(0, 300, rng.integers(1, 9))
        addresses = many.alloc_many(sizes).tolist()
        assert [-1 if (a := one.alloc(int(size))) is None else a for size in sizes] == addresses
        live += [a for a in addresses if a >= 0]
        gone = [live.pop(int(rng.integers(len(live)))) for _ in range(min(len(live), int(rng.integers(9))))]
        many.free_many(gone)
        for address in gone:
            one.free(address)
    assert one.blocks().tolist() == many.blocks().tolist() and one.holes().tolist() == many.holes().tolist()
    ours, theirs = one.stats(), many.stats()
    # What was refused counts as live until the call ends.
    assert ours.pop("peak_live") <= theirs.pop("peak_live") and ours.pop("overhead") >= theirs.pop("overhead")
    assert ours == theirs


# --- blocks that move ---

FITS = ("first-fit", "best-fit", "best-fit[ties=lifo]", "worst-fit", "next-fit", "first-fit[carve=high]")
BUDDIES = ("buddy", "buddy[order=lifo]")


def laid_out(map, policy="first-fit", **options):
    """A pool whose blocks lie as in the map, and their addresses by letter; capitals are pinned."""
    size, blocks = parse(map)
    heap = pool(size, policy, **options)
    at, gaps, end = {}, [], 0
    for name, start, extent in blocks:
        if start > end:
            gaps.append(heap.alloc(start - end))
        at[name] = heap.alloc(extent, pinned=name.isupper())
        end = start + extent
    heap.free_many(gaps)
    assert shown(heap, at) == map
    return heap, at


def shown(heap, at):
    """The memory map: what the pool says of its blocks, under the names of who is believed to be where."""
    granted = {address: extent for address, _, extent in heap.blocks().tolist()}
    assert sorted(granted) == sorted(at.values())
    return draw([(name, address, granted[address]) for name, address in at.items()], heap.size)


def followed(at, moved):
    """The addresses after these moves: all that whoever keeps addresses has to do."""
    new = dict(moved.tolist())
    return {name: new.get(address, address) for name, address in at.items()}


@pytest.mark.parametrize(
    ("how", "size", "before", "after"),
    [
        ("slide", None, "..aa.b..ccc.d.", "aabcccd......."),
        ("slide", None, "..aa.B..ccc.d.", "aa...Bcccd...."),
        ("slide", None, "aab.......", "aab......."),
        ("slide", None, "..........", ".........."),
        ("first-window", 2, "..aa.b..ccc.d.", "..aa.b..ccc.d."),  # there is one
        ("first-window", 3, "..aa.b..ccc.d.", "..aab...ccc.d."),
        ("first-window", 4, "..aa.b..ccc.d.", "aab.....ccc.d."),
        ("first-window", 7, "..aa.b..ccc.d.", "aabcccd......."),
        ("first-window", 8, "..aa.b..ccc.d.", "..aa.b..ccc.d."),  # there cannot be one
        ("first-window", 3, "..aa.B..ccc.d.", "aa...B..ccc.d."),
        ("first-window", 4, "..aa.B..ccc.d.", "..aa.Bcccd...."),
        ("two-finger", None, "..aa.b..ccc.d.", "dbaaccc......."),
        ("two-finger", None, "..aa.b..ccc.D.", "b.aaccc.....D."),
        ("two-finger", None, "..aa.B..ccc.d.", "d.aa.B..ccc..."),
    ],
)
def test_a_pass_at_once(how, size, before, after):
    heap, at = laid_out(before)
    moved = heap.compact(how, size)
    assert (moved.dtype, moved.shape[1]) == (np.int64, 2)
    assert moved.tolist() == sorted(moved.tolist())
    assert all(old != new for old, new in moved.tolist())
    at = followed(at, moved)
    assert shown(heap, at) == after
    assert heap.stats()["passes_ratio"] == (before != after) / max(heap.stats()["allocs"], 1)
    assert heap.stats()["holes_now"] == len(heap.holes())
    heap.free_many(list(at.values()))
    assert heap.holes().tolist() == [[0, len(before)]]


def test_a_pass_at_once_of_buddies():
    heap, at = laid_out("aabb....", "buddy")
    heap.free(at.pop("a"))
    assert heap.compact().tolist() == [[2, 0]]
    assert heap.holes().tolist() == [[2, 2], [4, 4]]
    assert heap.alloc(4) == 4


def test_bytes_are_not_granules():
    heap = Pool(160)
    heap.alloc_many([40, 16, 33])
    heap.free(0)
    assert heap.compact().tolist() == [[48, 0], [64, 16]]
    assert heap.blocks().tolist() == [[0, 16, 16], [16, 33, 48]]
    assert heap.compact("first-window", size=81).tolist() == []  # one hole of 96 bytes


def test_a_name_follows_its_block():
    heap, _ = laid_out("aa.bb", on_failure="grow")
    assert heap.size == 5
    assert heap.compact().tolist() == [[3, 2]]
    assert (heap.size, heap.holes().shape) == (4, (0, 2))  # the limit has come down
    with pytest.raises(InvalidFree, match="no live block has the address 4: it was freed or moved before"):
        heap.free(4)
    with pytest.raises(InvalidFree, match="3 lies inside the block at 2"):
        heap.free(3)
    heap.free(2)
    assert heap.alloc(9) == 2
    assert heap.size == 11


def test_pinned_until_freed():
    """A slot is used again, and a mark that was left on it would hold another block."""
    for reclaim in (None, "compact"):
        heap = pool(10, reclaim=reclaim)
        heap.alloc_many([2, 1])
        assert heap.alloc(3, pinned=True) == 3
        heap.free(0)
        assert heap.compact().tolist() == [[2, 0]]
        heap.free(3)
        assert [heap.alloc(2), heap.alloc(3)] == [1, 3]
        heap.free_many([1])
        assert heap.compact().tolist() == [[3, 1]]
        assert heap.alloc(2, pinned=True) == 4
        heap.free_many([1, 4])
        assert [heap.alloc(3), heap.alloc(2)] == [1, 4]
        heap.free(0)
        assert heap.compact().tolist() == [[1, 0], [4, 3]]


@pytest.mark.parametrize("reclaim", [None, "compact"])
def test_pins_outlive_the_first_slots(reclaim):
    heap = pool(400, reclaim=reclaim)
    stays = [heap.alloc(1, pinned=k % 50 == 30) for k in range(200)][30::50]
    heap.free_many([k for k in range(0, 200, 2) if k not in stays])
    moved = heap.compact()
    assert len(moved) == 96 and not set(stays) & set(moved[:, 0].tolist())
    assert set(stays) <= set(heap.blocks()[:, 0].tolist())


@pytest.mark.parametrize(
    ("policy", "arguments", "said"),
    [
        ("static-partition", [], "static-partition cannot be compacted: units of static-partition cannot move"),
        ("buddy", ["two-finger"], "buddy cannot be compacted: how = two-finger, but .* write how = slide"),
        ("buddy", ["first-window", 1], "buddy cannot be compacted: how = first-window, but"),
        ("first-fit", ["slid"], "how is 'slid' .did you mean 'slide'.*: one of slide, first-window, two-finger"),
        ("first-fit", [None], "how is None: one of"),
        ("first-fit", ["first-window"], "how is 'first-window', which makes room for a request: write its size too"),
        ("first-fit", ["first-window", -1], "size is -1: it cannot be negative"),
        ("first-fit", ["first-window", "4"], "size is '4': write a whole number of bytes"),
    ],
)
def test_passes_that_cannot_be(policy, arguments, said):
    heap = pool(64, policy)
    heap.alloc(1)
    with pytest.raises(InputError, match=said):
        heap.compact(*arguments)
    assert len(heap.blocks()) == 1


def test_a_window_beyond_all_bounds():
    heap, at = laid_out(".a.b.")
    assert heap.compact("first-window", 1 << 80).tolist() == []
    assert shown(heap, at) == ".a.b."


# --- passes that come by themselves ---


def test_before_a_failure():
    heap, at = laid_out("..aa.b..", reclaim="compact")
    assert heap.alloc(3) == 3
    assert heap.moved.tolist() == [[2, 0], [5, 2]]
    assert shown(heap, followed(at, heap.moved) | {"c": 3}) == "aabccc.."
    assert heap.alloc(3) is None  # for want of capacity: no pass
    assert heap.moved.shape == (0, 2)
    assert heap.stats()["failures"] == {"too-large": 0, "capacity": 1, "fragmentation": 0, "budget": 0}


def test_the_budget():
    heap, _ = laid_out("..aa.b..", reclaim="compact[budget=2]")
    assert heap.alloc(3) == 3  # 2 (0 + 3) <= 6: the two gaps were allocated too
    assert heap.stats()["moved_ratio"] == 3 / 9
    heap.free(0)
    assert heap.alloc(4) is None  # 2 (3 + 4) > 9
    assert len(heap.moved) == 0
    stats = heap.stats()
    assert stats["failures"] == {"too-large": 0, "capacity": 0, "fragmentation": 0, "budget": 1}
    assert (stats["refused_ratio"], stats["longest_pass"], stats["moving_time"]) == (
        1 / 2,
        3,
        3 / 10e9 / stats["allocs"],
    )
    assert heap.compact().tolist() == [[2, 0], [3, 1]]  # whatever the budget
    assert heap.stats()["moved_ratio"] == 7 / 9


def test_before_each_third_event():
    heap = pool(10, reclaim={"kind": "compact", "when": {"every": 3}})
    heap.alloc_many([4, 2, 1])
    heap.free(0)  # nothing to move before it
    assert heap.alloc(1) == 0
    heap.free(0)
    assert len(heap.moved) == 0
    heap.free(4)
    assert heap.moved.tolist() == [[6, 2]]  # what was freed moved too, and is nowhere now
    assert heap.holes().tolist() == [[0, 2], [3, 7]]


def test_before_an_event_at_which_so_much_is_fragmented():
    heap = pool(10, reclaim=["compact[when={external_fragmentation=0.4}]"])
    heap.alloc_many([4, 2, 1])
    heap.free(0)
    heap.free(4)  # 1 - 4 / 7 of it was
    assert heap.moved.tolist() == [[6, 2]]
    assert repr(heap) == (
        "Pool(10, 'first-fit', granule=1, reclaim='compact[when={external_fragmentation=0.4}]')  |..#.......|"
    )


def test_many_at_once_are_named_by_the_call():
    """alloc_many tells where its blocks are in the end; free_many is told where they were at first."""
    heap = pool(12, "worst-fit", reclaim="compact")
    heap.free_many(heap.alloc_many([2, 1, 2, 1, 6])[::2])
    assert heap.alloc_many([1, 10, 9]).tolist() == [2, -1, 3]  # the first was at 6 before the last came
    assert heap.moved.tolist() == [[2, 0], [5, 1]]
    heap.free_many([2, 3])
    assert heap.moved.shape == (0, 2)

    heap = pool(10, reclaim="compact[when={every=1}]")
    heap.alloc_many([1, 2, 3, 1])
    heap.free_many([0, 6, 1])  # which are elsewhere when their turn comes
    assert heap.moved.tolist() == [[3, 2]]  # by two: what was freed last had come down by one before it
    assert heap.blocks().tolist() == [[2, 3, 3]]


def test_a_pass_before_an_error():
    """The request that a pool cannot grow for is no event, but its pass was one."""
    heap = pool(64, "best-fit[ties=lifo]", on_failure="grow", reclaim="compact[when={every=1},budget=1.5]")
    heap.alloc_many([16, 32, 8])
    heap.free(0)
    with pytest.raises(InputError, match="would grow beyond"):
        heap.alloc(1 << 60)
    assert heap.moved.tolist() == [] and heap.stats()["refused_ratio"] == 1
    heap.free(48)
    assert heap._simulation.ledger.counts[0, columns.PASSES_REFUSED] == 2  # it was asked for again
    with pytest.raises(InputError, match="would grow beyond"):
        heap.alloc_many([1 << 60])
    assert heap.moved.tolist() == [[16, 0]]
    assert heap.blocks().tolist() == [[0, 32, 32]] and heap.size == 32


@pytest.mark.parametrize("seed", [0, 5])
def test_a_share_is_pinned(seed):
    heap = pool(300, reclaim="compact[pinned=0.2]", seed=seed)
    heap.free_many(heap.alloc_many([1] * 300)[::2])
    heap.alloc(2)
    pins = Pins(0.2, seed, 0)(300)
    assert 30 < pins.sum() < 90
    moved, end = [], 0
    for start in range(1, 300, 2):
        to = start if pins[start] else end
        moved += [[start, to]] if to < start else []
        end = to + 1
    assert heap.moved.tolist() == moved


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reclaim": "swap"}, "reclaim is swap: only processes are swapped, and there are none"),
        ({"reclaim": "compact+swap"}, "reclaim is compact.swap: only processes are swapped"),
        ({"reclaim": "compat"}, "remedy 'compat' is not known .did you mean 'compact'"),
        ({"reclaim": {"kind": "compact", "budget": 0.5}}, "option 'budget' of compact is 0.5: write a number above 1"),
        ({"reclaim": "compact[how=first-window,when={every=2}]"}, "first-window looks for the room that a request"),
        ({"reclaim": "compact", "policy": "static-partition"}, "units of static-partition cannot move"),
        ({"reclaim": "compact[how=two-finger]", "policy": "buddy"}, "blocks of buddy only slide"),
        ({"reclaim": 4}, "reclaim is 4: write"),
        ({"reclaim": "compact", "seed": -1}, "seed is -1: it cannot be negative"),
        ({"seed": "x"}, "seed is 'x': write a whole number"),
    ],
)
def test_remedies_that_cannot_be_used(options, said):
    with pytest.raises(InputError, match=said):
        Pool(64, **options)


@pytest.mark.parametrize("reclaim", [None, "none", [], "compact"])
def test_without_a_remedy_nothing_moves_by_itself(reclaim):
    if reclaim == []:
        with pytest.raises(InputError, match="reclaim is"):
            Pool(64, reclaim=reclaim)
        return
    heap, _ = laid_out("..a.b.", reclaim=reclaim)
    assert (heap.alloc(3) is None) == (reclaim != "compact")
    assert (len(heap.moved) == 0) == (reclaim != "compact")
    assert ("reclaim" in repr(heap)) == (reclaim == "compact")


# --- step by step against the naive reference ---

_OPTIONS = {"ties", "order", "carve"}


@st.composite
def remedies(draw, how):
    """A remedy of this way, or None: passes only at once."""
    when = draw(st.sampled_from(["failure", "failure", "every", "external_fragmentation", None]))
    if when is None:
        return None
    amount = {"every": st.integers(1, 4), "external_fragmentation": st.sampled_from([0.2, 0.5, 0.9])}
    if how == "first-window":
        when = "failure"
    more = {when: draw(amount[when])} if when in amount else {}
    return Compact(how=how, when=when, budget=draw(st.sampled_from([None, None, 1.5, 3.0])), **more)


@st.composite
def calls(draw, hows, longest=40):
    """Calls of a Pool; whom a free means is said by a number, counted among those that live then."""
    one = st.tuples(st.just("alloc"), st.integers(0, 12), st.sampled_from([False, False, False, True]))
    frees = st.tuples(st.just("free"), st.integers(0, 1 << 16))
    at_once = st.tuples(st.just("compact"), st.sampled_from(hows), st.integers(1, 20))
    many = st.tuples(st.just("alloc_many"), st.lists(st.integers(0, 8), max_size=5))
    some = st.tuples(st.just("free_many"), st.lists(st.integers(0, 1 << 16), max_size=4))
    return draw(st.lists(st.one_of(one, one, one, frees, frees, at_once, many, some), max_size=longest))


class Together:
    """A Pool and the naive reference, call by call; what we know of addresses is what the Pool told us."""

    def __init__(self, label, granules, remedy, on_failure="drop", **options):
        given = label_of_reclaim([remedy] if remedy else [])
        self.heap = pool(granules, label, on_failure=on_failure, reclaim=given, **options)
        policy, values = parse_policy(label)
        rules = {k: v for k, v in values.items() if k in _OPTIONS and v != policy.option(k).default}
        made = REFERENCES[policy.name](granules, grows=on_failure == "grow", **rules)
        share = remedy.pinned if remedy else 0
        pins = set(np.flatnonzero(Pins(share, options.get("seed", 0), 0)(5000)).tolist())
        if remedy is None:
            self.reference = ReferenceCompactor(made)
            self.reference.is_due = lambda extent=None: False
        else:
            when = remedy.when if remedy.when == "failure" else {remedy.when: getattr(remedy, remedy.when)}
            self.reference = ReferenceCompactor(made, remedy.how, when, remedy.budget, pins)
        self.at = {}
        self.sizes = {}
        self.spare = list(ascii_letters[::-1])

    def do(self, call, *arguments):
        """Make a call on both sides, and compare all there is."""
        before = {name: start for name, (start, _) in self.reference.blocks.items()}
        told = getattr(self, call)(*arguments)
        after = self.reference.blocks
        moved = sorted([old, after[name][0]] for name, old in before.items() if name in after and after[name][0] != old)
        assert (told if call == "compact" else self.heap.moved).tolist() == moved
        assert call != "compact" or len(self.heap.moved) == 0
        self.compare()

    def compare(self):
        heap, reference = self.heap, self.reference
        reference.check()  # contents: granule by granule
        assert shown(heap, self.at) == reference.map()
        assert heap.holes().tolist() == sorted(map(list, reference.policy.holes()))
        requested = {self.at[name]: size for name, size in self.sizes.items()}
        assert {address: size for address, size, _ in heap.blocks().tolist()} == requested
        counts = heap._simulation.ledger.counts[0]
        assert counts[columns.PASSES : columns.PASSES_REFUSED + 1].tolist() == [
            reference.passes, reference.blocks_moved, reference.granules_moved, reference.longest, reference.refused
        ]  # fmt: skip
        failures = heap.stats()["failures"]
        assert failures == {cause: reference.failures[cause] for cause in failures}

    def names(self, picks):
        living = sorted(self.at)
        return list(dict.fromkeys(living[pick % len(living)] for pick in picks)) if living else []

    def alloc(self, size, pinned=False):
        address = self.heap.alloc(size, pinned)
        self.at = followed(self.at, self.heap.moved)
        self.place([size], [address], pinned)

    def alloc_many(self, sizes):
        addresses = self.heap.alloc_many(sizes).tolist()
        self.at = followed(self.at, self.heap.moved)
        self.place(sizes, [None if address < 0 else address for address in addresses])

    def place(self, sizes, addresses, pinned=False):
        names = [self.spare.pop() for _ in sizes]
        placed = [self.reference.alloc(n, max(s, 1), pinned) for n, s in zip(names, sizes, strict=True)]
        assert [address is None for address in addresses] == [address is None for address in placed]
        for name, size, address in zip(names, sizes, addresses, strict=True):
            if address is None:
                self.spare.append(name)
            else:
                self.at[name], self.sizes[name] = address, size

    def free(self, pick):
        for name in self.names([pick]):
            self.heap.free(self.at[name])
            self.forget([name])

    def free_many(self, picks):
        names = self.names(picks)
        self.heap.free_many([self.at[name] for name in names])
        self.forget(names)

    def forget(self, names):
        for name in names:
            self.reference.free(name)
            del self.at[name], self.sizes[name]
            self.spare.append(name)
        self.at = followed(self.at, self.heap.moved)

    def compact(self, how, size):
        told = self.heap.compact(how, size)
        self.at = followed(self.at, told)
        used, self.reference.how = self.reference.how, how
        assert self.reference.compact(size) == list(map(tuple, told.tolist()))
        self.reference.how = used
        return told


@pytest.mark.parametrize("label", [*FITS, *BUDDIES])
@given(data=st.data())
def test_every_call(label, data):
    hows = HOWS if label in FITS else ("slide",)
    granules = 1 << data.draw(st.integers(0, 5)) if label in BUDDIES else data.draw(st.integers(1, 40))
    remedy = data.draw(remedies(data.draw(st.sampled_from(hows))))
    both = Together(label, granules, remedy, data.draw(st.sampled_from(["drop", "grow"])))
    for call in data.draw(calls(hows)):
        if len(both.spare) >= 5:
            both.do(*call)


@pytest.mark.parametrize("label", ["best-fit[ties=lifo]", "next-fit", "buddy"])
@pytest.mark.parametrize("on_failure", ["drop", "grow"])
@pytest.mark.parametrize("passes", ["compact[budget=4]", "none"])
def test_many_calls(label, on_failure, passes):
    rng = np.random.default_rng(8)
    remedy = next(iter(parse_reclaim(passes)), None)
    both = Together(label, 128, remedy and replace(remedy, pinned=0.1), on_failure, seed=3)
    pinned = set()
    for _ in range(400):
        living = len(both.at)
        call = rng.choice(["alloc", "free", "alloc_many", "free_many", "compact"], p=[0.4, 0.35, 0.1, 0.1, 0.05])
        if living > 40 or (call.startswith("free") and living == 0):
            call = "free_many" if living else "alloc"
        sizes = rng.geometric(0.15, 4).tolist()
        picks = rng.integers(0, 1 << 16, 4).tolist()
        both.do(str(call), *{
            "alloc": [sizes[0], bool(rng.random() < 0.1)], "free": picks[:1], "alloc_many": [sizes],
            "free_many": [picks], "compact": ["slide", 1],
        }[call])  # fmt: skip
        pinned |= both.reference.pinned_names
    assert both.reference.passes > 5 and pinned
