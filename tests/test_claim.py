"""What remedies ask of a policy: to claim a given place, to say whether it is free, and to follow blocks that moved.

The engine and its naive reference go the same way, side by side: same addresses, same answers, same holes. Where no
order of age plays a part, a claim right after a free undoes it to the last bit.
"""

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
from audit import audit
from hypothesis import given
from hypothesis import strategies as st
from maps import draw, parse
from reference import REFERENCES
from reference.buddy import order_of
from reference.compaction import adopt
from test_policies import VARIANTS, every_variant, pool_for

from vecalloc.kernel import JIT, kernel
from vecalloc.mechanisms.changes import Changes
from vecalloc.mechanisms.hole_tree import TreeHeap
from vecalloc.mechanisms.registers import BIG, CURSOR, GRANTED, HOLES, LIMIT
from vecalloc.mechanisms.replicas import copies_of
from vecalloc.mechanisms.size_index import IndexHeap
from vecalloc.policies.table import POLICIES
from vecalloc.spec import label_of, make_plan, parse_policy

pytestmark = [
    pytest.mark.jitless,
    # Without the JIT, 64-bit words are numpy scalars, which say so when they wrap.
    pytest.mark.filterwarnings("ignore:overflow encountered in scalar:RuntimeWarning"),
]

ALLOC, FREE, CLAIM, ASK = 0, 1, 2, 3


@cache
def driver_of(policy):
    """A kernel that runs operations (what, address or extent, granted) on replica 0 and notes the answers."""
    pick, alloc, free, claim, is_free, largest = (
        policy.pick, policy.alloc, policy.free, policy.claim, policy.is_free, policy.largest,
    )  # fmt: skip

    @kernel
    def drive(pools, operations, answers):
        pool, _registers = pick(pools, 0)
        for i in range(len(operations)):
            what, a, b = operations[i, 0], operations[i, 1], operations[i, 2]
            answers[i, 0] = 0
            if what == ALLOC:
                answers[i, 0] = alloc(pool, a)
            elif what == FREE:
                free(pool, a)
            elif what == CLAIM:
                claim(pool, a, b)
            else:
                answers[i, 0] = is_free(pool, a, b)
            answers[i, 1] = largest(pool)

    return drive


class Pair:
    """An engine's pool and its reference, which do everything together.

    With `grows` the arrays reach as far as `granules`, and it is the caller's to ask for no more.
    """

    def __init__(self, name, options, granules, grows=False):
        plan = make_plan(name, granules, 1, options=options)
        self.module = plan.module()
        self.state = self.module.new(1, granules, grows, plan.rules)
        self.reference = REFERENCES[name](1 if grows else granules, grows=grows, **options)
        self.drive = driver_of(self.module)
        self.aligned = name == "buddy"
        self.whole = name == "static-partition"

    def do(self, what, a, b=0):
        """One operation; returns what both answer."""
        answers = np.zeros((1, 2), np.int64)
        self.drive(self.state, np.array([[what, a, b]]), answers)
        if what == ALLOC:
            expected = self.reference.alloc(a)
            expected = -1 if expected is None else expected
        elif what == FREE:
            expected = self.reference.free(a) or 0
        elif what == CLAIM:
            expected = self.reference.claim(a, b) or 0
        else:
            expected = int(self.reference.is_free(a, b))
        assert answers.tolist() == [[expected, max((size for _, size in self.reference.holes()), default=0)]]
        return expected

    def compare(self):
        """Holes and registers are what the reference's lists say."""
        holes = self.reference.holes()
        assert [tuple(hole) for hole in self.module.holes(self.state, 0).tolist()] == holes
        registers = self.state.registers[0]
        granted = sum(self.reference.blocks.values())
        assert registers[[GRANTED, HOLES, LIMIT]].tolist() == [granted, len(holes), self.reference.limit]
        if not self.whole:
            audit(self.reference.limit, self.reference.blocks.items(), holes, buddies=self.aligned)

    def place_within(self, hole, x, y):
        """A range in a hole that two numbers choose, and that the policy could have granted."""
        start, size = hole
        if self.whole:
            return start, size
        if self.aligned:
            granted = 2 ** (x % (order_of(size) + 1))
            return start + y % (size // granted) * granted, granted
        granted = 1 + x % size
        return start + y % (size - granted + 1), granted

    def any_block(self, x):
        return sorted(self.reference.blocks)[x % len(self.reference.blocks)]

    def any_hole(self, x):
        return self.reference.holes()[x % len(self.reference.holes())]

    def step(self, kind, x, y, z):
        """One of the things that remedies and programs do, with three numbers to choose where."""
        blocks, holes = self.reference.blocks, self.reference.holes()
        if kind == "alloc":
            self.do(ALLOC, 1 + x)
        elif kind == "free" and blocks:
            self.do(FREE, self.any_block(x))
        elif kind == "claim" and holes:
            self.do(CLAIM, *self.place_within(self.any_hole(z), x, y))
        elif kind == "ask":
            self.do(ASK, y % (self.reference.limit + 4), 1 + x)
        elif kind == "ask for a hole" and holes:
            start, granted = self.place_within(self.any_hole(z), x, y)
            assert self.do(ASK, start, granted) == 1
            self.do(ASK, start, granted + 1)
        elif kind == "ask for a block" and blocks:
            start = self.any_block(x)
            assert self.do(ASK, start, blocks[start]) == self.do(ASK, start, 1) == 0
        elif kind == "suppose" and blocks and not self.reference.grows:
            self.suppose([self.any_block(x), self.any_block(y), self.any_block(z)])

    def suppose(self, starts):
        """Free some blocks, and undo it."""
        freed = [(start, self.reference.blocks[start]) for start in dict.fromkeys(starts)]
        for start, granted in freed:
            self.do(FREE, start)
            assert self.do(ASK, start, granted) == 1
        for start, granted in reversed(freed):
            self.do(CLAIM, start, granted)


KINDS = ["alloc", "alloc", "free", "claim", "claim", "ask", "ask for a hole", "ask for a block", "suppose"]
steps = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 23), st.integers(0, 200), st.integers(0, 200)), max_size=50
)


@every_variant
@given(steps=steps, wanted=st.integers(1, 150))
def test_claims_among_allocs_and_frees(name, options, steps, wanted):
    pair = Pair(name, options, pool_for(name, options, wanted))
    for step in steps:
        pair.step(*step)
        pair.compare()


@every_variant
def test_nothing_is_free_beyond_the_pool(name, options):
    pair = Pair(name, options, pool_for(name, options, 64))
    limit = pair.reference.limit
    assert [pair.do(ASK, address, 1) for address in (limit - 1, limit, limit + 1, 1 << 20, 1 << 40)] == [1, 0, 0, 0, 0]
    assert pair.do(ASK, limit - 1, 2) == pair.do(ASK, 0, limit + 1) == 0


FITS = [(name, options) for name, options in VARIANTS if name.endswith("-fit")]
every_fit = pytest.mark.parametrize(("name", "options"), FITS, ids=[label_of(*parse_policy(*fit)) for fit in FITS])


@every_fit
@given(steps=steps)
def test_claims_below_the_limit_of_a_pool_that_grows(name, options, steps):
    pair = Pair(name, options, 50 * 24, grows=True)
    for step in steps:
        pair.step(*step)
        pair.compare()


POOLS = pytest.mark.parametrize(
    ("granules", "most", "count"), [(3_001, 40, 1500), (65_536, 900, 1500), (1 << 20, 30_000, 800)]
)


def some(rng, most):
    """A size up to `most`, small ones as likely as large ones."""
    return int(most ** rng.random())


def scaled(name, options, granules):
    """The same variant with units that are fit for a large pool."""
    if name != "static-partition":
        return options
    factor = max(1, granules // 200)
    scale = {"units": lambda units: tuple(unit * factor for unit in units), "unit": lambda _: granules // 150}
    return {key: scale.get(key, lambda value: value)(value) for key, value in options.items()}


def grown_old(pair, rng, count, most):
    """A pool after many operations, about as many frees as allocs, with claims among them."""
    for _ in range(count if JIT else count // 10):
        kind = ["alloc", "alloc", "claim", "free", "free", "free", "suppose", "ask for a hole"][rng.integers(8)]
        pair.step(kind, some(rng, most) - 1, int(rng.integers(1 << 40)), int(rng.integers(1 << 40)))


@every_variant
@POOLS
def test_long_runs_with_claims(name, options, granules, most, count):
    rng = np.random.default_rng([granules, count])
    pair = Pair(name, scaled(name, options, granules), pool_for(name, options, granules))
    grown_old(pair, rng, 60, most)
    pair.compare()
    grown_old(pair, rng, count, most)
    pair.compare()
    for start in rng.permutation(sorted(pair.reference.blocks)).tolist():
        pair.do(FREE, start)
    pair.compare()


# --- undoing ---------------------------------------------------------------------------------------------------------


def arrays_of(state):
    """All arrays of a state, the tail of the list of big holes aside."""
    if isinstance(state, tuple):
        return [array for field in state for array in arrays_of(field)]
    return [state]


def exactly(state):
    """A copy of all that a state says."""
    copy = deepcopy(state)
    if isinstance(copy, IndexHeap):
        for big, registers in zip(copy.index.big, copy.registers, strict=True):
            big[2 * registers[BIG] :] = 0
    return [array.tobytes() for array in arrays_of(copy)]


@every_variant
@POOLS
def test_a_claim_undoes_a_free(name, options, granules, most, count):
    """To the last bit where holes have no age; where they have, the reference says what their ages are."""
    rng = np.random.default_rng(granules)
    pair = Pair(name, scaled(name, options, granules), pool_for(name, options, granules))
    for _ in range(4):
        grown_old(pair, rng, 100, most)
        starts = rng.permutation(sorted(pair.reference.blocks)).tolist()
        before = exactly(pair.state)
        pair.suppose(starts[: 1 + len(starts) // 2])
        if "lifo" not in options.values():
            assert exactly(pair.state) == before


def test_the_cursor_of_next_fit_stays():
    pair = Pair("next-fit", {}, 20)
    pair.do(ALLOC, 5)
    pair.do(CLAIM, 12, 3)
    assert pair.state.registers[0, CURSOR] == pair.reference.cursor == 5
    assert pair.do(ALLOC, 2) == 5


# --- by hand ---------------------------------------------------------------------------------------------------------


def map_of(pair, names):
    blocks = [(names[start], start, granted) for start, granted in pair.reference.blocks.items()]
    return draw(blocks, pair.reference.limit)


@pytest.mark.parametrize("name", ["first-fit", "best-fit", "worst-fit", "next-fit"])
def test_remainders_stay_holes_whatever_min_split_says(name):
    pair = Pair(name, {"min_split": 4}, 9)
    _, blocks = parse("A..CC...B")
    for _, start, size in blocks:
        pair.do(CLAIM, start, size)
    pair.compare()
    assert map_of(pair, {start: block for block, start, _ in blocks}) == "A..CC...B"
    assert pair.reference.holes() == [(1, 2), (5, 3)]
    assert pair.do(ALLOC, 1) == (5 if name == "worst-fit" else 1)


def test_of_two_equal_remainders_the_high_one_is_newer():
    pair = Pair("best-fit", {"ties": "lifo"}, 9)
    pair.do(CLAIM, 3, 3)  # . . . A A A . . .
    assert pair.do(ALLOC, 3) == 6 and pair.do(ALLOC, 3) == 0


def test_a_split_buddy_pushes_what_does_not_hold_the_address():
    pair = Pair("buddy", {"order": "lifo"}, 16)
    pair.do(CLAIM, 6, 2)  # . . . . . . A A . . . . . . . .      free: 8 at 8, 4 at 0, 2 at 4
    assert pair.reference.holes() == [(0, 4), (4, 2), (8, 8)]
    pair.do(CLAIM, 9, 1)  # another 4 at 12, another 2 at 10, one at 8
    assert pair.do(ALLOC, 2) == 10 and pair.do(ALLOC, 4) == 12 and pair.do(ALLOC, 4) == 0
    pair.compare()


@pytest.mark.parametrize(
    ("options", "expected"), [({"unit": 5}, [0, 10, 15, 20]), ({"unit": 5, "order": "lifo"}, [20, 0, 10, 15])]
)
def test_units_that_were_never_in_use(options, expected):
    """Those below one that is claimed are still given out after all that were freed, the lowest first."""
    pair = Pair("static-partition", options, 40)
    pair.do(CLAIM, 20, 5)
    pair.do(CLAIM, 5, 5)
    pair.do(FREE, 20)
    pair.compare()
    assert [pair.do(ALLOC, 1) for _ in range(4)] == expected
    assert [pair.do(ASK, start, 5) for start in (0, 20, 25, 35, 40, 27)] == [0, 0, 1, 1, 0, 0]


# --- blocks that moved -----------------------------------------------------------------------------------------------

MOVABLE = [(name, options) for name, options in VARIANTS if name != "static-partition"]
every_movable = pytest.mark.parametrize(
    ("name", "options"), MOVABLE, ids=[label_of(*parse_policy(*variant)) for variant in MOVABLE]
)


def moves_of(pair, choices):
    """Blocks taken up once and put down elsewhere, chosen by three numbers each: [(old, new, granted), ...]."""
    scratch, moves = deepcopy(pair.reference), []
    for x, y, z in choices:
        unmoved = sorted(scratch.blocks.keys() - {new for _, new, _ in moves})
        if not unmoved:
            break
        old = unmoved[x % len(unmoved)]
        granted = scratch.blocks[old]
        scratch.free(old)
        large_enough = [hole for hole in scratch.holes() if hole[1] >= granted]
        if large_enough:
            start, size = large_enough[y % len(large_enough)]
            new = start + (z % (size // granted) * granted if pair.aligned else z % (size - granted + 1))
            scratch.claim(new, granted)
        else:
            new = scratch.place_at_the_limit(granted)
        if new != old:
            moves.append((old, new, granted))
    return moves


def rewrite(state, blocks, holes, limit):
    """What a remedy does before the index is told: bitmaps and registers of replica 0."""
    registers = state.registers[0]
    registers[GRANTED], registers[HOLES] = sum(blocks.values()), len(holes)
    if not hasattr(state, "holes"):
        return
    registers[LIMIT] = limit
    bitmaps = state.holes.bitmaps
    for array in bitmaps:
        array[0] = 0
    starts_of_holes = np.array([start for start, _ in holes], np.int64)
    starts = np.array([*blocks, *starts_of_holes, limit], np.int64)
    np.bitwise_or.at(bitmaps.words[0], 2 * (starts >> 6), np.int64(1) << (starts & 63))
    np.bitwise_or.at(bitmaps.words[0], 2 * (starts_of_holes >> 6) + 1, np.int64(1) << (starts_of_holes & 63))
    np.bitwise_or.at(bitmaps.summary[0], starts >> 12, np.int64(1) << ((starts >> 6) & 63))
    np.bitwise_or.at(bitmaps.digest[0], starts >> 18, np.int64(1) << ((starts >> 12) & 63))


def change(pair, moves):
    """A pass in the reference and in the state; returns what the index has to be told."""
    before = pair.reference.holes()
    adopt(pair.reference, moves)
    after = pair.reference.holes()
    rewrite(pair.state, pair.reference.blocks, after, pair.reference.limit)
    if hasattr(pair.reference, "cursor"):
        pair.state.registers[0, CURSOR] = pair.reference.cursor
    return [hole for hole in before if hole not in after], [hole for hole in after if hole not in before], moves


def changes_of(rows):
    """[(replica, gone, come, moved), ...] as Changes, with rows that are not meant."""
    tables = [[row[column] for row in rows] for column in (1, 2, 3)]
    count = np.array([[len(table[k]) for table in tables] for k in range(len(rows))], np.int64)
    arrays = []
    for table, width in zip(tables, (2, 2, 3), strict=True):
        array = np.full((len(rows), 2 + max(map(len, table)), width), -7)
        for k, lines in enumerate(table):
            array[k, : len(lines)] = np.array(lines, np.int64).reshape(len(lines), width)
        arrays.append(array)
    return Changes(np.array([row[0] for row in rows], np.int64), *arrays, count)


def index_of(state):
    """What stands beside the bitmaps, where it does not depend on how the holes came to be."""
    big = int(state.registers[0, BIG])
    if isinstance(state, TreeHeap):
        return [state.tree.sizes]
    if isinstance(state, IndexHeap):
        return [state.index.sizes.words, state.index.chunks, state.index.big[:, : 2 * big], state.registers[:, BIG]]
    return [state.free_blocks.words]


def made_otherwise(pair, name, options, granules):
    """The index of a fresh pool that is brought to the same state by allocs, frees and claims alone."""
    blocks, holes = pair.reference.blocks, pair.reference.holes()
    other = Pair(name, options, granules, pair.reference.grows)
    if not pair.reference.grows:
        for start, granted in blocks.items():
            other.do(CLAIM, start, granted)
        return index_of(other.state)
    for _, size in sorted([*blocks.items(), *holes]):
        other.do(ALLOC, size)
    for start, _ in holes:
        other.do(FREE, start)
    return index_of(other.state)


def check_moves(pair, name, options, granules, choices):
    gone, come, moved = change(pair, moves_of(pair, choices))
    pair.module.reindex(pair.state, changes_of([(0, gone[::-1], come, moved)]))
    pair.compare()
    if "lifo" not in options.values():
        for ours, theirs in zip(index_of(pair.state), made_otherwise(pair, name, options, granules), strict=True):
            assert np.array_equal(ours, theirs)


choices = st.lists(st.tuples(*[st.integers(0, 1 << 20)] * 3), max_size=12)


@every_movable
@given(first=steps, moves=choices, then=steps, grows=st.booleans(), wanted=st.integers(1, 150))
def test_the_index_follows_blocks_that_moved(name, options, first, moves, then, grows, wanted):
    grows = grows and name != "buddy"
    granules = 4000 if grows else pool_for(name, options, wanted)
    pair = Pair(name, options, granules, grows)
    for step in first:
        pair.step(*step)
    check_moves(pair, name, options, granules, moves)
    for step in then:
        pair.step(*step)
        pair.compare()


@every_movable
@POOLS
def test_many_blocks_move_many_times(name, options, granules, most, count):
    granules = pool_for(name, options, granules)
    rng = np.random.default_rng([granules, 3])
    pair = Pair(name, options, granules)
    for _ in range(4 if JIT else 2):
        grown_old(pair, rng, 200, most)
        moves = rng.integers(1 << 40, size=(int(rng.integers(1, 80)), 3)).tolist()
        check_moves(pair, name, options, granules, moves)
    for start in rng.permutation(sorted(pair.reference.blocks)).tolist():
        pair.do(FREE, start)
    pair.compare()


@every_movable
def test_only_the_replicas_that_are_named_change(name, options):
    granules = pool_for(name, options, 300)
    rng = np.random.default_rng(5)
    pairs = [Pair(name, options, granules) for _ in range(3)]
    together = copies_of(pairs[0].state, 3)
    for pair in pairs:
        grown_old(pair, rng, 80, 30)
    passes = {r: change(pairs[r], moves_of(pairs[r], rng.integers(1 << 40, size=(9, 3)).tolist())) for r in (2, 0)}
    for r, pair in enumerate(pairs):
        put(together, r, pair.state)
    changes = changes_of([(r, *told) for r, told in passes.items()])
    reindex = pairs[0].module.reindex
    nothing = changes._replace(count=np.zeros_like(changes.count))
    reindex(together, nothing)
    assert [exactly(one) for one in replicas_of(together)] == [exactly(pair.state) for pair in pairs]
    reindex(together, changes)
    for r, told in passes.items():
        reindex(pairs[r].state, changes_of([(0, *told)]))
    assert [exactly(one) for one in replicas_of(together)] == [exactly(pair.state) for pair in pairs]


def replicas_of(state):
    """The replicas of a state one by one, as states of one replica."""

    def take(field, r):
        if isinstance(field, tuple):
            return type(field)(*(take(inner, r) for inner in field))
        return field if field.ndim < 2 else field[r : r + 1]

    return [take(state, r) for r in range(len(state.registers))]


def put(many, r, one):
    """Write the state of one replica over replica r of many."""
    for target, source in zip(arrays_of(many), arrays_of(one), strict=True):
        if target.ndim > 1:
            target[r] = source[0]


@pytest.mark.parametrize(("name", "options"), [variant for variant in VARIANTS if variant not in MOVABLE])
def test_units_do_not_move(name, options):
    module = POLICIES[name].module(dict(unit=None, units=(), order="lowest") | options)
    assert not any(hasattr(module, part) for part in ("forget", "enter", "settle", "reindex"))
