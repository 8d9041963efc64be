"""Every metric and every geometry, of every policy and option, against a book kept by the definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import REFERENCES
from reference.book import Book
from test_policies import every_variant, pool_for
from traces import operations, trace_of

import vecalloc as va
from vecalloc.ledger import ORDERS
from vecalloc.metrics import METRICS


def keep_book(name, options, pool, ops, grows, extent_of, times, bins):
    """The book of a run, and its failures' causes."""
    policy = REFERENCES[name](pool, grows=grows, **options)
    book = Book(policy, pool, extent_of, bins)
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
    book = keep_book(name, options, pool, ops, grows, extent_of, times, bins)
    trace = trace_of(ops)
    trace = va.Trace(trace.slot, trace.size, times)
    run = va.replay(
        trace, name, pool * granule, granule, on_failure=on_failure, geometry=True, bins=bins, every=every,
        clock="event" if times is None else "time", header=header, **in_bytes(options, granule),
    )  # fmt: skip
    assert run.addresses.tolist() == [a * granule if a >= 0 else -1 for a in book.addresses]
    assert run.failures == book.failures
    expected = book.metrics(granule, grows)
    assert list(run.metrics) == list(METRICS) and set(expected) == set(METRICS)
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
