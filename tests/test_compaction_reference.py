"""The naive compaction itself: maps whose answer can be checked by eye, and what holds whatever the blocks are."""

from itertools import pairwise

import maps
import numpy as np
import pytest
from audit import audit
from hypothesis import given
from hypothesis import strategies as st
from reference import REFERENCES
from reference.compaction import Compactor
from traces import operations


def heap(map, policy="first-fit", how="slide", pinned="", grows=False, budget=None, **options):
    """A pool that looks like the map, before its first event and with nothing allocated yet in its counts.

    Holes are made in address order, so the highest is the newest.
    """
    pool, blocks = maps.parse(map)
    c = Compactor(REFERENCES[policy](pool, grows=grows, **options), how, budget=budget)
    at = 0
    for name, start, size in [*blocks, ("", pool, 0)]:
        for granule in range(at, start):
            assert c.alloc(granule, 1) == granule
        if name:
            assert c.alloc(name, size, name in pinned) == start
        at = start + size
    for granule in sorted(name for name in c.blocks if isinstance(name, int)):
        c.free(granule)
    if policy == "next-fit":
        c.policy.cursor = 0
    c.events = c.allocated = c.ignored = 0
    c.addresses.clear()
    assert c.map() == map
    c.check()
    return c


# --- the ways --------------------------------------------------------------------------------------------------------

SLIDES = [
    ("A.BB..C.", "", "ABBC....", [(2, 1), (6, 3)]),
    ("..AAA.BB", "", "AAABB...", [(2, 0), (6, 3)]),
    ("AABBCC..", "", "AABBCC..", []),
    ("........", "", "........", []),
    ("A.BB..P.C", "P", "ABB...PC.", [(2, 1), (8, 7)]),
    (".P.A.Q.B", "PQ", ".PA..QB.", [(3, 2), (7, 6)]),
    ("..P..", "P", "..P..", []),
    ("...AP.B", "P", "A...PB.", [(3, 0), (6, 5)]),
    ("BBB.P.A", "P", "BBB.PA.", [(6, 5)]),  # the hole of 1 below P stays: nobody passes P
]

WINDOWS = [
    ("A.B.C.D", "", 2, "AB..C.D", [(2, 1)]),  # B and C cost the same: the lower
    ("A.BB.C.D", "", 2, "A.BBC..D", [(5, 4)]),  # C is cheaper
    ("A.P.C.D", "P", 2, "A.PC..D", [(4, 3)]),
    ("A.P.Q.D", "PQ", 2, "A.P.Q.D", []),  # no run without a pinned block
    ("..BBB.CC..", "", 3, "..BBBCC...", [(6, 5)]),
    ("..B..CC.D", "", 4, "B....CC.D", [(2, 0)]),
    ("..B..CC.D", "", 5, "BCC.....D", [(2, 0), (5, 1)]),
    ("..B..CC.D", "", 6, "..B..CC.D", []),
    ("A.B.C...D.E", "", 3, "A.B.C...D.E", []),  # there is such a hole
    ("A.B.CC..DDD", "", 4, "ABCC....DDD", [(2, 1), (4, 2)]),
    (".A.B.P...Q.R", "PQ", 3, ".A.B.P...Q.R", []),
    (".A.B.P..Q.R", "PQ", 3, "AB...P..Q.R", [(1, 0), (3, 1)]),
]

FINGERS = [
    ("A.B.C.", "", "ACB...", [(4, 1)]),
    ("..A.B.C", "", "CBA....", [(4, 1), (6, 0)]),
    ("..AAA.B", "", "B.AAA..", [(6, 0)]),  # AAA is too large for what is left
    ("..AA.B.C", "", "CBAA....", [(5, 1), (7, 0)]),
    ("...AA.B", "", "BAA....", [(3, 1), (6, 0)]),  # what AA leaves merges with what lay below it
    (".AA.BB.", "", ".AA.BB.", []),
    (".AA..BB.C", "", "CAABB....", [(5, 3), (8, 0)]),
    (".A..P.B", "P", "BA..P..", [(6, 0)]),  # passes the pinned one
    ("..A.P", "P", "A...P", [(2, 0)]),
    (".P.", "P", ".P.", []),
    (".AA.B.CC.D", "", "DAABCC....", [(4, 3), (6, 4), (9, 0)]),  # B leaves room for CC
]


@pytest.mark.parametrize(("before", "pinned", "after", "moves"), SLIDES)
@pytest.mark.parametrize("policy", ["first-fit", "best-fit", "worst-fit", "next-fit"])
def test_slide(policy, before, pinned, after, moves):
    c = heap(before, policy, "slide", pinned)
    assert c.compact() == moves
    assert c.map() == after
    c.check()


@pytest.mark.parametrize(("before", "pinned", "extent", "after", "moves"), WINDOWS)
def test_first_window(before, pinned, extent, after, moves):
    c = heap(before, how="first-window", pinned=pinned)
    assert c.compact(extent) == moves
    assert c.map() == after
    c.check()


@pytest.mark.parametrize(("before", "pinned", "after", "moves"), FINGERS)
def test_two_finger(before, pinned, after, moves):
    c = heap(before, how="two-finger", pinned=pinned)
    assert c.compact() == moves
    assert c.map() == after
    c.check()


BUDDIES = [
    ("A.B.CC..", "", "ABCC....", [(2, 1), (4, 2)], [(4, 4)]),
    ("..A.P..B", "P", "AB..P...", [(2, 0), (7, 1)], [(2, 2), (5, 1), (6, 2)]),  # a buddy may pass a pinned one
    ("A.P.CC..", "P", "A.P.CC..", [], [(1, 1), (3, 1), (6, 2)]),  # no aligned pair is free
    ("A.BB..CC", "", "A.BBCC..", [(6, 4)], [(1, 1), (6, 2)]),
    ("..A.CC..DDDD....", "", "A.CCDDDD........", [(2, 0), (4, 2), (8, 4)], [(1, 1), (8, 8)]),
    (".A......", "", "A.......", [(1, 0)], [(1, 1), (2, 2), (4, 4)]),
    (".......A", "A", ".......A", [], [(0, 4), (4, 2), (6, 1)]),
    ("....AABBCCCC....", "", "AABBCCCC........", [(4, 0), (6, 2), (8, 4)], [(8, 8)]),
]


@pytest.mark.parametrize("order", ["lowest", "lifo"])
@pytest.mark.parametrize(("before", "pinned", "after", "moves", "holes"), BUDDIES)
def test_buddies_slide(order, before, pinned, after, moves, holes):
    c = heap(before, "buddy", pinned=pinned, order=order)
    assert c.compact() == moves
    assert c.map() == after
    assert c.policy.holes() == holes
    c.check()


def test_a_pass_that_moves_nothing_is_none():
    c = heap("AA.P..", pinned="P", budget=1000)
    assert c.compact() == []
    assert c.alloc("X", 3) is None and c.cause == "fragmentation"  # nor is it refused
    assert (c.passes, c.refused, c.longest) == (0, 0, 0)


def test_remainders_move_with_their_block():
    c = heap("AA.B..", budget=None)
    c.policy.min_split = 3
    assert c.alloc("C", 1) == 2  # granted 1
    c.free("A")
    assert c.alloc("D", 1) == 0 and c.map() == "DDCB.."  # granted 2, offsets 0 and 1 both move
    c.free("C")
    c.compact()
    assert c.map() == "DDB..."
    c.free("D")
    assert c.alloc("E", 4) is not None and c.map() == "BEEEEE"
    c.check()


def test_names_and_pins_are_the_alloc_s():
    c = Compactor(REFERENCES["first-fit"](6), pinned={2})
    for name in "ABC":
        assert c.alloc(name, 1) is not None
    assert c.alloc("X", 9) is None
    c.free("A"), c.free("X"), c.free("B")
    assert c.ignored == 1 and c.pinned_names == {"C"}
    assert c.alloc("D", 4) is None and c.cause == "fragmentation"  # alloc 2 is C, and stays
    assert c.map() == "..C..."
    c.pinned_names.clear()
    assert c.alloc("D", 4) == 1
    assert c.addresses == [0, 1, 2, -1, -1, 1]
    assert c.failures == {"too-large": 1, "capacity": 0, "fragmentation": 1, "budget": 0}
    assert c.events == 9


# --- when ------------------------------------------------------------------------------------------------------------


def test_on_failure_only_for_fragmentation():
    c = heap("A.B.C.")
    assert c.alloc("X", 7) is None and c.cause == "too-large"
    assert c.alloc("X", 4) is None and c.cause == "capacity"
    assert c.map() == "A.B.C." and c.passes == 0
    assert c.alloc("D", 1) == 1 and c.passes == 0
    assert c.alloc("E", 2) == 4
    assert c.map() == "ADBCEE"
    assert (c.passes, c.blocks_moved, c.granules_moved, c.longest) == (1, 1, 1, 1)


def test_on_failure_buddies_need_their_power():
    c = heap("A.B.C.DD", "buddy")  # free 3
    assert c.alloc("X", 3) is None and c.cause == "capacity" and c.passes == 0
    c = heap("A.B.C.D.", "buddy", pinned="D")  # free 4
    assert c.alloc("X", 5) is None and c.cause == "capacity" and c.passes == 0
    assert c.alloc("X", 3) is None and c.cause == "fragmentation" and c.passes == 1  # D is in the way
    assert c.map() == "ABC...D."
    c.pinned_names.clear()
    assert c.alloc("E", 3) == 4
    assert c.map() == "ABCDEEEE" and c.allocated == 4


def test_every_counts_events_from_0():
    c = heap("..A.B.")
    c.when = {"every": 3}
    c.free("none")  # event 0
    assert c.map() == "..A.B."
    assert c.alloc("X", 3) is None and c.cause == "fragmentation"  # 1: no pass on failure
    c.free("B")  # 2
    assert c.map() == "..A..."
    assert c.alloc("C", 5) == 1  # 3: the pass comes first
    c.free("A"), c.free("none")  # 4, 5
    assert c.map() == ".CCCCC"
    c.free("C")  # 6: moved, then freed
    assert (c.passes, c.blocks_moved, c.granules_moved, c.longest, c.ignored) == (2, 2, 6, 5, 2)


def test_external_fragmentation_is_looked_at_before_every_event():
    c = heap("..A.B...")  # free 6, largest 3: exactly a half
    c.when = {"external_fragmentation": 0.5}
    c.free("none")
    assert c.map() == "AB......"
    c = heap("..A.B....")
    c.when = {"external_fragmentation": 0.5}
    c.free("none")
    assert c.map() == "..A.B...." and c.passes == 0
    c = heap("AAAA")  # nothing is free
    c.when = {"external_fragmentation": 0.5}
    assert c.alloc("X", 1) is None and c.cause == "capacity"


# --- the budget ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "allocated", "allowed"),
    [(4, 12, True), (4, 11, False), (2.5, 8, True), (2.5, 7, False), (7 / 3, 7, True), (2.3333333333333340, 7, False)],
)
def test_the_budget_at_its_boundary(budget, allocated, allowed):
    c = heap("A.BBB.C", how="first-window", budget=budget)
    c.allocated = allocated
    if allowed:
        assert c.alloc("D", 2) == 4 and c.map() == "ABBBDDC"
        assert c.allocated == allocated + 2 and c.granules_moved == 3 and c.refused == 0
    else:
        assert c.alloc("D", 2) is None and c.cause == "budget" and c.map() == "A.BBB.C"
        assert c.allocated == allocated and c.granules_moved == 0 and c.refused == 1
        assert c.failures["budget"] == 1 and c.passes == 0


def test_the_budget_counts_all_that_was_moved():
    c = heap("A.B.C.D", budget=2)
    c.allocated = 6
    assert c.alloc("E", 3) == 4  # 3 moved, 6 / 2 allowed
    c.free("A"), c.free("C")
    assert c.map() == ".B.DEEE" and c.allocated == 9
    c.allocated = 15  # 1.5 more than 3 + 4.5
    assert c.alloc("F", 2) is None and c.cause == "budget"  # B, D and E: 5 more
    c.allocated = 16
    assert c.alloc("F", 2) == 5
    assert c.map() == "BDEEEFF"
    c.free("B")
    c.allocated = 1000
    c.free("D"), c.free("E"), c.alloc("G", 1), c.alloc("H", 1), c.free("G")
    assert c.map() == ".H...FF" and c.alloc("I", 4) == 3
    assert (c.passes, c.refused, c.longest, c.granules_moved) == (3, 1, 5, 11)


def test_a_refused_pass_of_any_kind_gives_its_cause():
    c = heap("A.B.", budget=2)
    c.when = {"every": 1}
    c.free("none")  # event 0
    assert c.alloc("X", 2) is None and c.cause == "budget"
    c.free("none")  # refused again
    assert c.alloc("C", 1) == 1 and c.cause is None
    assert c.refused == 3
    assert c.alloc("D", 2) is None and c.cause == "capacity"  # nothing to move: nothing refused
    assert c.failures["budget"] == 1 and c.refused == 3


def test_compact_asks_no_budget():
    c = heap("A.B.", budget=2)
    assert c.compact() == [(2, 1)]
    assert (c.passes, c.granules_moved, c.refused, c.events) == (1, 1, 0, 0)
    c = heap("..A.P.", budget=2, pinned="P")
    c.compact()
    assert c.map() == "A...P." and c.granules_moved > c.allocated
    assert c.alloc("X", 4) is None and c.cause == "fragmentation"  # overdrawn, but there is nothing to refuse


# --- what the policies remember --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "how", "extent", "after", "cursor"),
    [
        ("A.BB.P.C..", "slide", None, "ABB..PC...", 7),
        ("A.BB.P....", "slide", None, "ABB..P....", 3),
        ("A.BB..C..D", "first-window", 3, "A.BBC....D", 5),
        ("..A.BBB.C", "two-finger", None, "CA..BBB..", 2),
        ("AABBBB....", "slide", None, "AABBBB....", 0),  # nothing moved, nothing changed
    ],
)
def test_the_cursor_is_the_end_of_the_last_moved(before, how, extent, after, cursor):
    c = heap(before, "next-fit", how, pinned="P")
    c.compact(extent)
    assert c.map() == after and c.policy.cursor == cursor
    expected = next(start for start, size in c.policy.holes() if start + size > cursor)
    assert c.alloc("Z", 1) == expected


def test_lifo_unchanged_holes_keep_their_places():
    c = heap("AXXP.C.QYYR", "best-fit", pinned="PQR", ties="lifo")
    c.free("Y"), c.free("X")  # oldest: the two of 1, then 8, then 1
    c.compact()
    assert c.map() == "A..PC..Q..R"
    assert [c.alloc(name, 2) for name in "UVW"] == [5, 1, 8]


def test_lifo_new_holes_go_on_top_in_address_order():
    c = heap("A.CP.D.QYYR", "best-fit", pinned="PQR", ties="lifo")
    c.free("Y")
    c.free("C")
    assert c.policy.by_age == [(4, 1), (6, 1), (8, 2), (1, 2)]
    c.compact()
    assert c.map() == "A..PD..Q..R"
    assert c.policy.by_age == [(8, 2), (1, 2), (5, 2)]
    c = heap("A.C.P.D.QYYR", "best-fit", pinned="PQR", ties="lifo")
    c.free("Y")
    c.compact()
    assert c.policy.by_age == [(9, 2), (2, 2), (6, 2)]


def test_lifo_a_resized_hole_is_new():
    c = heap("AXX.C.PYY", "best-fit", pinned="P", ties="lifo")
    c.free("X")
    c.free("Y")
    assert c.policy.by_age == [(5, 1), (1, 3), (7, 2)]
    c.compact()
    assert c.map() == "AC....P.." and c.policy.by_age == [(7, 2), (2, 4)]


def test_lifo_buddies_keep_their_places():
    c = heap("P.BQ.CR.DS.T.U..", "buddy", pinned="PQRSTU", order="lifo")
    c.policy.free_blocks[0] = [12, 4, 1, 7, 10]  # ages as we please
    c.check()
    c.compact()  # B to 1; C to 2, where B was; D to 4
    assert c.map() == "PBCQD.R..S.T.U.."
    assert c.policy.free_blocks[0] == [12, 7, 10, 5, 8]
    assert c.policy.free_blocks[1] == [14]


# --- growing pools ---------------------------------------------------------------------------------------------------


def test_the_limit_falls():
    c = heap("A..B.C", grows=True)
    assert c.alloc("D", 3) == 3  # no hole is left to use: what was free lies above the limit now
    assert c.map() == "ABCDDD" and c.policy.limit == 6 and c.passes == 1
    c.free("B")
    assert c.alloc("E", 2) == 6 and c.passes == 1  # one free granule is not enough: no pass
    assert c.map() == "A.CDDDEE"


def test_a_window_in_a_growing_pool():
    c = heap("A..B.C", how="first-window", grows=True)
    assert c.alloc("D", 3) == 2
    assert c.map() == "ABDDDC" and c.policy.limit == 6


def test_fingers_in_a_growing_pool():
    c = heap("..A.BB.CC", how="two-finger", grows=True)
    assert c.compact() == [(7, 0)]
    assert c.map() == "CCA.BB" and c.policy.limit == 6


def test_refused_a_growing_pool_grows():
    c = heap("A..B.C", grows=True, budget=3)
    assert c.alloc("D", 3) == 6 and c.refused == 1 and c.cause is None
    assert c.map() == "A..B.CDDD"


def test_growing_buddies_keep_their_pool():
    c = heap("A.B.C.D.", "buddy", grows=True)
    assert c.alloc("E", 4) == 4 and c.policy.limit == 8 and c.passes == 1
    assert c.map() == "ABCDEEEE"
    c.free("A"), c.free("C")
    assert c.alloc("F", 4) == 8 and c.policy.limit == 16 and c.passes == 1  # 2 free: no pass
    c.free("E"), c.free("F")
    c.compact()
    assert c.map() == "BD" + "." * 14 and c.policy.holes() == [(2, 2), (4, 4), (8, 8)]


# --- whatever the blocks ---------------------------------------------------------------------------------------------

POLICIES = [
    ("first-fit", {}),
    ("first-fit", {"carve": "high"}),
    ("best-fit", {"min_split": 3}),
    ("best-fit", {"ties": "lifo"}),
    ("worst-fit", {}),
    ("next-fit", {}),
    ("buddy", {}),
    ("buddy", {"order": "lifo"}),
]
policies = st.sampled_from(POLICIES)
budgets = st.sampled_from([None, 1.25, 2, 4.0, 10])
whens = st.one_of(
    st.just("failure"),
    st.integers(1, 7).map(lambda n: {"every": n}),
    st.sampled_from([0.25, 0.5, 0.75]).map(lambda x: {"external_fragmentation": x}),
)


@st.composite
def compactors(draw, policies=policies, whens=whens, budgets=budgets, grows=st.booleans(), pinned=True):
    name, options = draw(policies)
    when = draw(whens)
    how = "slide" if name == "buddy" else draw(st.sampled_from(["slide", "two-finger", "first-window"]))
    when = "failure" if how == "first-window" else when
    pool = 2 ** draw(st.integers(0, 6)) if name == "buddy" else draw(st.integers(1, 60))
    numbers = draw(st.sets(st.integers(0, 40), max_size=8)) if pinned else ()
    return Compactor(REFERENCES[name](pool, grows=draw(grows), **options), how, when, draw(budgets), numbers)


def crowding(rng, events, granules, largest):
    """Allocs below `largest`, small ones mostly, and frees in any order; about so many granules live."""
    ops, live, allocs = [], {}, 0
    for _ in range(events):
        if live and rng.random() < sum(live.values()) / (2 * granules):
            name = rng.choice(list(live)).item()
            del live[name]
            ops.append(("free", name))
        else:
            live[allocs] = int(largest * rng.random() ** 3)
            ops.append(live[allocs])
            allocs += 1
    return ops


@st.composite
def crowds(draw, **narrower):
    """A compactor and operations that keep its pool about full."""
    c = draw(compactors(**narrower))
    pool = c.policy.limit or draw(st.integers(8, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    largest, fill = 1 + pool // draw(st.integers(1, 8)), draw(st.sampled_from([0.6, 0.8, 1.0]))
    return c, crowding(rng, draw(st.integers(1, 120)), fill * pool, largest)


def audit_of(c):
    audit(c.policy.limit, c.policy.blocks.items(), c.policy.holes(), buddies=hasattr(c.policy, "free_blocks"))


@given(crowd=st.one_of(crowds(), st.tuples(compactors(), operations(most=12))))
def test_no_granule_is_lost_and_no_budget_overdrawn(crowd):
    follow(*crowd)


EVERY_WAY = [
    (policy, options, how, when)
    for policy, options in POLICIES
    for how in ["slide", "first-window", "two-finger"]
    for when in ["failure", {"every": 20}, {"external_fragmentation": 0.5}]
    if not (policy == "buddy" and how != "slide") and not (how == "first-window" and when != "failure")
]


@pytest.mark.parametrize("grows", [False, True])
@pytest.mark.parametrize("budget", [None, 15.0])
@pytest.mark.parametrize(("policy", "options", "how", "when"), EVERY_WAY)
def test_long_runs(policy, options, how, when, budget, grows):
    rng = np.random.default_rng([len(how), grows])
    c = Compactor(REFERENCES[policy](64, grows, **options), how, when, budget, set(rng.choice(150, 8).tolist()))
    follow(c, crowding(rng, 300, 55, 34))
    assert c.passes + c.refused > 0 and (budget is not None or not c.refused)


def follow(c, ops):
    seen = {}
    for op in ops:
        passes = c.passes
        c.do(op)
        c.check()
        audit_of(c)
        assert c.passes - passes in (0, 1)
        assert c.budget is None or c.granules_moved * c.budget <= c.allocated
        for name, (start, granted) in c.blocks.items():
            was_at, was_granted = seen.setdefault(name, (c.addresses[name], granted))
            assert granted == was_granted
            assert start == was_at or name not in c.pinned
        assert len(c.blocks) == len(c.policy.blocks)
    assert c.events == len(ops)
    assert sum(c.failures.values()) == c.addresses.count(-1)


@given(crowd=crowds(), extent=st.integers(1, 20))
def test_a_second_pass_finds_nothing_to_do(crowd, extent):
    c, ops = crowd
    for op in ops:
        c.do(op)
    free, passes = sum(size for _, size in c.policy.holes()), c.passes
    moves = c.compact(extent)
    assert c.passes == passes + bool(moves)
    assert all(new < old for old, new in moves)
    assert all(a < b for (a, _), (b, _) in pairwise(moves))
    assert c.policy.grows or sum(size for _, size in c.policy.holes()) == free
    assert c.compact(extent) == []
    c.check()
    audit_of(c)


fits = st.sampled_from([case for case in POLICIES if case[0] != "buddy"])


@given(crowd=crowds(policies=fits, pinned=False))
def test_a_slide_leaves_one_hole_at_the_end(crowd):
    c, ops = crowd
    for op in ops:
        c.do(op)
    order = [name for name, _ in sorted(c.blocks.items(), key=lambda block: block[1])]
    c.how = "slide"
    c.compact()
    granted = sum(size for _, size in c.blocks.values())
    assert c.policy.holes() == ([(granted, c.policy.limit - granted)] if granted < c.policy.limit else [])
    assert order == [name for name, _ in sorted(c.blocks.items(), key=lambda block: block[1])]


@given(crowd=crowds(policies=fits), extent=st.integers(1, 20))
def test_a_window_is_the_cheapest(crowd, extent):
    """Against all stretches of the pool, not only those between two holes."""
    c, ops = crowd
    for op in ops:
        c.do(op)
    c.how = "first-window"
    costs, limit = [], c.policy.limit
    for low in range(limit):
        for high in range(low + 1, limit + 1):
            inside = [
                (start, size, name in c.pinned_names)
                for name, (start, size) in c.blocks.items()
                if start < high and low < start + size
            ]
            whole = all(low <= start and start + size <= high and not fixed for start, size, fixed in inside)
            cost = sum(size for _, size, _ in inside)
            if whole and high - low - cost >= extent:
                costs.append(cost)
    moved = c.granules_moved
    c.compact(extent)
    assert (max((size for _, size in c.policy.holes()), default=0) >= extent) == bool(costs)
    assert c.granules_moved - moved == min(costs, default=0)


@given(crowd=crowds(policies=fits))
def test_two_fingers_leave_no_block_above_a_hole_that_it_fits(crowd):
    c, ops = crowd
    for op in ops:
        c.do(op)
    c.how = "two-finger"
    c.compact()
    for name, (start, size) in c.blocks.items():
        assert name in c.pinned_names or all(hole > start or room < size for hole, room in c.policy.holes())


@given(crowd=crowds(policies=fits, whens=st.just("failure"), budgets=st.none(), grows=st.just(False), pinned=False))
def test_fits_that_slide_or_open_windows_fail_for_capacity_only(crowd):
    c, ops = crowd
    if c.how == "two-finger":
        c.how = "slide"
    for op in ops:
        c.do(op)
    assert c.failures["fragmentation"] == 0


@given(crowd=crowds(), frozen=st.booleans())
def test_a_policy_that_may_not_move_is_the_bare_one(crowd, frozen):
    """Everything pinned, or no budget for anything: not a single address differs."""
    c, ops = crowd
    if frozen:
        c.pinned = range(1000)
    else:
        c.budget = 1e9
    options = {key: getattr(c.policy, key) for key in ("min_split", "carve", "ties") if hasattr(c.policy, key)}
    if hasattr(c.policy, "cursor"):
        del options["carve"]
    if hasattr(c.policy, "lifo"):
        options["order"] = "lifo" if c.policy.lifo else "lowest"
    granules = max(1, sum(size for _, size in c.policy.holes()))  # a new pool that grows is empty
    bare = type(c.policy)(granules, grows=c.policy.grows, **options)
    causes = {cause: 0 for cause in c.failures}
    placed = []
    for op in ops:
        refused = c.refused
        c.do(op)
        refused = c.refused > refused
        assert not (refused and frozen)
        if isinstance(op, tuple):
            if placed[op[1]] is not None:
                bare.free(placed[op[1]])
        else:
            placed.append(bare.alloc(max(op, 1)))
            if placed[-1] is None:
                cause = bare.cause(max(op, 1))
                causes["budget" if refused and cause == "fragmentation" else cause] += 1
        assert c.policy.holes() == bare.holes() and c.policy.blocks == bare.blocks
    assert c.addresses == [-1 if address is None else address for address in placed]
    assert c.failures == causes
    assert c.passes == 0


@pytest.mark.parametrize(
    ("policy", "how", "when"),
    [
        ("static-partition", "slide", "failure"),
        ("buddy", "two-finger", "failure"),
        ("buddy", "first-window", "failure"),
        ("first-fit", "first-window", {"every": 2}),
        ("first-fit", "sideways", "failure"),
        ("first-fit", "slide", {"often": 2}),
    ],
)
def test_what_is_no_compaction(policy, how, when):
    with pytest.raises(AssertionError):
        Compactor(REFERENCES[policy](8), how, when)


def test_the_check_can_fail():
    c = heap("AA.BB.")
    c.memory[0], c.memory[1] = c.memory[1], c.memory[0]
    with pytest.raises(AssertionError, match="reordered"):
        c.check()
    c = heap("AA.BB.")
    c.memory[2] = ("B", 0)
    with pytest.raises(AssertionError, match="duplicated"):
        c.check()
    c = heap("AA.BB.")
    c.policy.remove_hole((2, 1))
    with pytest.raises(AssertionError):
        c.check()
