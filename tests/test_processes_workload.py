"""Processes as they are drawn: whose random numbers they are, how their work is divided, what they offer.

Where a mean is known, what is drawn meets it within its 99.9 % interval over replicas.
"""

import hashlib
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_workload import Wrong, within

from vecalloc.errors import InputError
from vecalloc.workload import Processes, Requests, sample, workload_of
from vecalloc.workload.processes import MOST_PHASES, PROCESSES
from vecalloc.workload.requests import Behaviour, Workload
from vecalloc.workload.streams import ACTIVE, CHUNK, IDLE, PRIORITY, WORK, generator_of


def expon(scale, **more):
    return {"dist": "expon", "scale": scale, **more}


SIZED = {"sizes": expon(1000.0), "work": expon(6.0), "active": expon(2.0), "idle": expon(3.0), "rate": 5.0}


def workload(**more):
    return workload_of(SIZED | more)


def processes(asked, total=PROCESSES, seed=3, replica=0):
    return Processes(asked, asked.rate_in(1 << 20), seed, replica, total)


def chunk_of(total=PROCESSES, seed=3, replica=0, **more):
    return processes(workload(**more), total, seed, replica).next_processes()


def works_of(asked, chunk=0, count=PROCESSES, seed=3, replica=0):
    return asked.behaviour.work.draw(generator_of(seed, replica, WORK, chunk), count)


def phases_of(chunk):
    """Active and idle phases of each process, as lists."""
    begin, end = chunk.offset[:-1].tolist(), chunk.offset[1:].tolist()
    return [(chunk.active[i:j].tolist(), chunk.idle[i:j].tolist()) for i, j in zip(begin, end, strict=True)]


# --- phases ----------------------------------------------------------------------------------------------------------

WORKS = {
    "exponential": {},
    "long tails": {"work": {"dist": "lognorm", "s": 2.0, "scale": 3.0}, "active": {"dist": "pareto", "b": 1.1}},
    "whole numbers": {"work": {"dist": "randint", "low": 0, "high": 30}, "active": {"dist": "poisson", "mu": 2.0}},
    "a mixture": {
        "active": {"mixture": [{"weight": 0.9, **expon(0.1)}, {"weight": 0.1, **expon(30.0)}]},
        "idle": {"table": [[0, 1], [5, 1]]},
    },
    "hundreds of phases": {"work": {"dist": "uniform", "loc": 135.0, "scale": 5.0}, "active": expon(0.5)},
    "large and small": {"work": {"dist": "lognorm", "s": 9.0}, "active": {"table": [[1e-3, 1], [1e300, 1]]}},
}


def rounds_of(asked, count, seed=3, replica=0, chunk=0):
    """The same phases one process, one phase at a time, with exact fractions, from the rounds as they are defined."""
    of_active, of_idle = (generator_of(seed, replica, stream, chunk) for stream in (ACTIVE, IDLE))
    works = [Fraction(work) for work in works_of(asked, chunk, count, seed, replica).tolist()]
    bits = [Fraction(np.spacing(float(work))) for work in works]
    phases = [([], []) for _ in works]
    lacking, width = list(range(count)), 1
    while lacking:
        width = max(min(width, (1 << 16) // len(lacking)), 1)
        actives = asked.behaviour.active.draw(of_active, len(lacking) * width).tolist()
        idles = asked.behaviour.idle.draw(of_idle, len(lacking) * width).tolist()
        still = []
        for row, process in enumerate(lacking):
            active, idle = phases[process]
            lack = works[process] - sum(map(Fraction, active))
            for k in range(row * width, (row + 1) * width):
                # The fraction is rounded half to even, as rint does.
                length = round(min(Fraction(actives[k]), works[process]) / bits[process]) * bits[process]
                if length >= lack - (1 << 16) * bits[process]:
                    active.append(float(lack))
                    idle.append(0.0)
                    break
                active.append(float(length))
                idle.append(idles[k])
                lack -= length
            else:
                still.append(process)
        lacking, width = still, 2 * width
    return phases


@pytest.mark.parametrize("kind", WORKS)
@pytest.mark.parametrize("count", [1, 2, 300])
def test_phases_one_by_one(kind, count):
    asked = workload(**WORKS[kind])
    assert phases_of(chunk_of(count, **WORKS[kind])) == rounds_of(asked, count)


@pytest.mark.parametrize("kind", WORKS)
def test_active_phases_add_up_to_the_work(kind):
    """In any order, to the bit; between them there are idle phases, and none after the last."""
    asked = workload(**WORKS[kind])
    chunk = chunk_of(**WORKS[kind])
    assert chunk.offset.dtype == np.int64 and chunk.active.dtype == chunk.idle.dtype == np.float64
    assert chunk.offset[0] == 0 and chunk.offset[-1] == len(chunk.active) == len(chunk.idle)
    assert (np.diff(chunk.offset) >= 1).all()
    assert (chunk.active >= 0).all() and (chunk.idle >= 0).all() and not chunk.idle[chunk.offset[1:] - 1].any()
    for (active, _), work in zip(phases_of(chunk), works_of(asked).tolist(), strict=True):
        assert math.fsum(active) == sum(active) == sum(active[::-1]) == sum(sorted(active)) == work


@given(
    st.integers(1, 2000),
    st.sampled_from([0.1, 0.3, 0.7, 1 / 3, 1.1, 7.0, 1e-9, 123456.789]),
    st.sampled_from([0.0, 0.5]),
)
def test_equal_phases_are_as_many_as_they_should_be(count, active, more):
    """Ten phases of 0.1 are a work of 1, not nine and two rests."""
    chunk = chunk_of(2, work=(count + more) * active, active=active, idle=1.0)
    assert np.diff(chunk.offset).tolist() == [count + (more > 0)] * 2
    assert chunk.active[:count] == pytest.approx(active, rel=1e-9)
    assert chunk.idle.sum() == 2 * (count + (more > 0) - 1)


def test_no_work_is_one_phase():
    chunk = chunk_of(3, work=0)
    assert chunk.offset.tolist() == [0, 1, 2, 3]
    assert not chunk.active.any() and not chunk.idle.any()


@pytest.mark.parametrize("work", [1e-300, 5e-324, 1e308])
def test_work_at_the_ends_of_the_floats(work):
    with np.errstate(all="raise", under="ignore"):
        chunk = chunk_of(5, work=work, active={"table": [[work, 1], [1e308, 1]]})
    assert chunk.active.tolist() == [work] * 5


def test_the_most_phases():
    chunk = chunk_of(2, work=MOST_PHASES, active=1, idle=2)
    assert np.diff(chunk.offset).tolist() == [MOST_PHASES] * 2
    assert chunk.idle.sum() == 4.0 * (MOST_PHASES - 1)
    message = (
        "workload.active: after 65536 active phases a process still lacks 0.25 of its work of 65536.2: choose longer"
    )
    with pytest.raises(InputError, match=message):
        chunk_of(2, work=MOST_PHASES + 0.25, active=1)
    with pytest.raises(InputError, match="lacks 1 of its work of 1: choose longer active phases, or less work"):
        chunk_of(20, work=1, active={"table": [[0, 1e12], [2, 1]]})


def test_means():
    """An exponential clock that starts anew at each phase: the number of idle phases is Poisson, given the work."""
    works, phases, idles, firsts = [], [], [], []
    for replica in range(60):
        chunk = chunk_of(replica=replica)
        numbers = np.diff(chunk.offset)
        works.append(chunk.active.sum() / PROCESSES)
        phases.append(numbers.mean() - 1)
        idles.append(chunk.idle.sum() / PROCESSES)
        firsts.append(chunk.active[chunk.offset[:-1]].mean())
    assert within(works, 6.0)
    assert within(phases, 6.0 / 2.0)
    assert within(idles, 6.0 / 2.0 * 3.0)
    assert within(firsts, 1 / (1 / 6.0 + 1 / 2.0))  # the shorter of work and an active phase


# --- whose random numbers they are -----------------------------------------------------------------------------------


def test_each_law_has_a_stream_of_its_own():
    """What one law draws does not move what the others draw."""
    usual = chunk_of(priority=expon(1.0))
    other = chunk_of(idle=expon(99.0), priority={"dist": "norm"})
    assert np.array_equal(usual.offset, other.offset) and np.array_equal(usual.active, other.active)
    assert other.idle == pytest.approx(usual.idle * 33)
    priority = workload(priority=expon(1.0)).behaviour.priority
    assert np.array_equal(usual.priority, priority.draw(generator_of(3, 0, PRIORITY, 0), PROCESSES))
    assert not chunk_of().priority.any()
    assert (chunk_of(priority=-2.5).priority == -2.5).all()
    assert np.array_equal(chunk_of(active=expon(9.0)).size, usual.size)


def test_chunks_and_replicas_do_not_know_each_other():
    total = 2 * PROCESSES + 30
    source = processes(workload(), total)
    chunks = [source.next_processes() for _ in range(4)]
    assert [len(chunk.size) for chunk in chunks] == [PROCESSES, PROCESSES, 30, 0]
    assert chunks[3].offset.tolist() == [0] and all(len(column) == 0 for column in chunks[3][:3])
    for number, count in ((0, PROCESSES), (1, PROCESSES), (2, 30)):
        assert phases_of(chunks[number]) == rounds_of(workload(), count, chunk=number)
    longer = processes(workload(), total + CHUNK)
    for chunk in chunks[:2]:  # but for the last one, which is as long as what is left
        again = longer.next_processes()
        assert all(np.array_equal(*pair) for pair in zip(chunk[3:], again[3:], strict=True))
    assert not np.array_equal(chunks[0].active[:99], chunk_of(total, replica=1).active[:99])
    assert not np.array_equal(chunks[0].active[:99], chunk_of(total, seed=4).active[:99])


@pytest.mark.parametrize("total", [1, PROCESSES, CHUNK, CHUNK + PROCESSES + 30])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"arrivals": "tick", "batch": {"dist": "geom", "p": 0.5}},
        {"phases": [{"duration": 5, "rate": 3}, {"duration": 2, "rate": 0}]},
        {"sizes": {"mixture": [{"weight": 1, **expon(10.0)}, {"weight": 1, **expon(99.0)}]}},
    ],
)
def test_sizes_arrivals_and_words_are_those_of_requests(total, more):
    asked = workload(**more)
    source = processes(asked, total)
    requests = Requests(workload_of(SIZED | more), asked.rate_in(1 << 20), 3, 0, total)
    chunks = [source.next_processes() for _ in range(-(-total // PROCESSES))]
    sizes = np.concatenate([requests.next_requests()[0] for _ in range(-(-total // CHUNK))])
    assert np.array_equal(np.concatenate([chunk.size for chunk in chunks]), sizes) and sizes.dtype == np.int64
    assert len(sizes) == total
    arrived = [source.next_arrivals() for _ in range(2 + total // CHUNK)]
    for times in arrived:
        assert np.array_equal(times, requests.next_arrivals())
    assert np.array_equal(np.concatenate([chunk.arrival for chunk in chunks]), np.concatenate(arrived)[:total])
    for _ in range(2):
        assert np.array_equal(source.next_words(), requests.next_words())


GOLDEN = {
    "44c8c5b0095b82f0": {},
    "9b4171ec11cb0834": WORKS["a mixture"] | {"priority": {"dist": "norm"}},
    "29517470103a0a5f": WORKS["long tails"],
}


@pytest.mark.parametrize("digest", GOLDEN)
def test_golden_processes(digest):
    """Rounded to a millionth: the last bit of a logarithm is another one on another machine."""
    source = processes(workload(**GOLDEN[digest]), 2 * PROCESSES + 7, seed=11, replica=5)
    hashed = hashlib.sha256()
    for _ in range(3):
        for column in source.next_processes():
            hashed.update((np.rint(column * 1e6) if column.dtype == np.float64 else column).astype(np.int64).tobytes())
    found = hashed.hexdigest()[:16]
    assert found == digest, "processes are drawn in another way: raise PROCESSES_REVISION in workload/requests.py"


def test_golden_streams_of_processes():
    draws = [
        generator_of(1, 3, stream, 5).integers(0, 1 << 64, 9, dtype=np.uint64).tobytes() for stream in range(7, 11)
    ]
    assert hashlib.sha256(b"".join(draws)).hexdigest()[:16] == "9c5f7f229397f097"


# --- what a law must not draw ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, -1.0, -np.inf, np.inf])
@pytest.mark.parametrize("name", ["work", "active", "idle", "priority"])
def test_lengths_that_are_none(name, value):
    fine = workload()
    laws = {each: getattr(fine.behaviour, each) for each in ("work", "active", "idle", "priority")}
    wrong = Workload(fine.sizes, None, fine.arrivals, None, 1.0, Behaviour(**(laws | {name: Wrong(value)})))
    if (name, value) == ("priority", -1.0):
        assert processes(wrong, 10).next_processes().priority.tolist() == [1.0] * 9 + [-1.0]
        return
    what = "priority" if name == "priority" else "length"
    with pytest.raises(InputError, match=f"workload.{name}: the law drew {value}, which is no {what}: choose another"):
        processes(wrong, 10).next_processes()


# --- as people write them --------------------------------------------------------------------------------------------


def test_a_workload_says_whether_it_has_processes():
    asked = workload(priority=2)
    assert asked.processes and asked.lifetimes is None and not asked.waits_only
    assert asked.behaviour.priority.mean() == 2
    assert workload() == workload(priority=None) == workload(priority=0) != asked
    requests = workload_of({"sizes": 1, "lifetimes": 1, "rate": 1, "work": None, "idle": None, "priority": None})
    assert not requests.processes and requests == workload_of({"sizes": 1, "lifetimes": 1, "rate": 1})
    with pytest.raises(InputError, match=r"workload.work is missing: processes need work, active and idle"):
        Processes(requests, 1.0, 1, 0, 10)


def test_what_determines_the_draws():
    """Workloads without processes are written down as before, so that rows keep their ids."""
    requests = workload_of({"sizes": 64, "lifetimes": 1, "rate": 1})
    assert list(requests.canonical()) == ["sizes", "lifetimes", "arrivals", "load", "rate", "revisions"]
    written = workload().canonical()
    assert written["lifetimes"] is None
    assert written["processes"] == {
        "work": {"dist": "expon", "loc": 0.0, "scale": 6.0},
        "active": {"dist": "expon", "loc": 0.0, "scale": 2.0},
        "idle": {"dist": "expon", "loc": 0.0, "scale": 3.0},
        "priority": {"constant": 0.0},
        "revision": 1,
    }
    others = {name: workload(**{name: 7}).canonical() for name in ("work", "active", "idle", "priority")}
    assert all(other != written for other in others.values())


def offered(asked, pool, replicas=60, count=4 * PROCESSES):
    """Bytes x work that arrive, as a share of the pool, for each replica."""
    rate = asked.rate_in(pool)
    for replica in range(replicas):
        source = Processes(asked, rate, 3, replica, count)
        chunks = [source.next_processes() for _ in range(count // PROCESSES)]
        held = sum(chunk.size @ np.add.reduceat(chunk.active, chunk.offset[:-1]) for chunk in chunks)
        yield held / (chunks[-1].arrival[-1] * pool)


def test_a_load_is_what_is_offered():
    """By those that work: how long they idle makes no difference."""
    asked = workload(rate=None, load=0.8)
    assert asked.mean_size_life() == 6.0 * asked.sizes.mean()
    assert asked.rate_in(1 << 20) == 0.8 * (1 << 20) / (6.0 * asked.sizes.mean())
    assert workload(rate=None, load=0.8, idle=expon(500.0)).rate_in(1 << 20) == asked.rate_in(1 << 20)
    assert within(list(offered(asked, 1 << 20)), 0.8)
    assert workload(rate=None, arrivals="tick").rate_in(1 << 20) == 1.0


def test_a_load_of_a_fleet_does_not_look_at_its_lives(tmp_path):
    (tmp_path / "fleet.csv").write_text("16,6,3\n64,3,3\n1000,1,5\n")
    asked = workload_of(SIZED | {"sizes": {"fleet": "fleet.csv"}, "rate": None, "load": 0.5}, folder=tmp_path)
    assert asked.rate_in(1 << 20) == pytest.approx(0.5 * (1 << 20) / (6.0 * (0.6 * 16 + 0.3 * 64 + 0.1 * 1000)))
    assert set(processes(asked).next_processes().size.tolist()) == {16, 64, 1000}


@pytest.mark.parametrize(
    "given, message",
    [
        (
            {"idle": None},
            "workload.idle is missing, but workload.work is {'dist': 'expon', 'scale': 6.0}, and processes",
        ),
        ({"work": None}, "workload.work is missing, but workload.active is {'dist': 'expon', 'scale': 2.0}"),
        ({"active": None}, "need work, active and idle: write a law such as {dist = 'expon', scale = 1.0}"),
        (
            {"lifetimes": 2},
            "workload.lifetimes is 2, but processes (workload.work) leave when their work is done: leave it out",
        ),
        ({"arrivals": "saturated", "rate": None}, "workload.arrivals is 'saturated', but processes (workload.work)"),
        ({"arrivals": "fill-then-free", "rate": None}, "arrive at times of their own: write poisson, tick or a law"),
        (
            {"phases": [{"duration": 1}, {"duration": 2, "lifetimes": "forever"}]},
            "workload.phases.1.lifetimes is 'forever', but processes (workload.work) leave when their work is done",
        ),
        ({"work": {"dist": "norm"}}, "workload.work can draw -inf (norm), but must be at least 0"),
        ({"active": -1}, "workload.active can draw -1"),
        ({"idle": "long"}, "workload.idle is 'long': write a number or a table such as"),
        ({"priority": "high"}, "workload.priority is 'high': write a number or a table such as"),
        ({"active": 0}, "workload.active is 0, so that no work is ever done: choose a law that draws more than 0"),
        ({"active": {"table": [[0, 1]]}}, "workload.active is {'table': [[0, 1]]}, so that no work is ever done"),
        (
            {"work": None, "active": None, "idle": None, "priority": 1},
            "workload.priority is 1, but only processes have",
        ),
        ({"idles": 1}, "workload.idles is not known (did you mean 'idle'?)"),
        ({"rate": None}, "arrivals = 'poisson' need a rate: give load (such as 0.9) or rate"),
        (
            {"rate": None, "load": 0.9, "work": {"dist": "pareto", "b": 0.9}},
            "load is 0.9, but a load needs laws with a finite mean above 0 (sizes 1000.500083333332, work inf)",
        ),
        ({"rate": None, "load": 0.9, "work": 0}, "a load needs laws with a finite mean above 0"),
    ],
)
def test_what_cannot_be_asked_for(given, message):
    with pytest.raises(InputError) as error:
        workload(**given)
    assert message in str(error.value)


def test_processes_cannot_be_sampled():
    with pytest.raises(InputError, match=r"sample.work is \{.*: when processes leave depends on the policy"):
        sample(**SIZED)
