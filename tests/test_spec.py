"""Policies, sizes and pools as people write them: what is understood, and the sentence that says what is not."""

import tracemalloc

import numpy as np
import pytest

import vecalloc as va
from vecalloc.errors import InputError
from vecalloc.policies.table import POLICIES
from vecalloc.spec import checked_granule, label_of, make_plan, parse_policy, parse_size, policies_of, split_list

pytestmark = pytest.mark.jitless


def label(text, **keywords):
    return label_of(*parse_policy(text, keywords))


def complaint(function, *arguments, **keywords):
    """The one line that a refusal says."""
    with pytest.raises(InputError) as caught:
        function(*arguments, **keywords)
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- the grammar of policies ---


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("first-fit", "first-fit"),
        ("  first-fit ", "first-fit"),
        ("first-fit[]", "first-fit"),
        ("best-fit[ties=lifo]", "best-fit[ties=lifo]"),
        ('best-fit[ties="lifo"]', "best-fit[ties=lifo]"),
        ("best-fit[ties=lowest,carve=low,header=0]", "best-fit"),
        ("best-fit[ ties = lifo , header = 8 ]", "best-fit[header=8,ties=lifo]"),
        ("best-fit[ties=lifo,min_split=64,header=8]", "best-fit[header=8,min_split=64,ties=lifo]"),
        ("first-fit[min_split=4KiB]", "first-fit[min_split=4096]"),
        ("static-partition[unit=0x40]", "static-partition[unit=64]"),
        ("static-partition[units=[4KiB, 1MiB],order=lifo]", "static-partition[order=lifo,units=[4096,1048576]]"),
    ],
)  # fmt: skip
def test_labels(text, canonical):
    assert label(text) == canonical
    assert label(canonical) == canonical


def test_options_by_keyword():
    assert label("best-fit", ties="lifo", header=8) == "best-fit[header=8,ties=lifo]"
    assert label("best-fit[header=8]", ties="lifo") == "best-fit[header=8,ties=lifo]"
    assert label("first-fit", header=np.int64(8)) == "first-fit[header=8]"
    for units in ([64, "1KiB"], (64, 1024), np.array([64, 1024])):
        assert label("static-partition", units=units) == "static-partition[units=[64,1024]]"


def test_every_option_has_its_default():
    policy, options = parse_policy("best-fit")
    assert policy is POLICIES["best-fit"]
    assert options == {"header": 0, "alignment": 1, "min_split": 1, "carve": "low", "ties": "lowest"}


def test_commas_split_outside_brackets_only():
    assert split_list("a[b=[c,d],e=f], g ,,h") == ["a[b=[c,d],e=f]", "g", "h"]
    assert policies_of("first-fit,best-fit[ties=lifo,header=8]") == ["first-fit", "best-fit[ties=lifo,header=8]"]
    assert policies_of("buddy,buddy") == ["buddy"]
    assert policies_of("all") == list(POLICIES)
    assert policies_of("buddy[order=lifo],all") == ["buddy[order=lifo]", *POLICIES]
    assert "no policy is named" in complaint(policies_of, " , ")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("frist-fit", ["'frist-fit' is not known", "did you mean 'first-fit'?", "one of static-partition, first-fit"]),
        ("", ["policy '' is not known"]),
        ("best-fit[ties=lifo", ["no closing bracket", "best-fit[key=value,...]"]),
        ("best-fit[ties=lifo]]", ["'lifo]'", "did you mean 'lifo'?"]),
        ("best-fit[ties]", ["'ties' of best-fit has no value", "ties=value"]),
        ("best-fit[tie=lifo]", ["best-fit has no option 'tie'", "did you mean 'ties'?", "header, alignment"]),
        ("first-fit[ties=lifo]", ["first-fit has no option 'ties'"]),
        ("best-fit[ties=lif]", ["option 'ties' of best-fit is 'lif'", "did you mean 'lifo'?", "one of lowest, lifo"]),
        ("best-fit[ties=[lifo]]", ["one of lowest, lifo"]),
        ("best-fit[ties=1]", ["one of lowest, lifo"]),
        ("best-fit[header=8,header=8]", ["option 'header' of best-fit is given twice"]),
        ("best-fit[header=-8]", ["option 'header' of best-fit is -8", "cannot be negative"]),
        ("best-fit[header=1.5]", ["option 'header' of best-fit is 1.5", "whole number of bytes"]),
        ("best-fit[header=true]", ["option 'header' of best-fit is True"]),
        ("best-fit[header=]", ["option 'header' of best-fit is ''"]),
        ("best-fit[header=[8]]", ["option 'header' of best-fit is [8]"]),
        ("best-fit[header=9223372036854775807]", ["write at most"]),
        ("best-fit[alignment=24]", ["option 'alignment' of best-fit is 24", "power of two"]),
        ("best-fit[alignment=0]", ["power of two"]),
        ("static-partition[units=64]", ["option 'units' of static-partition is 64", "[4KiB,64KiB]"]),
        ("static-partition[units=[]]", ["write a list of sizes"]),
        ("static-partition[units=[64,[64]]]", ["'[64]'", "write bytes"]),
        ("first-fit[header=1\nmin_split=3]", ["'1\\nmin_split=3'", "write bytes"]),
        ("first-fit[header=64#8]", ["'64#8'", "write bytes"]),
        ("first-fit[header=" + "9" * 5000 + "]", ["write bytes"]),
        ("static-partition[units=" + "[" * 3000 + "]" * 3000 + "]", ["write bytes"]),
        (None, ["policy is None"]),
        ("static-partition[units=[64,-64]]", ["cannot be negative"]),
    ],
)  # fmt: skip
def test_bad_policies(text, parts):
    said = complaint(parse_policy, text)
    for part in parts:
        assert part in said


def test_an_option_in_brackets_and_by_keyword():
    said = complaint(parse_policy, "best-fit[header=8]", {"header": 8})
    assert "'header' of best-fit is given twice, in brackets and by keyword" in said


def test_bad_keywords():
    for value in (np.array(["lifo", "lowest"]), ["lifo"], None):
        assert "one of lowest, lifo" in complaint(parse_policy, "best-fit", {"ties": value})
    assert "write a list of sizes" in complaint(parse_policy, "static-partition", {"units": np.array(64)})
    assert "did you mean 'alignment'?" in complaint(parse_policy, "best-fit", {"aligment": 8})


# --- sizes ---


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (4096, 4096), (np.int32(7), 7), (np.uint64(7), 7), ("4096", 4096), ("4096B", 4096), (" 4 KiB ", 4096),
        ("4kB", 4000), ("1.5MiB", 3 << 19), ("0.5kB", 500), ("2GiB", 1 << 31), ("1TiB", 1 << 40), ("3MB", 3_000_000),
        ("1GB", 10**9), ("1TB", 10**12), ("0", 0),
    ],
)  # fmt: skip
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("4kiB", "'4kiB'"), ("4iB", "did you mean"), ("4Mib", "did you mean 'MiB'?"),
        ("4KB", "'4KB'"), ("four", "'four'"), ("", "''"), ("-4KiB", "'-4KiB'"),
        ("1e3", "'1e3'"), ("1.KiB", "'1.KiB'"), ("0.3KiB", "no whole number of bytes"), ("1.5", "no whole number"),
        (1.5, "size is 1.5"), (16.0, "size is 16.0"), (True, "size is True"), (None, "size is None"),
        (-1, "size is -1: it cannot be negative"),
    ],
)  # fmt: skip
def test_bad_sizes(text, part):
    assert part in complaint(parse_size, text)


def test_granules():
    assert checked_granule("4KiB") == 4096
    assert checked_granule(1) == 1
    for granule in (0, 3, "24", "12KiB"):
        assert "granule is" in complaint(checked_granule, granule)
        assert "power of two" in complaint(make_plan, "first-fit", 1024, granule)


# --- pools ---


def test_a_pool_is_a_multiple_of_the_granule():
    plan = make_plan("first-fit", "1.5MiB", 64)
    assert (plan.granules, plan.pool, plan.granule) == (24576, 3 << 19, 64)
    said = complaint(make_plan, "first-fit", 1001)
    assert said == "pool is 1001 bytes, not a positive multiple of the granule 16: 1008 is"
    assert complaint(make_plan, "first-fit", 0).endswith("16: 16 is")
    assert "cannot be negative" in complaint(make_plan, "first-fit", -16)


def test_a_buddy_pool_is_a_power_of_two():
    assert make_plan("buddy", 16).granules == 1
    assert make_plan("buddy", "1MiB", 64).granules == 1 << 14
    assert "the next is 1048576" in complaint(make_plan, "buddy", 1_000_000, 64)
    assert "the next is 128" in complaint(make_plan, "buddy", 16 * 5)
    assert "the next is 8 " in complaint(make_plan, "buddy", 7, 1) + " "


@pytest.mark.parametrize(
    ("policy", "pool", "load", "granules"),
    [
        ("first-fit", "1x", 100, 100),
        ("first-fit", "0.9x", 100, 90),
        ("first-fit", "0.9x", 101, 91),  # 90.9
        ("first-fit", " 1.1x ", 10, 11),  # exactly, not 11.000000000000002
        ("first-fit", "0.001x", 10, 1),
        ("first-fit", "1x", 0, 1),
        ("buddy", "0.9x", 100, 128),
        ("buddy", "0.64x", 100, 64),
        ("first-fit[alignment=64]", "0.9x", 100, 92),  # a multiple of 4 granules
    ],
)
def test_relative_pools_round_up_to_what_the_policy_accepts(policy, pool, load, granules):
    assert make_plan(policy, pool, 16, load=load).granules == granules


@pytest.mark.parametrize("pool", ["x", "nanx", "infx", "1/0x", "0x", "-1x", "fourx"])
def test_bad_factors(pool):
    assert repr(pool) in complaint(make_plan, "first-fit", pool, load=100)


def test_a_factor_needs_a_trace():
    assert "there is no trace here" in complaint(make_plan, "first-fit", "0.9x")


def test_largest_pools():
    assert make_plan("first-fit", 1 << 32, 1).granules == 1 << 32
    assert make_plan("buddy[order=lifo]", 1 << 30, 1).granules == 1 << 30


@pytest.mark.parametrize(
    ("policy", "pool", "most", "granule"),
    [
        ("first-fit", (1 << 32) + 1, "4,294,967,296", 2),
        ("next-fit", 1 << 34, "4,294,967,296", 4),
        ("buddy", 1 << 33, "4,294,967,296", 2),
        ("best-fit[ties=lifo]", (1 << 30) + 1, "1,073,741,824", 2),
        ("buddy[order=lifo]", 1 << 31, "1,073,741,824", 2),
        ("static-partition[order=lifo]", 1 << 32, "1,073,741,824", 4),
        ("worst-fit", 1 << 2000, "4,294,967,296", 1 << 1968),
    ],
)  # fmt: skip
def test_pools_beyond_what_a_policy_can_address_take_no_memory(policy, pool, most, granule):
    tracemalloc.start()
    said = complaint(va.Pool, pool, policy, granule=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert f"more than the {most} that {policy} can address" in said
    assert said.endswith(f"choose a granule of at least {granule}")
    assert peak < 4 << 20
    if granule < 16:
        make_plan(policy, -(-pool // granule) * granule, granule)


def test_carving_the_high_end_needs_a_pool_that_is_aligned():
    assert make_plan("first-fit[carve=high,alignment=64]", 640).rules.carve_high
    assert "multiples of 64" in complaint(make_plan, "first-fit[carve=high,alignment=64]", 656)


def test_min_split_in_granules():
    granules = [make_plan(f"first-fit[min_split={b}]", 1024, 16).rules.min_split for b in (0, 1, 16, 17, 32, 33)]
    assert granules == [1, 1, 1, 2, 2, 3]


# --- static partitions ---


def test_units():
    def unit(policy, pool, granule=16):
        return make_plan(policy, pool, granule).rules.unit

    assert unit("static-partition", 64 * 1024) == 64  # a 64th of the pool
    assert unit("static-partition", 512) == 1  # at least a granule
    assert unit("static-partition", 48, 1) == 1
    assert unit("static-partition[alignment=64]", 1024) == 4
    assert unit("static-partition[unit=1KiB]", 64 * 1024) == 64
    rules = make_plan("static-partition[units=[64,32,16]]", 112).rules
    assert (rules.unit, rules.units) == (0, (4, 2, 1))


@pytest.mark.parametrize(
    ("policy", "part"),
    [
        ("static-partition[unit=64,units=[64]]", "not both"),
        ("static-partition[unit=24]", "a unit of 24 bytes is no positive multiple of 16"),
        ("static-partition[unit=0]", "no positive multiple"),
        ("static-partition[units=[64,0]]", "no positive multiple"),
        ("static-partition[units=[64,40]]", "a unit of 40 bytes"),
        ("static-partition[alignment=64,unit=96]", "no positive multiple of 64"),
        ("static-partition[unit=2KiB]", "a unit of 2048 bytes is larger than the pool of 1024"),
        ("static-partition[units=[512,512,16]]", "the units add up to 1040 bytes, more than the pool of 1024"),
    ],
)
def test_bad_units(policy, part):
    assert part in complaint(make_plan, policy, 1024)
