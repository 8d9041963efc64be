"""Remedies as people write them: the same in a text, in Python and in a file; and what does not go together."""

import pickle
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecalloc.errors import InputError
from vecalloc.experiment import experiment_of
from vecalloc.policies.table import POLICIES
from vecalloc.reclaim.table import HOWS, REMEDIES, VICTIMS, Compact, Swap
from vecalloc.rows import rows_of
from vecalloc.spec import (
    check_reclaim,
    checked_remedy_option,
    contradictions_of,
    label_of_reclaim,
    make_plan,
    parse_duration,
    parse_rate,
    parse_reclaim,
)

pytestmark = pytest.mark.jitless


def complaint(function, *arguments, **keywords):
    """The one line that a refusal says."""
    with pytest.raises(InputError) as caught:
        function(*arguments, **keywords)
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- times and rates ---


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (0, 0.0), (3, 3.0), (0.008, 0.008), (np.float32(0.5), 0.5), ("0.008", 0.008), ("8 ms", 0.008), ("8ms", 0.008),
        (" 10 us ", 1e-5), ("10 \u00b5s", 1e-5), ("10\u03bcs", 1e-5), ("1.5s", 1.5), ("3 ns", 3e-9), ("1e-05", 1e-5),
        ("2E+3 ms", 2.0), ("0 ms", 0.0),
    ],
)  # fmt: skip
def test_durations(text, seconds):
    assert parse_duration(text) == seconds
    assert type(parse_duration(text)) is float


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("8 mss", "(did you mean 'ms'?)"), ("8 MS", "(did you mean 'ms'?)"), ("8 minutes", "'8 minutes'"),
        ("ms", "'ms'"), ("", "''"), ("-8 ms", "'-8 ms'"), ("inf", "'inf'"), ("8 ms/s", "'8 ms/s'"), ("0x8", "'0x8'"),
        ("1e999", "too large"), (10**400, "write seconds"), (-0.1, "is -0.1"), (float("inf"), "is inf"),
        (float("nan"), "is nan"), (True, "is True"), (None, "is None"), ([8], "is [8]"), ("9" * 5000, "999"),
    ],
)  # fmt: skip
def test_bad_durations(text, part):
    said = complaint(parse_duration, text, "latency")
    assert said.startswith("latency is ") and part in said and len(said) < 200
    assert "write seconds from 0 up, or a number with a unit such as 8 ms" in said


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        (1, 1.0), (1e9, 1e9), ("40 MB/s", 4e7), ("40MB", 4e7), ("1GiB/s", 2.0**30), ("1.5 kB / s", 1500.0),
        ("7", 7.0), ("7/s", 7.0), ("1e+16", 1e16), ("inf", float("inf")), (float("inf"), float("inf")),
        ("0.5 B/s", 0.5),
    ],
)  # fmt: skip
def test_rates(text, rate):
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("40 mb/s", "(did you mean 'MB'?)"), ("40 MB/m", "'40 MB/m'"), ("0", "is '0'"), (0, "is 0"), (-1, "is -1"),
        ("infinite", "'infinite'"), (float("nan"), "is nan"), (False, "is False"), (None, "is None"),
        ("1e999 TB", "too large"), ({}, "is {}"),
    ],
)  # fmt: skip
def test_bad_rates(text, part):
    said = complaint(parse_rate, text)
    assert said.startswith("rate is ") and part in said
    assert "write bytes a second above 0, such as 40 MB/s or 1GiB/s, or inf" in said


# --- remedies ---

LABELS = [
    (None, "none"),
    (" none ", "none"),
    ("compact", "compact"),
    ("  compact[] ", "compact"),
    ("compact[how=slide,when=failure,budget=none,pinned=0,bandwidth=10 GB/s]", "compact"),
    ("compact[how=first-window,budget=4,pinned=0.1,bandwidth=10GiB]",
     "compact[bandwidth=10737418240,budget=4,how=first-window,pinned=0.1]"),
    ("compact[when={every=10000}]", "compact[when={every=10000}]"),
    ("compact[ when = { external_fragmentation = 0.50 } , how = two-finger ]",
     "compact[how=two-finger,when={external_fragmentation=0.5}]"),
    ("swap[victim=lru,latency=8ms,bandwidth=40MB,relocate=true,load=false,swap_space=none]", "swap"),
    ("swap[victim=random,latency=10us,bandwidth=inf,swap_space=1GiB,relocate=false,load=true]",
     "swap[bandwidth=inf,latency=1e-05,load=true,relocate=false,swap_space=1073741824,victim=random]"),
    ("swap[latency=0]", "swap[latency=0]"),
    ("swap[bandwidth=1e22] + compact", "swap[bandwidth=1e+22]+compact"),
    (["compact[how=slide]", "swap[victim=largest-idle]"], "compact+swap[victim=largest-idle]"),
    (("swap", {"kind": "compact", "budget": 2}), "swap+compact[budget=2]"),
    ({"kind": "compact", "when": "failure", "bandwidth": "10 GB/s", "budget": 4.5}, "compact[budget=4.5]"),
    ({"kind": "compact", "when": {"every": np.int64(7)}, "how": "two-finger"},
     "compact[how=two-finger,when={every=7}]"),
    ({"kind": "compact", "when": {"external_fragmentation": 0.25}}, "compact[when={external_fragmentation=0.25}]"),
    ({"kind": "swap", "disk": {"latency": "8 ms", "bandwidth": "41 MB/s"}, "swap_space": "1MiB"},
     "swap[bandwidth=41000000,swap_space=1048576]"),
    ({"kind": "swap", "disk": {}, "relocate": False}, "swap[relocate=false]"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "canonical"), LABELS)
def test_labels(value, canonical):
    remedies = parse_reclaim(value)
    assert label_of_reclaim(remedies) == canonical
    assert parse_reclaim(canonical) == remedies
    assert pickle.loads(pickle.dumps(remedies)) == remedies


def test_what_they_come_to():
    assert parse_reclaim("compact") == (Compact("slide", "failure", None, None, None, 0.0, 10e9),)
    assert parse_reclaim("swap") == (Swap("lru", 0.008, 40e6, None, True, False),)
    (compact,) = parse_reclaim("compact[when={every=3},budget=4]")
    assert (compact.when, compact.every, compact.external_fragmentation) == ("every", 3, None)
    assert (type(compact.every), type(compact.budget)) == (int, float)
    (compact,) = parse_reclaim("compact[when={external_fragmentation=0.5},pinned=0]")
    assert (compact.when, compact.every, compact.external_fragmentation) == ("external_fragmentation", None, 0.5)
    assert [type(compact.pinned), type(compact.external_fragmentation)] == [float, float]
    assert [remedy.kind for remedy in parse_reclaim("swap+compact")] == ["swap", "compact"]
    with pytest.raises(FrozenInstanceError):
        compact.how = "slide"


SHARES = st.floats(0, 1, exclude_max=True)
COMPACTS = st.builds(
    lambda when, **options: Compact(**when, **options),
    how=st.sampled_from(HOWS),
    when=st.one_of(
        st.just({"when": "failure"}),
        st.builds(lambda n: {"when": "every", "every": n}, st.integers(1, 1 << 61)),
        st.builds(
            lambda x: {"when": "external_fragmentation", "external_fragmentation": x},
            st.floats(0, 1, exclude_min=True, exclude_max=True),
        ),
    ),
    budget=st.none() | st.floats(1, 1e300, exclude_min=True),
    pinned=SHARES,
    bandwidth=st.floats(0, exclude_min=True),
)  # fmt: skip
SWAPS = st.builds(
    Swap,
    victim=st.sampled_from(VICTIMS),
    latency=st.floats(0, 1e300),
    bandwidth=st.floats(0, exclude_min=True),
    swap_space=st.none() | st.integers(0, 1 << 61),
    relocate=st.booleans(),
    load=st.booleans(),
)


@given(st.lists(COMPACTS, max_size=1), st.lists(SWAPS, max_size=1), st.booleans())
def test_a_label_gives_the_same_again(compacts, swaps, swap_first):
    remedies = (*swaps, *compacts) if swap_first else (*compacts, *swaps)
    assert parse_reclaim(label_of_reclaim(remedies)) == remedies


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("compct", ["'compct' is not known", "did you mean 'compact'?", "one of compact, swap"]),
        ("", ["reclaim is ''", 'write "none"']),
        ([], ["reclaim is []", 'write "none"']),
        (3, ["reclaim is 3", "a table with its kind"]),
        (True, ["reclaim is True"]),
        ([["compact"]], ["reclaim is ['compact']"]),
        ("compact,swap", ["'compact,swap' is not known", "+ joins several"]),
        ("compact+swap+compact", ["reclaim has compact twice: write each remedy once"]),
        (["swap", {"kind": "swap"}], ["reclaim has swap twice"]),
        ("compact+none", ["'none' among remedies: write it alone"]),
        (["none"], ["'none' among remedies: write it alone"]),
        ("compact[how=slide", ["no closing bracket", "compact[key=value,...]"]),
        ("compact[how]", ["'how' of compact has no value", "how=value"]),
        ("compact[how=slide,how=slide]", ["'how' of compact is given twice"]),
        ("compact[hw=slide]", ["compact has no option 'hw'", "did you mean 'how'?", "how, when, budget, pinned"]),
        ("compact[how=slid]", ["option 'how' of compact is 'slid'", "did you mean 'slide'?", "one of slide,"]),
        ("compact[how=[slide]]", ["one of slide, first-window, two-finger"]),
        ("compact[when=fail]", ["'fail'", "did you mean 'failure'?", "{every = 1000}"]),
        ("compact[when=every]", ["'every'", "{every = 1000}"]),
        ("compact[when={evry=3}]", ["{'evry': 3}", "did you mean 'every'?"]),
        ("compact[when={}]", ["{}", "{every = 1000}"]),
        ("compact[when={every=1,every=2}]", ["'{every=1,every=2}'"]),
        ("compact[when={every=1,external_fragmentation=0.5}]", ["write failure, {every = 1000} or"]),
        ("compact[when={every=0}]", ["every, in option 'when' of compact, is 0", "from 1"]),
        ("compact[when={every=1.5}]", ["is 1.5: write a whole number of events"]),
        ("compact[when={every=many}]", ["is 'many': write a whole number"]),
        ("compact[when={every=0x" + "f" * 9999 + "}]", ["thousands of digits"]),
        ("compact[when={external_fragmentation=0}]", ["is 0: write a number between 0 and 1"]),
        ("compact[when={external_fragmentation=1}]", ["is 1: write a number between 0 and 1"]),
        ("compact[when={external_fragmentation=1.1}]", ["is 1.1: write a number between 0 and 1"]),
        ("compact[budget=1]", ["option 'budget' of compact is 1: write a number above 1, or none"]),
        ("compact[budget=inf]", ["is inf: write a number above 1"]),
        ("compact[budget=four]", ["is 'four': write a number above 1"]),
        ("compact[pinned=1]", ["option 'pinned' of compact is 1: write a share from 0 up and below 1"]),
        ("compact[pinned=-0.1]", ["is -0.1: write a share"]),
        ("compact[bandwidth=0]", ["option 'bandwidth' of compact is 0: write bytes a second above 0"]),
        ("swap[victim=lur]", ["option 'victim' of swap is 'lur'", "did you mean 'lru'?", "smallest-sufficient"]),
        ("swap[latency=8 minutes]", ["option 'latency' of swap is '8 minutes'", "8 ms"]),
        ("swap[bandwidth=40MB/m]", ["option 'bandwidth' of swap is '40MB/m'"]),
        ("swap[swap_space=-1]", ["option 'swap_space' of swap is -1: it cannot be negative"]),
        ("swap[swap_space=0x" + "f" * 9999 + "]", ["thousands of digits", "or none"]),
        ("swap[relocate=yes]", ["option 'relocate' of swap is 'yes': write true or false"]),
        ("swap[load=1]", ["option 'load' of swap is 1: write true or false"]),
        ("swap[disk={latency=8ms}]", ["swap has no option 'disk'", "latency, bandwidth"]),
        ({}, ["kind of reclaim is None: one of compact, swap"]),
        ({"kind": "swp"}, ["kind of reclaim is 'swp'", "did you mean 'swap'?"]),
        ({"kind": 3}, ["kind of reclaim is 3"]),
        ({"kind": "swap", "latency": 3}, ["no option 'latency' beside the others: write disk = {latency = ...}"]),
        ({"kind": "swap", "disk": 3}, ["option 'disk' of swap is 3: write a table with latency and bandwidth"]),
        ({"kind": "swap", "disk": {"lat": 3}}, ["disk of swap has no option 'lat'", "its options are latency, band"]),
        ({"kind": "swap", "victm": "lru"}, ["did you mean 'victim'?", "victim, disk, swap_space, relocate, load"]),
        ({"kind": "compact", 3: 4}, ["compact has no option 3"]),
    ],
)  # fmt: skip
def test_bad_remedies(value, parts):
    said = complaint(parse_reclaim, value)
    for part in parts:
        assert part in said, said
    assert len(said) < 300


# --- what does not go together ---


def refusals(reclaim, policy="best-fit", on_failure=None, pool="64KiB", **more):
    plan = make_plan(policy, pool) if policy else None
    return [f"{k} is {v}: {why}" for k, v, why in contradictions_of(parse_reclaim(reclaim), plan, on_failure, **more)]


@pytest.mark.parametrize("policy", list(POLICIES))
@pytest.mark.parametrize("how", HOWS)
def test_which_policies_compact_how(policy, how):
    said = refusals(f"compact[how={how}]", policy)
    if policy == "static-partition":
        (text,) = said
        assert "units of static-partition cannot move: leave compaction out" in text
    elif policy == "buddy" and how != "slide":
        (text,) = said
        assert text.startswith(f"reclaim is compact[how={how}]: how = {how}, but blocks of buddy only slide: write")
    else:
        assert said == []


def test_all_is_right_without_remedies():
    for policy in POLICIES:
        assert refusals("none", policy) == []
        assert refusals("none", policy, "drop") == []
    for on_failure in ("drop", "wait", "grow", "stop", None):
        assert refusals("compact[when={every=3},budget=2,pinned=0.5]", "next-fit", on_failure) == []
        check_reclaim(parse_reclaim("compact"), make_plan("buddy[order=lifo]", 1024), on_failure)
    assert (
        refusals("swap+compact", processes=True) == refusals("swap", "static-partition", "wait", processes=True) == []
    )


@pytest.mark.parametrize("when", ["{every=3}", "{external_fragmentation=0.5}"])
def test_a_first_window_is_for_a_request(when):
    (said,) = refusals(f"compact[how=first-window,when={when}]", policy=None)
    assert f"when = {when}, but first-window looks for the room that a request needs: write when = failure" in said


@pytest.mark.parametrize("when", ["{every=3}", "{external_fragmentation=0.5}"])
def test_processes_are_compacted_on_failure_only(when):
    text = f"when = {when}, but processes are moved only when there is no room for one: write when = failure"
    for reclaim in (f"compact[when={when}]+swap", f"compact[when={when}]"):
        (said,) = refusals(reclaim, processes=True)
        assert said == f"reclaim is {reclaim}: {text}"


def test_only_processes_are_swapped_and_they_wait():
    (said,) = refusals("swap")
    assert said.startswith("reclaim is swap: only processes are swapped, and there are none: write an experiment")
    for on_failure in ("drop", "grow", "stop"):
        told = f"on_failure is {on_failure}: processes wait for room: leave it out, or write wait"
        assert refusals("swap", on_failure=on_failure, processes=True) == [told]
        assert refusals("none", on_failure=on_failure, processes=True) == [told]
        assert refusals("swap", on_failure=on_failure)[1:] == [told]
    assert refusals("swap", on_failure="wait", processes=True) == []


def test_a_process_that_must_return_to_its_place_cannot_be_moved():
    for reclaim in ("compact+swap[relocate=false]", "swap[relocate=false]+compact"):
        (said,) = refusals(reclaim, processes=True)
        assert said.startswith(f"reclaim is {reclaim}: relocate = false, but compaction moves processes: write")
    assert refusals("swap[relocate=false]", processes=True) == []


def test_the_largest_process_can_be_swapped():
    def refused(space, largest=None, policy="best-fit"):
        return refusals(f"swap[swap_space={space}]", policy, processes=True, largest=largest)

    assert refused("64KiB") == refused("4KiB", 4096) == refused("1MiB", 1 << 30) == refused("1", None, None) == []
    (said,) = refused("32KiB")
    assert "swap_space = 32768 bytes, but a process may have 65536" in said and "write at least 65536" in said
    (said,) = refused("4KiB", 4097)
    assert "a process may have 4097, and could never be swapped" in said
    (said,) = refused("0", 1, None)
    assert "swap_space = 0 bytes" in said


def test_everything_is_found_and_the_first_is_said():
    remedies = parse_reclaim("compact[how=two-finger,when={every=2}]+swap[relocate=false,swap_space=1]")
    plan = make_plan("buddy", 1024)
    found = list(contradictions_of(remedies, plan, "drop"))
    assert [each.key for each in found] == ["reclaim"] * 5 + ["on_failure"]
    assert complaint(check_reclaim, remedies, plan, "drop") == f"reclaim is {found[0].value}: {found[0].why}"


# --- ids of rows ---


def test_an_id_covers_the_remedies_and_their_revisions(monkeypatch):
    text = """
    question = "Does it matter?"
    pool = {size = "64KiB"}
    workload = {sizes = 16, lifetimes = 1, load = 0.9}
    policy = {use = "best-fit"}
    [sweep]
    grid = {"policy.reclaim" = ["none", "compact", {kind = "compact", how = "slide"}, "compact[how=two-finger]"]}
    """

    def ids():
        return [row.sample.id for row in rows_of(experiment_of(text, "x", "."))]

    plain, compact, same, other = before = ids()
    assert len({plain, compact, other}) == 3 and same == compact
    bare = text[: text.index("[sweep]")]
    assert [row.sample.id for row in rows_of(experiment_of(bare, "x", "."))] == [plain]
    monkeypatch.setitem(REMEDIES, "compact", replace(REMEDIES["compact"], revision=1000))
    assert ids()[0] == plain and not set(ids()[1:]) & set(before)


# --- the table ---


def test_the_table_says_what_the_defaults_are():
    for name, kind in REMEDIES.items():
        assert name == kind.name == kind.filled_in.kind
        assert kind.revision >= 1 and kind.meaning
        plain = kind.filled_in()
        for option in kind.options:
            assert option.meaning
            for attribute, value in checked_remedy_option(option, option.default, option.name).items():
                assert getattr(plain, attribute) == value
        named = {option.name for option in kind.options} | {"every", "external_fragmentation"}
        assert {field.name for field in fields(plain)} <= named
