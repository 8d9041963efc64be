"""What kernel.py promises: no reference counting in an operation, and a cache that is warm but never stale."""

import ast
import json
import os
import shutil
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numba
import pytest
from numba import njit, types

import vecalloc
from vecalloc import kernel
from vecalloc.policies.table import Rules

PACKAGE = Path(vecalloc.__file__).parent
FILES = sorted(path.stem for path in (PACKAGE / "policies").glob("*.py") if path.stem not in ("__init__", "table"))

needs_jit = pytest.mark.skipif(not kernel.JIT, reason="nothing is compiled")

# --- reference counting ----------------------------------------------------------------------------------------------


def nrt_calls(dispatcher, *types_of_arguments):
    """The calls to numba's reference counting in the machine code of a function compiled for these types."""
    dispatcher.compile(types_of_arguments)
    assembly = "".join(dispatcher.inspect_asm().values())
    assert len(assembly) > 500
    return [line for line in assembly.splitlines() if "NRT_incref" in line or "NRT_decref" in line]


def test_every_variant_is_looked_at():
    assert FILES == [
        "best_fit", "best_fit_lifo", "buddy", "buddy_lifo", "first_fit", "next_fit", "static_partition",
        "static_partition_lifo", "unequal_partition", "unequal_partition_lifo", "worst_fit",
    ]  # fmt: skip


@needs_jit
@pytest.mark.parametrize("file", FILES)
def test_operations_count_no_references(file):
    policy = import_module(f"vecalloc.policies.{file}")
    state = policy.new(1, 1024, False, Rules(unit=16, units=(16, 32, 64)))
    policy.pick.compile((numba.typeof(state), types.int64))
    pool = policy.pick.nopython_signatures[0].return_type[0]
    assert nrt_calls(policy.alloc, pool, types.int64) == []
    assert nrt_calls(policy.free, pool, types.int64) == []
    assert nrt_calls(policy.largest, pool) == []
    moves = [policy.forget, policy.enter, policy.settle] if hasattr(policy, "reindex") else []
    for operation in [policy.claim, policy.is_free, *moves]:
        assert nrt_calls(operation, pool, types.int64, types.int64) == []


@needs_jit
def test_the_check_can_fail():
    @njit
    def view(array, i):
        return array[i:]

    assert nrt_calls(view, types.int64[::1], types.int64)
    policy = import_module("vecalloc.policies.first_fit")
    state = numba.typeof(policy.new(1, 1024, False, Rules()))
    assert nrt_calls(policy.pick, state, types.int64)  # this one takes views, and is called once a replica


# --- the cache -------------------------------------------------------------------------------------------------------

RUN = """
import json, sys
from importlib import import_module
import vecalloc as va
pool = va.Pool(1024, policy=sys.argv[1], granule=16)
addresses = [pool.alloc(size) for size in (100, 40, 200, 16)]
pool.free(addresses[1])
addresses.append(pool.alloc(16))
stats = import_module("vecalloc.policies." + sys.argv[1].replace("-", "_")).replay.stats
counts = [sum(stats.cache_hits.values()), sum(stats.cache_misses.values())]
print(json.dumps({"hits_misses": counts, "addresses": addresses, "from": va.__file__}))
"""

HIT, MISS = [1, 0], [0, 1]
ADDRESSES = [0, 112, 160, 368, 112]

OLD = "    remainder = size - extent\n"
NEW = "    extent += 1\n    remainder = size - extent\n"
"""An edit of mechanisms/holes.py: every block leaves a granule to its successor."""


@pytest.fixture
def house(tmp_path):
    """A copy of the package that may be edited, and a runner of fresh processes on it with a cache of its own."""
    shutil.copytree(PACKAGE, tmp_path / "vecalloc", ignore=shutil.ignore_patterns("__pycache__"))

    def run(policy="first-fit", **environment):
        settings = os.environ | {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")} | environment
        done = subprocess.run(
            [sys.executable, "-c", RUN, policy], env=settings, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert Path(answer.pop("from")).parent == tmp_path / "vecalloc"
        return answer["hits_misses"], answer["addresses"]

    def edit(file, old, new):
        path = tmp_path / "vecalloc" / file
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    run.edit, run.folder = edit, tmp_path
    return run


@needs_jit
def test_a_second_process_finds_the_machine_code(house):
    assert house() == (MISS, ADDRESSES)
    assert house() == (HIT, ADDRESSES)


@needs_jit
def test_an_edited_callee_recompiles_and_nothing_else_does(house):
    assert house() == (MISS, ADDRESSES)
    house.edit("policies/buddy.py", "order = ceil_log2(extent)", "order = ceil_log2(extent) + 0")
    house.edit("metrics.py", "Number of live blocks now.", "How many blocks live now.")
    assert house() == (HIT, ADDRESSES)
    # Three files away (first_fit -> hole_tree -> holes): every block leaves a granule to its successor.
    house.edit("mechanisms/holes.py", OLD, NEW)
    missed, addresses = house()
    assert missed == MISS
    assert addresses == [0, 128, 192, 416, 128]
    assert house() == (HIT, addresses)
    # And back again: the code of the first text is still there.
    house.edit("mechanisms/holes.py", NEW, OLD)
    assert house() == (HIT, ADDRESSES)


@needs_jit
def test_an_edit_under_a_running_process_leaves_no_false_code(house):
    """The process has the old callee in memory, and would save it under the stamp of the new file."""
    script = f"""
OLD, NEW = {OLD!r}, {NEW!r}
import sys
from importlib import import_module
from pathlib import Path
import vecalloc.policies.first_fit  # noqa
path = Path("vecalloc/mechanisms/holes.py")
path.write_text(path.read_text().replace(OLD, NEW))
"""
    settings = os.environ | {"PYTHONPATH": str(house.folder), "NUMBA_CACHE_DIR": str(house.folder / "cache")}
    command = [sys.executable, "-c", script + RUN, "first-fit"]
    done = subprocess.run(command, env=settings, cwd=house.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["addresses"] == ADDRESSES
    assert house() == (MISS, [0, 128, 192, 416, 128])


def start(house, policy):
    """A process that compiles `policy` into the house's cache."""
    settings = os.environ | {"PYTHONPATH": str(house.folder), "NUMBA_CACHE_DIR": str(house.folder / "cache")}
    command = [sys.executable, "-c", RUN, policy]
    return subprocess.Popen(command, env=settings, cwd=house.folder, stdout=subprocess.PIPE, text=True)


@needs_jit
def test_four_processes_that_compile_at_once_agree(house):
    four = [start(house, "buddy") for _ in range(4)]
    answers = [json.loads(process.communicate()[0])["addresses"] for process in four]
    assert [process.returncode for process in four] == [0] * 4
    assert len(list(house.folder.rglob("*.nbc"))) == 1
    hit, addresses = house("buddy")
    assert hit == HIT and answers == [addresses] * 4


@needs_jit
def test_killed_while_it_compiles_and_while_it_writes(house):
    """Whatever moment is chosen, the next run answers right."""
    for delay in (0.5, 1.0, 1.5, 2.0):
        process = start(house, "buddy")
        time.sleep(delay)
        process.kill()
        process.communicate()
    (_, addresses), again = house("buddy"), house("buddy")
    assert again == (HIT, addresses)
    # As if it had been killed half-way through the file, and the file had got its name all the same.
    (file,) = house.folder.rglob("*.nbc")
    whole = file.read_bytes()
    for rest in (whole[: len(whole) // 2], b"", whole[:-1] + b"x"):
        file.write_bytes(rest)
        assert house("buddy") == (MISS, addresses)
        assert house("buddy") == (HIT, addresses)


@needs_jit
def test_a_read_only_install_falls_back(house):
    """Files stand where the cache folders would be: told, beside the source, the user's. One is left."""
    blocked, temporary = house.folder / "blocked", house.folder / "temporary"
    blocked.write_text("")
    temporary.mkdir()
    (house.folder / "vecalloc" / "policies" / "__pycache__").write_text("")
    places = {name: str(blocked) for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME")}
    places |= {"TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"}
    assert house(**places) == (MISS, ADDRESSES)
    assert house(**places) == (HIT, ADDRESSES)
    assert list(temporary.rglob("first_fit.replay-*.nbc"))


@needs_jit
def test_without_any_folder_there_is_no_cache(house):
    """It compiles, keeps nothing and says nothing."""
    script = "from vecalloc import kernel\nkernel._cache_folders = lambda source: []\n" + RUN
    settings = os.environ | {"PYTHONPATH": str(house.folder), "NUMBA_CACHE_DIR": str(house.folder / "cache")}
    command = [sys.executable, "-W", "error", "-c", script, "first-fit"]
    done = subprocess.run(command, env=settings, cwd=house.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["addresses"] == ADDRESSES and answer["hits_misses"][0] == 0
    assert not list(house.folder.rglob("*.nbc"))


@needs_jit
def test_statistics_of_a_kernel_that_has_not_run():
    dispatcher = kernel.kernel(import_module("vecalloc.policies.buddy").replay.py_func)
    assert dispatcher.stats.cache_path is None and not dispatcher.stats.cache_hits


@needs_jit
def test_kernels_of_other_packages_are_not_cached():
    """Their own file is not in the stamp: a cached one would go on running old machine code."""

    def twice(n):
        return 2 * n

    dispatcher = kernel.kernel(twice)
    assert dispatcher(21) == 42
    assert dispatcher.stats.cache_path is None


# --- the stamp -------------------------------------------------------------------------------------------------------


def imported_by(module):
    """The package's modules that the text of a module names in its imports, found without kernel.py."""
    base = PACKAGE.parent.joinpath(*module.split("."))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    candidates = {name for name in names if name.startswith("vecalloc.")}
    bases = {name: PACKAGE.parent.joinpath(*name.split(".")) for name in candidates}
    return {name for name, base in bases.items() if base.with_suffix(".py").is_file() or base.is_dir()}


@pytest.mark.parametrize("module", [*(f"vecalloc.policies.{file}" for file in FILES), "vecalloc.formats.slots"])
def test_closure_holds_every_import(module):
    expected, queue = set(), {module}
    while queue:
        name = queue.pop()
        expected.add(name)
        queue |= imported_by(name) - expected
    assert set(kernel._closure(module)) == expected
    if module.startswith("vecalloc.policies."):
        assert {"vecalloc.loops", "vecalloc.ledger", "vecalloc.mechanisms.bits", "vecalloc.kernel"} <= expected
        assert not any(name.startswith("vecalloc.policies.") for name in expected - {module, "vecalloc.policies.table"})


def test_stamp_is_a_function_of_the_files():
    stamp = kernel.stamp.__wrapped__
    assert stamp("vecalloc.policies.first_fit") == stamp("vecalloc.policies.first_fit")
    stamps = {stamp(f"vecalloc.policies.{file}") for file in FILES}
    assert len(stamps) == len(FILES)
    assert all(len(text) == 24 and int(text, 16) >= 0 for text in stamps)


def test_stamp_follows_each_file_of_the_closure(monkeypatch, tmp_path):
    """Change any one file of the closure, and the stamp is another."""
    closure = kernel._closure("vecalloc.policies.first_fit")
    stamp = kernel.stamp.__wrapped__
    seen = {stamp("vecalloc.policies.first_fit")}
    for name, path in closure.items():
        changed = tmp_path / "changed.py"
        changed.write_bytes(path.read_bytes() + b"# edited\n")
        monkeypatch.setattr(kernel, "_closure", lambda module, one={name: changed}: closure | one)
        seen.add(stamp("vecalloc.policies.first_fit"))
    assert len(seen) == len(closure) + 1
