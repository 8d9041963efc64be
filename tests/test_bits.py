"""The instructions and the sets that everything else is built of, against plain computations.

Each primitive meets its twin: LLVM's instruction and the plain Python that stands in for it without the JIT. Without
the JIT the primitive *is* its twin, and both meet a third computation that is neither.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from vecalloc.kernel import JIT
from vecalloc.mechanisms import bits
from vecalloc.mechanisms import bitset as sets
from vecalloc.mechanisms.bitset import (
    contains,
    discard,
    extend_bitset,
    first,
    insert,
    insert_all,
    last,
    members_of,
    new_bitset,
    next_member,
    pick_bitset,
)

pytestmark = pytest.mark.jitless

words = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(0, 63).map(lambda i: int(np.uint64(1 << i).astype(np.int64))),
    st.sampled_from([1, -1, -2, (1 << 63) - 1, -(1 << 63), 1 << 62]),
)
nonzero = words.filter(bool)
lanes = st.lists(
    st.one_of(st.integers(0, 3), st.integers(0, (1 << 32) - 1), st.sampled_from([1 << 31, (1 << 32) - 1])),
    min_size=4 * bits.LANES,
    max_size=4 * bits.LANES,
)
lane_values = st.one_of(st.integers(0, 4), st.integers(0, (1 << 32) - 1))


def compiled(helper, arguments):
    """A helper that needs its caller's types as a function that Python can call."""
    if not JIT:
        return helper
    names = ", ".join(f"a{k}" for k in range(arguments))
    scope = {"helper": helper}
    exec(f"def call({names}):\n    return helper({names})", scope)
    return njit(scope["call"])


lowest = compiled(bits.lowest, 1)
highest = compiled(bits.highest, 1)
ceil_log2 = compiled(bits.ceil_log2, 1)
lanes_at_least = compiled(bits.lanes_at_least, 3)
maximum_with = compiled(bits.maximum_with, 4)
window_from = compiled(bits.window_from, 3)
window_up_to = compiled(bits.window_up_to, 3)
at = compiled(bits.at, 1)


def binary(word):
    """The 64 digits of a word, lowest first."""
    return [(word >> i) & 1 for i in range(64)]


@given(nonzero)
def test_lowest(word):
    expected = binary(word).index(1)
    assert lowest(np.int64(word)) == bits._lowest_twin(np.int64(word)) == expected


@given(nonzero)
def test_highest(word):
    expected = 63 - binary(word)[::-1].index(1)
    assert highest(np.int64(word)) == bits._highest_twin(np.int64(word)) == expected


@given(lanes, st.integers(0, 3 * bits.LANES), lane_values)
def test_lanes_at_least(table, base, value):
    expected = sum(1 << i for i in range(bits.LANES) if table[base + i] >= value)
    arguments = np.array(table, np.uint32), np.int64(base), np.uint32(value)
    assert lanes_at_least(*arguments) == bits._lanes_at_least_twin(*arguments) == expected


@given(lanes, st.integers(0, 3 * bits.LANES), st.integers(0, bits.LANES - 1), lane_values)
def test_maximum_with(table, base, lane, value):
    node = table[base : base + bits.LANES]
    expected = max([*node[:lane], value, *node[lane + 1 :]])
    array = np.array(table, np.uint32)
    arguments = array, np.int64(base), np.uint32(lane), np.uint32(value)
    assert maximum_with(*arguments) == bits._maximum_with_twin(*arguments) == expected
    assert array.tolist() == table  # nothing was written


@given(words, words, st.integers(0, 1 << 40))
def test_windows(high, low, i):
    digits, p = binary(low) + binary(high), i & 63
    arguments = np.int64(high), np.int64(low), np.int64(i)
    expected = digits[p : p + 64]
    assert binary(int(window_from(*arguments))) == binary(int(bits._window_from_twin(*arguments))) == expected
    expected = digits[p + 1 : p + 65]
    assert binary(int(window_up_to(*arguments))) == binary(int(bits._window_up_to_twin(*arguments))) == expected


def test_at():
    assert [at(np.int64(i)) for i in (0, 5, 1 << 40)] == [0, 5, 1 << 40]
    with pytest.raises(IndexError, match="-1 is negative"):
        bits._at_twin(-1)


@pytest.mark.parametrize("i", [*range(64), 64, 127, 128 + 5])
def test_masks(i):
    position = i & 63
    expected = {
        bits.bit: [k == position for k in range(64)],
        bits.bits_from: [k >= position for k in range(64)],
        bits.bits_above: [k > position for k in range(64)],
        bits.bits_up_to: [k <= position for k in range(64)],
    }
    for helper, digits in expected.items():
        assert binary(int(compiled(helper, 1)(np.int64(i)))) == digits, helper


@given(
    st.one_of(
        st.integers(1, 1 << 62), st.integers(0, 61).flatmap(lambda k: st.integers(0, 2).map(lambda d: (1 << k) + d))
    )
)
def test_ceil_log2(n):
    k = int(ceil_log2(np.int64(n)))
    assert 1 << k >= n and (k == 0 or 1 << (k - 1) < n)


# --- bitsets ---------------------------------------------------------------------------------------------------------


@njit
def apply(bitset, row, what, which, answers):
    """Run operations on a row of replica 0 and note what each returned."""
    picked = pick_bitset(bitset, 0)
    for k in range(len(what)):
        i = which[k]
        if what[k] == 0:
            answers[k] = insert(picked, row, i)
        elif what[k] == 1:
            answers[k] = discard(picked, row, i)
        elif what[k] == 2:
            answers[k] = contains(picked, row, i)
        elif what[k] == 3:
            answers[k] = next_member(picked, row, i)
        elif what[k] == 4:
            answers[k] = last(picked, row)
        else:
            answers[k] = first(picked, row)


INSERT, DISCARD, CONTAINS, NEXT, LAST, FIRST = range(6)


def expect(members, what, i):
    """The same operation on a Python set; None where it may not be asked."""
    if what == INSERT:
        was_empty = not members
        members.add(i)
        return was_empty
    if what == DISCARD:
        if i not in members:
            return None  # a policy discards only what is there
        members.remove(i)
        return not members
    if what == CONTAINS:
        return i in members
    if what == NEXT:
        return min((m for m in members if m >= i), default=-1)
    if what == LAST:
        return max(members, default=-1)
    return min(members) if members else None


def check(bitset, row, members, operations):
    """Run what may be asked of the engine's set and compare each answer."""
    asked = [(what, i, answer) for what, i in operations if (answer := expect(members, what, i)) is not None]
    answers = np.zeros(len(asked), np.int64)
    what, which = (np.array([a[k] for a in asked], np.int64) for k in (0, 1))
    apply(bitset, row, what, which, answers)
    assert answers.tolist() == [int(a[2]) for a in asked]
    assert members_of(bitset, 0, row).tolist() == sorted(members)


sizes = st.one_of(st.integers(1, 5000), st.sampled_from([1, 63, 64, 65, 4095, 4096, 4097, 262_144, 262_145]))


@st.composite
def rows_and_operations(draw):
    """Sizes of some rows, and for each what is done to it; members crowd at both ends and in a few words."""
    rows = draw(st.lists(sizes, min_size=1, max_size=4))
    done = []
    for size in rows:
        member = st.one_of(
            st.integers(0, size - 1),
            st.integers(0, min(size, 70) - 1),
            st.integers(max(0, size - 70), size - 1),
        )
        done.append(draw(st.lists(st.tuples(st.integers(0, 5), member), max_size=60)))
    return rows, done


@given(rows_and_operations())
def test_bitset_is_a_set(drawn):
    rows, operations = drawn
    bitset = new_bitset(1, *rows)
    members = [set() for _ in rows]
    for row, done in enumerate(operations):
        check(bitset, row, members[row], done)
    for row, expected in enumerate(members):  # and no row touched another
        assert members_of(bitset, 0, row).tolist() == sorted(expected)


@given(rows_and_operations())
def test_emptied_rows_are_zero_words(drawn):
    rows, operations = drawn
    bitset = new_bitset(1, *rows)
    for row, done in enumerate(operations):
        members = set()
        check(bitset, row, members, done)
        check(bitset, row, members, [(DISCARD, i) for i in sorted(members)])
    assert not bitset.words.any()


@given(sizes, st.data())
def test_insert_all_equals_one_by_one(size, data):
    members = data.draw(st.sets(st.integers(0, size - 1), max_size=80))
    at_once, one_by_one = new_bitset(1, 70, size), new_bitset(1, 70, size)
    insert_all(at_once, 0, 1, np.array(sorted(members), np.int64))
    check(one_by_one, 1, set(), [(INSERT, i) for i in members])
    assert np.array_equal(at_once.words, one_by_one.words)
    check(at_once, 1, members, [(what, i) for i in [0, size // 2, size - 1] for what in (NEXT, CONTAINS, LAST, FIRST)])


@given(rows_and_operations(), st.lists(st.integers(0, 300_000), min_size=4, max_size=4), st.lists(sizes, max_size=2))
def test_extended_bitset_holds_the_same(drawn, more, extra_rows):
    rows, operations = drawn
    bitset = new_bitset(2, *rows)
    members = [set() for _ in rows]
    for row, done in enumerate(operations):
        check(bitset, row, members[row], done)
        insert_all(bitset, 1, row, np.array([rows[row] - 1]))
    wider = [size + extra for size, extra in zip(rows, more, strict=False)]
    extended = extend_bitset(bitset, *wider, *extra_rows)
    built = new_bitset(2, *wider, *extra_rows)
    for row, expected in enumerate(members):
        insert_all(built, 0, row, np.array(sorted(expected), np.int64))
        insert_all(built, 1, row, np.array([rows[row] - 1]))
    assert np.array_equal(extended.words, built.words)
    assert np.array_equal(extended.table, built.table)
    for row, expected in enumerate(members):
        check(extended, row, expected, [(NEXT, rows[row] - 1), (INSERT, wider[row] - 1), (LAST, 0), (FIRST, 0)])


def test_levels():
    """A row of n members has as many levels as it takes to come down to one word."""
    for members, levels in [(1, 1), (64, 1), (65, 2), (4096, 2), (4097, 3), (1 << 18, 3), ((1 << 18) + 1, 4)]:
        assert new_bitset(1, members).table[sets._DEPTH] == levels
