"""T1: worked examples of textbooks, and memory maps whose answer can be checked by eye.

A *story* is a line such as

    AAA..BB. +C2 AAACCBB. -A ...CCBB. +D9!

a map, then operations (`+C2` allocs 2 bytes as C, `+D9!` must fail, `-A` frees A) with the map expected after any of
them. Names that stand in the first map are placed before the story starts.
"""

import json
import re
from itertools import groupby
from pathlib import Path

import maps
import pytest
from audit import audit

import vecalloc as va

CASES = json.loads((Path(__file__).parent / "data" / "textbook.json").read_text())["cases"]
HOLES = [(case, fit) for case in CASES if case["kind"] == "holes" for fit in case["expected"]]
BUDDIES = [case for case in CASES if case["kind"] == "buddy"]

pytestmark = [
    pytest.mark.jitless,
    pytest.mark.filterwarnings(
        "ignore:overflow encountered in scalar:RuntimeWarning"
    ),  # plain Python: words wrap on purpose
]


def perform(pool, script, live):
    """Carry out a textbook script, yielding each operation's name and its address (None for a free)."""
    for sign, name, *size in script:
        if sign == "+":
            live[name] = pool.alloc(*size)
            yield name, live[name]
        else:
            pool.free(live.pop(name))
            yield name, None


def test_nothing_is_left_out():
    assert len(HOLES) == 15 and len(BUDDIES) == 2
    assert {case["kind"] for case in CASES} == {"holes", "buddy"}


@pytest.mark.parametrize(("case", "fit"), HOLES, ids=[f"{case['id']}-{fit}" for case, fit in HOLES])
def test_holes(case, fit):
    pool = va.Pool(case["pool"], f"{fit}-fit", granule=1)
    expected = case["expected"][fit]
    setup = [op for op in case["script"] if not op[1].startswith("r")]
    requests = case["script"][len(setup) :]
    assert [size for _, _, size in requests] == case["requests"]
    live = {}
    starts = [address for name, address in perform(pool, setup, live) if name[0] == "h" and address is not None]
    ends = [start + size for start, size in zip(starts, case["holes"], strict=True)]
    assert pool.holes().tolist() == [list(hole) for hole in zip(starts, case["holes"], strict=True)]

    served = [address for _, address in perform(pool, requests, live)]
    assert [-1 if address is None else address for address in served] == expected["addresses"]
    index = [
        None if address is None else next(i for i, end in enumerate(ends) if starts[i] <= address < end)
        for address in served
    ]
    assert index == expected["hole_index"]
    assert [None if i is None else case["holes"][i] for i in index] == expected["hole_size_at_start"]
    left = pool.holes().tolist()
    remaining = [sum(size for at, size in left if a <= at < b) for a, b in zip(starts, ends, strict=True)]
    assert remaining == expected["remaining"]
    assert sum(pool.stats()["failures"].values()) == expected["addresses"].count(-1)


@pytest.mark.parametrize("carve", ["low", "high"])
@pytest.mark.parametrize(
    ("case", "fit"), [pair for pair in HOLES if pair[1] != "next"], ids=lambda v: v if isinstance(v, str) else v["id"]
)
def test_the_carved_end_leaves_the_same_sizes(case, fit, carve):
    """Where separators keep holes apart, the end that a block is carved from cannot matter for sizes."""
    pool = va.Pool(case["pool"], f"{fit}-fit", granule=1, carve=carve)
    # From the high end the set-up is laid down in reverse, the filler first.
    setup = [op for op in case["script"] if not op[1].startswith("r")]
    allocs, frees = ([op for op in setup if op[0] == sign] for sign in "+-")
    live = {}
    for _ in perform(pool, (allocs if carve == "low" else allocs[::-1]) + frees, live):
        pass
    assert pool.holes()[:, 1].tolist() == case["holes"]
    served = [pool.alloc(size) for size in case["requests"]]
    expected = case["expected"][fit]
    assert [address is None for address in served] == [i is None for i in expected["hole_index"]]
    assert pool.holes()[:, 1].tolist() == [size for size in expected["remaining"] if size]


@pytest.mark.parametrize(
    ("case", "order"),
    [(case, order) for case in BUDDIES for order in ("lowest", "lifo")],
    ids=lambda value: value if isinstance(value, str) else value["id"],
)
@pytest.mark.parametrize("least_by", ["granule", "alignment"])
def test_buddies(case, order, least_by):
    assert case["lifo_variant_same_addresses"]
    least = case["min_block"]
    if least_by == "granule":
        pool = va.Pool(case["pool"], "buddy", granule=least, order=order)
    else:
        pool = va.Pool(case["pool"], "buddy", granule=1, alignment=least, order=order)
    addresses, live = {}, {}
    steps = perform(pool, case["script"], live)
    for (name, address), free_blocks in zip(steps, case["free_blocks_after_each_op"], strict=True):
        if address is not None:
            addresses[name] = address
        assert pool.holes().tolist() == free_blocks
    assert addresses == case["expected_addresses"]
    assert not live and pool.stats()["live_requested"] == 0


# --- memory maps ---


class Story:
    """A pool driven by a story, with the names of its blocks."""

    def __init__(self, policy, first, granule=1):
        self.policy = policy
        pool, wanted = maps.parse(first)
        self.pool = va.Pool(pool, policy, granule=granule)
        self.names = {}
        if wanted:
            self.lay_down(first)
        self.look(first)

    def lay_down(self, first):
        """Place everything in address order (carving high: from the top), holes too, then free the holes."""
        tiles = [(name, len(list(run))) for name, run in groupby(first)]
        gaps = []
        for name, size in reversed(tiles) if "carve=high" in self.policy else tiles:
            address = self.pool.alloc(size)
            if name == maps.FREE:
                gaps.append(address)
            else:
                self.names[name] = address
        self.pool.free_many(sorted(gaps))

    def do(self, op):
        name = op[1]
        if op[0] == "-":
            self.pool.free(self.names.pop(name))
            return
        address = self.pool.alloc(int(op[2:].rstrip("!")))
        assert (address is None) == op.endswith("!"), f"{op} of {self.policy}"
        if address is not None:
            assert name not in self.names
            self.names[name] = address

    def look(self, expected):
        blocks = self.pool.blocks().tolist()
        name_at = {address: name for name, address in self.names.items()}
        assert sorted(name_at) == [start for start, _, _ in blocks]
        drawn = maps.draw([(name_at[start], start, granted) for start, _, granted in blocks], self.pool.size)
        assert drawn == expected, self.policy
        holes = [tuple(hole) for hole in self.pool.holes().tolist()]
        granted = [(start, size) for start, _, size in blocks]
        if not self.policy.startswith("static-partition"):
            audit(self.pool.size, granted, holes, buddies=self.policy.startswith("buddy"))
        stats = self.pool.stats()
        if not stats["allocs"]:
            return  # see test_stats_of_a_fresh_pool
        assert stats["holes_now"] == len(holes) and stats["free_now"] == expected.count(maps.FREE)
        assert stats["largest_now"] == max((size for _, size in holes), default=0)


def tell(policy, story):
    first, *rest = story.split()
    told = Story(policy, first)
    for word in rest:
        if re.fullmatch(r"-[A-Za-z]|\+[A-Za-z]\d+!?", word):
            told.do(word)
        else:
            told.look(word)
    return told


STORIES = [
    # first-fit: the lowest that is large enough, whatever its size
    ("first-fit", "AAA..BB. +C2 AAACCBB. +D1 AAACCBBD +E1! AAACCBBD"),
    ("first-fit", "A...B..C +D2 ADD.B..C +E2 ADD.BEEC +F1 ADDFBEEC"),
    ("first-fit", "A.B..C... +D3 A.B..CDDD +E2 A.BEECDDD +F1 AFBEECDDD"),
    ("first-fit", "A.B..C +D3! A.B..C -B A....C +D3 ADDD.C"),
    ("first-fit", "........ +A0 A....... +B8! A....... +C7 ACCCCCCC"),
    ("first-fit[carve=high]", "........ +A3 .....AAA +B2 ...BBAAA -A ...BB... +C1 ..CBB... +D3 ..CBBDDD"),
    ("first-fit[carve=high]", "A...B..C +D2 A.DDB..C +E2 A.DDBEEC"),
    ("first-fit[carve=high]", "..A....B +C2 CCA....B +D3 CCA.DDDB"),
    # a remainder smaller than min_split is granted with the block, and comes back with it
    ("first-fit[min_split=2]", "A...B..CC +D2 ADDDB..CC -D A...B..CC +E1 AE..B..CC +F1 AEFFB..CC -F AE..B..CC"),
    ("first-fit[min_split=3]", "A....BBB +C1 AC...BBB -C A....BBB +D2 ADDDDBBB"),
    ("first-fit[carve=high,min_split=2]", "AA...B..C +D2 AADDDB..C -D AA...B..C +E1 AA..EB..C -E AA...B..C"),
    ("best-fit[min_split=2]", "A...B..CC +D1 A...BDDCC +E2 AEEEBDDCC -D AEEEB..CC"),
    ("best-fit[min_split=3,ties=lifo]", "A....B....CCC +D1 A....BD...CCC +E3 A....BDEEECCC +F2 AFFFFBDEEECCC"),
    ("worst-fit[min_split=2]", "A...B..CC +D2 ADDDB..CC +E1 ADDDBEECC"),
    ("worst-fit[carve=high,min_split=3]", "AAA.....B..CCC +D2 AAA...DDB..CCC +E1 AAAEEEDDB..CCC"),
    # best-fit: the smallest that is large enough, ties to the lowest
    ("best-fit", "A....B..C... +D2 A....BDDC... +E1 A....BDDCE.. +F2 A....BDDCEFF +G4 AGGGGBDDCEFF"),
    ("best-fit", "A..B..C..D +E2 AEEB..C..D +F1 AEEBF.C..D +G1 AEEBFGC..D"),
    ("best-fit", "A.B..C... +D4! A.B..C... +E3 A.B..CEEE +F1 AFB..CEEE"),
    ("best-fit[carve=high]", "A....B..C... +D1 A....B.DC... +E2 A....B.DC.EE +F1 A....BFDC.EE"),
    ("best-fit[carve=high]", "A..B..C..D +E1 A.EB..C..D +F2 A.EBFFC..D"),
    # ties: the lowest address, or the hole made last
    ("best-fit", "AAXBBYCCZ -A -C -B ..X..Y..Z +D2 DDX..Y..Z +E2 DDXEEY..Z"),
    ("best-fit[ties=lifo]", "AAXBBYCCZ -A -C -B ..X..Y..Z +D2 ..XDDY..Z +E2 ..XDDYEEZ +F2 FFXDDYEEZ"),
    ("best-fit[ties=lifo]", "AAXBBYCCZ -C -B -A +D1 D.X..Y..Z +E2 D.XEEY..Z"),
    ("best-fit[carve=high,ties=lifo]", "AAXBBYCCZ -A -C -B +D1 ..X.DY..Z +E2 ..X.DYEEZ +F2 FFX.DYEEZ"),
    # ... a hole that shrank, and one that grew, count as made then
    ("best-fit", "BBXAAAAAY -A -B ..X.....Y +C3 ..XCCC..Y +D2 DDXCCC..Y"),
    ("best-fit[ties=lifo]", "BBXAAAAAY -A -B ..X.....Y +C3 ..XCCC..Y +D2 ..XCCCDDY +E2 EEXCCCDDY"),
    ("best-fit[ties=lifo]", "AAXBCYDDZ -B -A -D -C ..X..Y..Z +E2 ..XEEY..Z +F2 ..XEEYFFZ +G2 GGXEEYFFZ"),
    ("best-fit", "AAXBCYDDZ -B -A -D -C ..X..Y..Z +E2 EEX..Y..Z +F2 EEXFFY..Z"),
    # worst-fit: the largest, ties to the lowest
    ("worst-fit", "A..B....C...D +E2 A..BEE..C...D +F1 A..BEE..CF..D +G1 AG.BEE..CF..D"),
    ("worst-fit", "A..B..C +D2 ADDB..C +E3! ADDB..C +F1 ADDBF.C"),
    ("worst-fit[carve=high]", "A..B....C...D +E2 A..B..EEC...D +F1 A..B..EEC..FD +G1 A.GB..EEC..FD"),
    # next-fit: from the end of the last placed block
    ("next-fit", "........ +A2 AA...... +B2 AABB.... -A ..BB.... +C1 ..BBC... +D3 ..BBCDDD +E1 E.BBCDDD +F1 EFBBCDDD"),
    ("next-fit", "........ +A3 +B5 AAABBBBB -A ...BBBBB +C1 C..BBBBB"),
    # ... the cursor inside a hole: that hole is used from its own low end
    ("next-fit", "........ +A2 +B2 +C1 AABBC... -C -B AA...... +D1 AAD....."),
    ("next-fit", "........ +A2 +B2 +C2 +D2 -A -C -B ......DD +E1 E.....DD"),
    # ... the cursor at the low end of a hole, and at the high end of one (which it is not in)
    ("next-fit", "........ +A2 +B2 +C2 -A ..BBCC.. +D1 ..BBCCD. +E2 EEBBCCD."),
    ("next-fit", "........ +A2 +B2 +C2 -B AA..CC.. -C AA...... +D3 AADDD..."),
    ("next-fit", "......... +A2 +B2 +C2 +D3 -A +E2 EEBBCCDDD -E -C ..BB..DDD +F2 ..BBFFDDD +G2 GGBBFFDDD"),
    # ... too small where the cursor is: on upwards, then round once, to the hole of the cursor again
    ("next-fit", "A.B..C... +X3 A.B..CXXX +Y1 AYB..CXXX -Y A.B..CXXX +Z2 A.BZZCXXX +Y1 AYBZZCXXX"),
    ("next-fit", "........ +A3 +B1 +C1 +D3 -A -D ...BC... +E3 EEEBC... -B EEE.C... +F2 EEE.CFF. -E +G2 GG..CFF."),
    # ... a failed search leaves the cursor
    (
        "next-fit",
        "........ +A2 +B2 +C2 +D2 -A +E1 E.BBCCDD -D E.BBCC.. +F3! +G1 EGBBCC.. -G E.BBCC.. +H1 E.BBCCH. +I1 E.BBCCHI",
    ),
    # ... a free leaves the cursor as well
    ("next-fit", "........ +A2 +B2 +C2 AABBCC.. -A -C ..BB.... +D1 ..BBD... +E1 ..BBDE.. -D ..BB.E.. +F1 ..BB.EF."),
    # ... a remainder granted with the block lies behind the cursor
    (
        "next-fit[min_split=2]",
        "........ +A3 +B1 +C4 -A ...BCCCC +D2 DDDBCCCC -D -C ...B.... +E1 ...BE... -B ....E... +F1 ....EF..",
    ),
    # buddy: powers of two, the lowest of the smallest order, low halves, eager merging
    ("buddy", "........ +A1 A....... +B2 A.BB.... +C1 ACBB.... +D3 ACBBDDDD -A .CBBDDDD -B -C ....DDDD +E4 EEEEDDDD"),
    ("buddy", "........ +A4 +B1 +C1 +D1 +E1 AAAABCDE -B -D AAAA.C.E +F2! AAAA.C.E -C AAAA...E +F2 AAAAFF.E"),
    ("buddy", "........ +A1 +B1 +C1 +D1 -A -C .B.D.... +E1 EB.D.... +F1 EBFD...."),
    ("buddy[order=lifo]", "........ +A1 +B1 +C1 +D1 -A -C .B.D.... +E1 .BED.... +F1 FBED...."),
    ("buddy[order=lifo]", "........ +A2 +B2 +C2 +D2 -D -A -B ....CC.. +E2 ....CCEE +F1 F...CCEE"),
    # static-partition: whole units
    (
        "static-partition[unit=2]",
        "........ +A1 AA...... +B2 +C3! AABB.... -A ..BB.... +D0 DDBB.... +E2 +F2 DDBBEEFF +G1! DDBBEEFF",
    ),
    ("static-partition[unit=2]", "........ +A1 +B1 +C1 -A -B ....CC.. +D1 DD..CC.."),
    ("static-partition[order=lifo,unit=2]", "........ +A1 +B1 +C1 -A -B ....CC.. +D1 ..DDCC.. +E1 EEDDCC.."),
    (
        "static-partition[units=[4,1,3,1]]",
        "......... +A1 ....A.... +B1 ....A...B +C1 ....ACCCB +D1 DDDDACCCB -C +E4! DDDDA...B",
    ),
    ("static-partition[order=lifo,units=[2,1,2]]", "..... +A2 +B2 AA.BB -A -B ..... +C2 ...CC +D1 ..DCC"),
]


@pytest.mark.parametrize(("policy", "story"), STORIES, ids=lambda value: value.replace(" ", "_")[:60])
def test_maps(policy, story):
    tell(policy, story)


SIDES = {"wall": ("", ""), "block": ("LL", "RR"), "hole": ("LL..", "...RR"), "hole at the wall": ("...", "..")}
FITS = [
    f"{name}[min_split={min_split}{',carve=high' * (carve == 'high')}{',ties=lifo' * (ties == 'lifo')}]"
    for name in ("first-fit", "best-fit", "worst-fit", "next-fit")
    for carve in ("low", "high")[: 1 if name == "next-fit" else 2]
    for ties in ("lowest", "lifo")[: 2 if name == "best-fit" else 1]
    for min_split in (1, 2)
]


@pytest.mark.parametrize("policy", FITS)
@pytest.mark.parametrize("left", SIDES)
@pytest.mark.parametrize("right", SIDES)
def test_coalescing(policy, left, right):
    """A freed block becomes one hole with whatever is free beside it, and touches nothing else."""
    before, after = SIDES[left][0], SIDES[right][1]
    tell(policy, f"{before}XXX{after} -X {before}...{after}")
    told = tell(policy, f"{before}XXYY{after} -X -Y {before}....{after}")
    neighbours = before.endswith(".") + after.startswith(".")
    story = Story(policy, f"{before}XXX{after}")
    holes = len(story.pool.holes())
    story.do("-X")
    assert len(story.pool.holes()) == holes + 1 - neighbours
    # The hole can be used whole.
    whole = max(size for _, size in told.pool.holes().tolist())
    assert told.pool.alloc(whole) == told.pool.size - len(after.lstrip(".")) - whole


@pytest.mark.parametrize("policy", ["first-fit", "best-fit[ties=lifo]", "buddy", "static-partition[unit=64]"])
def test_stats_of_a_fresh_pool(policy):
    """Before any event all is free."""
    stats = va.Pool(64, policy, granule=1).stats()
    assert (stats["holes_now"], stats["free_now"], stats["largest_now"]) == (1, 64, 64)


@pytest.mark.parametrize("policy", ["buddy", "static-partition[unit=8]"])
def test_size_of_a_fresh_pool_that_grows(policy):
    """Buddy and static partitions report the (grown) pool, and that is there before any event."""
    assert va.Pool(64, policy, granule=1, on_failure="grow").size == 64


def test_the_story_notices():
    """A wrong expectation fails."""
    for story in ("A..B +C1 A.CB", "A..B +C2!", "A..B -A ...."):
        with pytest.raises(AssertionError):
            tell("first-fit", story)


def test_min_split_is_in_bytes():
    """A min_split below the granule is one granule; one that is no multiple of it is rounded up."""
    for min_split, left in ((1, 1), (16, 1), (17, 0), (32, 0)):
        pool = va.Pool(64, "first-fit", granule=16, min_split=min_split)
        pool.alloc(48)
        assert len(pool.holes()) == left, min_split
