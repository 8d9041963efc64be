"""The reference of swapping against timelines worked out by hand, a queue without a disk, and what must always hold."""

import heapq
import re
from itertools import accumulate

import numpy as np
import pytest
from audit import audit
from hypothesis import given
from hypothesis import strategies as st
from maps import draw
from reference import REFERENCES
from reference.buddy import Buddy
from reference.static_partition import StaticPartition
from reference.swapping import Swapping

NEVER = 1e6  # so late that nobody waits for it

ONCE = [(1.0, 0.0)]

W1 = (0.008, 40e6)  # seconds, bytes a second: 10 MB take 258 ms

VARIANTS = [
    ("first-fit", {}),
    ("first-fit", {"carve": "high", "min_split": 3}),
    ("best-fit", {"ties": "lifo"}),
    ("worst-fit", {}),
    ("next-fit", {"min_split": 2}),
    ("buddy", {}),
    ("buddy", {"order": "lifo"}),
    ("static-partition", {"unit": 4}),
    ("static-partition", {"order": "lifo", "units": [4, 2, 2, 8]}),
]

RULES = ["lru", "largest-idle", "smallest-sufficient", "random", "lowest-priority"]


class Audited(Swapping):
    """Looks after every event whether memory, disk and swap space are as they must be."""

    def choose_victims(self, process):
        before = self.policy.holes(), sorted(self.policy.blocks.items()), list(self.idle)
        chosen = super().choose_victims(process)
        assert before == (self.policy.holes(), sorted(self.policy.blocks.items()), self.idle)
        return chosen

    def note(self, kind, process, address):
        super().note(kind, process, address)
        policy = self.policy
        units = [size for _, size in policy.units] if isinstance(policy, StaticPartition) else None
        audit(policy.limit, policy.blocks.items(), policy.holes(), isinstance(policy, Buddy), units)
        assert sum(self.images.values()) <= self.swap_space
        assert policy.blocks.keys() == self.owners.keys()
        contents = [None] * policy.limit
        for start, granted in policy.blocks.items():
            contents[start : start + granted] = [(self.owners[start].number, k) for k in range(granted)]
        assert self.memory == contents
        assert all(one.doing == "idle" and one.here for one in self.idle)
        assert all(one.doing == "waiting" for one in self.line)


def one_of(size, phases, arrival=0.0, priority=0.0, megabytes=10):
    return arrival, megabytes * 10**6, size, priority, phases


def simulate(granules, processes, policy="first-fit", decided=None, options=None, **settings):
    run = Audited(REFERENCES[policy](granules, **(options or {})), processes, **settings)
    run.run() if decided is None else run.run(decided)
    return run


def rounded(log):
    return [(round(time, 9), *event) for time, *event in log]


def map_at(run, kind, number):
    """The memory map after the last such event of a process."""
    at = max(k for k, event in enumerate(run.log) if event[1:3] == (kind, number))
    return draw([("ABCDEFGH"[n], start, size) for start, size, n in run.maps[at]], run.policy.limit)


def times_of(run, kind, number):
    return [round(time, 9) for time, what, who, _ in run.log if (what, who) == (kind, number)]


def victims_of(run):
    return [number for _, kind, number, _ in run.log if kind == "out"]


# --- the disk ---------------------------------------------------------------------------------------------------------


def test_ten_megabytes_take_258_milliseconds_each_way():
    run = simulate(10, [one_of(10, [(1.0, 5.0), (1.0, 0.0)]), one_of(10, ONCE, 2.0)], disk=W1, remedies=["swap"])
    assert rounded(run.log) == [
        (0.0, "place", 0, 0),
        (1.0, "idle", 0, 0),
        (2.0, "out", 0, 0),
        (2.258, "out-done", 0, 0),
        (2.258, "place", 1, 0),
        (3.258, "finish", 1, 0),
        (6.0, "active", 0, -1),
        (6.0, "return", 0, 0),
        (6.258, "in-done", 0, 0),
        (7.258, "finish", 0, 0),
    ]
    assert run.addresses == [0, 0]
    assert (run.swaps_in, run.swaps_out, run.bytes_in, run.bytes_out) == (1, 1, 10**7, 10**7)
    assert (run.completed, run.dropped, run.frees, run.allocated) == (2, 0, 3, 30)
    assert run.delayed == {"queue": 0, "capacity": 1, "fragmentation": 0, "budget": 0, "swap-space": 0}
    assert run.waited_new == pytest.approx(0.258)
    assert run.waited_returning == 0.0
    assert run.busy_time == pytest.approx(0.516)
    assert run.image_time == pytest.approx(6.258 - 2.0)
    assert run.block_time == pytest.approx(3.258 + 1.258)
    assert run.working_time == pytest.approx(3.0)
    assert run.line_time == pytest.approx(0.258)
    slow = 7.258 / 7, 1.258
    assert run.slowdown == pytest.approx(sum(slow))
    assert run.slowdowns == {int(64 * np.log2(s)): 1 for s in slow}


def test_one_out_and_another_in_take_516_milliseconds():
    run = simulate(
        10, [one_of(10, [(1.0, 5.0), (1.0, 0.0)]), one_of(10, ONCE, 2.0)], disk=W1, remedies=["swap"], load=True
    )
    assert times_of(run, "in-done", 0)[0] == 0.258
    assert times_of(run, "place", 1) == [2.258]
    assert times_of(run, "in-done", 1) == [2.516]
    assert run.swaps_in == 3
    assert run.waited_new == pytest.approx(0.258)  # to the placement; the read is no wait in the line
    # A new process has no image, and the other's is gone when it has been read in.
    assert run.image_time == pytest.approx(times_of(run, "in-done", 0)[1] - 2.0)


def test_the_disk_is_a_queue():
    """Two victims are written one after the other, and what was chosen second comes free second."""
    run = simulate(
        10,
        [one_of(5, [(1.0, NEVER), (1.0, 0.0)]) for _ in range(2)] + [one_of(10, ONCE, 2.0)],
        disk=W1,
        remedies=["swap"],
        decided=3,
    )
    assert rounded(run.log[-5:]) == [
        (2.0, "out", 0, 0),
        (2.0, "out", 1, 5),
        (2.258, "out-done", 0, 0),
        (2.516, "out-done", 1, 5),
        (2.516, "place", 2, 0),
    ]


def test_doubling_quanta_swap_five_times_for_thirty():
    """CTSS: a job that gets 1, 2, 4, 8 and 15 quanta, and makes way for others in between, is read five times."""
    quanta = [1, 2, 4, 8, 15]
    # One quantum of somebody else in every idle phase, from the moment on that the job goes idle. A transfer takes 1:
    # the job is read 1 and works q; written 1; the other is read 1, works 1, leaves; so it is back 3 later.
    starts = list(accumulate((q + 4 for q in quanta[:-1]), initial=1))
    others = [one_of(1, ONCE, float(start + q)) for start, q in zip(starts, quanta, strict=False)][:4]
    job = one_of(1, [(float(q), 0.5) for q in quanta])
    run = simulate(1, [job, *others], disk=(0.0, 10e6), remedies=["swap"], load=True)
    assert [t for t, kind, who, _ in run.log if (kind, who) == ("in-done", 0)] == starts
    assert len(times_of(run, "in-done", 0)) == 5
    assert run.processes[0].worked == 30
    assert times_of(run, "finish", 0) == [1 + 30 + 4 * 4]
    assert run.swaps_in == 9 and run.swaps_out == 4 and run.completed == 5


# --- victims ----------------------------------------------------------------------------------------------------------


def word(index, count):
    """Random bits that pick this index of so many."""
    return ((index * 2**32 + 2**31) // count) << 32


@pytest.mark.parametrize(
    ("extent", "rule", "words", "expected"),
    [
        (3, "lru", [], [1, 3]),  # B's 2 granules are not enough; D's are not next to them, but enough
        (3, "largest-idle", [], [2]),
        (3, "smallest-sufficient", [], [3]),
        (3, "lowest-priority", [], [1, 0]),
        (3, "random", [(1, 4)], [3]),
        (3, "random", [(0, 4), (0, 3)], [1, 0]),  # the last (A) took B's place
        (3, "random", [(0, 4), (1, 3)], [1, 3]),
        (6, "lru", [], [1, 3, 2]),  # C lies between: 2 + 5 + 3
        (6, "largest-idle", [], [2, 0, 3]),  # A is the larger one, but D lies beside C
        (6, "smallest-sufficient", [], [2, 1]),  # nobody alone: the largest; then B, beside it, rather than A or D
        (6, "lowest-priority", [], [1, 0]),
        (14, "smallest-sufficient", [], [2, 0, 3, 1]),
    ],
)
def test_victims(extent, rule, words, expected):
    """AAAABBCCCCCDDDEE: E works, the others went idle in the order B, D, C, A."""
    back = (1.0, 0.0)
    run = simulate(
        16,
        [
            one_of(4, [(4.0, NEVER), back], priority=2.0),
            one_of(2, [(1.0, NEVER), back], priority=1.0),
            one_of(5, [(3.0, NEVER), back], priority=4.0),
            one_of(3, [(2.0, NEVER), back], priority=3.0),
            one_of(2, [(NEVER, 0.0)]),
            one_of(extent, ONCE, 10.0),
        ],
        disk=W1,
        remedies=["swap"],
        victim=rule,
        words=iter([word(*pick) for pick in words]),
        decided=6,
    )
    assert map_at(run, "idle", 0) == "AAAABBCCCCCDDDEE"
    assert victims_of(run) == expected
    assert len(run.addresses) == 6


@pytest.mark.parametrize("rule", ["lru", "largest-idle", "smallest-sufficient", "lowest-priority"])
def test_of_equals_the_lowest_number_is_taken(rule):
    run = simulate(
        6,
        [one_of(2, [(1.0, NEVER), (1.0, 0.0)]) for _ in range(3)] + [one_of(2, ONCE, 2.0)],
        disk=W1,
        remedies=["swap"],
        victim=rule,
        decided=4,
    )
    assert victims_of(run) == [0]


def test_if_all_idle_ones_do_not_suffice_nobody_moves():
    run = simulate(
        4, [one_of(2, [(1.0, 9.0), (1.0, 0.0)]), one_of(2, [(7.0, 0.0)]), one_of(4, ONCE, 2.0)], remedies=["swap"]
    )
    # Until B finishes at 7; then A's memory is worth taking (and comes free at once: the disk takes no time).
    assert run.log[3:7] == [
        (7.0, "finish", 1, 2),
        (7.0, "out", 0, 0),
        (7.0, "out-done", 0, 0),
        (7.0, "place", 2, 0),
    ]
    assert run.delayed["capacity"] == 1


def test_writes_under_way_are_counted_on():
    """The head is tried again while its victim is written, and nobody else has to go."""
    run = simulate(
        6,
        [one_of(2, [(1.0, NEVER), (1.0, 0.0)]) for _ in range(3)]
        + [one_of(2, ONCE, 2.0), one_of(1, ONCE, 2.1), one_of(3, ONCE, 2.2)],
        disk=W1,
        remedies=["swap"],
        decided=6,
    )
    # D takes A's place at 2.258, and B goes for E; when E has come, C goes for F, which takes what E has left too.
    assert [e for e in rounded(run.log) if e[1] in ("out", "place") and e[0] > 0] == [
        (2.0, "out", 0, 0),
        (2.258, "place", 3, 0),
        (2.258, "out", 1, 2),
        (2.516, "place", 4, 2),
        (2.516, "out", 2, 4),
        (2.774, "place", 5, 3),
    ]


# --- the line ---------------------------------------------------------------------------------------------------------


def test_a_head_that_waits_while_others_leave():
    """Its victim is written slowly; what a third one leaves in the meantime is as good, and those behind it wait."""
    run = simulate(
        8,
        [
            one_of(4, [(1.0, 99.0), (1.0, 0.0)], megabytes=400),  # ten seconds to write
            one_of(3, [(5.0, 0.0)]),
            one_of(3, [(20.0, 0.0)], 2.0),
            one_of(1, [(1.0, 0.0)], 3.0),  # would fit at once
        ],
        disk=(0.0, 40e6),
        remedies=["swap"],
    )
    assert rounded(run.log)[:10] == [
        (0.0, "place", 0, 0),
        (0.0, "place", 1, 4),
        (1.0, "idle", 0, 0),
        (2.0, "out", 0, 0),
        (5.0, "finish", 1, 4),
        (5.0, "place", 2, 4),
        (5.0, "place", 3, 7),
        (6.0, "finish", 3, 7),
        (12.0, "out-done", 0, 0),  # all the same
        (25.0, "finish", 2, 4),
    ]
    assert run.delayed == {"queue": 1, "capacity": 1, "fragmentation": 0, "budget": 0, "swap-space": 0}
    assert run.waited_new == 3.0 + 2.0
    assert map_at(run, "place", 3) == "AAAACCCD"


def test_an_idle_phase_that_ends_while_it_is_written():
    """It is in line at once, behind those that came before."""
    run = simulate(
        8,
        [
            one_of(4, [(1.0, 2.0), (1.0, 0.0)]),  # idle until 3
            one_of(4, [(1.5, NEVER), (1.0, 0.0)]),
            one_of(1, [(0.5, 0.0)], 2.0),
            one_of(4, [(1.0, 0.0)], 2.5),
        ],
        disk=(0.0, 10e6 / 4),  # four seconds a transfer
        remedies=["swap"],
        decided=4,
    )
    # C at 2 chooses A, which is written until 6. A's idle time ends at 3: behind C and D in the line.
    assert rounded(run.log)[4:] == [
        (2.0, "out", 0, 0),
        (3.0, "active", 0, -1),
        (6.0, "out-done", 0, 0),
        (6.0, "place", 2, 0),
        (6.0, "out", 1, 4),  # for D
        (6.5, "finish", 2, 0),
        (6.5, "place", 3, 0),
    ]
    run.run()
    assert [e for e in rounded(run.log) if e[2] == 0][4:] == [
        (6.0, "out-done", 0, 0),
        (7.5, "return", 0, 0),  # D's place; B's is free at 10, and then the disk reads A
        (14.0, "in-done", 0, 0),
        (15.0, "finish", 0, 0),
    ]
    assert run.waited_returning == 4.5


def test_two_blocks_of_one_process():
    """It returns to another place while it is written, and is read after its write."""
    run = simulate(
        8,
        [
            one_of(3, [(1.0, 2.0), (1.0, 0.0)]),
            one_of(5, [(1.5, 0.0)]),
            one_of(3, [(1.0, 0.0)], 1.25),  # A goes for it, but B leaves first
        ],
        disk=(0.0, 10e6 / 4),
        remedies=["swap"],
    )
    assert rounded(run.log)[2:] == [
        (1.0, "idle", 0, 0),
        (1.25, "out", 0, 0),
        (1.5, "finish", 1, 3),
        (1.5, "place", 2, 3),
        (2.5, "finish", 2, 3),
        (3.0, "active", 0, -1),
        (3.0, "return", 0, 3),
        (5.25, "out-done", 0, 0),
        (9.25, "in-done", 0, 3),
        (10.25, "finish", 0, 3),
    ]
    assert run.maps[8] == [(0, 3, 0), (3, 3, 0)]
    assert run.maps[9] == [(3, 3, 0)]
    assert run.image_time == pytest.approx(9.25 - 1.25)
    assert run.block_time == pytest.approx(5.25 + 1.5 + 1.0 + 7.25)


def test_too_large_ones_are_dropped_when_their_turn_comes():
    run = simulate(4, [one_of(4, [(3.0, 0.0)]), one_of(2, ONCE, 1.0), one_of(5, ONCE, 2.0), one_of(2, ONCE, 2.5)])
    assert run.addresses == [0, 0, -1, 2]
    assert run.log[1:5] == [(3.0, "finish", 0, 0), (3.0, "place", 1, 0), (3.0, "drop", 2, -1), (3.0, "place", 3, 2)]
    assert run.dropped == 1
    assert run.delayed == {"queue": 1, "capacity": 1, "fragmentation": 0, "budget": 0, "swap-space": 0}
    assert run.waited_new == 2.0 + 0.5


def test_the_run_stops_right_after_the_placement_that_counts():
    processes = [one_of(4, [(3.0, 0.0)]), *(one_of(2, ONCE, 1.0) for _ in range(2))]
    run = simulate(4, processes, decided=2)
    assert run.addresses == [0, 0] and run.now == 3.0 and len(run.line) == 1
    whole = simulate(4, processes)
    run.run()  # goes on where it stopped
    assert run.log == whole.log and run.waited_new == whole.waited_new


def test_a_line_that_is_too_long_is_unstable():
    run = simulate(1, [one_of(1, [(NEVER, 0.0)]), *(one_of(1, ONCE, 1.0 + k) for k in range(5))], queue_limit=3)
    assert run.unstable and run.now == 4.0 and len(run.line) == 4


def test_at_one_instant():
    """Transfers, then phase ends by number, then the line, and what it makes happen at once, then who arrives."""
    run = simulate(
        4,
        [
            one_of(2, [(1.0, 1.0), (1.0, 0.0)]),  # A: idle at 1, active at 2
            one_of(2, [(2.0, NEVER), (1.0, 0.0)]),  # B: idle at 2
            one_of(2, [(2.0, 0.0)], 1.0),  # C: A goes for it, at once
            one_of(2, ONCE, 2.0),  # D: B has gone for A, which was first in line; then D has to wait
        ],
        remedies=["swap"],
        decided=4,
    )
    assert run.log[2:] == [
        (1.0, "idle", 0, 0),
        (1.0, "out", 0, 0),
        (1.0, "out-done", 0, 0),
        (1.0, "place", 2, 0),
        (2.0, "active", 0, -1),
        (2.0, "idle", 1, 2),
        (2.0, "out", 1, 2),
        (2.0, "out-done", 1, 2),
        (2.0, "return", 0, 2),
        (2.0, "in-done", 0, 2),
        (3.0, "finish", 0, 2),
        (3.0, "finish", 2, 0),
        (3.0, "place", 3, 0),
    ]


def test_transfers_come_before_phase_ends_and_both_before_arrivals():
    run = simulate(
        4,
        [
            one_of(4, [(1.0, 3.0), (1.0, 0.0)]),  # A: idle from 1 to 4
            one_of(4, [(1.0, 0.0)], 2.0),  # B: A is written from 2 to 4
            one_of(1, ONCE, 4.0),
        ],
        disk=(0.0, 10e6 / 2),
        remedies=["swap"],
        decided=3,
    )
    assert run.log[2:] == [
        (2.0, "out", 0, 0),
        (4.0, "out-done", 0, 0),
        (4.0, "active", 0, -1),
        (4.0, "place", 1, 0),
        (5.0, "finish", 1, 0),
        (5.0, "return", 0, 0),  # it was there when C arrived
        (7.0, "in-done", 0, 0),
        (8.0, "finish", 0, 0),
        (8.0, "place", 2, 0),
    ]


def test_all_transfers_of_an_instant_come_first():
    """B has no bytes, so both writes are done at 3, when C finishes; only then is the line tried."""
    run = simulate(
        6,
        [
            one_of(2, [(1.0, NEVER), (1.0, 0.0)]),
            one_of(2, [(1.0, NEVER), (1.0, 0.0)], megabytes=0),
            one_of(2, [(3.0, 0.0)]),
            one_of(4, ONCE, 2.0),
        ],
        policy="worst-fit",
        disk=(0.0, 10e6),
        remedies=["swap"],
        decided=4,
    )
    assert run.log[-5:] == [
        (2.0, "out", 1, 2),
        (3.0, "out-done", 0, 0),
        (3.0, "out-done", 1, 2),
        (3.0, "finish", 2, 4),
        (3.0, "place", 3, 0),
    ]


def test_phases_without_length():
    nothing = [(0.0, 0.0)] * 3
    run = simulate(4, [one_of(2, nothing), one_of(2, nothing), one_of(4, nothing)], disk=W1, remedies=["swap"])
    of = ["place", *["idle", "active"] * 2, "finish"]
    # What is due comes before the next arrival of the same instant, so everybody has all of the pool.
    assert [(kind, who) for _, kind, who, _ in run.log] == [(kind, who) for who in range(3) for kind in of]
    assert run.now == 0.0 and run.slowdown == 3.0 and run.slowdowns == {0: 3}


# --- to the old place only --------------------------------------------------------------------------------------------


def old_place(**changes):
    """A is out; B and C lie where it was, D beside them, and there is another place that is as good."""
    settings = {"disk": (0.0, 10e6), "remedies": ["swap"], "relocate": False} | changes
    return simulate(
        12,
        [
            one_of(4, [(1.0, 9.0), (1.0, 0.0)]),  # A: idle from 1 to 10
            one_of(8, [(5.0, 0.0)]),  # gone at 5
            one_of(2, [(4.0, NEVER), (1.0, 0.0)], 2.0),  # takes A's place at 3, idle at 7
            one_of(2, [(8.0, NEVER), (1.0, 0.0)], 2.0),  # too, idle at 11
            one_of(2, [(2.0, NEVER), (1.0, 0.0)], 6.0),  # idle at 8, and the first that lru would take
        ],
        **settings,
    )


@pytest.mark.parametrize("rule", RULES)
def test_a_process_that_may_not_be_relocated_waits_for_its_old_place(rule):
    run = old_place(victim=rule, words=iter([word(0, 1)] * 9))
    assert map_at(run, "active", 0) == "CCDDEE......"
    # At 10 D still works: nobody is taken, though C is idle. At 11 both go, in order of address, whatever the rule.
    assert [e for e in run.log if 9 < e[0] < 100] == [
        (10.0, "active", 0, -1),
        (11.0, "idle", 3, 2),
        (11.0, "out", 2, 0),
        (11.0, "out", 3, 2),
        (12.0, "out-done", 2, 0),
        (13.0, "out-done", 3, 2),
        (13.0, "return", 0, 0),
        (14.0, "in-done", 0, 0),
        (15.0, "finish", 0, 0),
    ]
    assert run.waited_returning == 3.0
    assert run.delayed["fragmentation"] == 1  # there is room, but elsewhere


def test_one_that_works_in_the_old_place_is_noticed_before_the_swap_space():
    run = old_place(swap_space=10 * 10**6)
    assert run.delayed == {"queue": 1, "capacity": 1, "fragmentation": 1, "budget": 0, "swap-space": 0}
    assert victims_of(run) == [0]


def test_a_process_that_may_be_relocated_goes_elsewhere():
    run = old_place(relocate=True)
    assert (10.0, "return", 0, 6) in run.log and run.waited_returning == 0.0
    assert map_at(run, "return", 0) == "CCDDEEAAAA.."


def test_an_old_place_is_all_that_was_granted():
    """A was granted the two granules that were too few for a hole; later C is the one in whose way that is."""
    run = simulate(
        5,
        [one_of(3, [(1.0, 4.0), (1.0, 0.0)]), one_of(4, [(1.0, 0.0)], 2.0), one_of(1, [(3.0, 0.0)], 2.0)],
        options={"min_split": 3, "carve": "high"},
        remedies=["swap"],
        relocate=False,
    )
    assert run.maps[0] == [(0, 5, 0)]
    assert map_at(run, "place", 2) == "....C"
    assert [e for e in run.log if e[0] >= 5][:3] == [
        (5.0, "active", 0, -1),
        (6.0, "finish", 2, 4),
        (6.0, "return", 0, 0),
    ]
    assert map_at(run, "return", 0) == "AAAAA"
    assert run.delayed["capacity"] == 3  # four granules are free, and it needs five


# --- swap space -------------------------------------------------------------------------------------------------------


def test_a_full_swap_space():
    """A's image takes 10 of 15 MB: B has no room there, though it is idle, and C waits for A to be read in again."""
    run = simulate(
        4,
        [
            one_of(4, [(1.0, 3.0), (1.0, 0.0)]),
            one_of(4, [(1.0, 4.0), (1.0, 0.0)], 2.0),
            one_of(4, [(1.0, 0.0)], 3.5),
        ],
        remedies=["swap"],
        swap_space=15 * 10**6,
    )
    assert [e for e in run.log if e[0] > 2] == [
        (3.0, "idle", 1, 0),
        (4.0, "active", 0, -1),  # behind C
        (7.0, "active", 1, 0),
        (8.0, "finish", 1, 0),
        (8.0, "place", 2, 0),
        (9.0, "finish", 2, 0),
        (9.0, "return", 0, 0),
        (9.0, "in-done", 0, 0),
        (10.0, "finish", 0, 0),
    ]
    assert run.delayed == {"queue": 0, "capacity": 2, "fragmentation": 0, "budget": 0, "swap-space": 1}


@pytest.mark.parametrize(("space", "expected"), [(20, [0, 1]), (19, [])])
def test_the_victims_of_one_choice_share_what_is_left(space, expected):
    run = simulate(
        4,
        [one_of(2, [(1.0, 9.0), (1.0, 0.0)]) for _ in range(2)] + [one_of(4, ONCE, 2.0)],
        remedies=["swap"],
        swap_space=space * 10**6,
    )
    assert victims_of(run) == expected
    assert run.delayed["swap-space"] == (not expected)


# --- remedies together ------------------------------------------------------------------------------------------------


def holes_and_idle(more=(), **settings):
    """A.CC.E with A, C and E idle: two granules are free, but not side by side."""
    return simulate(
        6,
        [
            one_of(1, [(1.0, NEVER), (1.0, 0.0)]),
            one_of(1, [(2.0, 0.0)]),
            one_of(2, [(1.0, NEVER), (1.0, 0.0)]),
            one_of(1, [(2.0, 0.0)]),
            one_of(1, [(1.0, NEVER), (1.0, 0.0)]),
            one_of(2, ONCE, 3.0),
            *more,
        ],
        disk=W1,
        decided=6,
        **settings,
    )


def test_compaction_first():
    run = holes_and_idle(remedies=["compact", "swap"])
    assert map_at(run, "finish", 3) == "A.CC.E"
    assert map_at(run, "place", 5) == "ACCEFF"
    assert (run.passes, run.blocks_moved, run.granules_moved, run.longest, run.refused) == (1, 2, 3, 3, 0)
    assert not any(run.delayed.values()) and not victims_of(run)
    assert run.addresses[-1] == 4 and run.processes[4].block == (3, 1)


def test_swapping_first():
    run = holes_and_idle(remedies=["swap", "compact"])
    assert victims_of(run) == [0] and run.passes == 0 and run.delayed["fragmentation"] == 1
    assert map_at(run, "place", 5) == "FFCC.E"


@pytest.mark.parametrize(
    ("settings", "cause", "refused"),
    [
        ({"remedies": ["compact"], "budget": 1000.0}, "budget", 1),
        ({"remedies": ["compact", "swap"], "budget": 1000.0, "swap_space": 0}, "swap-space", 1),
        ({"remedies": ["swap", "compact"], "budget": 1000.0, "swap_space": 0}, "budget", 1),
        ({"remedies": ["compact", "swap"], "budget": 1000.0}, "budget", 1),
        ({"remedies": ["compact", "swap"], "pinned": [0, 2, 4]}, "fragmentation", 0),  # moves nothing: is no pass
    ],
)
def test_the_last_remedy_that_names_a_cause_names_it(settings, cause, refused):
    run = holes_and_idle(**settings)
    assert run.delayed == {**dict.fromkeys(run.delayed, 0), cause: 1}
    assert run.refused >= refused and run.passes == 0


def test_the_head_is_not_tried_again_because_another_arrives():
    run = holes_and_idle([one_of(1, ONCE, 4.0 + k) for k in range(2)], remedies=["compact"], budget=1e3, queue_limit=2)
    assert run.now == 5.0 and run.unstable and run.refused == 1


@pytest.mark.parametrize(("budget", "passes"), [(2.0, 1), (2.0 + 1e-9, 0)])
def test_the_budget_is_exact(budget, passes):
    """Six granules were allocated; the pass costs three."""
    assert holes_and_idle(remedies=["compact"], budget=budget).passes == passes


def test_capacity_is_no_matter_of_compaction():
    run = simulate(4, [one_of(3, [(5.0, 0.0)]), one_of(2, ONCE, 1.0)], remedies=["compact"])
    assert run.passes == run.refused == 0 and run.delayed["capacity"] == 1


def test_what_is_being_written_does_not_move():
    """ABBCCDEEF: B is written, for G; when A, D and F have left, a pass moves E, but not B, and so not C."""
    run = simulate(
        9,
        [
            one_of(1, [(2.0, 0.0)]),
            one_of(2, [(1.0, NEVER), (1.0, 0.0)], megabytes=1000),
            one_of(2, [(NEVER, 0.0)]),
            one_of(1, [(4.0, 0.0)]),
            one_of(2, [(1.0, NEVER), (1.0, 0.0)]),
            one_of(1, [(4.0, 0.0)]),
            one_of(2, ONCE, 1.5),
        ],
        disk=(0.0, 10e6),
        remedies=["compact", "swap"],
        decided=7,
    )
    assert [e for e in run.log if e[0] >= 1.5] == [
        (1.5, "out", 1, 1),
        (2.0, "finish", 0, 0),
        (4.0, "finish", 3, 5),
        (4.0, "finish", 5, 8),
        (4.0, "place", 6, 7),
    ]
    assert map_at(run, "finish", 5) == ".BBCC.EE."
    assert map_at(run, "place", 6) == ".BBCCEEGG"


def test_what_is_being_read_does_not_move():
    run = simulate(
        6,
        [one_of(2, [(0.5, 0.0)]), one_of(2, [(5.0, 0.0)], megabytes=100), one_of(4, ONCE, 2.0)],
        disk=(0.0, 10e6),
        remedies=["compact"],
        load=True,
        decided=3,
    )
    assert times_of(run, "finish", 0) == [1.5]
    assert times_of(run, "in-done", 1) == times_of(run, "place", 2) == [11.0]
    assert map_at(run, "in-done", 1) == "..BB.."
    assert map_at(run, "place", 2) == "BBCCCC"  # at work it does not mind


# --- against others ---------------------------------------------------------------------------------------------------


def drawn(rng, count, most, load=1.0):
    arrivals = np.cumsum(rng.exponential(1 / load, count)).tolist()
    return [
        one_of(
            int(rng.integers(1, most + 1)),
            [tuple(rng.exponential(3.0, 2).tolist()) for _ in range(rng.integers(1, 5))],
            arrival,
            float(rng.integers(3)),
            int(rng.integers(1, 20)),
        )
        for arrival in arrivals
    ]


@pytest.mark.parametrize(("policy", "options"), VARIANTS)
@pytest.mark.parametrize("relocate", [True, False])
def test_without_memory_pressure_nothing_changes(policy, options, relocate):
    processes = drawn(np.random.default_rng(3), 60, 2, load=0.2)
    granules = 64
    if policy == "static-partition":
        options = {**options, "units": None, "unit": 4}
    plain = simulate(granules, processes, policy, options=options)
    run = simulate(granules, processes, policy, options=options, disk=W1, remedies=["swap"], relocate=relocate)
    assert run.log == plain.log and run.maps == plain.maps
    assert not any(run.delayed.values()) and run.completed == 60
    assert run.swaps_in == run.swaps_out == run.busy_time == run.image_time == 0


def ideal_starts(units, processes):
    """When each active phase starts if only those who work need a unit: first come, first served."""
    events = [(process[0], n, "asks") for n, process in enumerate(processes)]  # a heap
    heapq.heapify(events)
    line, busy, phase, starts = [], 0, [0] * len(processes), [[] for _ in processes]
    while events:
        now, n, what = heapq.heappop(events)
        if what == "asks":
            line.append(n)
        else:
            busy -= 1
            idle = processes[n][4][phase[n]][1]
            phase[n] += 1
            if phase[n] < len(processes[n][4]):
                heapq.heappush(events, (now + idle, n, "asks"))
        while line and busy < units:
            first = line.pop(0)
            busy += 1
            starts[first].append(now)
            heapq.heappush(events, (now + processes[first][4][phase[first]][0], first, "leaves"))
    return starts


def starts_of(run):
    starts = [[] for _ in run.processes]
    for time, kind, number, address in run.log:
        if kind in ("place", "in-done") or (kind == "active" and address >= 0):
            starts[number].append(time)
    return starts


@given(st.integers(0, 2**32), st.integers(1, 5), st.sampled_from(RULES), st.floats(0.1, 2.0))
def test_a_disk_without_delay_is_ideal_overcommitment_of_the_idle(seed, units, rule, load):
    rng = np.random.default_rng(seed)
    processes = drawn(rng, 40, 1, load)
    words = iter(rng.integers(-(2**63), 2**63, 10_000).tolist())
    run = simulate(units, processes, remedies=["swap"], victim=rule, words=words)
    assert starts_of(run) == ideal_starts(units, processes)
    assert run.busy_time == 0.0 and run.swaps_in == run.swaps_out


# --- what must always hold --------------------------------------------------------------------------------------------

LENGTHS = st.one_of(st.just(0.0), st.integers(1, 6).map(float), st.floats(0.01, 9.0))
PHASES = st.lists(st.tuples(LENGTHS, LENGTHS), min_size=1, max_size=4)
GAPS = st.one_of(st.just(0.0), st.integers(0, 4).map(float), st.floats(0.01, 3.0))
PROCESSES = st.lists(st.tuples(GAPS, st.integers(0, 9), st.integers(1, 17), st.integers(0, 2), PHASES), max_size=12)
SETTINGS = {
    "disk": st.one_of(
        st.just((0.0, float("inf"))), st.tuples(st.sampled_from([0.0, 0.5]), st.sampled_from([2.0, 7.0]))
    ),
    "remedies": st.sampled_from([["swap"], ["swap", "compact"], ["compact", "swap"], ["compact"], []]),
    "how": st.sampled_from(["slide", "first-window", "two-finger"]),
    "budget": st.sampled_from([None, 1.5, 4.0]),
    "pinned": st.sets(st.integers(0, 11)),
    "victim": st.sampled_from(RULES),
    "swap_space": st.sampled_from([0, 6, 15, float("inf")]),
    "relocate": st.booleans(),
    "load": st.booleans(),
    "words": st.integers(0, 2**32).map(
        lambda seed: iter(np.random.default_rng(seed).integers(-(2**63), 2**63, 10_000).tolist())
    ),
}

LIFE = r"D|P(i(a|o(OwR|wOR|wRO)I))*F"
"""What can happen to a process, in letters."""
LETTERS = {
    "drop": "D", "place": "P", "return": "R", "out": "o", "out-done": "O", "in-done": "I", "idle": "i", "finish": "F",
}  # fmt: skip


def life_of(run, number):
    return "".join(
        LETTERS[kind] if kind != "active" else "a" if address >= 0 else "w"
        for _, kind, who, address in run.log
        if who == number
    )


@given(PROCESSES, st.sampled_from(VARIANTS), st.fixed_dictionaries(SETTINGS))
def test_invariants(told, variant, settings):
    arrivals = accumulate(gap for gap, *_ in told)
    check([(arrival, *rest) for arrival, (_, *rest) in zip(arrivals, told, strict=True)], variant, settings)


@given(st.integers(0, 2**32), st.booleans(), st.sampled_from(VARIANTS), st.fixed_dictionaries(SETTINGS))
def test_invariants_of_a_crowd(seed, whole, variant, settings):
    """Many more than there is room for, at times that are all different or often the same."""
    rng = np.random.default_rng(seed)
    scale = np.floor if whole else np.asarray
    arrivals = scale(np.cumsum(rng.exponential(1.0, 40))).tolist()
    processes = [
        (
            arrival,
            int(rng.integers(0, 5)),
            int(rng.integers(1, 6)),
            float(rng.integers(3)),
            [tuple(scale(rng.exponential([2.0, 8.0])).tolist()) for _ in range(rng.integers(1, 5))],
        )
        for arrival in arrivals
    ]
    check(processes, variant, settings)


def check(processes, variant, settings):
    policy, options = variant
    relocate, load, disk = settings["relocate"], settings["load"], settings["disk"]
    if policy == "static-partition" or not relocate:
        settings["remedies"] = [remedy for remedy in settings["remedies"] if remedy != "compact"]
    if policy == "buddy":
        settings["how"] = "slide"
    run = simulate(16, processes, policy, options=options, **settings)

    # Everybody finishes, and has worked what it had to: nobody waits for ever.
    assert not run.line and not run.transfers and not run.policy.blocks and not run.images and not run.unstable
    assert run.completed + run.dropped == len(processes) == len(run.addresses)
    pattern = re.compile(LIFE.replace("P", "PI") if load else LIFE)  # loaded ones are read first
    for process in run.processes:
        life = life_of(run, process.number)
        assert pattern.fullmatch(life), life
        if life != "D":
            assert life.count("i") == len(process.phases) - 1
            assert process.worked == pytest.approx(sum(active for active, _ in process.phases))

    # First come, first served.
    decided = [number for _, kind, number, _ in run.log if kind in ("place", "drop")]
    assert decided == list(range(len(processes)))
    assert run.addresses == [address for _, kind, _, address in run.log if kind in ("place", "drop")]
    joined = [number for _, kind, number, address in run.log if kind == "active" and address < 0]
    assert joined == [number for _, kind, number, _ in run.log if kind == "return"]
    if not relocate:
        last = {}
        for _, kind, number, address in run.log:
            assert kind != "return" or last[number] == address
            last[number] = address if address >= 0 else last.get(number)

    # One disk: what is queued first is done first, and takes its time.
    queued = [e for e in run.log if e[1] in ("out", "return") or (load and e[1] == "place")]
    done = [e for e in run.log if e[1] in ("out-done", "in-done")]
    assert [(e[2], e[1] == "out") for e in queued] == [(e[2], e[1] == "out-done") for e in done]
    end = 0.0
    for (start, _, number, _), (finish, *_) in zip(queued, done, strict=True):
        end = max(start, end) + (disk[0] + processes[number][1] / disk[1])
        assert finish == end
    assert run.swaps_in + run.swaps_out == len(done)
    assert run.busy_time == pytest.approx(sum(disk[0] + processes[e[2]][1] / disk[1] for e in done))

    # The integrals, from the log and the maps alone.
    imaged = set()
    blocks = working = 0
    block_time = working_time = image_time = now = 0.0
    for (time, kind, number, address), after in zip(run.log, run.maps, strict=True):
        block_time += (time - now) * blocks
        working_time += (time - now) * working
        image_time += (time - now) * len(imaged)
        now, blocks = time, len(after)
        starts = kind == "in-done" or (kind == "place" and not load) or (kind == "active" and address >= 0)
        working += starts - (kind in ("idle", "finish"))
        if kind == "out":
            imaged.add(number)
        elif kind == "in-done":
            imaged.discard(number)
    assert run.block_time == pytest.approx(block_time)
    assert run.working_time == pytest.approx(working_time)
    assert run.image_time == pytest.approx(image_time)
    dropped = sum(t - processes[n][0] for t, kind, n, _ in run.log if kind == "drop")
    assert run.line_time == pytest.approx(run.waited_new + run.waited_returning + dropped)
    assert sum(run.slowdowns.values()) == run.completed
    assert run.slowdown >= run.completed - 1e-9
