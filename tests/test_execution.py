"""Who runs the batches, and who is killed meanwhile: the rows are always the same text.

Most of this happens in processes of its own, on loopback.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import studies
from studies import command, environment, rows_text, run, vecalloc, write

from vecalloc import executors, study
from vecalloc.errors import InputError
from vecalloc.executors import Workers, run_batch, workers_of
from vecalloc.experiment import load_experiment
from vecalloc.store import Store
from vecalloc.store import environment as own_environment
from vecalloc.sweep import run_experiment

LONG = {
    "run/requests": 3000,
    "run/replicas": 60,
    "sweep/grid": {"workload.load": [0.5 + 0.05 * k for k in range(16)]},
    "workload/sizes": {"dist": "lognorm", "s": 1.0, "scale": 128, "max": 1024, "bounds": "clip"},
}
"""At least 16 batches, some seconds on one core."""

LINES = 16 * 2 * 60


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The rows of LONG, from one thread."""
    folder = tmp_path_factory.mktemp("expected")
    done = run(folder, LONG, executor="threads:1")
    assert done.progress.replicas == LINES
    return rows_text(folder)


def parts(folder, name="small"):
    """The parts that are there."""
    return list(Path(folder).glob(f"results/{name}/parts/*.parquet"))


def until(condition, seconds=60.0):
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def started(file, *options, **how):
    """`vecalloc run` of a file, begun, in a process of its own."""
    words = command("run", file, "--results", file.parent / "results", *options)
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment(), **how}
    return subprocess.Popen(words, **how)


def finished(file, expected, *options, lines=LINES):
    """Run to the end; return how many lines were there before."""
    done = vecalloc("run", file, "--results", file.parent / "results", *options)
    assert done.returncode == 0, done.stderr
    assert rows_text(file.parent, file.stem) == expected
    (told,) = (line for line in done.stderr.splitlines() if "replicas simulated" in line)
    made, there = (int(word.replace(",", "")) for word in told.split() if word.replace(",", "").isdecimal())
    assert made + there == lines
    return there


# --- the same from everybody -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["threads:2", "threads:5", "processes:2"])
def test_rows_do_not_depend_on_the_executor(tmp_path, expected, executor):
    assert run(tmp_path, LONG, executor=executor).progress.replicas == LINES
    assert rows_text(tmp_path) == expected


def test_two_shards_merged(tmp_path, expected):
    halves = [run(tmp_path, LONG, shard=(k, 2)).progress.replicas for k in (1, 2)]
    assert halves == [LINES // 2] * 2
    assert run(tmp_path, LONG).progress.replicas == 0
    assert rows_text(tmp_path) == expected


@pytest.mark.skipif(not find_spec("loky"), reason="loky is not installed")
def test_any_other_executor(tmp_path, expected):
    assert finished(write(tmp_path, LONG), expected, "--executor", "studies:loky_pool") == 0


QUICKSTART = studies.ROOT / "experiments" / "quickstart.toml"

QUICKSTART_LINES = 4 * 6 * 256


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """What the first experiment comes to: where the same bits are to be expected, what is committed."""
    folder = tmp_path_factory.mktemp("quickstart")
    study.study(QUICKSTART, "threads:2", folder)
    text = (folder / "quickstart" / "rows.csv").read_text()
    committed = studies.ROOT / "results" / "quickstart"
    if json.loads((committed / "provenance.json").read_text())["environment"] == own_environment():
        assert text == (committed / "rows.csv").read_text()
    return text


@pytest.mark.slow
@pytest.mark.parametrize("how", ["threads:1", "threads:5", "processes:2", "dask", "shards", "studies:loky_pool"])
def test_quickstart_is_the_same_text_from_everybody(tmp_path, quickstart, how):
    if how == "dask":
        pytest.importorskip("distributed")
        with cluster(tmp_path, 2) as (address, _):
            done = vecalloc("run", QUICKSTART, "--results", tmp_path, "--executor", address)
    elif how == "shards":
        for k in (1, 2):
            assert vecalloc("run", QUICKSTART, "--results", tmp_path, "--shard", f"{k}/2").returncode == 0
        done = vecalloc("run", QUICKSTART, "--results", tmp_path)
        assert "quickstart: 0 replicas simulated" in done.stderr
    else:
        if how.startswith("studies"):
            pytest.importorskip("loky")
        done = vecalloc("run", QUICKSTART, "--results", tmp_path, "--executor", how)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "quickstart" / "rows.csv").read_text() == quickstart


# --- workers are killed ----------------------------------------------------------------------------------------------


def test_a_process_that_is_killed_is_replaced(tmp_path, expected):
    killed = []

    def kill_one(progress):
        if progress.replicas > len(killed) * LINES // 4:
            victim = multiprocessing.active_children()[0]
            os.kill(victim.pid, signal.SIGKILL)
            killed.append(victim.pid)

    done = run(tmp_path, LONG, executor="processes:2", report=kill_one)
    assert len(set(killed)) == len(killed) > 1
    assert done.progress.replicas == LINES
    assert rows_text(tmp_path) == expected


class Breaking(Executor):
    """Runs n - 1 batches, breaks with the n-th, and takes no more."""

    def __init__(self, n):
        self.left = n

    def submit(self, function, *arguments):
        self.left -= 1
        if self.left < 0:
            raise BrokenExecutor("broken for good")
        future = Future()
        if self.left:
            future.set_result(function(*arguments))
        else:
            future.set_exception(BrokenExecutor("a worker was killed"))
        return future


def simulated(tmp_path, workers, report=lambda progress: None):
    """Run LONG by these workers; return what was kept of it."""
    experiment = load_experiment(write(tmp_path, LONG))
    lines = []
    run_experiment(experiment, lambda ids: {}, lines.append, workers, report=report)
    return lines


def test_batches_of_a_broken_executor_are_sent_again(tmp_path):
    made = []

    def make():
        made.append(Breaking(4))
        return made[-1]

    lines = simulated(tmp_path, Workers("breaking", 3, make))
    assert len(made) > 3
    pairs = [pair for table in lines for pair in zip(*(table[x].to_pylist() for x in ("id", "replica")), strict=True)]
    assert len(set(pairs)) == len(pairs) == LINES  # and none twice


def test_workers_that_are_lost_again_and_again(tmp_path):
    """A batch that is too large for the memory kills whoever takes it."""
    made = []

    def make():
        made.append(Breaking(1))
        return made[-1]

    with pytest.raises(InputError, match=r"--executor x: workers were lost 11 times .*BrokenExecutor.*memory"):
        simulated(tmp_path, Workers("x", 2, make))
    assert len(made) == 11


# --- Dask ------------------------------------------------------------------------------------------------------------


@contextmanager
def cluster(folder, workers):
    """A scheduler and workers in processes of their own: its address, and the workers."""
    file = folder / "scheduler.json"
    how = {"env": environment() | {"PYTHONWARNINGS": ""}, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    quiet = ["--no-dashboard", "--scheduler-file", str(file)]
    module = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    processes = [subprocess.Popen([*module, "--host", "127.0.0.1", "--port", "0", *quiet], **how)]
    try:
        until(file.exists)
        module = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-nanny", "--nthreads", "1"]
        for k in range(workers):
            words = [*module, "--local-directory", str(folder / str(k)), "--host", "127.0.0.1", *quiet]
            processes.append(subprocess.Popen(words, **how))
        yield f"dask:{json.loads(file.read_text())['address']}", processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


dask_ = pytest.mark.skipif(
    not find_spec("distributed"), reason="Dask is not installed: pip install 'dask[distributed]'"
)


@dask_
def test_a_dask_cluster_that_loses_a_worker(tmp_path, expected):
    with cluster(tmp_path, 2) as (address, processes):
        driver = started(write(tmp_path, LONG), "--executor", address)
        until(lambda: len(parts(tmp_path)) >= 2 or driver.poll() is not None)
        processes[1].send_signal(signal.SIGKILL)
        killed_at = len(parts(tmp_path))
        _, told = driver.communicate(timeout=120)
        assert driver.returncode == 0, told
        assert f"{LINES:,} replicas simulated, 0 were there" in told
        assert killed_at < len(parts(tmp_path))
    assert rows_text(tmp_path) == expected


@dask_
@pytest.mark.slow
def test_a_dask_cluster_that_goes_away(tmp_path, expected):
    with cluster(tmp_path, 1) as (address, processes):
        driver = started(write(tmp_path, LONG), "--executor", address)
        until(lambda: len(parts(tmp_path)) >= 2 or driver.poll() is not None)
        processes[0].kill()
        _, told = driver.communicate(timeout=120)
    assert driver.returncode == 2, told
    assert "Traceback" not in told
    assert f"--executor is {address!r}: no scheduler answers there" in told and "whatever was finished is kept" in told
    assert finished(write(tmp_path, LONG), expected) > 0


@dask_
def test_no_scheduler(monkeypatch):
    monkeypatch.setattr(executors, "_PATIENCE", 0.5)
    with pytest.raises(
        InputError, match=r"--executor is 'dask:tcp://127\.0\.0\.1:9': no scheduler answers there"
    ) as told:
        workers_of("dask:tcp://127.0.0.1:9")
    assert "start one with `dask scheduler`" in str(told.value) and "\n" not in str(told.value)
    with pytest.raises(InputError, match=r"--executor is 'dask:nonsense://x': no scheduler answers there"):
        workers_of("dask:nonsense://x")


# --- the driver is killed --------------------------------------------------------------------------------------------


def kills(file, count, moment):
    """Kill `vecalloc run` of a file `count` times, each at a moment after it began; return the parts that each left."""
    left = []
    for kill in range(count):
        before = set(parts(file.parent, file.stem))
        driver = started(file, "--executor", "threads:2")
        moment(kill, driver, before)
        driver.kill()
        _, told = driver.communicate()
        assert driver.returncode == -signal.SIGKILL, told  # it was not at its end
        after = set(parts(file.parent, file.stem))
        assert before <= after
        left.append(after - before)
    return left


def test_three_kills(tmp_path, expected):
    def moment(kill, driver, before):
        until(lambda: len(parts(tmp_path)) > len(before) or driver.poll() is not None)

    file = write(tmp_path, LONG)
    assert all(kills(file, 3, moment))
    assert 0 < finished(file, expected) < LINES
    assert not list(tmp_path.glob("results/**/*.tmp"))


@pytest.mark.slow
def test_quickstart_after_twenty_kills_at_random_moments(tmp_path, quickstart):
    """Every fifth kill comes while a second batch is at work, the four that follow mostly before the first one is back.

    Two threads cut what is left into eight batches, and a run is killed at its second one at the latest: none gets
    through.
    """
    file = Path(shutil.copy(QUICKSTART, tmp_path))
    dice, first_batch = random.Random(20), 0.0

    def moment(kill, driver, before):
        nonlocal first_batch

        def batches():
            return len(parts(tmp_path, "quickstart")) - len(before)

        start = time.monotonic()
        if kill % 5 == 0:
            until(lambda: batches() or driver.poll() is not None)
            first_batch = time.monotonic() - start
        end = time.monotonic() + dice.uniform(0, 0.8 * first_batch)
        until(lambda: time.monotonic() >= end or batches() >= 2)

    left = kills(file, 20, moment)
    assert all(left[::5])
    there = sum(pq.read_metadata(part).num_rows for part in set().union(*left))
    assert there < QUICKSTART_LINES
    assert finished(file, quickstart, lines=QUICKSTART_LINES) == there  # all that they left was used
    assert not list(tmp_path.glob("results/**/*.tmp"))


def test_processes_end_with_a_driver_that_is_killed(tmp_path, expected):
    driver = started(
        write(tmp_path, LONG), "--executor", "processes:2", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(lambda: parts(tmp_path) or driver.poll() is not None)
    family = descendants(driver.pid)
    assert len(family) >= 3  # the fork server, and two
    driver.kill()
    driver.wait()
    try:
        until(lambda: not any(map(alive, family)), 20)
    finally:
        for pid in filter(alive, family):
            os.kill(pid, signal.SIGKILL)
    assert finished(write(tmp_path, LONG), expected) > 0


def descendants(pid):
    """Processes below a process."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pid):
    """Whether a process runs (one that nobody has waited for does not)."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["threads:1", "processes:2"])
def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path, expected, executor):
    driver = started(write(tmp_path, LONG), "--executor", executor, start_new_session=True)
    until(lambda: len(parts(tmp_path)) >= 2 or driver.poll() is not None)
    before = len(parts(tmp_path))
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: all processes of the group
    _, told = driver.communicate(timeout=60)
    assert driver.returncode == 130, told
    *first, last = told.splitlines()
    assert first in ([], ["stopping: what has begun is finished and kept (Ctrl-C again: it is not)"])
    how = f"vecalloc run {tmp_path / 'small.toml'} --executor {executor} --results {tmp_path / 'results'}"
    assert last == f"stopped: every finished batch is kept, and the same again goes on: {how}"
    assert not (tmp_path / "results" / "small" / "rows.csv").exists()
    assert len(parts(tmp_path)) > before
    assert 0 < finished(write(tmp_path, LONG), expected) < LINES


def test_processes_leave_ctrl_c_to_the_driver():
    """Else the batch that a process is at would be lost, and its queue simulated all the same."""
    with workers_of("processes:1")._make() as pool:
        assert pool.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    endless = {"run/requests": 10**9, "run/replicas": 1, "sweep": None}
    words = command("run", write(tmp_path, endless), "--results", tmp_path / "results")
    driver = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment())
    until((tmp_path / "results" / "small" / "parts" / "format.json").exists)
    time.sleep(2.0)  # for numba, and the first requests
    driver.send_signal(signal.SIGINT)
    assert driver.stderr.readline().startswith("stopping: what has begun")
    assert driver.poll() is None
    driver.send_signal(signal.SIGINT)
    _, told = driver.communicate(timeout=5)
    assert driver.returncode == 130
    assert told.startswith("stopped: ") and told.count("\n") == 1


def test_what_had_begun_is_kept(tmp_path):
    """Whatever ends a run: a batch that is being simulated is waited for."""
    begun, ended = threading.Event(), threading.Event()

    class Two(ThreadPoolExecutor):
        def submit(self, function, *arguments):
            number = len(submitted)
            submitted.append(number)

            def work():
                if number == 0:
                    begun.wait()
                elif number == 1:
                    begun.set()
                    ended.wait()
                return function(*arguments)

            return super().submit(work)

    class Stop(Exception):
        pass

    def stop(progress):
        if progress.replicas:
            threading.Timer(0.3, ended.set).start()
            raise Stop

    submitted = []
    lines = []
    experiment = load_experiment(write(tmp_path, LONG))
    with pytest.raises(Stop):
        workers = Workers("two", 1, lambda: Two(2))  # which gets one batch and the next
        run_experiment(experiment, lambda ids: {}, lines.append, workers, report=stop)
    assert len(submitted) == len(lines) == 2


# --- something is wrong ----------------------------------------------------------------------------------------------


def test_a_workload_that_draws_what_it_must_not(tmp_path):
    """One error, from inside a batch; what others had finished is kept."""
    sizes = {"sweep/grid": {"workload.sizes": [100, {"dist": "norm", "loc": 300, "scale": 80}]}, "workload/load": 0.7}
    changes = {"workload/sizes": 100, "run/requests": 4000, "run/replicas": 64, **sizes}
    file = write(tmp_path, changes)
    done = vecalloc("run", file, "--results", tmp_path / "results", "--executor", "processes:2")
    assert done.returncode == 2
    assert done.stderr.startswith("vecalloc: workload.sizes: the law drew -") and done.stderr.count("\n") == 1
    assert parts(tmp_path)
    good = changes | {"sweep/grid": {"workload.sizes": [100]}}
    assert run(tmp_path, good).progress.kept > 0


def test_a_full_disk(tmp_path, expected):
    """A limit on the size of files is met in the middle of a run: one message, and what was finished is kept."""
    limit = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from vecalloc import study; from vecalloc.store import Store; add = Store.add; done = []\n"
        "def limited(self, lines):\n"
        "    if len(done) == 3: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "    done.append(add(self, lines))\n"
        "Store.add = limited; sys.argv = ['vecalloc', *sys.argv[1:]]\n"
        "from vecalloc.cli import main; main()"
    )
    words = [sys.executable, "-c", limit, "run", str(write(tmp_path, LONG)), "--results", str(tmp_path / "results")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=environment())
    assert done.returncode == 2
    assert done.stderr.startswith(f"vecalloc: {tmp_path}/results/small/parts: cannot be written (File too large)")
    assert "what was finished (3 parts) is kept; make room and run again" in done.stderr
    assert done.stderr.count("\n") == 1
    assert len(parts(tmp_path)) == 3
    assert 0 < finished(write(tmp_path, LONG), expected) < LINES


def test_a_truncated_part_is_redone_and_this_is_said(tmp_path, expected):
    run(tmp_path, LONG)
    victim = sorted(parts(tmp_path))[1]
    victim.write_bytes(victim.read_bytes()[:-100])
    done = run(tmp_path, LONG)
    assert 0 < done.progress.replicas < LINES
    (note,) = done.notes
    assert str(victim) in note and "truncated" in note and "redone" in note
    assert rows_text(tmp_path) == expected
    again = run(tmp_path, LONG)
    assert (again.progress.replicas, again.notes) == (0, [])


def test_parts_of_another_environment_are_redone_and_this_is_said(tmp_path, expected, monkeypatch):
    monkeypatch.setattr(study, "environment", lambda: own_environment() | {"numpy": "1.0"})
    run(tmp_path, LONG)
    monkeypatch.undo()
    done = run(tmp_path, LONG)
    assert (done.progress.replicas, done.progress.kept) == (LINES, 0)
    assert len(done.notes) == 1 and "made with numpy 1.0 instead of" in done.notes[0]


def test_workers_of_another_environment_are_refused():
    with pytest.raises(InputError, match=r"the worker on .* has numpy .* instead of 1\.0, scipy .* instead of None: "):
        run_batch(None, {key: x for key, x in (own_environment() | {"numpy": "1.0"}).items() if key != "scipy"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("threads:0", "write a number of workers from 1 to 4096"),
        ("threads:two", "write a number of workers from 1 to 4096"),
        ("processes:-1", "write a number of workers from 1 to 4096"),
        ("processes:1e3", "write a number of workers from 1 to 4096"),
        ("dask:", "write the scheduler's address"),
        ("mpi", "write threads:N, processes:N, dask:ADDRESS or package.module:factory"),
        ("no_such_module:pool", "No module named 'no_such_module'"),
        ("studies:no_such_pool", "has no attribute 'no_such_pool'"),
        ("studies:rows_text", "rows_text"),
        ("studies:environment", "environment gives dict, which is no Executor"),
        ("studies:ROOT", "ROOT"),
        (":pool", "write threads:N"),
    ],
)
def test_executors_that_cannot_be(text, told):
    with pytest.raises(InputError) as error:
        workers_of(text)
    assert str(error.value).startswith(f"--executor is {text!r}") and told in str(error.value)
    assert "\n" not in str(error.value)


def test_dask_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"Dask is not installed: pip install 'vecalloc\[dask\]'"):
        workers_of("dask:tcp://127.0.0.1:1")


def test_all_cores_are_those_that_this_process_may_use():
    assert workers_of().count == workers_of("threads").count == workers_of("processes").count == executors.cores()
    some = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, [min(some)])
        assert workers_of().count == 1
    finally:
        os.sched_setaffinity(0, some)
    assert workers_of("threads:3").count == workers_of("processes:3").count == 3


def test_a_factory_says_how_many_it_has(monkeypatch):
    monkeypatch.setattr(studies, "pool", lambda: ThreadPoolExecutor(3), raising=False)
    with workers_of("studies:pool") as workers:
        assert workers.count == 3


def test_the_store_is_begun_once_the_workers_are_there(tmp_path):
    with pytest.raises(InputError):
        run(tmp_path, executor="studies:no_such_pool")
    assert not (tmp_path / "results").exists()
    assert Store(tmp_path / "results" / "small", "small", own_environment()).read() == {}
