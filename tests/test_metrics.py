"""Every metric and every geometry, of every policy and option, against a book kept by the definitions."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import REFERENCES
from reference.book import Book
from test_compaction import CASES, rules
from test_compaction import reference_of as compacting
from test_policies import every_variant, pool_for
from traces import operations, trace_of

import vecalloc as va
from vecalloc import ledger as c
from vecalloc.kernel import JIT
from vecalloc.ledger import ORDERS, new_ledger
from vecalloc.metrics import METRICS, OF_PROCESSES, Account, failures, geometry, measure
from vecalloc.reclaim.compactor import Compactor
from vecalloc.reclaim.table import Compact, Swap
from vecalloc.simulate import Simulation, Switches
from vecalloc.spec import make_plan
from vecalloc.trace import events_of

OF_BLOCKS = [name for name in METRICS if name not in OF_PROCESSES]


def keep_book(book, ops, times):
    """The book of a run, and its failures' causes."""
    lasts = [1.0] * len(ops) if times is None else [*np.diff(times).tolist(), 0.0]
    allocs = 0
    for op, last in zip(ops, lasts, strict=True):
        if isinstance(op, tuple):
            book.free(op[1], last)
        else:
            book.alloc(allocs, op, last)
            allocs += 1
    return book


def in_bytes(options, granule):
    """Options of a reference, which are in granules, as vecalloc takes them."""
    return {
        key: [granule * size for size in value] if isinstance(value, tuple)
        else value if isinstance(value, str) else granule * value
        for key, value in options.items()
    }  # fmt: skip


def compare(name, options, pool, ops, on_failure, granule=1, header=0, times=None, bins=1, every=1):
    extent_of = lambda size: max(1, -(-(size + header) // granule))  # noqa: E731
    grows = on_failure == "grow"
    policy = REFERENCES[name](pool, grows=grows, **options)
    book = keep_book(Book(policy, pool, extent_of, bins), ops, times)
    trace = trace_of(ops)
    trace = va.Trace(trace.slot, trace.size, times)
    run = va.replay(
        trace, name, pool * granule, granule, on_failure=on_failure, geometry=True, bins=bins, every=every,
        clock="event" if times is None else "time", header=header, **in_bytes(options, granule),
    )  # fmt: skip
    assert run.addresses.tolist() == [a * granule if a >= 0 else -1 for a in book.addresses]
    assert run.failures == book.failures
    expected = book.metrics(granule, grows)
    assert list(run.metrics) == OF_BLOCKS and set(expected) == set(OF_BLOCKS)
    assert run.metrics == pytest.approx(expected, rel=1e-12, abs=1e-12)
    geometry, expected = run.geometry, book.geometry(granule, ORDERS)
    assert set(geometry) == set(expected)
    if name == "static-partition" and grows:
        del expected["exact_fits"]  # whether a unit that is added and used at once was a hole is nobody's question
    for key, value in expected.items():
        assert geometry[key] == pytest.approx(value, rel=1e-12, abs=1e-12), key
    compare_series(run, book, granule, every)


def compare_series(run, book, granule, every):
    looked = [*range(every - 1, len(book.history) - 1, every), len(book.history) - 1]
    moments = [book.history[i] for i in looked]
    assert run.series["event"].tolist() == [i + 1 for i in looked]
    for column, of, unit in [
        ("requested", "requested", 1), ("granted", "granted", granule), ("free", "free", granule),
        ("largest", "largest", granule), ("holes", "holes", 1), ("blocks", "blocks", 1),
        ("high_water_mark", "high", granule),
    ]:  # fmt: skip
        assert run.series[column].tolist() == [unit * moment[of] for moment in moments], column


@pytest.mark.jitless
@every_variant
@given(
    data=st.data(), ops=operations(longest=50), wanted=st.integers(1, 60), on_failure=st.sampled_from(["drop", "grow"])
)
def test_metrics_and_geometry(name, options, data, ops, wanted, on_failure):
    granule = data.draw(st.sampled_from([1, 4]))
    times = None
    if data.draw(st.booleans()):
        times = np.cumsum(data.draw(st.lists(st.sampled_from([0.0, 0.5, 3.25]), min_size=len(ops), max_size=len(ops))))
    compare(
        name, options, pool_for(name, options, wanted), ops, on_failure, granule, data.draw(st.sampled_from([0, 3])),
        times, data.draw(st.integers(1, 5)), data.draw(st.integers(1, 9)),
    )  # fmt: skip


@pytest.mark.jitless
@pytest.mark.parametrize(("label", "how"), [("first-fit", "slide"), ("buddy", "slide")] if JIT else CASES)
@given(data=st.data(), ops=operations(longest=50), wanted=st.integers(1, 60), grows=st.booleans())
def test_metrics_and_geometry_where_blocks_move(label, how, data, ops, wanted, grows):
    pool = 1 << (wanted - 1).bit_length() if label.startswith("buddy") else wanted
    granule = data.draw(st.sampled_from([1, 4])) if "min_split" not in label else 1
    rule = dataclasses.replace(data.draw(rules(how)), bandwidth=data.draw(st.sampled_from([3.0, np.inf])))
    pinned = data.draw(st.sets(st.integers(0, 40)))
    bins = data.draw(st.integers(1, 5))
    times = None
    if not JIT and data.draw(st.booleans()):
        times = np.cumsum(data.draw(st.lists(st.sampled_from([0.0, 0.5, 3.25]), min_size=len(ops), max_size=len(ops))))
    heap = compacting(label, pool, grows, rule, pinned)
    extent_of = lambda size: max(1, -(-size // granule))  # noqa: E731
    book = keep_book(Book(heap.policy, pool, extent_of, bins, heap), ops, times)

    trace = trace_of(ops)
    trace = va.Trace(trace.slot, trace.size, times)
    plan = make_plan(label, pool * granule, granule)
    flags = np.array([n in pinned for n in range(trace.allocs + 1)], np.uint8)
    compactor = Compactor(rule, 1, trace.slots, [lambda count: flags[:count]])
    on_failure = "grow" if grows else "drop"
    simulation = Simulation(plan, 1, trace.slots, on_failure, Switches(True, True, bins), compactor=compactor)
    simulation.step(events_of(trace, granule, timed=times is not None))
    account = Account.of(simulation.ledger, granule, pool, grows, (rule,))
    assert failures(account) == book.failures
    assert measure(account) == pytest.approx(book.metrics(granule, grows, rule.bandwidth), rel=1e-12, abs=1e-12)
    where = geometry(simulation.ledger, 0, granule)
    for key, value in book.geometry(granule, ORDERS).items():
        assert where[key] == pytest.approx(value, rel=1e-12, abs=1e-12), key


@pytest.mark.parametrize("order", ["lowest", "lifo"])
@pytest.mark.parametrize("on_failure", ["drop", "grow"])
def test_buddies_that_merge_many_orders(order, on_failure):
    """Each free merges up to the whole pool, 20 orders: more than any other policy has neighbours."""
    ops = [1, ("free", 0), 1, 1, ("free", 1), ("free", 2), 1 << 20, ("free", 3), (1 << 19) + 1]
    compare("buddy", {"order": order}, 1 << 20, ops, on_failure, bins=7)


def test_a_run_without_metrics_has_no_metrics():
    trace = trace_of([5, 7, ("free", 0), 1000])
    bare, full = va.replay(trace, pool=64, granule=1, metrics=False), va.replay(trace, pool=64, granule=1)
    assert bare.addresses.tolist() == full.addresses.tolist() == [0, 5, -1]
    assert bare.failures == full.failures == {"too-large": 1, "capacity": 0, "fragmentation": 0}
    with pytest.raises(va.InputError, match="metrics=True"):
        _ = bare.metrics
    with pytest.raises(va.InputError, match="geometry=True"):
        _ = full.geometry


def test_a_series_is_metered_even_without_metrics():
    series = va.replay(trace_of([5, 7]), pool=64, granule=1, metrics=False, every=1).series
    assert series["requested"].tolist() == [5, 12] and series["high_water_mark"].tolist() == [5, 12]


def test_causes_are_those_of_the_remedies_that_are_set():
    """Whether or not anything has failed by them."""
    plain = ["too-large", "capacity", "fragmentation"]
    for remedies, more in [
        ((), []),
        ((Compact(),), ["budget"]),
        ((Swap(),), ["swap-space"]),
        ((Swap(), Compact()), ["budget", "swap-space"]),
    ]:
        assert list(failures(Account.of(new_ledger(1, 0), 1, 8, False, remedies))) == plain + more


def test_of_nothing_every_metric_is_zero():
    assert measure(Account.of(new_ledger(3, 0), 1, 8, False)) == dict.fromkeys(OF_BLOCKS, 0.0)


def test_no_more_are_delayed_than_there_are_requests():
    """A replica that ends as unstable leaves one in line that is delayed, and neither placed nor dropped."""
    account = Account.of(new_ledger(2, 0), 1, 8, False)
    account.counts[:, c.ALLOCS] = 5, 9
    account.counts[:, c.DELAYED + 1] = 6, 7
    part, whole = METRICS["delayed_ratio"](account)
    assert (part.tolist(), whole.tolist()) == ([5, 7], [5, 9])
