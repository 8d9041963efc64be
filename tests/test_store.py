"""The store: nothing reported is lost, nothing broken is read, nothing that is the same is written again."""

import csv
import errno
import io
import json
import math
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecalloc.errors import InputError
from vecalloc.store import Store, content_id, environment, parts, read_rows, rows, save

HERE = {"numpy": "2.4.6", "cpu_features": "AVX2"}
ELSEWHERE = {"numpy": "2.3.0", "cpu_features": "AVX2"}

PACKAGE = Path(parts.__file__).parents[1]


def lines(id, replicas, **columns):
    return pa.table({"id": [id] * len(replicas), "replica": list(replicas)} | columns)


def begun(folder, environment=HERE, name="x"):
    store = Store(folder, name, environment)
    store.begin()
    return store


def part_files(folder):
    return sorted((folder / "parts").glob("*.parquet"))


def values(table):
    return {name: column.to_pylist() for name, column in zip(table.column_names, table.columns, strict=True)}


def all_files(folder):
    """What every file says, and which it is: a file that was written again is another one."""
    return {path: (path.read_bytes(), path.stat().st_ino) for path in folder.rglob("*") if path.is_file()}


def python(code, *arguments, **options):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


# --- ids and environments --------------------------------------------------------------------------------------------


def test_content_ids_stay_what_they_are():
    """Golden: an id that changed would orphan every part and every committed row."""
    assert content_id({}) == "44136fa355b3678a"
    assert content_id({"b": [1, 1.0, None, True], "a": "é"}) == "f8a053fced355c00"
    described = {"policy": "best-fit", "workload": {"load": 0.1, "sizes": {"dist": "lognorm", "s": 1.0}}, "seed": 7}
    assert content_id(described) == "69f73763e2403391"


def test_content_ids_tell_apart_what_differs():
    different = [
        {"a": 1}, {"a": 1.0}, {"a": True}, {"a": "1"}, {"a": None}, {"a": [1]}, {"a": {"1": 1}}, {}, {"b": 1},
        {"a": 0.1}, {"a": math.nextafter(0.1, 1)}, {"a": 0.0}, {"a": -0.0},
    ]  # fmt: skip
    assert len({content_id(each) for each in different}) == len(different)
    assert content_id({"a": 1, "b": {"c": 2, "d": 3}}) == content_id({"b": {"d": 3, "c": 2}, "a": 1})
    assert content_id({"a": (1, 2)}) == content_id({"a": [1, 2]})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"law": {"scale": math.inf}}, "law.scale is inf"),
        ({"load": [0.5, math.nan]}, r"load\[1\] is nan"),
        ({"law": {1: 2}}, "law has the key 1"),
        ({"n": np.int64(3)}, r"n is np.int64\(3\), a int64"),
        ({"path": Path("x")}, "path is .*Path"),
    ],
)
def test_what_has_no_id(value, words):
    with pytest.raises(InputError, match=words):
        content_id(value)


def test_the_environment_names_versions_and_features_but_no_place():
    found = environment()
    assert found["numpy"] == np.__version__ and found["machine"] and found["cpu_features"]
    assert all(isinstance(value, str) and value for value in found.values())
    assert os.uname().nodename not in found.values() and not any("/" in value for value in found.values())


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numpy names no feature here that may be switched off")
def test_the_environment_changes_with_the_features_that_numpy_may_use():
    usable = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    if not usable:
        pytest.skip("this CPU has nothing above numpy's baseline")
    code = "from vecalloc.store import environment; print(environment()['cpu_features'])"
    done = python(code, env=os.environ | {"NPY_DISABLE_CPU_FEATURES": usable[-1]})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == environment()["cpu_features"].split()[:-1]


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_the_commit_is_that_of_the_package_and_no_other(tmp_path):
    package = tmp_path / "vecalloc"
    shutil.copytree(PACKAGE / "store", package / "store", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "errors.py"):
        shutil.copy(PACKAGE / name, package / name)
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]

    def git(*arguments):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        command = ["git", "-C", tmp_path, *author, *arguments]
        return subprocess.run(command, env=clean, check=True, capture_output=True, text=True).stdout.strip()

    def told(**more):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        clean |= {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        code = "import vecalloc.store as s; print(s.__file__); print(s.commit())"
        done = python(code, env=clean | more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        where, said = done.stdout.split("\n")[:2]
        assert where.startswith(str(tmp_path))
        return said

    assert told() == ""
    git("init", "-q")
    (tmp_path / "other").write_text("a project with a virtual environment in it")
    git("add", "other")
    git("commit", "-qm", "other")
    assert told() == ""  # a repository, but not the package's
    git("add", "vecalloc")
    git("commit", "-qm", "vecalloc")
    head = git("rev-parse", "HEAD")
    assert told() == head
    assert told(GIT_DIR=str(tmp_path / "nowhere")) == head  # as in a hook of another repository
    (package / "errors.py").write_text((package / "errors.py").read_text() + "\n")
    assert told() == head + "+changes"
    assert told(PATH="") == ""


# --- parts -----------------------------------------------------------------------------------------------------------


def test_lines_come_back_sorted_and_by_row(tmp_path):
    store = begun(tmp_path / "x")
    store.add(pa.table({"id": ["b", "a", "a"], "replica": [3, 9, 1], "failed": [4, 5, 6], "time": [0.1, 0.2, 0.3]}))
    store.add(lines("a", [0, 4], failed=[7, 8], time=[-0.0, math.inf]))
    found = Store(tmp_path / "x", "x", HERE).read()
    assert list(found) == ["a", "b"]
    assert values(found["a"]) == {"replica": [0, 1, 4, 9], "failed": [7, 6, 8, 5], "time": [0.0, 0.3, math.inf, 0.2]}
    assert math.copysign(1, found["a"]["time"][0].as_py()) == -1
    assert values(found["b"]) == {"replica": [3], "failed": [4], "time": [0.1]}
    assert found["a"].schema.types == [pa.int64(), pa.int64(), pa.float64()]
    assert store.read(["b", "c"]).keys() == {"b"}
    assert store.read([]) == {} and store.notes == []


def test_rows_keep_their_own_columns(tmp_path):
    store = begun(tmp_path / "x")
    store.add(pa.table({"id": ["a", "b"], "replica": [0, 0], "of_a": [1, None], "of_b": [None, 2.5]}))
    store.add(lines("a", [1], later=[9]))
    found = store.read()
    assert values(found["a"]) == {"replica": [0, 1], "later": [None, 9], "of_a": [1, None]}
    assert values(found["b"]) == {"replica": [0], "of_b": [2.5]}


def test_one_replica_in_two_parts_is_one_line(tmp_path):
    store = begun(tmp_path / "x")
    store.add(lines("a", [0, 1, 2], failed=[5, 6, 7], time=[math.nan, 0.5, 1.5]))
    store.add(lines("a", [1, 0, 3], failed=[6, 5, 8], time=[0.5, math.nan, 2.5]))
    store.add(lines("a", [2, 0], probes=[40, 41]))  # another set of columns: both are kept
    found = store.read()["a"]
    assert found["replica"].to_pylist() == [0, 1, 2, 3] and found["failed"].to_pylist() == [5, 6, 7, 8]
    assert found["probes"].to_pylist() == [41, None, 40, None]
    assert math.isnan(found["time"][0].as_py()) and found["time"].to_pylist()[1:] == [0.5, 1.5, 2.5]


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ({"n": [1, 2]}, {"n": [1, 3]}, "n of replica 8 is "),
        ({"t": [1.0, 0.0]}, {"t": [1.0, -0.0]}, "t of replica 8 is "),
        ({"t": [1.0, 0.1]}, {"t": [1.0, math.nextafter(0.1, 1)]}, "t of replica 8 is "),
        ({"t": [1, 2]}, {"t": [1.0, 2.0]}, "int64"),
    ],
)
def test_two_parts_that_disagree_are_both_named(tmp_path, one, other, words):
    store = begun(tmp_path / "x")
    store.add(lines("row", [7, 8], **one))
    store.add(lines("row", [7, 8], **other))
    with pytest.raises(InputError, match=words) as caught:
        store.read()
    assert all(str(path) in str(caught.value) for path in part_files(tmp_path / "x"))


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"replica": [1], "n": [1]}),
        pa.table({"id": ["a"], "n": [1]}),
        pa.table({"id": ["a"], "replica": [1], "n": ["one"]}),
        pa.table({"id": ["a"], "replica": [1.5]}),
        pa.table({"id": [None], "replica": [1]}, schema=pa.schema({"id": pa.string(), "replica": pa.int64()})),
    ],
)
def test_lines_that_are_none(tmp_path, table):
    with pytest.raises(TypeError):
        begun(tmp_path / "x").add(table)
    assert part_files(tmp_path / "x") == []


def test_adding_needs_a_beginning(tmp_path):
    store = Store(tmp_path / "x", "x", HERE)
    with pytest.raises(RuntimeError, match="begin"):
        store.add(lines("a", [0]))
    assert store.read() == {} and not (tmp_path / "x").exists()


def test_content_is_on_the_disk_before_its_name_and_the_name_before_add_returns(tmp_path, monkeypatch):
    store = begun(tmp_path / "x")
    said, sync, rename = [], os.fsync, os.replace

    def fsync(descriptor):
        said.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def replace(source, target):
        said.append("name")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    store.add(lines("a", [0], n=[1]))
    assert said == ["file", "name", "folder"]


def test_the_same_batch_is_the_same_part(tmp_path):
    store = begun(tmp_path / "x")
    store.add(lines("a", [0], n=[1]))
    before = part_files(tmp_path / "x")
    store.add(lines("a", [0], n=[1]))
    assert part_files(tmp_path / "x") == before and len(before) == 1


def test_a_truncated_part_is_redone_wherever_it_was_cut(tmp_path):
    store = begun(tmp_path / "x")
    lost, kept = lines("a", range(20), n=list(range(20))), lines("a", range(20, 30), n=list(range(10)))
    store.add(lost)
    (path,) = part_files(tmp_path / "x")
    whole = path.read_bytes()
    store.add(kept)
    for cut in sorted({0, 1, 4, len(whole) - 8, len(whole) - 4, len(whole) - 1, *range(8, len(whole), 41)}):
        path.write_bytes(whole[:cut])
        looking = Store(tmp_path / "x", "x", HERE)
        assert looking.read()["a"]["replica"].to_pylist() == list(range(20, 30))
        assert looking.notes == [
            f"{path} is truncated or damaged (its bytes do not give its name): ignored, what it held will be redone"
        ]
        assert path.read_bytes() == whole[:cut]  # who only looks changes nothing
    again = begun(tmp_path / "x")
    assert len(again.read()["a"]) == 10 and len(again.notes) == 1
    again.add(lost)
    assert len(again.read()["a"]) == 30
    later = begun(tmp_path / "x")
    assert len(later.read()["a"]) == 30 and later.notes == []  # it was redone: nothing more to say


def test_a_single_flipped_bit_is_seen(tmp_path):
    """Parquet has no checksum here: the name is one."""
    store = begun(tmp_path / "x")
    store.add(lines("a", range(20), n=list(range(20))))
    (path,) = part_files(tmp_path / "x")
    whole = path.read_bytes()
    chance = random.Random(4)
    for _ in range(50):
        flipped = bytearray(whole)
        flipped[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        looking = Store(tmp_path / "x", "x", HERE)
        assert looking.read() == {} and len(looking.notes) == 1


def test_files_that_are_no_parts(tmp_path):
    store = begun(tmp_path / "x")
    folder = tmp_path / "x" / "parts"
    (folder / f"{parts._digest(b'rubbish')}.parquet").write_bytes(b"rubbish")
    buffer = io.BytesIO()
    pq.write_table(lines("a", [0], n=[1]), buffer)  # whole, but nobody's
    (folder / f"{parts._digest(buffer.getvalue())}.parquet").write_bytes(buffer.getvalue())
    (folder / "mine.parquet").write_bytes(b"something that a person put there")
    (folder / f"{'0' * 32}.parquet").mkdir()
    assert store.read() == {}
    assert len(store.notes) == 2  # two are unreadable in one way, the folder in another
    assert "(and 1 more) is no part that pyarrow" in "\n".join(store.notes)
    assert "cannot be read (Is a directory)" in "\n".join(store.notes)
    assert (folder / "mine.parquet").exists()


def test_parts_of_another_environment_are_never_mixed(tmp_path):
    for batch in range(3):
        begun(tmp_path / "x", ELSEWHERE).add(lines("a", [batch], n=[batch]))
    here = begun(tmp_path / "x")
    assert here.read() == {}
    (note,) = here.notes
    assert "(and 2 more) made with numpy 2.3.0 instead of 2.4.6: ignored, what it held will be redone" in note
    here.add(lines("a", [0], n=[100]))  # may differ: no disagreement
    again = begun(tmp_path / "x")
    assert again.read()["a"]["n"].to_pylist() == [100] and again.notes == []
    assert Store(tmp_path / "x", "x", ELSEWHERE).read()["a"]["n"].to_pylist() == [0, 1, 2]
    unwanted = Store(tmp_path / "x", "x", HERE)
    assert unwanted.read(["b"]) == {} and unwanted.notes == []


def test_a_fresh_beginning_has_no_parts(tmp_path):
    begun(tmp_path / "x", ELSEWHERE).add(lines("a", [0], n=[1]))
    store = begun(tmp_path / "x")
    store.add(lines("a", [0], n=[1]))
    store.begin(fresh=True)
    assert part_files(tmp_path / "x") == [] and store.read() == {}


def test_many_small_parts_are_joined(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "MANY_PARTS", 4)
    monkeypatch.setattr(parts, "JOINED_AT_ONCE", 6)
    store = begun(tmp_path / "x")
    for batch in range(9):
        store.add(lines("a", [batch], n=[batch]))
    store.add(lines("b", [0], t=[0.5]))
    begun(tmp_path / "x", ELSEWHERE).add(lines("a", [0], n=[77]))
    assert len(part_files(tmp_path / "x")) == 11
    before = store.read()
    (tmp_path / "x" / "parts" / f"{'f' * 32}.parquet").write_bytes(b"cut")
    joining = begun(tmp_path / "x")
    assert len(part_files(tmp_path / "x")) <= 5
    assert {id: values(table) for id, table in joining.read().items()} == {
        id: values(table) for id, table in before.items()
    }
    assert len(joining.notes) == 1 and "truncated or damaged" in joining.notes[0]
    assert Store(tmp_path / "x", "x", ELSEWHERE).read()["a"]["n"].to_pylist() == [77]


def test_a_part_that_is_joined_while_it_is_read(tmp_path, monkeypatch):
    store = begun(tmp_path / "x")
    for batch in range(6):
        store.add(lines("a", [batch], n=[batch]))
    reader = Store(tmp_path / "x", "x", HERE)
    load, loaded = reader._parts._load, []

    def load_and_be_overtaken(path):
        loaded.append(path)
        if len(loaded) == 2:
            monkeypatch.setattr(parts, "MANY_PARTS", 2)
            begun(tmp_path / "x")
        return load(path)

    monkeypatch.setattr(reader._parts, "_load", load_and_be_overtaken)
    assert reader.read()["a"]["n"].to_pylist() == list(range(6))
    assert len(part_files(tmp_path / "x")) == 1 and reader.notes == []


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    begun(tmp_path / "x").add(lines("a", [0], n=[1]))
    folder = tmp_path / "x" / "parts"
    gone = python("import os; print(os.getpid())").stdout.strip()
    host = parts.replace.__globals__["_host"]()
    names = {
        f".{host}-{gone}-00000000.tmp": False,
        f".{host}-{os.getpid()}-00000000.tmp": True,  # somebody's, who is about to rename it
        f".elsewhere-{gone}-00000000.tmp": True,  # another machine's numbers mean nothing here
        ".elsewhere-1-11111111.tmp": False,  # but nobody writes for two days
    }
    for name in names:
        (folder / name).write_bytes(b"PAR1")
    os.utime(folder / ".elsewhere-1-11111111.tmp", (time.time() - 2 * 86_400,) * 2)
    store = begun(tmp_path / "x")
    assert {name: (folder / name).exists() for name in names} == names
    assert len(store.read()["a"]) == 1 and store.notes == []


ADDING = """
import sys
import pyarrow as pa
from vecalloc.store import Store, parts

parts.MANY_PARTS = 8  # so that joining is killed, too
folder, first = sys.argv[1], int(sys.argv[2])
store = Store(folder, "x", {"numpy": "2.4.6", "cpu_features": "AVX2"})
store.begin()
for batch in range(first, first + int(sys.argv[3])):
    replicas = range(10 * batch, 10 * batch + 10)
    columns = {f"column_{k}": [float(k * r) for r in replicas] for k in range(60)}
    store.add(pa.table({"id": ["a"] * 10, "replica": list(replicas), **columns}))
    print(batch, flush=True)
"""


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_minus_nine_loses_nothing_that_was_reported(tmp_path, kills):
    chance = random.Random(kills)
    reported = set()
    for kill in range(kills):
        command = [sys.executable, "-c", ADDING, str(tmp_path / "x"), str(1_000_000 * kill), "1000000"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as driver:
            first = driver.stdout.readline()
            assert first, driver.stderr.read()
            time.sleep(chance.expovariate(10))
            driver.send_signal(signal.SIGKILL)
            said = first + driver.stdout.read()
            assert driver.wait() == -signal.SIGKILL
        reported |= {int(line) for line in said.splitlines(keepends=True) if line.endswith("\n")}
        store = begun(tmp_path / "x")
        found = store.read()["a"]
        assert store.notes == []
        replicas = np.asarray(found["replica"])
        assert {10 * batch + k for batch in reported for k in range(10)} <= set(replicas.tolist())
        assert (np.asarray(found["column_59"]) == 59.0 * replicas).all()
        assert not list((tmp_path / "x" / "parts").glob(".*.tmp"))
    assert len(reported) > kills


DYING = """
import os, signal, sys
import pyarrow as pa
from vecalloc.store import Store

folder, call, when = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = Store(folder, "x", {"numpy": "2.4.6", "cpu_features": "AVX2"})
store.begin()
store.add(pa.table({"id": ["a"], "replica": [0], "n": [1]}))
real, calls = getattr(os, call), []

def die(*arguments):
    calls.append(arguments)
    if len(calls) == when:
        if call == "fsync" and when == 1:
            os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)  # the rest never reached the disk
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)

setattr(os, call, die)
store.add(pa.table({"id": ["a"], "replica": [1], "n": [2]}))
"""


@pytest.mark.parametrize(
    ("call", "when", "kept"),
    [
        pytest.param("fsync", 1, [0], id="half written"),
        pytest.param("replace", 1, [0], id="before it has its name"),
        pytest.param("fsync", 2, [0, 1], id="before its name is on the disk"),
    ],
)
def test_killed_at_the_worst_moment(tmp_path, call, when, kept):
    done = python(DYING, tmp_path / "x", call, when)
    assert done.returncode == -signal.SIGKILL, done.stderr
    store = begun(tmp_path / "x")
    assert store.read()["a"]["replica"].to_pylist() == kept and store.notes == []
    assert not list((tmp_path / "x" / "parts").glob(".*.tmp"))


def test_drivers_that_share_a_folder(tmp_path):
    """Three add at once, two of them the same batches, and all join what they find."""
    shares = [(0, 40), (40, 40), (20, 40)]
    drivers = [
        subprocess.Popen(
            [sys.executable, "-c", ADDING, str(tmp_path / "x"), str(first), str(count)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for first, count in shares
    ]  # fmt: skip
    while any(driver.poll() is None for driver in drivers):
        looking = Store(tmp_path / "x", "x", HERE)
        looking.read()
        assert looking.notes == []
    for driver in drivers:
        assert driver.wait() == 0, driver.stderr.read()
        driver.stderr.close()
    assert begun(tmp_path / "x").read()["a"]["replica"].to_pylist() == list(range(800))


# --- a folder that cannot be used ------------------------------------------------------------------------------------


def refused(folder, words):
    with pytest.raises(InputError, match=words) as caught:
        begun(folder)
    assert str(folder) in str(caught.value)


def test_a_newer_format(tmp_path):
    begun(tmp_path / "x").add(lines("a", [0], n=[1]))
    marker = tmp_path / "x" / "parts" / "format.json"
    text = marker.read_text()
    marker.write_text(text.replace('"format": 1', '"format": 2'))
    refused(tmp_path / "x", "format.json: written by a newer vecalloc .format 2, this one knows 1.: install")
    marker.write_text(text)
    (tmp_path / "x" / "provenance.json").write_text('{"format": 3}')
    refused(tmp_path / "x", "provenance.json: written by a newer vecalloc .format 3")


def test_a_part_of_a_newer_format(tmp_path, monkeypatch):
    store = begun(tmp_path / "x")
    monkeypatch.setattr(parts, "FORMAT", 2)
    store.add(lines("a", [0], n=[1]))
    monkeypatch.setattr(parts, "FORMAT", 1)
    with pytest.raises(InputError, match=r"parquet: written by a newer vecalloc .format 2, this one knows 1"):
        store.read()


def test_the_folder_of_another_experiment(tmp_path):
    store = begun(tmp_path / "x", name="quickstart")
    with pytest.raises(InputError, match=r"format.json: .* experiment 'quickstart', not of 'x': move"):
        Store(tmp_path / "x", "x", HERE)
    store.write_results(pa.table({"n": [1]}))
    shutil.rmtree(tmp_path / "x" / "parts")  # as in a clean clone
    with pytest.raises(InputError, match=r"provenance.json: .* experiment 'quickstart', not of 'x'"):
        Store(tmp_path / "x", "x", HERE)


@pytest.mark.parametrize("text", ["{", "[1]", "\udcff", '{"format": 1'])
def test_a_broken_marker_is_named(tmp_path, text):
    begun(tmp_path / "x")
    (tmp_path / "x" / "parts" / "format.json").write_bytes(text.encode(errors="surrogateescape"))
    refused(tmp_path / "x", "format.json: ")


def test_a_path_that_is_a_file(tmp_path):
    (tmp_path / "x").write_text("")
    refused(tmp_path / "x", "cannot be written")
    with pytest.raises(InputError, match=r"cannot be written .*: make room, or choose a folder"):
        Store(tmp_path / "x", "x", HERE).write_results(pa.table({"n": [1]}))
    with pytest.raises(InputError, match="cannot be written"):
        Store(tmp_path / "x", "x", HERE).write_timing({})


def test_a_folder_without_permission(tmp_path):
    (tmp_path / "x").mkdir(mode=0o500)
    root = os.geteuid() == 0
    if root:  # to whom nothing is forbidden
        os.seteuid(65534)
    try:
        with pytest.raises(InputError, match=r"x.*(Permission denied)"):
            begun(tmp_path / "x")
    finally:
        if root:
            os.seteuid(0)


FILLING = """
import os, resource, sys
import numpy as np
import pyarrow as pa
from vecalloc.errors import InputError
from vecalloc.store import Store

folder, limit = sys.argv[1], int(sys.argv[2])
store = Store(folder, "x", {"numpy": "2.4.6", "cpu_features": "AVX2"})
store.begin()
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
count = 0
try:
    for batch in range(200):  # each larger than the one before
        n = 4 + batch * 40
        values = np.random.default_rng(batch).random(n)
        store.add(pa.table({"id": ["a"] * n, "replica": [100_000 * batch + k for k in range(n)], "value": values}))
        count += n
except InputError as error:
    print(error)
    read = store.read()["a"]
    assert len(read) == count and store.notes == [], (len(read), count, store.notes)
    parts = os.listdir(os.path.join(folder, "parts"))
    assert not [name for name in parts if name.endswith(".tmp")], parts
    print(count)
"""


def fills_up(done, reason, parts_kept):
    assert done.returncode == 0, done.stderr
    message, count = done.stdout.splitlines()
    assert f"cannot be written ({reason}): what was finished ({parts_kept} parts) is kept; make room and" in message
    assert int(count) > 0


def test_a_disk_that_is_full_keeps_what_was_finished(tmp_path):
    """A limit on the size of files is refused by the system in the middle of a write, as by a full disk."""
    done = python(FILLING, tmp_path / "x", 20_000)
    fills_up(done, os.strerror(errno.EFBIG), len(part_files(tmp_path / "x")))
    again = begun(tmp_path / "x")  # and it goes on from there
    count = len(again.read()["a"])
    again.add(lines("a", [99_999_999], value=[0.5]))
    assert len(again.read()["a"]) == count + 1


def test_a_small_file_system_that_fills_up(tmp_path):
    """The real thing, where a user may mount one."""
    if not shutil.which("unshare"):
        pytest.skip("needs unshare")
    (tmp_path / "disk").mkdir()
    mounting = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=256k tmpfs '{tmp_path}/disk'"
    if subprocess.run([*mounting, mount], capture_output=True).returncode:
        pytest.skip("may not mount a tmpfs")
    script = tmp_path / "filling.py"
    script.write_text(FILLING)
    command = f"{mount} && '{sys.executable}' '{script}' '{tmp_path}/disk/x' 0 && ls '{tmp_path}/disk/x/parts' >&2"
    done = subprocess.run([*mounting, command], capture_output=True, text=True, timeout=120)
    fills_up(done, os.strerror(errno.ENOSPC), done.stderr.count(".parquet\n"))


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_wherever_the_disk_refuses(tmp_path, monkeypatch, call, number):
    store = begun(tmp_path / "x")
    store.add(lines("a", [0], n=[1]))

    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(InputError, match=r"what was finished \(1 parts\) is kept"):
            store.add(lines("a", [1], n=[2]))
        with pytest.raises(InputError, match="cannot be written"):
            store.write_results(pa.table({"n": [1]}))
    assert store.read()["a"]["n"].to_pylist() == [1] and store.notes == []
    assert not list((tmp_path / "x").rglob("*.tmp")) and not (tmp_path / "x" / "rows.csv").exists()


# --- rows as text ----------------------------------------------------------------------------------------------------


def test_rows_as_text():
    table = pa.table(
        {
            "policy": ["best-fit[ties=lifo]", "units=[1,2]", "12", "", None, "nan", 'say "x"'],
            "load": [0.1, 1e300, -0.0, math.inf, -math.inf, math.nan, None],
            "count": [0, -5, 2**63 - 1, -(2**63), None, 7, 8],
            "reached": [True, False, None, True, True, True, True],
        }
    )
    assert rows.to_csv(table) == (
        "policy,load,count,reached\n"
        "best-fit[ties=lifo],0.1,0,true\n"
        '"units=[1,2]",1e+300,-5,false\n'
        '"12",-0.0,9223372036854775807,\n'
        '"",inf,-9223372036854775808,true\n'
        ",-inf,,true\n"
        '"nan",NaN,7,true\n'
        '"say ""x""",,8,true\n'
    )


floats = st.floats() | st.sampled_from([0.1 + 0.2, 5e-324, -0.0, 1e16, 1e22, 1.7976931348623157e308])
texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["", "1", "1.0", "-1e5", "nan", "Inf", "true", "false", "True", " 1", "a,b", '"', "\r", "\n", "x\r\ny", "1_0", "٣"]
)
kinds = [(pa.float64(), floats), (pa.int64(), st.integers(-(2**63), 2**63 - 1)), (pa.bool_(), st.booleans()),
         (pa.string(), texts)]  # fmt: skip


@st.composite
def tables(draw):
    count = draw(st.integers(0, 6))
    columns = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=5))
    names = draw(st.lists(texts.filter(bool), min_size=len(columns), max_size=len(columns), unique=True))
    arrays = [pa.array(draw(st.lists(st.none() | value, min_size=count, max_size=count)), k) for k, value in columns]
    return pa.table(arrays, names=names)


def exact(column):
    """A value such that equal bits, and only these, are equal; a NaN is a NaN."""
    return [value.hex() if isinstance(value, float) else value for value in column.to_pylist()]


@given(tables())
def test_every_bit_and_type_comes_back(table):
    text = rows.to_csv(table)
    back = rows.from_csv(text, "rows.csv")
    assert back.column_names == table.column_names
    for was, now in zip(table.columns, back.columns, strict=True):
        assert exact(now) == exact(was)
        assert now.type == (pa.float64() if was.null_count == len(was) else was.type)
    assert rows.to_csv(back) == text
    cells = list(csv.reader(io.StringIO(text, newline="")))  # it is a CSV to others, too
    assert cells[0] == table.column_names
    if table.num_columns > 1:
        assert [len(line) for line in cells] == [table.num_columns] * (len(table) + 1)


@given(st.floats(width=64))
def test_a_float_is_its_bits(value):
    back = rows.from_csv(rows.to_csv(pa.table({"x": [value]})), "")["x"][0].as_py()
    assert back.hex() == value.hex()


def test_other_types_of_numbers_and_text_become_those_that_a_csv_has():
    table = pa.table(
        {
            "small": pa.array([1, 2], pa.uint8()),
            "half": pa.array([0.5, 0.1], pa.float32()),
            "label": pa.array(["a", "b"]).dictionary_encode(),
            "large": pa.array(["a", "b"], pa.large_string()),
            "none": pa.nulls(2),
        }
    )
    back = rows.from_csv(rows.to_csv(table), "")
    assert back.schema.types == [pa.int64(), pa.float64(), pa.string(), pa.string(), pa.float64()]
    assert back["half"].to_pylist() == [0.5, float(np.float32(0.1))]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pa.table({"x": [[1, 2]]}), "column 'x' of the rows is list.*: make it text, numbers or booleans"),
        (pa.table([[1], [2]], names=["x", "x"]), "give each a name of its own"),
        (pa.table({"": [1]}), "give each a name of its own"),
        (pa.table({}), "give each a name of its own"),
        (pa.table({"x": pa.array([2**64 - 1], pa.uint64())}), "64 bits"),
    ],
)
def test_what_is_no_table_of_rows(tmp_path, table, words):
    with pytest.raises(InputError, match=words):
        Store(tmp_path / "x", "x", HERE).write_results(table)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "the first line names the columns"),
        (b"a,a\n1,2\n", "the first line names the columns"),
        (b"a,b\n1,2\n3\n", "row 2 has 1 cells, the header 2"),
        (b"a,b\n1,2\n3,0.1", "line 3 is cut"),  # the rest of 0.125
        (b"a,b\n1,", "ends in the middle of a line"),
        (b'a,b\n1,"x\n', "line 2 is cut or no CSV"),
        (b'a,b\n1,x"y\n', "line 2 is cut or no CSV"),
        (b"a\n18446744073709551616\n", "more than 64 bits"),
        (b"a\n" + b"1" * 5000 + b"\n", "more than 64 bits"),
        (b"a\n\xff\n", "no UTF-8 text .byte 2"),
    ],
)
def test_broken_rows_are_named(tmp_path, text, words):
    (tmp_path / "rows.csv").write_bytes(text)
    with pytest.raises(InputError, match=words) as caught:
        read_rows(tmp_path)
    assert str(tmp_path / "rows.csv") in str(caught.value)


def test_rows_that_are_not_there(tmp_path):
    Store(tmp_path / "quickstart", "quickstart", HERE).write_results(pa.table({"n": [1]}))
    with pytest.raises(InputError, match=r"quickstrat.rows.csv: there is no such file \(did you mean 'quickstart'\?\)"):
        read_rows(tmp_path / "quickstrat")
    (tmp_path / "odd" / "rows.csv").mkdir(parents=True)
    with pytest.raises(InputError, match=r"odd.rows.csv: cannot be read"):
        read_rows(tmp_path / "odd")
    assert read_rows(tmp_path / "quickstart")["n"].to_pylist() == [1]


def test_line_ends_that_git_has_changed(tmp_path):
    table = pa.table({"a": ["x", "y"], "b": [0.1, 2.0]})
    store = Store(tmp_path, "x", HERE)
    store.write_results(table)
    (tmp_path / "rows.csv").write_bytes((tmp_path / "rows.csv").read_bytes().replace(b"\n", b"\r\n"))
    assert store.check(table).verdict == "identical" and read_rows(tmp_path).equals(table)


# --- results ---------------------------------------------------------------------------------------------------------


def estimates(values=(0.1, 0.2), widths=(0.01, 0.01), **more):
    table = {
        "id": ["1a", "2b"], "policy": ["best-fit", "buddy"], "load": [0.5, 0.9], "replicas": [32, 48],
        "confidence": [0.95, 0.95], "failed": list(values), "failed_half_width": list(widths),
    }  # fmt: skip
    return pa.table(table | more)


def test_what_is_committed(tmp_path):
    store = Store(tmp_path / "x", "x", HERE)
    figures = {"figure.png": b"\x89PNG"}
    asked = {"ids": ["1a", "2b"], "seed": 7}
    done = store.write_results(estimates(), "question = 'é'\n", asked, figures)
    assert done == ("new", []) and done.summary == "there were no rows before"
    assert {path.name for path in (tmp_path / "x").iterdir()} == {
        "experiment.toml", "rows.csv", "provenance.json", "figure.png"
    }  # fmt: skip
    said = json.loads((tmp_path / "x" / "provenance.json").read_text())
    assert said["environment"] == HERE and said["ids"] == ["1a", "2b"] and said["experiment"] == "x"
    assert said.keys() == {"experiment", "format", "ids", "seed", "environment", "commit", "cpu"}
    assert read_rows(tmp_path / "x").equals(estimates())
    assert (tmp_path / "x" / "experiment.toml").read_bytes() == "question = 'é'\n".encode()


def test_nothing_is_written_that_is_there(tmp_path):
    figures, asked = {"figure.png": b"one"}, {"ids": ["1a"]}
    Store(tmp_path, "x", ELSEWHERE).write_results(estimates(), "toml", asked, figures)
    before = all_files(tmp_path)
    # Another machine, another commit, another version of matplotlib: the rows are the committed ones.
    done = Store(tmp_path, "x", HERE).write_results(estimates(), "toml", asked, {"figure.png": b"two"})
    assert done.verdict == "identical" and done.summary == "identical to the committed rows"
    assert all_files(tmp_path) == before
    (tmp_path / "figure.png").unlink()
    Store(tmp_path, "x", HERE).write_results(estimates(), "toml", asked, {"figure.png": b"two"})
    assert (tmp_path / "figure.png").read_bytes() == b"two"
    assert all_files(tmp_path)[tmp_path / "rows.csv"] == before[tmp_path / "rows.csv"]


@pytest.mark.parametrize(
    ("change", "rewritten"),
    [
        ({"rows": estimates((0.1, 0.3))}, {"rows.csv", "figure.png", "provenance.json"}),
        ({"experiment": "toml, asked otherwise"}, {"experiment.toml", "figure.png", "provenance.json"}),
        ({"provenance": {"ids": ["3c"]}}, {"figure.png", "provenance.json"}),
    ],
)
def test_what_says_something_new_is_written(tmp_path, change, rewritten):
    asked = {"rows": estimates(), "experiment": "toml", "provenance": {"ids": ["1a"]}}
    Store(tmp_path, "x", ELSEWHERE).write_results(**asked, figures={"figure.png": b"one"})
    before = all_files(tmp_path)
    Store(tmp_path, "x", HERE).write_results(**(asked | change), figures={"figure.png": b"two"})
    after = all_files(tmp_path)
    assert {path.name for path in after if after[path] != before[path]} == rewritten


def test_results_that_were_cut_short_are_written_again(tmp_path, monkeypatch):
    """rows.csv comes last, so that whatever was interrupted differs from what is wanted."""
    written, real = [], os.replace
    for stop in range(4):
        folder = tmp_path / str(stop)
        Store(folder, "x", ELSEWHERE).write_results(estimates(), "old", {"ids": ["1a"]}, {"figure.png": b"old"})
        written.clear()

        def replace(source, target, stop=stop):
            if len(written) == stop:
                raise KeyboardInterrupt
            written.append(Path(target).name)
            real(source, target)

        wanted = (estimates((0.3, 0.4)), "new", {"ids": ["2b"]}, {"figure.png": b"new"})
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace)
            with pytest.raises(KeyboardInterrupt):
                Store(folder, "x", HERE).write_results(*wanted)
        Store(folder, "x", HERE).write_results(*wanted)
        Store(tmp_path / "whole", "x", HERE).write_results(*wanted)
        for name in ("rows.csv", "experiment.toml", "provenance.json", "figure.png"):
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert written == ["figure.png", "provenance.json", "experiment.toml"]


@pytest.mark.parametrize("file", ["rows.csv", "provenance.json"])
def test_a_broken_file_is_replaced_and_named(tmp_path, file):
    store = Store(tmp_path, "x", HERE)
    store.write_results(estimates())
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(b'"')
    done = store.write_results(estimates())
    assert done.verdict == "differs" and str(tmp_path / file) in done.differences[0]
    assert (tmp_path / file).read_bytes() == whole


@pytest.mark.parametrize("name", ["rows.csv", "parts", "../x.png", "a/b.png", "", ".."])
def test_a_figure_takes_nobodys_name(tmp_path, name):
    with pytest.raises(InputError, match=r"figure .* cannot be called so"):
        Store(tmp_path / "x", "x", HERE).write_results(estimates(), figures={name: b""})
    assert not (tmp_path / "x").exists()


def test_wall_times_lie_beside(tmp_path):
    Store(tmp_path / "x", "x", HERE).write_timing({"seconds": 1.5})
    assert json.loads((tmp_path / "x" / "timing.json").read_text()) == {"seconds": 1.5}
    if shutil.which("git"):
        command = ["git", "check-ignore", "results/x/timing.json", "results/x/parts/a"]
        ignored = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
        if ignored.returncode != 128:  # no repository around this copy
            assert len(ignored.stdout.split()) == 2


def test_parts_are_ignored_in_any_repository(tmp_path):
    begun(tmp_path / "x")
    assert (tmp_path / "x" / "parts" / ".gitignore").read_text() == "*\n"


# --- rows against rows -----------------------------------------------------------------------------------------------


def committed(folder, environment=ELSEWHERE, table=None):
    Store(folder, "x", environment).write_results(estimates() if table is None else table)
    before = all_files(folder)

    def check(new, keys=None):
        found = Store(folder, "x", HERE).check(new, keys)
        assert all_files(folder) == before  # a check never writes
        return found

    return check


def test_a_check_of_nothing(tmp_path):
    assert Store(tmp_path / "x", "x", HERE).check(estimates()).verdict == "new"
    assert not (tmp_path / "x").exists()


def test_a_check_in_the_same_environment(tmp_path):
    check = committed(tmp_path, HERE)
    assert check(estimates()) == ("identical", [])
    verdict, differences = check(estimates((0.1, math.nextafter(0.2, 1))))
    assert verdict == "differs"
    assert differences == ["policy=buddy: failed 0.2 -> 0.20000000000000004"]


def test_a_check_in_another_environment(tmp_path):
    check = committed(tmp_path)
    assert check(estimates()).verdict == "identical"
    found = check(estimates((0.1, math.nextafter(0.2, 1))))
    assert found.verdict == "agrees, not identical" and len(found.differences) == 1
    verdict, differences = check(estimates((math.nextafter(0.1, 1), 0.9)))
    assert verdict == "differs"
    assert differences == ["policy=buddy: failed 0.2 ± 0.01 -> 0.9 ± 0.01"]  # the other one agrees


def test_the_combined_half_widths(tmp_path):
    """0.01 at 95 % and 0.02 at 99 %, both made into 99.9 % with Student's quantiles, independent of each other."""
    from scipy.stats import t

    check = committed(tmp_path)
    one = 0.01 * t.ppf(0.9995, 31) / t.ppf(0.975, 31)
    other = 0.02 * t.ppf(0.9995, 63) / t.ppf(0.995, 63)
    reach = math.hypot(one, other)
    more = {"replicas": [64, 48], "confidence": [0.99, 0.95]}
    near, far = 0.1 + 0.999 * reach, 0.1 + 1.001 * reach
    assert check(estimates((near, 0.2), (0.02, 0.01), **more)).verdict == "agrees, not identical"
    assert check(estimates((far, 0.2), (0.02, 0.01), **more)).verdict == "differs"
    assert check(estimates((0.2 - near, 0.2), (0.02, 0.01), **more)).verdict == "agrees, not identical"
    assert check(estimates((0.2 - far, 0.2), (0.02, 0.01), **more)).verdict == "differs"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (estimates(id=["1a", "3c"]), "policy=buddy: id 2b -> 3c"),
        (estimates(policy=["best-fit", "next-fit"]), "policy=next-fit is new"),
        (estimates(more=[1, 2]), "column more is new"),
        (estimates().drop_columns(["load"]), "column load is gone"),
        (estimates().slice(0, 1), "policy=buddy is gone"),
        (estimates((0.1, None)), "policy=buddy: failed 0.2 ± 0.01 -> nothing ± 0.01"),
        (estimates((0.1, math.nan)), "policy=buddy: failed 0.2 ± 0.01 -> NaN ± 0.01"),
    ],
)
def test_what_never_agrees(tmp_path, table, words):
    verdict, differences = committed(tmp_path)(table)
    assert verdict == "differs" and words in differences


@pytest.mark.parametrize("width", [None, math.inf, math.nan])
def test_a_metric_without_an_interval_has_to_be_equal(tmp_path, width):
    check = committed(tmp_path, table=estimates(widths=(width, 0.01)))
    # The other metric differs in its last digit, so that the rows are not identical.
    digit = math.nextafter(0.2, 1)
    assert check(estimates((0.1, digit), (width, 0.01))).verdict == "agrees, not identical"
    assert check(estimates((math.nextafter(0.1, 1), digit), (width, 0.01))).verdict == "differs"


def test_rows_without_intervals_have_to_be_identical(tmp_path):
    check = committed(tmp_path, table=pa.table({"policy": ["buddy"], "ns": [1.0]}))
    assert check(pa.table({"policy": ["buddy"], "ns": [1.5]})) == ("differs", ["policy=buddy: ns 1.0 -> 1.5"])


def test_rows_are_found_by_their_keys(tmp_path):
    table = pa.table({"policy": ["a", "a", "b"], "load": [0.5, 0.9, 0.5], "ns": [1, 2, 3], "k": [1, 1, 1]})
    check = committed(tmp_path, HERE, table)
    moved = table.take([2, 0, 1])
    assert check(moved, ["policy", "load"]) == ("differs", ["the same rows and columns in another order"])
    changed = table.set_column(2, "ns", [[1, 7, 3]]).set_column(3, "k", [[1, 2, 1]])
    assert check(changed, ["policy", "load"]).differences == ["policy=a, load=0.9: ns 2 -> 7, k 1 -> 2"]
    assert check(changed).differences == ["policy=a #2: ns 2 -> 7, k 1 -> 2"]


# --- scripts ---------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
from vecalloc.store import save

def main():
    rows = [{"policy": "buddy", "ns": 1.5}, {"policy": "12", "ns": 2, "failed": 3}]
    save("speed", rows, figure={"notes.md": "# Notes"}, parameters={"rounds": int(sys.argv[1])})

if __name__ == "__main__":
    main()
"""


def test_a_script_saves_beside_its_experiments(tmp_path):
    script = tmp_path / "experiments" / "deep" / "speed.py"
    script.parent.mkdir(parents=True)
    script.write_text(SCRIPT)
    (tmp_path / "elsewhere").mkdir()

    def run(rounds):
        command = [sys.executable, script, str(rounds)]
        done = subprocess.run(command, cwd=tmp_path / "elsewhere", capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run(3) == "saved to ../results/speed: there were no rows before\n"
    folder = tmp_path / "results" / "speed"
    assert (folder / "rows.csv").read_text() == 'policy,ns,failed\nbuddy,1.5,\n"12",2.0,3\n'
    assert (folder / "notes.md").read_text() == "# Notes" and not (folder / "parts").exists()
    said = json.loads((folder / "provenance.json").read_text())
    assert said["environment"] == environment() and said["parameters"] == {"rounds": 3}
    assert said["ids"] == [content_id({"script": SCRIPT, "parameters": {"rounds": 3}})]
    assert said["script"] == "speed.py" and str(tmp_path) not in json.dumps(said)

    before = all_files(folder)
    assert run(3) == "saved to ../results/speed: identical to the committed rows\n"
    assert all_files(folder) == before
    run(4)
    script.write_text(SCRIPT + "# edited\n")
    run(4)
    assert json.loads((folder / "provenance.json").read_text())["ids"] == [
        content_id({"script": SCRIPT + "# edited\n", "parameters": {"rounds": 4}})
    ]


class Figure:
    """What `save` needs of a matplotlib figure."""

    def savefig(self, out, format, dpi):
        out.write(f"drawn as {format}".encode())


def test_saving_from_elsewhere_goes_to_the_current_directory(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert save("x", pa.table({"n": [1]}), figure=Figure()) == tmp_path / "results" / "x"
    assert capsys.readouterr().out == "saved to results/x: there were no rows before\n"
    assert (tmp_path / "results" / "x" / "figure.png").read_bytes() == b"drawn as png"
    save("x", [{"n": np.int64(1)}, {"n": 2.5}], figure={"a.svg": Figure(), "b.bin": b"1"})
    assert read_rows("results/x")["n"].to_pylist() == [1.0, 2.5]
    assert (tmp_path / "results" / "x" / "a.svg").read_bytes() == b"drawn as svg"
    assert "differs from the committed rows (2 differences)" in capsys.readouterr().out


def test_saving_from_an_interactive_session(tmp_path):
    done = python("from vecalloc.store import save; save('x', [{'n': 1}], parameters={'a': 1})", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads((tmp_path / "results" / "x" / "provenance.json").read_text())
    assert said["script"] is None and said["ids"] == [content_id({"script": "", "parameters": {"a": 1}})]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "../x"}, "name '../x' is no name"),
        ({"name": ""}, "name '' is no name"),
        ({"name": ".."}, "is no name for a folder"),
        ({"rows": []}, "the rows to save are no table"),
        ({"rows": ["a"]}, "the rows to save are no table"),
        ({"rows": [{"n": 1}, {"n": "x"}]}, "column 'n' of the rows is not of one kind"),
        ({"rows": [{"n": 2**64}]}, "column 'n' of the rows is not of one kind"),
        ({"figure": 3}, "figure 'figure.png' is a int"),
        ({"parameters": {"x": math.nan}}, "parameters.x is nan"),
    ],
)
def test_what_cannot_be_saved(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        save(**({"name": "x", "rows": [{"n": 1}]} | arguments))
    assert list(tmp_path.iterdir()) == []


def test_a_script_does_not_take_an_experiments_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Store("results/x", "quickstart", HERE).write_results(estimates())
    with pytest.raises(InputError, match="experiment 'quickstart', not of 'x'"):
        save("x", [{"n": 1}])
