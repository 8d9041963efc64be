"""The command line as a person meets it: what it prints, how it complains, and with which exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import vecalloc
from vecalloc.policies.table import POLICIES
from vecalloc.reclaim.table import REMEDIES

ROOT = Path(__file__).parents[1]
SQLITE = "experiments/traces/sqlite3.npz"


def vecalloc_(*arguments, **options):
    """Run `python -m vecalloc` in a process of its own."""
    command = [sys.executable, "-m", "vecalloc", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, **options)


def table(*arguments):
    done = vecalloc_(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.fixture
def small(tmp_path):
    """A trace of three allocs and two frees: 100 and 40 bytes, then 200."""
    path = tmp_path / "small.npz"
    np.savez_compressed(
        path,
        op=np.array([0, 0, 1, 0, 1], np.int8),
        id=np.array([0, 1, 0, 2, 1], np.int32),
        size=np.array([100, 40, 0, 200, 0], np.int64),
    )
    return path


def test_one_row_for_every_policy_and_pool():
    policies = ["first-fit", "best-fit[header=8,ties=lifo]", "buddy"]
    lines = table("replay", SQLITE, "--policy", ",".join(policies), "--pool", "4MiB,1x")
    assert lines[0].startswith("sqlite3.npz: 686,539 events, 343,277 allocs, at most 1,124 live")
    assert lines[1].split()[:3] == ["policy", "pool", "failed"]
    assert [line.split()[0] for line in lines[2:]] == policies * 2
    assert [line.split()[1] for line in lines[2:5]] == ["4,194,304"] * 3
    assert lines[5].split()[1] == "2,115,344"  # the peak load
    assert lines[-1].split()[1] == "4,194,304"  # rounded up to a power of two
    assert [line.split()[2] for line in lines[2:5]] == ["0"] * 3


@pytest.mark.jitless
def test_json(small):
    done = vecalloc_("replay", small, "--policy", "first-fit,buddy", "--pool", "256", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["trace"], told["events"]) == (str(small), 5)
    first, buddy = told["rows"]
    assert (first["policy"], first["pool"], first["allocs"], first["frees"]) == ("first-fit", 256, 3, 2)
    # 100 -> [0, 112), 40 -> [112, 160), then 200 finds 112 + 96 free, but not in one hole
    assert first["failures"] == {"too-large": 0, "capacity": 0, "fragmentation": 1}
    # 100 -> [0, 128), 40 -> [128, 192), then 200 -> 256 granted, of 192 free
    assert buddy["failures"] == {"too-large": 0, "capacity": 1, "fragmentation": 0}
    assert first["peak_live"] == buddy["peak_live"] == 208 + 48


@pytest.mark.jitless
def test_granules_with_units_and_relative_pools(small):
    """Both of these once ended in a traceback or a false alarm."""
    rows = table("replay", small, "--policy", "first-fit", "--pool", "4KiB", "--granule", "1KiB")
    assert rows[-1].split()[:2] == ["first-fit", "4,096"]
    rows = table("replay", small, "--policy", "best-fit[ties=lifo]", "--pool", "2000x")
    assert rows[-1].split()[:2] == ["best-fit[ties=lifo]", "512,000"]
    rows = table("replay", small, "--policy", "static-partition[units=[32MiB]]", "--pool", "200000x")
    assert rows[-1].split()[:2] == ["static-partition[units=[33554432]]", "51,200,000"]


@pytest.mark.jitless
def test_on_failure(small):
    for way, failed in ("drop", "1"), ("grow", "0"), ("stop", "1"):
        rows = table("replay", small, "--policy", "first-fit", "--pool", "256", "--on-failure", way)
        assert rows[-1].split()[:3] == ["first-fit", "256", failed]


@pytest.mark.jitless
def test_remedies_are_crossed_with_policies_and_pools(small):
    remedies = ["none", "compact", "compact[budget=9,how=two-finger]"]
    asked = "none, compact ,compact[how=two-finger,budget=9.0],compact[how=slide]"
    policies = ["first-fit", "best-fit[ties=lifo]"]
    lines = table("replay", small, "--policy", ",".join(policies), "--pool", "256,512", "--reclaim", asked)
    titles = lines[1].split()
    assert titles[:4] == ["policy", "reclaim", "pool", "failed"] and titles[-3:] == ["passes", "moved", "ns/event"]
    rows = [line.split() for line in lines[2:]]
    assert [row[:3] for row in rows] == [[p, r, pool] for pool in ("256", "512") for p in policies for r in remedies]
    assert [row[3] for row in rows[:3]] == ["1", "0", "1"]  # 40 bytes at 112 slide down, or cost too much
    assert [row[7] for row in rows[:3]] == ["0", "0", "1"]  # budget
    assert [row[-3:-1] for row in rows[:3]] == [["0", "0.0000"], ["1", "0.1304"], ["0", "0.0000"]]  # 48 of 368


@pytest.mark.jitless
def test_without_remedies_their_columns_are_not_there(small):
    plain, none = (table("replay", small, "--pool", "1KiB", *more) for more in ([], ["--reclaim", "none"]))
    assert not {"reclaim", "budget", "passes", "moved"} & set(plain[1].split())
    assert len(plain) == len(none) == 2 + len(POLICIES)
    assert [line.split()[1] for line in none[2:]] == ["none"] * len(POLICIES)


@pytest.mark.jitless
def test_all_leaves_out_what_does_not_move(small):
    reclaim = "compact[how=two-finger],none"
    done = vecalloc_("replay", small, "--policy", "next-fit,all", "--pool", "1x", "--reclaim", reclaim)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "note: static-partition is left out with compact[how=two-finger]: units of static-partition cannot move",
        "note: buddy is left out with compact[how=two-finger]: how = two-finger, but blocks of buddy only slide",
    ]
    rows = [line.split()[:2] for line in done.stdout.splitlines()[2:]]
    assert sorted(name for name, how in rows if how == "none") == sorted(POLICIES)
    moved = sorted(name for name, how in rows if how != "none")
    assert moved == sorted(POLICIES.keys() - {"static-partition", "buddy"})


@pytest.mark.jitless
def test_json_of_remedies(small):
    done = vecalloc_("replay", small, "--policy", "first-fit", "--pool", "256", "--reclaim", "compact", "--json")
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["reclaim"], row["passes"], row["moved_ratio"]) == ("compact", 1, 48 / 368)
    assert row["failures"] == {"too-large": 0, "capacity": 0, "fragmentation": 0, "budget": 0}
    plain = json.loads(vecalloc_("replay", small, "--policy", "first-fit", "--json").stdout)["rows"][0]
    assert (plain["reclaim"], plain["passes"], "budget" in plain["failures"]) == ("none", 0, False)


@pytest.mark.jitless
def test_the_seed_says_who_is_pinned(small):
    reclaim = "compact[pinned=0.5]"
    failed = {
        table("replay", small, "--policy", "first-fit", "--pool", "256", "--reclaim", reclaim, "--seed", k)[2].split()[
            3
        ]
        for k in range(8)
    }
    assert failed == {"0", "1"}


@pytest.mark.jitless
def test_policies():
    lines = table("policies")
    gap = lines.index("")
    assert [line.split()[0] for line in lines[1:gap]] == list(POLICIES)
    assert lines[gap + 1] == "When no hole fits:"
    assert [line.split()[0] for line in lines[gap + 3 :]] == list(REMEDIES)
    told = json.loads(vecalloc_("policies", "--json").stdout)
    assert [p["name"] for p in told["policies"]] == list(POLICIES)
    assert [r["name"] for r in told["remedies"]] == list(REMEDIES)
    assert told["remedies"][0]["options"][0]["choices"] == ["slide", "first-window", "two-finger"]


@pytest.mark.jitless
def test_policies_with_options():
    lines = table("policies", "-v")
    assert lines == table("policies", "--verbose")
    gap = lines.index("")
    for shown, things in (lines[1:gap], POLICIES), (lines[gap + 3 :], REMEDIES):
        expected = [name for thing in things.values() for name in (thing.name, *(o.name for o in thing.options))]
        assert [line.split()[0] for line in shown] == expected
    assert any(line.split()[:2] == ["ties", "lowest"] for line in lines)
    assert any(line.split()[:2] == ["relocate", "true"] for line in lines)


@pytest.mark.jitless
def test_version():
    assert table("--version") == [f"vecalloc {vecalloc.__version__}"]


@pytest.mark.jitless
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--policy", "frist-fit"], ["'frist-fit' is not known", "did you mean 'first-fit'?"]),
        (["--policy", "first-fit[tie=lifo]"], ["first-fit has no option 'tie'"]),
        (["--policy", "best-fit[ties=lifo"], ["no closing bracket"]),
        (["--policy", ","], ["no policy is named"]),
        (["--pool", ","], ["no pool is named"]),
        (["--pool", "1001"], ["1001", "multiple of the granule 16: 1008 is"]),
        (["--pool", "4Mib"], ["'4Mib'", "did you mean 'MiB'?"]),
        (["--pool", "0x"], ["'0x'", "positive"]),
        (["--policy", "buddy", "--pool", "1000000", "--granule", "64"], ["power of two", "1048576"]),
        (["--granule", "3"], ["granule is 3", "power of two"]),
        (["--granule", "18446744073709551616"], ["granule is 18446744073709551616", "up to"]),
        (["--pool", "1e99999999x"], ["'1e99999999x'", "0.9x"]),
        (["--pool", "9" * 5000], ["write bytes"]),
        (["--pool", "64", "--granule", "4611686018427387904"], ["granule is 4611686018427387904", "up to"]),
        (["--granule", "abc"], ["granule is 'abc'"]),
        (["--on-failure", "panic"], ["'panic'", "drop, grow, stop"]),
        (["--clock", "sun"], ["'sun'", "one of event, time"]),
        (["--clock", "time"], ["carries no times", "--clock event"]),
        (["--reclaim", ","], ["no remedy is named"]),
        (["--reclaim", "compat"], ["'compat' is not known", "did you mean 'compact'?"]),
        (["--reclaim", "compact[hw=slide]"], ["compact has no option 'hw'", "did you mean 'how'?"]),
        (["--reclaim", "compact[how=up]"], ["'how' of compact is 'up'", "slide, first-window, two-finger"]),
        (["--reclaim", "none,compact[budget=1]"], ["'budget' of compact is 1", "write a number above 1"]),
        (["--reclaim", "compact[when={every=0}]"], ["every", "of compact", "is 0", "from 1 to"]),
        (["--reclaim", "compact[how=first-window,when={every=2}]"], ["when = {every=2}", "write when = failure"]),
        (["--reclaim", "swap[victim=lru]"], ["reclaim is swap: only processes are swapped", "write an experiment"]),
        (["--reclaim", "compact+compact"], ["compact twice", "write each remedy once"]),
        (["--policy", "static-partition,all", "--reclaim", "none,compact"],
         ["--reclaim is compact", "static-partition cannot move", "leave compaction out"]),
        (["--policy", "all,static-partition[unit=16]", "--reclaim", "compact"], ["static-partition cannot move"]),
        (["--policy", "all,buddy[]", "--reclaim", "compact[how=two-finger]"],
         ["--reclaim is compact[how=two-finger]", "buddy only slide", "write how = slide"]),
        (["--seed", "-1"], ["--seed is -1", "cannot be negative"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else "",
)  # fmt: skip
def test_complaints_are_one_line(small, arguments, parts):
    refused("replay", small, *arguments, says=parts)


@pytest.mark.jitless
def test_files_that_cannot_be_read(tmp_path):
    missing, empty, broken, text = (tmp_path / name for name in ("missing.npz", "empty.npz", "broken.npz", "x.npz"))
    empty.write_bytes(b"")
    broken.write_bytes((ROOT / SQLITE).read_bytes()[:5000])
    text.write_text("malloc(16)\n")
    for path, part in (missing, "no such file"), (empty, "empty"), (broken, "damaged"), (text, "no .npz"):
        refused("replay", path, says=[str(path), part])


def refused(*arguments, says):
    done = vecalloc_(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("vecalloc: ")
    for part in says:
        assert part in line


@pytest.mark.jitless
@pytest.mark.parametrize("arguments", [["bogus"], ["replay"], ["replay", "x.npz", "--bogus"]])
def test_usage_errors(arguments):
    done = vecalloc_(*arguments)
    assert done.returncode == 2
    assert "Usage:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.jitless
@pytest.mark.parametrize("arguments", [["policies", "-v"], ["--help"], ["--version"]])
def test_a_closed_pipe_ends_it_quietly(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "vecalloc", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 0 or arguments != ["policies", "-v"]  # the others are typer's own


@pytest.mark.jitless
def test_head_has_seen_enough():
    command = f"{sys.executable} -m vecalloc policies -v | head -1"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.jitless
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["replay", "--help"],
        ["policies", "-v"],
        ["replay", "x.npz", "--policy", "frist-fit"],
        ["replay", "x.npz", "--reclaim", "compact[hw=slide]"],
        ["replay", "x.npz", "--policy", "buddy", "--reclaim", "compact[how=two-finger]"],
        ["replay", "README.md"],
        ["replay", "no such file"],
    ],
)
def test_help_and_complaints_do_not_wait_for_numba(arguments):
    program = f"""
import sys
import time
sys.argv = ["vecalloc", *{arguments!r}]
from vecalloc.cli import main
try:
    main()
except SystemExit:
    pass
sys.exit(bool({{"numba", "scipy", "pyarrow"}} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60).returncode == 0


def test_ns_per_event_is_measured(small):
    rows = json.loads(vecalloc_("replay", small, "--json").stdout)["rows"]
    assert all(row["ns_per_event"] > 0 for row in rows)
    assert table("replay", small)[1].split()[-1] == "ns/event"


def test_a_heaptrack_recording(tmp_path):
    (tmp_path / "program.raw").write_text("v 10400 3\n+ 64 1 50\n+ 64 1 90\n- 50\n- 50\n")
    lines = table("replay", tmp_path / "program.raw", "--policy", "first-fit", "--pool", "1KiB")
    assert lines[0] == "program.raw: 3 events, 2 allocs, at most 2 live; double_frees: 1"


def test_closed_and_full_outputs(small):
    closed = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m vecalloc policies >&-"], cwd=ROOT, capture_output=True, text=True
    )
    assert (closed.returncode, closed.stderr) == (0, "")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "vecalloc", "policies"], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr.startswith("vecalloc: the output cannot be written (") and done.stderr.count("\n") == 1


def test_files_with_unusual_names(tmp_path, small):
    done = vecalloc_("replay", "x" * 300)
    assert done.returncode == 2 and "cannot be looked at" in done.stderr and done.stderr.count("\n") == 1
    odd = tmp_path / "\u00e9.npz"
    odd.write_bytes(small.read_bytes())
    done = vecalloc_("replay", odd, "--policy", "first-fit", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and done.stdout.startswith("\\xe9.npz: 5 events")


def test_a_policy_named_twice_is_one_row(small):
    lines = table("replay", small, "--policy", "best-fit,best-fit[],best-fit[ties=lowest],all")
    assert [line.split()[0] for line in lines[2:]] == ["best-fit", *(name for name in POLICIES if name != "best-fit")]


def test_too_little_memory_is_one_line(small):
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30)); "
    command = limited + "from vecalloc.cli import main; sys.argv[1:] = sys.argv[1:]; main()"
    arguments = ["replay", str(small), "--policy", "buddy", "--pool", "64GiB"]
    done = subprocess.run([sys.executable, "-c", command, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("vecalloc: not enough memory") and done.stderr.count("\n") == 1


def test_ctrl_c_ends_a_long_replay_at_once(tmp_path):
    pairs = 3_000_000
    op = np.tile(np.array([0, 1], np.int8), pairs)
    path = tmp_path / "long.npz"
    np.savez(path, op=op, id=np.repeat(np.arange(pairs, dtype=np.int32), 2), size=np.where(op == 0, 100, 0))
    pools = ",".join(f"{1 << k}KiB" for k in range(10, 20))
    command = [sys.executable, "-m", "vecalloc", "replay", str(path), "--pool", pools]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(2)  # while it reads, compiles or replays: 60 replays of six million events take longer
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (out, err) == ("", "")
    assert process.returncode in (130, -signal.SIGINT)  # -SIGINT: a library had the default handler just then
