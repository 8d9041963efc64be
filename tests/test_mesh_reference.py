"""The naive Mesh itself: cases worked out by hand, what holds whatever the program does, and the paper's numbers.

Maps show a span's physical slots ("x..x...." is a span of eight, 512 bytes each, of which the first and fourth are
live). Where chance is needed by hand, the words are written so that each pick has the wanted answer; a word too few or
too many is an error.
"""

import json
from itertools import combinations, permutations, product
from pathlib import Path
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.mesh import (
    PAGE,
    SIZES,
    Mesh,
    expected_good_matches,
    expected_triangles,
    greedy,
    maximum_matching,
    mesh_probability,
    meshable,
    pages_of,
    pick,
    shuffle,
    size_of,
    slots_of,
    split,
    split_mesher,
)
from reference.waiting import Waiting
from scipy import stats


def words_for(*picks):
    """Words that make `pick` answer so: (answer, below), ..."""
    words = [(((2 * answer + 1) * 2**31) // below + 1) << 32 for answer, below in picks]
    return iter([word - 2**64 if word >= 2**63 else word for word in words])


def dealt_as_they_are(n):
    """The picks of a shuffle that changes nothing."""
    return [(i, i + 1) for i in reversed(range(1, n))]


def random_words(seed):
    random = Random(seed)
    while True:
        yield random.getrandbits(64) - 2**63


def heap(*maps, size=512, pool=16, **options):
    """Detached spans that look like the maps, from page 0 up; the class has no attached span."""
    m = Mesh(pool * PAGE, placement="in-order", **{"every": 0, **options})
    for map in maps:
        assert len(map) == slots_of(size)
        for _ in map:
            m.alloc(size // 16)
    m.free(m.alloc(size // 16))  # a span more, so that the last one is detached
    m.drop_empty()
    for n, map in enumerate(maps):
        for slot, letter in enumerate(map):
            if letter == ".":
                m.free(at(n * pages_of(size), slot, size))
    m.allocs = 0
    m.check()
    return m


def at(page, slot=0, size=512):
    return page * PAGE + slot * (size // 16)


def look(m, size=512):
    """The spans of a class in order of birth: the pages of their runs, and their maps."""
    return [(span.runs, "".join(".x"[slot in span.live] for slot in range(len(span.slots))))
            for span in m.spans if span.size == size]  # fmt: skip


def bins(m, size=512):
    """The primary pages of the spans in each bin, the fullest bin first."""
    return [[span.runs[0] for span in members] for members in m.bins[size]]


# --- words -----------------------------------------------------------------------------------------------------------


def test_pick_scales_the_high_half_of_a_word():
    assert pick(10, iter([2**62])) == 2  # a quarter of 10
    assert pick(10, iter([-1])) == 9  # negative words are the upper half
    assert pick(16, iter([-(2**63)])) == 8
    assert pick(2, iter([2**63 - 1])) == 0
    assert pick(2**20, iter([2**32 - 1])) == 0  # the low half says nothing


def test_pick_rejects_what_would_not_be_uniform_and_spends_a_word_on_one():
    words = iter([0, 2**62, 7])
    assert pick(3, words) == 0  # 2^32 = 1 mod 3, so bits 0 are one too many for the answer 0
    assert pick(1, words) == 0
    assert next(words, None) is None


@given(st.integers(1, 5000), st.integers(0, 2**32))
def test_pick_is_the_one_of_waiting_requests(count, seed):
    assert pick(count, random_words(seed)) == Waiting.pick(SimpleNamespace(words=random_words(seed)), count)


def test_shuffle_gives_each_order_once():
    found = set()
    for picks in product(range(4), range(3), range(2)):
        entries = list("abcd")
        shuffle(entries, words_for(*zip(picks, (4, 3, 2), strict=True)))
        found.add(tuple(entries))
    assert found == set(permutations("abcd"))
    for entries in [], ["a"]:
        shuffle(entries, iter([]))


# --- classes ---------------------------------------------------------------------------------------------------------

CLASSES = {
    16: (256, 1), 32: (128, 1), 48: (85, 1), 64: (64, 1), 80: (51, 1), 96: (42, 1), 112: (36, 1), 128: (32, 1),
    160: (25, 1), 192: (21, 1), 224: (18, 1), 256: (16, 1), 320: (12, 1), 384: (10, 1), 448: (9, 1), 512: (8, 1),
    640: (8, 2), 768: (8, 2), 896: (8, 2), 1024: (8, 2), 2048: (8, 4), 4096: (8, 8), 8192: (8, 16), 16384: (8, 32),
}  # fmt: skip


@pytest.mark.parametrize("size", CLASSES)
def test_slots_and_pages_of_the_classes(size):
    slots, pages = CLASSES[size]
    m = Mesh(64 * PAGE, random_words(size))
    m.alloc(size // 16)
    (span,) = m.spans
    assert (span.size, len(span.slots), span.pages, m.physical) == (size, slots, pages, pages)
    m.check()


def test_an_extent_goes_to_the_smallest_class_that_holds_it():
    assert list(CLASSES) == list(SIZES)
    assert [size_of(extent) for extent in (1, 2, 8, 9, 10, 11, 16, 17)] == [16, 32, 128, 160, 160, 192, 256, 320]
    assert [size_of(extent) for extent in (64, 65, 128, 129, 512, 513, 1024, 1025)] == [
        1024, 2048, 2048, 4096, 8192, 16384, 16384, None,
    ]  # fmt: skip
    m = Mesh(64 * PAGE, random_words(1))
    assert m.blocks[m.alloc(9)] == 10  # granted is the class


def test_large_spans_are_page_rounded_and_returned_at_once():
    m = Mesh(64 * PAGE, iter([]))  # no draws
    assert m.alloc(1025) == 0
    assert m.alloc(1280) == at(5)
    assert m.alloc(1281) == at(10)
    assert m.blocks == {0: 1280, at(5): 1280, at(10): 1536}
    assert m.physical == m.virtual_top == 16
    m.free(at(5))
    assert (m.physical, m.virtual_top, m.returned) == (11, 16, {5: [5]})
    m.check()


def test_the_pool_is_whole_pages():
    for granules in (0, 255, 257):
        with pytest.raises(AssertionError):
            Mesh(granules)


# --- virtual space ---------------------------------------------------------------------------------------------------


def test_a_run_of_just_as_many_pages_is_used_again_the_last_returned_first():
    m = Mesh(64 * PAGE, iter([]))
    five, six = 1100, 1500
    addresses = [m.alloc(extent) for extent in (five, five, six, five)]
    assert addresses == [at(0), at(5), at(10), at(16)]
    for address in (at(10), at(0), at(16)):
        m.free(address)
    assert m.alloc(five) == at(16)
    assert m.alloc(five) == at(0)
    assert m.alloc(five) == at(21)  # the run of six stays where it is
    assert m.alloc(six) == at(10)
    m.check()


def test_spans_of_all_kinds_share_the_runs():
    m = Mesh(64 * PAGE, placement="in-order")
    m.free(m.alloc(16 * PAGE))
    assert m.alloc(512) == 0  # the class of 8192 bytes has spans of 16 pages
    assert m.virtual_top == 16
    m.check()


def test_slots_are_as_far_apart_as_the_class_says():
    m = Mesh(8 * PAGE, placement="in-order")
    assert [m.alloc(3) for _ in range(86)] == [3 * n for n in range(85)] + [256]  # 48 bytes: 85 slots of 3 granules
    assert [m.alloc(40) for _ in range(8)] == [512 + 40 * n for n in range(8)]  # 640 bytes: pages 2 and 3
    m.check()


# --- allocating and freeing ------------------------------------------------------------------------------------------


def test_in_order_pops_the_lowest_and_reuses_what_was_freed_last():
    m = Mesh(PAGE, placement="in-order")
    assert [m.alloc(32) for _ in range(4)] == [0, 32, 64, 96]
    m.free(32)
    m.free(0)
    assert [m.alloc(32) for _ in range(3)] == [0, 32, 128]
    m.check()


def test_random_pops_the_last_of_a_shuffled_vector():
    picks = [(0, 8), (6, 7), (2, 6), (4, 5), (0, 4), (2, 3), (0, 2)]
    # 01234567 -> 71234560 -> (6 stays) -> 71534260 -> (4 stays) -> 31574260 -> (5 stays) -> 13574260
    m = Mesh(PAGE, words_for(*picks, (1, 6), (3, 4), (0, 1)))
    assert [m.alloc(32) // 32 for _ in range(3)] == [0, 6, 2]
    m.free(6 * 32)  # 13574, then 135746, then entries 5 and 1: 165743
    assert m.vector[512] == [1, 6, 5, 7, 4, 3]
    assert [m.alloc(32) // 32 for _ in range(3)] == [3, 4, 7]
    m.free(0)  # swapped with itself
    assert [m.alloc(32) // 32 for _ in range(4)] == [0, 5, 6, 1]
    m.free(5 * 32)  # into an empty vector: a word all the same
    assert m.vector[512] == [5] and next(m.words, None) is None
    m.check()


def test_an_attached_span_stays_even_if_it_is_empty():
    m = Mesh(PAGE, placement="in-order")
    m.free(m.alloc(32))
    assert (m.physical, look(m)) == (1, [([0], "........")])
    m.check()
    m.drop_empty()
    assert (m.physical, m.spans, m.returned) == (0, [], {1: [0]})
    m.check()


def test_a_used_up_span_is_detached_when_the_next_alloc_comes():
    m = Mesh(2 * PAGE, placement="in-order")
    for _ in range(8):
        m.alloc(32)
    m.free(64)  # still attached: a free slot, no bin
    assert bins(m) == [[], [], [], []] and m.vector[512] == [2]
    assert m.alloc(32) == 64
    assert m.alloc(32) == at(1)
    m.free(64)
    assert bins(m) == [[0], [], [], []]
    m.check()


@pytest.mark.parametrize(
    ("size", "thresholds"), [(512, (6, 4, 2)), (384, (8, 5, 3)), (448, (7, 5, 3)), (128, (24, 16, 8))]
)
def test_bins_are_quarters(size, thresholds):
    slots = slots_of(size)
    m = heap("x" * slots, size=size)
    for live in reversed(range(1, slots)):
        m.free(at(0, live, size))
        expected = sum(live < threshold for threshold in thresholds)
        assert bins(m, size) == [[0] if n == expected else [] for n in range(4)]
    m.free(0)
    assert m.spans == [] and m.physical == 0
    m.check()


def test_a_span_enters_at_the_end_of_a_bin_and_the_last_one_takes_the_place_of_one_that_leaves():
    m = heap("xxxxxxx.", "xxxxxxx.", "xxxxxxx.", "xxxxxxx.")
    assert bins(m) == [[0, 1, 2, 3], [], [], []]
    m.free(at(1, 0))  # 6 of 8: nothing happens
    assert bins(m) == [[0, 1, 2, 3], [], [], []]
    m.free(at(1, 1))  # 5 of 8
    assert bins(m) == [[0, 3, 2], [1], [], []]
    m.free(at(0, 0))
    m.free(at(0, 1))
    assert bins(m) == [[2, 3], [1, 0], [], []]
    m.check()


def test_the_next_span_is_any_one_of_the_fullest_bin():
    m = heap("x.x.....", "xxxx....", "x.xxx...", "xxxxx...")
    assert bins(m) == [[], [1, 2, 3], [0], []]
    m.in_order = False
    # Of the free slots 4, 5, 6, 7: 7 changes places with 5, the others with themselves.
    m.words = words_for((0, 3), (1, 4), (2, 3), (1, 2))
    assert m.alloc(32) == at(1, 5)
    assert m.vector[512] == [4, 7, 6] and bins(m) == [[], [3, 2], [0], []]
    assert next(m.words, None) is None
    m.check()


def test_in_order_takes_the_last_of_the_fullest_bin():
    m = heap("xxxx....", "x..xxx..", "xx......")
    assert [m.alloc(32) for _ in range(5)] == [at(1, 1), at(1, 2), at(1, 6), at(1, 7), at(0, 4)]
    m.check()


def test_one_in_the_bin_costs_a_word_too():
    m = heap("xxxxxxx.")
    m.in_order = False
    m.words = words_for((0, 1))
    assert m.alloc(32) == at(0, 7)
    assert next(m.words, None) is None


def test_an_attached_span_from_a_bin_keeps_its_place_while_it_empties():
    m = heap("x......x")
    assert m.alloc(32) == at(0, 1)
    for slot in (0, 1, 7):
        m.free(at(0, slot))
    assert look(m) == [([0], "........")]
    m.check()


def test_a_failed_alloc_changes_nothing_but_that_the_used_up_span_is_detached():
    m = Mesh(PAGE, words_for(*dealt_as_they_are(8), (0, 1)))
    for _ in range(8):
        m.alloc(32)
    before = dict(m.blocks)
    assert m.alloc(32) is None
    assert m.attached[512] is None and m.blocks == before and look(m) == [([0], "xxxxxxxx")]
    assert m.alloc(32) is None
    m.free(0)  # into a bin, for nothing is attached; and out of it again: a word for the pick, none for one slot
    assert bins(m) == [[0], [], [], []]
    assert m.alloc(32) == 0
    assert next(m.words, None) is None
    m.check()


def test_an_empty_detached_span_is_returned():
    m = heap("x.......", ".x......")
    m.free(0)
    assert (m.physical, look(m), bins(m)) == (1, [([1], ".x......")], [[], [], [], [1]])
    assert m.returned == {1: [2, 0]}  # 2: the span more of `heap`
    assert m.alloc(16) == 0  # another class, the same number of pages
    m.check()


# --- causes ----------------------------------------------------------------------------------------------------------


def test_causes():
    m = Mesh(PAGE, placement="in-order")
    assert m.alloc(64) is None and m.cause(64) == "too-large"  # a span of that class takes two pages
    assert m.alloc(1025) is None and m.cause(1025) == "too-large"
    for _ in range(8):
        m.alloc(32)
    assert m.alloc(32) is None and m.cause(32) == "capacity"
    assert m.alloc(1) is None and m.cause(1) == "capacity"
    m.free(0)
    assert m.alloc(33) is None and m.cause(33) == "too-large"  # 640 bytes: two pages
    assert m.alloc(28) is None and m.cause(28) == "fragmentation"  # 28 granules of 32
    assert m.alloc(15) is None and m.cause(15) == "fragmentation"
    m.check()


def test_causes_count_the_class_and_whole_pages():
    m = Mesh(8 * PAGE, placement="in-order")
    m.alloc(5 * PAGE + 1)  # six pages granted
    assert m.alloc(1025) is None and m.cause(1025) == "capacity"
    assert m.alloc(65) is None and m.cause(65) == "fragmentation"  # 128 of 512 granules, in a span of four pages
    assert m.alloc(9 * PAGE) is None and m.cause(9 * PAGE) == "too-large"
    m = Mesh(PAGE, placement="in-order")
    for _ in range(7):
        m.alloc(32)
    m.alloc(29)  # takes 32
    assert m.alloc(1) is None and m.cause(1) == "capacity"


# --- who is meshed with whom -----------------------------------------------------------------------------------------


def bitmap(map):
    return sum(2**slot for slot, letter in enumerate(map) if letter == "x")


def test_meshable():
    assert meshable(bitmap("x.x."), bitmap(".x.x"))
    assert meshable(bitmap("x.x."), bitmap("...."))
    assert not meshable(bitmap("x.x."), bitmap("..xx"))


NONE, A, B, AB = 0b00, 0b01, 0b10, 0b11

SPLITS = [
    ([], 64, [], 0),
    ([A], 64, [], 0),
    ([A, B], 64, [(0, 1)], 1),
    ([A, A], 64, [], 1),
    ([A, B, B], 64, [(0, 1)], 1),  # the odd one is in R: L = A, R = B B
    ([A, A, B], 64, [(0, 2)], 2),
    ([A, A, B], 1, [], 1),
    ([A, B, A, B], 64, [(0, 3), (1, 2)], 3),  # A fails with A and takes B; B wraps around past the one taken
    ([A, B, A, B], 1, [], 2),  # one probe each: A with A and B with B
    ([A, A, B, B], 64, [(0, 2), (1, 3)], 2),
    ([A, A, A, A], 64, [], 4),
    ([B, A, A, A, B], 64, [(0, 2), (1, 4)], 3),  # R = A A B; the second probes R[1] and then R[2]
    ([B, A, A, A, B], 1, [(0, 2)], 2),
]


@pytest.mark.parametrize(("bitmaps", "t", "pairs", "probes"), SPLITS)
def test_split(bitmaps, t, pairs, probes):
    assert split(bitmaps, t) == (pairs, probes)


def test_a_probe_of_one_that_was_taken_is_none_but_uses_up_a_turn():
    # R = A B AB. The first takes R[1] at the second probe. The second looks at R[1] (taken), R[2], R[0]; the third,
    # which is full, at R[2], R[0], R[1] (taken).
    assert split([A, A, AB, A, B, AB], 64) == ([(0, 4)], 2 + 2 + 2)
    assert split([A, A, AB, A, B, AB], 2) == ([(0, 4)], 2 + 1 + 2)


def test_greedy():
    assert greedy([]) == ([], 0)
    assert greedy([A, A, B, B, A]) == ([(0, 2), (1, 3)], 2 + 1)  # the last has nobody after it
    assert greedy([AB, A, A]) == ([], 3)
    assert greedy([NONE, A, B]) == ([(0, 1)], 1)  # not the best one could do with four: nobody looks ahead


def test_split_mesher_deals_first():
    # Of 0, 1, 2, 3 the last two change places with the first: 3 1 2 0, then 2 1 3 0.
    words = words_for((0, 4), (0, 3), (1, 2))
    assert split_mesher([A, A, A, B], 64, words) == ([(2, 3)], 1 + 1)  # L = 2 1, R = 3 0
    assert next(words, None) is None


def test_maximum_matching():
    assert maximum_matching([]) == maximum_matching([A]) == maximum_matching([A, A]) == 0
    assert maximum_matching([NONE, A, A, B]) == 2
    assert maximum_matching([A, A, A, B]) == 1
    assert maximum_matching([NONE] * 5) == 2


few_bitmaps = st.lists(st.integers(0, 31), max_size=9)


@given(few_bitmaps, st.integers(1, 10), st.integers(0, 2**32))
def test_every_matching_is_one_and_greedy_leaves_no_pair(bitmaps, t, seed):
    for pairs, probes in (split_mesher(bitmaps, t, random_words(seed)), greedy(bitmaps)):
        matched = [n for pair in pairs for n in pair]
        assert len(set(matched)) == len(matched)
        assert all(meshable(bitmaps[x], bitmaps[y]) for x, y in pairs)
        assert len(pairs) <= min(probes, maximum_matching(bitmaps))
    left = [bitmaps[n] for n in set(range(len(bitmaps))) - set(matched)]
    assert not any(meshable(x, y) for x, y in combinations(left, 2))
    assert 2 * len(pairs) >= maximum_matching(bitmaps)


@given(few_bitmaps, st.integers(1, 10))
def test_split_takes_the_first_in_reach_that_nobody_took(bitmaps, t):
    pairs, probes = split(bitmaps, t)
    half = len(bitmaps) // 2
    partner = dict(pairs)
    assert list(partner) == sorted(partner) and all(x < half <= y for x, y in pairs)
    looked_at = 0
    for j in range(half):
        others = len(bitmaps) - half
        reach = [half + (j + i) % others for i in range(min(t, others))]
        there = [k for k in reach if k not in [partner.get(before) for before in range(j)]]
        suits = [meshable(bitmaps[j], bitmaps[k]) for k in there]
        assert partner.get(j) == (there[suits.index(True)] if any(suits) else None)
        looked_at += suits.index(True) + 1 if any(suits) else len(suits)
    assert probes == looked_at


# --- a pass ----------------------------------------------------------------------------------------------------------


def test_the_emptier_span_is_copied_and_its_addresses_stay():
    m = heap("x.......", "..xx....", words=words_for((1, 2)))
    addresses, tags = set(m.blocks), dict(m.tags)
    m.mesh()
    assert look(m) == [([1, 0], "x.xx....")]
    assert set(m.blocks) == addresses == {at(0, 0), at(1, 2), at(1, 3)} and m.tags == tags
    assert (m.physical, m.peak_physical, m.virtual_top, m.released) == (1, 3, 3, 1)
    assert (m.passes, m.meshes, m.probes, m.bytes_copied) == (1, 1, 1, 512)
    assert m.returned == {1: [2]}  # the copied one's run is in use
    m.check()
    # New objects come to the primary run; old ones leave by their own.
    assert m.alloc(32) == at(1, 1)
    m.free(at(0, 0))
    assert look(m) == [([1, 0], ".xxx....")] and m.alloc(32) == at(1, 0)
    m.check()


@pytest.mark.parametrize(("picks", "runs"), [((1, 2), [0, 1]), ((0, 2), [1, 0])])
def test_of_two_with_as_many_the_one_in_r_is_copied(picks, runs):
    m = heap("xx......", "..xx....", words=words_for(picks))
    m.mesh()
    assert look(m) == [(runs, "xxxx....")] and m.bytes_copied == 1024
    m.check()


def test_the_survivor_changes_bins_and_the_other_leaves_its_own():
    m = heap("xx......", "..xx....", "xxxxxx.x", words=words_for(*dealt_as_they_are(2)))
    assert bins(m) == [[2], [], [0, 1], []]
    m.mesh()  # the third has more than 80 %
    assert bins(m) == [[2], [0], [], []]
    m.check()


def test_a_survivor_that_is_full_is_in_no_bin_and_one_that_stays_in_its_bin_keeps_its_place():
    m = heap("xxxx....", "....xxxx", words=words_for(*dealt_as_they_are(2)))
    m.mesh()
    assert (look(m), bins(m)) == ([([0, 1], "xxxxxxxx")], [[], [], [], []])
    m.check()
    m = heap("xxxx....", "xxxxx...", "....x...", words=words_for((2, 3), (1, 2)))
    m.mesh()  # L = 0; R = 1, 2
    assert (look(m), bins(m)) == ([([0, 2], "xxxxx..."), ([1], "xxxxx...")], [[], [0, 1], [], []])
    m.check()


def test_runs_are_returned_together_the_primary_first():
    m = heap("x.......", "..xx....", words=words_for((1, 2)))
    m.mesh()
    for address in list(m.blocks):
        m.free(address)
    assert (m.physical, m.returned) == (0, {1: [2, 1, 0]})
    m.check()


def test_a_meshed_span_may_be_meshed_again():
    m = heap("x.......", "..xx....", "....xxx.", words=words_for((2, 3), (1, 2), (1, 2)))
    m.mesh()  # L = 0; R = 1, 2: no triangle, though all three would go together
    assert look(m) == [([1, 0], "x.xx...."), ([2], "....xxx.")]
    m.mesh()  # three live in either: the one in R, 2, is copied
    assert look(m) == [([1, 0, 2], "x.xxxxx.")]
    assert (m.passes, m.meshes, m.probes, m.bytes_copied, m.physical) == (2, 2, 2, 512 + 1536, 1)
    m.check()
    m.free(at(2, 6))
    m.free(at(0, 0))
    assert look(m) == [([1, 0, 2], "..xxxx..")]
    m.check()


def test_the_runs_of_a_copied_span_follow_in_their_order():
    m = heap("x.......", "..x.....", "....xxx.", words=words_for((2, 3), (1, 2), (1, 2)))
    m.mesh()
    assert look(m) == [([0, 1], "x.x....."), ([2], "....xxx.")]
    m.mesh()
    assert look(m) == [([2, 0, 1], "x.x.xxx.")]
    m.check()


def test_candidates_have_less_than_80_percent():
    m = heap("xxxxxxxx..", "........x.", size=384, words=iter([]))
    m.mesh()  # one candidate: no draws, no probes
    assert (m.meshes, m.probes, m.passes) == (0, 0, 1)
    m.free(0)
    m.words = words_for((1, 2))
    m.mesh()
    assert look(m, 384) == [([0, 1], ".xxxxxxxx.")]
    m.check()


def test_neither_attached_spans_nor_full_ones_are_candidates():
    m = heap("xxxxxxxx", "xx......", words=iter([]))
    assert m.alloc(32) == at(1, 2)  # attaches the second
    m.mesh()
    assert m.probes == 0
    m.check()


@pytest.mark.parametrize(("size", "meshes"), [(2048, 1), (4096, 0)])
def test_objects_of_a_page_and_more_are_not_meshed(size, meshes):
    m = heap("xx......", "..xx....", size=size, pool=64, words=words_for((1, 2)))
    m.mesh()
    assert m.meshes == meshes
    assert m.released == meshes * 4  # the class of 2048 bytes has spans of four pages
    m.check()


def test_classes_are_meshed_in_ascending_order_and_never_with_each_other():
    m = heap("x.......", ".x......", "..x.....", size=512, words=words_for((1, 2), (2, 3), (0, 2)))
    for _ in range(2 * 16 + 1):
        m.alloc(16)  # 256 bytes
    for address, granted in list(m.blocks.items()):
        if granted == 16 and address % 32:
            m.free(address)
    # 256 bytes first: their two spans have the same slots. Then 512: of 0, 1, 2 the first two change places.
    m.mesh()
    assert [runs for runs, _ in look(m, 256)] == [[2 + 1], [2 + 2], [2 + 3]]
    assert look(m, 512) == [([1, 0], "xx......"), ([2], "..x.....")]
    assert m.probes == 2 and next(m.words, None) is None
    m.check()


def test_candidates_are_dealt_from_the_order_of_their_primary_addresses():
    m = Mesh(8 * PAGE, words_for(*dealt_as_they_are(4)), placement="in-order")
    for _ in range(25):
        m.alloc(32)
    for slot in range(8):
        m.free(at(0, slot))
    for _ in range(16):
        m.alloc(32)  # seven at page 3, eight at page 0 again, one at page 4
    survivors = {at(1, 0), at(2, 1), at(3, 0), at(0, 1)}
    for address in set(m.blocks) - survivors - {at(4)}:
        m.free(address)
    assert [runs for runs, _ in look(m)] == [[1], [2], [3], [0], [4]]
    m.mesh()  # L = 0, 1; R = 2, 3. By age, 0 and 1 would have been meshed.
    assert look(m) == [([1, 2], "xx......"), ([0, 3], "xx......"), ([4], "x.......")]
    assert (m.probes, set(m.blocks)) == (3, survivors | {at(4)})
    m.check()


def test_a_primary_address_may_be_higher_than_that_of_another_run():
    m = heap("x.......", "x......x", ".xx.....", words=words_for((2, 3), (1, 2), (1, 2)))
    m.mesh()  # 0 with 2
    m.free(at(0, 0))
    assert look(m) == [([1], "x......x"), ([2, 0], ".xx.....")]
    m.mesh()  # as many live: 2 comes after 1, whatever its other run
    assert look(m) == [([1, 2, 0], "xxx....x")]
    m.check()


def test_in_order_placement_meshes_by_chance_too():
    m = heap("x.......", ".x......", words=words_for((0, 2)))
    m.mesh()
    assert look(m) == [([1, 0], "xx......")] and next(m.words, None) is None


@pytest.mark.parametrize(("t", "probes", "pair"), [(1, 2, [1, 3]), (2, 3, [0, 3])])
def test_t_is_how_many_are_looked_at(t, probes, pair):
    m = heap("x.......", "x.......", "x.......", ".x......", t=t, words=words_for(*dealt_as_they_are(4)))
    m.mesh()  # 0 with 2, then 3 if t = 2; 1 with 3 if that is still there, then 2 if t = 2
    assert (m.probes, m.meshes) == (probes, 1)
    assert pair in [runs for runs, _ in look(m)]
    m.check()


def test_greedy_matching_deals_and_then_takes_the_first_that_will_do():
    maps = ("x.......", "x.......", ".x......", ".x......", "x.......")
    m = heap(*maps, matching="greedy", words=words_for((0, 5), (3, 4), (2, 3), (1, 2)))
    m.mesh()  # dealt 4 1 2 3 0: 4 with 2 (after 1), 1 with 3, 0 with nobody
    assert [runs for runs, _ in look(m)] == [[0], [1, 3], [4, 2]]
    assert m.probes == 2 + 1 and next(m.words, None) is None
    m.check()


# --- when ------------------------------------------------------------------------------------------------------------


def test_every_counts_all_allocs():
    m = Mesh(8 * PAGE, placement="in-order", every=3, when_full=False)
    passes = []
    for n in range(7):
        assert (m.alloc(9 * PAGE if n == 2 else 32) is None) == (n == 2)
        passes.append(m.passes)
    assert passes == [0, 0, 0, 1, 1, 1, 2]  # before alloc 3, and before alloc 6
    m = Mesh(8 * PAGE, placement="in-order", every=0)
    for _ in range(30):
        m.alloc(32)
    assert m.passes == 0


def full_heap(**options):
    """Three pages: two spans of 512 bytes that can be meshed, and one of 256 with a slot left."""
    m = heap("x.......", ".x......", pool=3, words=words_for((1, 2)), **options)
    for _ in range(15):
        m.alloc(16)
    assert m.physical == 3
    return m


def test_when_full_a_pass_comes_before_the_alloc_that_needs_a_span():
    m = full_heap()
    m.alloc(16)  # the last slot: no new span
    m.alloc(32)  # from a bin: neither
    assert m.passes == 0 and look(m)[1] == ([1], "xx......")
    m = full_heap()
    assert m.alloc(1) == at(3)  # the pass gave a page, but no run
    assert (m.passes, m.meshes, m.physical, m.virtual_top, m.released) == (1, 1, 3, 4, 1)  # 4 pages of virtual space
    m.check()
    assert m.alloc(32) == at(0, 2)


def test_when_full_off():
    m = full_heap(when_full=False)
    assert m.alloc(1) is None and m.passes == 0 and m.cause(1) == "fragmentation"
    m.mesh()
    assert m.alloc(1) == at(3)
    m.check()


def test_when_full_for_a_large_span():
    m = heap("x.......", ".x......", pool=6, words=words_for((1, 2)))
    assert m.alloc(1100) == at(3)  # five pages
    assert (m.passes, m.meshes, m.physical) == (1, 1, 6)
    assert m.alloc(1100) is None  # another pass, which finds nobody
    assert (m.passes, m.meshes) == (2, 1)
    m.check()


def test_any_request_that_lacks_pages_asks_for_a_pass():
    m = Mesh(PAGE, placement="in-order")
    assert m.alloc(1025) is None and m.cause(1025) == "too-large" and m.passes == 1
    for _ in range(8):
        m.alloc(32)
    assert m.alloc(32) is None and m.cause(32) == "capacity" and m.passes == 2


def test_a_pass_that_is_due_and_one_for_want_of_pages_are_two():
    m = Mesh(PAGE, placement="in-order", every=2)
    m.alloc(32)
    m.alloc(32)
    assert m.alloc(1) is None and m.passes == 2
    assert m.alloc(1) is None and m.passes == 3


# --- whatever the program does ---------------------------------------------------------------------------------------

extents = st.sampled_from([24, 28, 32, 32, 32, 40, 64, 100, 200, 1100])
bursts = st.lists(
    st.one_of(
        st.tuples(st.just("alloc"), extents, st.integers(1, 24)),
        st.tuples(st.just("free"), st.integers(0, 2**16), st.integers(1, 24)),
        st.tuples(st.just("mesh"), st.just(0), st.just(1)),
    ),
    max_size=24,
)
options = st.fixed_dictionaries(
    {
        "placement": st.sampled_from(["random", "in-order"]),
        "every": st.sampled_from([0, 1, 5, 10000]),
        "when_full": st.booleans(),
        "t": st.sampled_from([1, 2, 64]),
        "matching": st.sampled_from(["split", "greedy"]),
    }
)


def occupancy(m):
    """Live slots of each span and where they are seen, with what is written there."""
    return [(span.size, span.runs.copy(), span.slots.copy()) for span in m.spans]


def step(m, op, argument):
    """One alloc, free or pass, and what must be true of it; the address of an alloc."""
    blocks, tags, spans = dict(m.blocks), dict(m.tags), occupancy(m)
    passes, released, physical, address = m.passes, m.released, m.physical, None
    if op == "alloc":
        address = m.alloc(argument)
        if address is None:
            assert m.pool - m.physical < m.pages_needed(argument)
            assert (m.cause(argument) == "too-large") == (m.pages_needed(argument) > m.pool)
            assert m.passes > passes or occupancy(m) == spans
        else:
            granted = m.blocks.pop(address)
            assert granted >= argument
            assert all(address + granted <= low or low + size <= address for low, size in blocks.items())
            m.blocks[address] = granted
            blocks[address], tags[address] = granted, m.tags[address]
    elif op == "free":
        m.free(argument)
        del blocks[argument], tags[argument]
    else:
        m.mesh()
        assert sum(len(runs) for _, runs, _ in spans) == sum(len(span.runs) for span in m.spans)
        assert physical - m.physical == m.released - released
    assert (m.blocks, m.tags) == (blocks, tags)
    m.check()
    return address


def everything_freed(m):
    """What is left are attached spans, empty, one a class at most; when they are dropped too, nothing is in use."""
    for address in list(m.blocks):
        m.free(address)
    m.check()
    assert set(m.spans) == {span for span in m.attached.values() if span}
    assert not any(span.live for span in m.spans)
    m.drop_empty()
    m.check()
    assert (m.spans, m.physical) == ([], 0)
    assert m.virtual_top == sum(pages * len(runs) for pages, runs in m.returned.items())


@given(st.integers(1, 14), bursts, options, st.integers(0, 2**32))
def test_nothing_is_lost_or_moved_or_shared(pages, program, chosen, seed):
    m = Mesh(pages * PAGE, random_words(seed), **chosen)
    random = Random(seed)
    for op, argument, times in program:
        for _ in range(times):
            if op == "free":
                if not m.blocks:
                    break
                step(m, op, random.choice(list(m.blocks)))
            else:
                step(m, op, argument)
    everything_freed(m)


@pytest.mark.parametrize("placement", ["random", "in-order"])
@pytest.mark.parametrize("matching", ["split", "greedy"])
def test_a_small_pool_that_fills_and_empties_meets_everything(placement, matching):
    m = Mesh(24 * PAGE, random_words(5), placement=placement, matching=matching, every=50)
    random, causes, most_runs = Random(6), set(), 0
    for _ in range(5):
        for extent in [8, 16] * 200 + [32, 64, 200, 1100]:
            if step(m, "alloc", extent) is None:
                causes.add(m.cause(extent))
        for address in random.sample(list(m.blocks), int(0.85 * len(m.blocks))):
            step(m, "free", address)
        for _ in range(3):
            step(m, "mesh", None)
        most_runs = max([most_runs, *(len(span.runs) for span in m.spans)])
        for extent in [32, 64, 200, 1100]:
            step(m, "alloc", extent)
    assert causes == {"fragmentation", "capacity"} and most_runs >= 3
    assert m.meshes > 20 and m.bytes_copied > 0 and m.virtual_top > m.peak_physical == m.pool
    everything_freed(m)


# --- the paper's numbers ---------------------------------------------------------------------------------------------


def confidence(values):
    """The mean and half its 99.9 % interval."""
    return np.mean(values), stats.t.ppf(0.9995, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5


def random_bitmaps(rng, spans, b, r):
    """One row a span, r of its b slots True."""
    return rng.random((spans, b)).argsort(axis=1) < r


def as_ints(rows):
    return [int("".join("01"[slot] for slot in row), 2) for row in rows.astype(int).tolist()]


@pytest.mark.parametrize(("b", "r1", "r2"), [(6, 2, 2), (6, 1, 3), (6, 3, 1), (6, 4, 3), (5, 0, 5), (7, 3, 4)])
def test_m1_pair_probability_by_listing_all_spans(b, r1, r2):
    first, second = (list(combinations(range(b), r)) for r in (r1, r2))
    meshed = sum(set(x).isdisjoint(y) for x, y in product(first, second))
    assert mesh_probability(b, r1, r2) * len(first) * len(second) == meshed


@pytest.mark.parametrize(("b", "r"), [(6, 2), (5, 1), (7, 2), (5, 2)])
def test_m1_triangles_by_listing_all_spans(b, r):
    spans = [sum(2**slot for slot in slots) for slots in combinations(range(b), r)]
    triples = product(spans, repeat=3)
    triangles = sum(meshable(x, y) and meshable(x, z) and meshable(y, z) for x, y, z in triples)
    assert expected_triangles(b, r, 3) * len(spans) ** 3 == triangles


def test_m1_as_printed():
    assert float(expected_triangles(32, 10, 1000)) == pytest.approx(1.704, abs=5e-4)
    independent = mesh_probability(32, 10, 10) ** 3 * 1000 * 999 * 998 / 6
    assert float(independent) == pytest.approx(167.3, abs=0.05)


def test_m1_simulated():
    """Pairs are pairwise independent, so the variance of their number is known; that of the triangles is not."""
    rng, q = np.random.default_rng(1), float(mesh_probability(32, 10, 10))
    pairs, triangles = [], []
    for _ in range(30):
        rows = random_bitmaps(rng, 1000, 32, 10).astype(np.float32)
        edges = (rows @ rows.T == 0).astype(np.float32)
        pairs.append(edges.sum() / 2)
        triangles.append(float((edges @ edges * edges).sum(dtype=np.float64)) / 6)
    half_width = stats.norm.ppf(0.9995) * (499500 * q * (1 - q) / 30) ** 0.5
    assert np.mean(pairs) == pytest.approx(499500 * q, abs=half_width)
    mean, half_width = confidence(triangles)
    assert mean == pytest.approx(float(expected_triangles(32, 10, 1000)), abs=half_width) and half_width < 1.5


def test_m1_of_spans_that_the_policy_has_filled():
    """A span's first ten objects are in ten of its slots at random, whatever the spans next to it look like."""
    spans, q = 250, float(mesh_probability(32, 10, 10))
    m = Mesh(spans * PAGE, random_words(2), every=0)
    for n, address in enumerate([m.alloc(8) for _ in range(32 * spans)]):
        if n % 32 >= 10:
            m.free(address)
    assert {len(span.live) for span in m.spans} == {10}
    pairs = sum(meshable(x, y) for x, y in combinations([span.bitmap for span in m.spans], 2))
    among = spans * (spans - 1) / 2
    assert pairs == pytest.approx(among * q, abs=stats.norm.ppf(0.9995) * (among * q * (1 - q)) ** 0.5)


def good_matches(left, right, t):
    """How many pairs of dealt halves are meshable by a probe that is the first meshable one of either span."""
    first_left, first_right = {}, {}
    for i in range(t):
        for j in range(len(left)):
            k = (j + i) % len(right)
            if (j not in first_left or k not in first_right) and meshable(left[j], right[k]):
                first_left.setdefault(j, i)
                first_right.setdefault(k, i)
    return sum(first_right[(j + i) % len(right)] == i for j, i in first_left.items())


M2 = [(32, 8, 0.24997, 0.25903), (256, 16, 0.25, 0.30205)]  # b, r; pairs at least, good ones as expected, for each span


@pytest.mark.parametrize(("b", "r", "least", "good"), M2)
def test_m2_as_printed(b, r, least, good):
    q = mesh_probability(b, r, r)
    assert (1 - np.exp(-2 * 64 * float(q))) / 4 == pytest.approx(least, abs=5e-6)
    assert float(expected_good_matches(b, r, 1000, 64)) / 1000 == pytest.approx(good, abs=5e-6)
    closed = q * (1 - (1 - q) ** 128) / (1 - (1 - q) ** 2) * 500
    assert expected_good_matches(b, r, 1000, 64) == closed


def test_m2_expected_good_matches_by_listing_all_spans():
    """Four spans of four slots, two live, t = 2: L = 2 spans, R = 2."""
    spans = [sum(2**slot for slot in slots) for slots in combinations(range(4), 2)]
    total = sum(good_matches([a, b], [c, d], 2) for a, b, c, d in product(spans, repeat=4))
    assert total == expected_good_matches(4, 2, 4, 2) * len(spans) ** 4


@pytest.mark.parametrize(("b", "r", "least", "good"), M2)
@pytest.mark.parametrize(("spans", "times"), [(1000, 60), (4000, 15)])
def test_m2_simulated(b, r, least, good, spans, times):
    """The lemma holds in each sample; the good matches are as many as expected, and never more than the pairs."""
    rng, words, found = np.random.default_rng(3), random_words(4), []
    for _ in range(times):
        dealt = as_ints(random_bitmaps(rng, spans, b, r))
        shuffle(dealt, words)
        pairs, probes = split(dealt, 64)
        found.append(good_matches(dealt[: spans // 2], dealt[spans // 2 :], 64))
        assert least * spans <= len(pairs) <= spans / 2 and found[-1] <= len(pairs) <= probes
    mean, half_width = confidence(found)
    assert mean / spans == pytest.approx(good, abs=half_width / spans) and half_width < 0.02 * mean


def test_m2_of_many_spans():
    (b, r, least, _), spans = M2[0], 100_000
    pairs, _ = split_mesher(as_ints(random_bitmaps(np.random.default_rng(5), spans, b, r)), 64, random_words(6))
    assert len(pairs) >= least * spans


@given(st.lists(st.integers(0, 2**10 - 1).map(lambda x: x & x >> 1), max_size=24), st.integers(1, 12))
def test_m2_good_matches_are_never_more_than_the_pairs(bitmaps, t):
    """Though the loops are exchanged: a span of R has one good match at most, and ends up meshed if it has one."""
    half = len(bitmaps) // 2
    reach = min(t, half)
    assert good_matches(bitmaps[:half], bitmaps[half:], reach) <= len(split(bitmaps, t)[0])


@pytest.mark.parametrize("matching", ["split", "greedy"])
def test_m4_every_fourth_kept(matching):
    """Survivors of a regular pattern are in the same slots of all spans when placed in order: nobody meshes."""
    spans, results = 120, {}
    for placement in ("in-order", "random"):
        m = Mesh((spans + 1) * PAGE, random_words(7), placement=placement, matching=matching, every=0)
        objects = [m.alloc(8) for _ in range(32 * spans)]
        m.alloc(8)  # so that the last of the spans is detached
        for n, address in enumerate(objects):
            if n % 4:
                m.free(address)
        assert m.physical == spans + 1 and {len(span.live) for span in m.spans[:spans]} == {8}
        m.mesh()
        m.check()
        results[placement] = m.physical - 1
    assert results["in-order"] == spans
    assert results["random"] < 0.75 * spans  # lemma: a quarter of them at least


def test_m4_one_slot_apart_is_enough_in_order():
    """Not order as such but the same slots: with 51 slots (80 bytes) every fourth is at four offsets, all meshable."""
    m = Mesh(41 * PAGE, random_words(8), placement="in-order", every=0)
    for n, address in enumerate([m.alloc(5) for _ in range(51 * 40)]):
        if n % 4:
            m.free(address)
    m.alloc(5)
    m.mesh()
    assert m.meshes >= 10
    m.check()


# --- recorded bitmaps ------------------------------------------------------------------------------------------------

ORACLE = Path(__file__).parents[2] / "shared" / "oracles" / "mesh_matchings.json"
RECORDED = json.loads(ORACLE.read_text()) if ORACLE.exists() else {"dumps": [], "pair_probabilities": []}
recorded = pytest.mark.skipif(not ORACLE.exists(), reason="../shared/oracles/mesh_matchings.json is not here")


@recorded
def test_recorded_pair_probabilities():
    for row in RECORDED["pair_probabilities"]:
        assert float(mesh_probability(row["b"], row["r1"], row["r2"])) == pytest.approx(row["p"], rel=1e-12)


@pytest.mark.parametrize("dump", RECORDED["dumps"], ids=lambda dump: Path(dump["file"]).stem)
def test_recorded_bitmaps(dump):
    bitmaps = [int(text, 16) for text in dump["bitmaps"]]
    occupancies = [bitmap.bit_count() for bitmap in bitmaps]
    assert len(bitmaps) == dump["spans"] and sum(occupancies) == dump["total_live"]
    assert (min(occupancies), max(occupancies)) == (dump["occupancy_min"], dump["occupancy_max"])
    assert sum(meshable(x, y) for x, y in combinations(bitmaps, 2)) == dump["meshable_pairs"]
    assert len(greedy(bitmaps)[0]) == dump["greedy_in_order_matching"]


def maximum_matching_of_many(bitmaps):
    networkx = pytest.importorskip("networkx", reason="networkx is not installed: it finds maximum matchings")
    edges = [(x, y) for x, y in combinations(range(len(bitmaps)), 2) if meshable(bitmaps[x], bitmaps[y])]
    return len(networkx.max_weight_matching(networkx.Graph(edges), maxcardinality=True))


@pytest.mark.parametrize("dump", RECORDED["dumps"], ids=lambda dump: Path(dump["file"]).stem)
def test_recorded_maximum_matchings_and_the_share_that_is_found(dump):
    bitmaps = [int(text, 16) for text in dump["bitmaps"]]
    assert maximum_matching_of_many(bitmaps) == dump["max_matching"]
    shares = [len(split_mesher(bitmaps, 64, random_words(seed))[0]) / dump["max_matching"] for seed in range(200)]
    assert max(shares) <= 1 and min(shares) > 0.9 and np.mean(shares) > 0.97


@given(few_bitmaps)
def test_maximum_matching_is_the_one_of_networkx(bitmaps):
    assert maximum_matching(bitmaps) == maximum_matching_of_many(bitmaps)
