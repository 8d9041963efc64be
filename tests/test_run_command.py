"""`vecalloc run` as a person meets it: what it prints and writes, how it complains, and with which exit code."""

import json
import os
import pty
import re
import subprocess
import sys

import pyarrow as pa
import pytest
from studies import SMALL, command, environment, rows_text, write

from vecalloc import cli
from vecalloc.experiment import json_schema
from vecalloc.store import read_rows
from vecalloc.sweep import Progress

REPLICAS = SMALL["run"]["replicas"]
ALL = 2 * 2 * REPLICAS


@pytest.fixture
def vecalloc(capsys, monkeypatch):
    """Call the command line in this process: exit code, stdout, stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["vecalloc", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            cli.main()
        told = capsys.readouterr()
        return done.value.code or 0, told.out, told.err

    return call


@pytest.fixture
def run(vecalloc, tmp_path):
    """Write an experiment with changes and `vecalloc run` it, the results in tmp_path/results."""

    def call(*options, **changes):
        file = write(tmp_path, {key.replace("__", "/"): value for key, value in changes.items()})
        return vecalloc("run", file, "--results", tmp_path / "results", *options)

    return call


def snapshot(folder):
    """Every file below a folder, with what it holds and when it was written."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def remove_parts(tmp_path):
    """What a clean clone has: what git ignores is not there."""
    for path in (tmp_path / "results" / "small" / "parts").iterdir():
        path.unlink()
    (tmp_path / "results" / "small" / "parts").rmdir()


# --- what it prints and writes ---------------------------------------------------------------------------------------


def test_a_table_and_what_it_rests_on(run, tmp_path):
    code, out, err = run()
    assert code == 0
    heading, titles, *rows = out.splitlines()
    assert heading == "Which policy fails least?  (± 95% intervals)"
    assert re.split("  +", titles) == ["load", "policy", "failure_ratio", "- best-fit", "holes", "replicas"]
    assert [row.count(" ± ") for row in rows] == [3, 2, 3, 2]
    assert [row.split()[:2] for row in rows[:2]] == [["0.7", "first-fit"], ["0.7", "best-fit"]]
    said, where = err.splitlines()
    assert said == f"small: {ALL} replicas simulated, 0 were there"
    assert where == f"{tmp_path}/results/small: there were no rows before"
    files = {path.name for path in (tmp_path / "results" / "small").iterdir()} - {"figure.png"}
    assert files == {"experiment.toml", "rows.csv", "provenance.json", "timing.json", "parts"}
    assert (tmp_path / "results" / "small" / "experiment.toml").read_text() == (tmp_path / "small.toml").read_text()
    timing = json.loads((tmp_path / "results" / "small" / "timing.json").read_text())
    assert timing["replicas"] == ALL and timing["events"] > 0 and timing["seconds"] > 0


def test_again_it_prints_at_once_and_rewrites_nothing(run, tmp_path):
    _, first, _ = run()
    before = snapshot(tmp_path / "results")
    code, out, err = run()
    assert (code, out) == (0, first)
    assert err.splitlines()[0] == f"small: 0 replicas simulated, {ALL} were there"
    assert err.splitlines()[1].endswith("results/small: identical to the committed rows")
    assert snapshot(tmp_path / "results") == before


def test_json(run, tmp_path):
    code, out, _ = run("--json")
    assert code == 0
    assert pa.Table.from_pylist(json.loads(out)).to_pylist() == read_rows(tmp_path / "results" / "small").to_pylist()


def test_a_run_that_differs_says_where(run, tmp_path):
    run()
    code, _, err = run(run__replicas=13)
    assert code == 0
    assert "differs from the committed rows (4 differences)" in err
    assert err.count("  workload.load=") == 4 and "replicas 12 -> 13" not in err  # the first two columns, and a count


def test_fresh_forgets(run, tmp_path):
    run()
    text = rows_text(tmp_path)
    _, _, err = run("--fresh")
    assert err.startswith(f"small: {ALL} replicas simulated, 0 were there")
    assert rows_text(tmp_path) == text


def test_results_lie_beside_experiments(vecalloc, tmp_path, monkeypatch):
    file = write(tmp_path / "experiments", {"run/replicas": 2})
    assert vecalloc("run", file)[0] == 0
    assert (tmp_path / "results" / "small" / "rows.csv").exists()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert vecalloc("run", write(tmp_path / "elsewhere", {"run/replicas": 2}))[0] == 0
    assert (tmp_path / "elsewhere" / "results" / "small" / "rows.csv").exists()


def test_with_a_target_the_table_says_whether_it_was_met(run):
    until = {"metric": "holes", "half_width": 1e-9}
    code, out, _ = run(run__replicas=None, run__until=until, run__cap=3)
    assert code == 0
    assert out.splitlines()[1].split()[-2:] == ["replicas", "met"]
    assert all(row.split()[-2:] == ["3", "False"] for row in out.splitlines()[2:])


# --- shards ----------------------------------------------------------------------------------------------------------


def test_shards(run, tmp_path):
    code, out, err = run("--shard", "2/2")
    assert (code, out) == (0, "")
    assert err.splitlines() == [
        f"small: {ALL // 2} replicas simulated, 0 were there",
        f"shard 2/2 is done: vecalloc run {tmp_path / 'small.toml'} merges the shards",
    ]
    assert not (tmp_path / "results" / "small" / "rows.csv").exists()
    _, _, err = run()
    assert err.startswith(f"small: {ALL // 2} replicas simulated, {ALL // 2} were there")


def test_a_shard_without_a_part(run):
    _, _, err = run("--shard", "5/5", run__replicas=1)
    assert err.startswith("small: 0 replicas simulated, 0 were there (this shard has no part in the experiment)\n")


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/2/3", "one/2", "/", "-1/2", "1/0"])
def test_shards_that_cannot_be(run, tmp_path, text):
    code, out, err = run(f"--shard={text}")
    assert (code, out) == (2, "")
    assert err == f"vecalloc: --shard is {text!r}: write i/n with 1 <= i <= n, such as 3/64\n"
    assert not (tmp_path / "results").exists()


def test_options_that_exclude_each_other(run, tmp_path):
    assert run("--shard", "1/2", "--check")[::2] == (2, "vecalloc: --check needs all rows: leave --shard out\n")
    code, _, err = run("--shard", "1/2", "--fresh")
    assert code == 2 and err.startswith("vecalloc: --fresh with --shard would forget what the other shards have done")
    assert not (tmp_path / "results").exists()


# --- --check ---------------------------------------------------------------------------------------------------------


def test_check_finds_the_committed_rows_identical(run, tmp_path):
    run()
    remove_parts(tmp_path)
    before = snapshot(tmp_path / "results")
    code, out, err = run("--check")
    assert code == 0 and out
    assert err.splitlines() == [
        f"small: {ALL} replicas simulated, 0 were there",
        f"{tmp_path}/results/small: identical to the committed rows",
    ]
    assert snapshot(tmp_path / "results") == before
    assert not (tmp_path / "results" / "small" / "parts").exists()


def test_check_uses_parts_unless_they_are_to_be_forgotten(run, tmp_path):
    run()
    before = snapshot(tmp_path / "results")
    assert run("--check")[2].startswith(f"small: 0 replicas simulated, {ALL} were there")
    assert run("--check", "--fresh")[2].startswith(f"small: {ALL} replicas simulated, 0 were there")
    assert snapshot(tmp_path / "results") == before


def test_check_finds_a_changed_row(run, tmp_path):
    run()
    file = tmp_path / "results" / "small" / "rows.csv"
    header, first, *rest = file.read_text().splitlines()
    cells = first.split(",")
    cells[3] = repr(float(cells[3]) + 0.5)  # failure_ratio
    file.write_text("\n".join([header, ",".join(cells), *rest]) + "\n")
    before = snapshot(tmp_path / "results")
    code, _, err = run("--check")
    assert code == 1
    assert "differs from the committed rows (1 difference)" in err
    assert f"workload.load=0.7, policy=first-fit: failure_ratio {cells[3]} -> " in err
    assert snapshot(tmp_path / "results") == before


def test_check_without_rows(run, tmp_path):
    code, _, err = run("--check")
    assert code == 1
    assert err.splitlines()[-1].endswith("there were no rows before")
    assert not (tmp_path / "results").exists()


def test_check_agrees_with_rows_of_another_environment(run, tmp_path):
    run()
    folder = tmp_path / "results" / "small"
    provenance = json.loads((folder / "provenance.json").read_text())
    provenance["environment"]["numpy"] = "1.0"
    (folder / "provenance.json").write_text(json.dumps(provenance))
    text = (folder / "rows.csv").read_text()
    value = text.splitlines()[1].split(",")[3]
    (folder / "rows.csv").write_text(text.replace(value, value[:-1] + ("1" if value[-1] != "1" else "2"), 1))
    code, _, err = run("--check")
    assert code == 0
    assert "agrees with the committed rows of another environment, not identical" in err


# --- --dry-run -------------------------------------------------------------------------------------------------------


def test_dry_run(run, tmp_path):
    code, out, err = run("--dry-run", run__requests=10**6)
    assert (code, err) == (0, "")
    question, what, titles, *cells = out.splitlines()
    assert question == "small: Which policy fails least?"
    assert re.fullmatch(
        r"2 cells x 2 policies; 24,000,000 requests to draw, about \d+ s on \d+ cores", what
    )  # 2 cells x 12 replicas
    assert titles.split() == ["cell", "workload.load", "pool", "requests", "policies"]
    assert [cell.split()[:4] for cell in cells] == [
        ["0", "0.7", "8,192", "1,000,000"],
        ["1", "1.1", "8,192", "1,000,000"],
    ]
    assert not (tmp_path / "results").exists()


def test_dry_run_of_what_is_missing(run, tmp_path):
    run()
    before = snapshot(tmp_path / "results")
    _, out, _ = run("--dry-run", run__replicas=20)
    assert f"{2 * 8 * 300:,} requests to draw beside {ALL} replicas that are there, about 1 s" in out
    told = json.loads(run("--dry-run", "--json", run__replicas=20)[1])
    assert (told["experiment"], told["requests"], told["replicas_kept"]) == ("small", 2 * 8 * 300, ALL)
    assert [cell["parameters"] for cell in told["cells"]] == [{"workload.load": 0.7}, {"workload.load": 1.1}]
    _, out, _ = run("--dry-run", run__replicas=None, run__until={"metric": "holes", "relative": 0.01}, run__cap=100)
    assert f"{2 * 20 * 300:,} requests to draw" in out and "(up to the next look;" in out
    assert snapshot(tmp_path / "results") == before


# --- scripts ---------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
import vecalloc as va

def main():
    pool = va.Pool(1024)
    rows = [{"size": size, "address": pool.alloc(size)} for size in (100, 200)]
    va.save("scripted", rows, parameters={"arguments": sys.argv[1:]})

if __name__ == "__main__":
    raise SystemExit("run as a program")
"""


def test_a_script_runs_and_saves(vecalloc, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path.copy())
    script = tmp_path / "experiments" / "scripted.py"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    code, out, err = vecalloc("run", script)
    assert (code, out, err) == (0, "saved to results/scripted: there were no rows before\n", "")
    assert read_rows(tmp_path / "results" / "scripted").to_pylist() == [
        {"size": 100, "address": 0},
        {"size": 200, "address": 112},
    ]
    assert vecalloc("run", script)[1] == "saved to results/scripted: identical to the committed rows\n"


def test_scripts_that_cannot_be_run(vecalloc, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path.copy())
    script = tmp_path / "x.py"
    code, _, err = vecalloc("run", script)
    assert code == 2
    assert err == f"vecalloc: {script}: there is no such file: name an experiment's .toml, or a script with a main()\n"
    script.write_text("main = 3")
    code, _, err = vecalloc("run", script)
    assert (code, err) == (
        2,
        f"vecalloc: {script} has no main(): write one that runs the study and calls vecalloc.save\n",
    )
    script.write_text("import vecalloc\ndef main(): vecalloc.save('a/b', [{'a': 1}])")
    code, _, err = vecalloc("run", script)
    assert code == 2 and err.startswith("vecalloc: name 'a/b' is no name for a folder")
    for options in (["--check"], ["--fresh"], ["--dry-run"], ["--json"], ["--shard", "1/2"], ["--executor", "threads"]):
        code, _, err = vecalloc("run", script, *options)
        assert code == 2 and err.startswith(f"vecalloc: {script}: {options[0]} is for experiments")


# --- bad input -------------------------------------------------------------------------------------------------------


def test_schema(vecalloc):
    code, out, err = vecalloc("schema")
    assert (code, err) == (0, "")
    assert json.loads(out) == json_schema()


@pytest.mark.parametrize("name", ["no_such.toml", "no_such", "."])
def test_files_that_are_not_there(vecalloc, tmp_path, name):
    code, out, err = vecalloc("run", tmp_path / name, "--results", tmp_path / "results")
    assert (code, out) == (2, "")
    assert err.startswith(f"vecalloc: {tmp_path / name}: ") and err.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_a_file_that_cannot_be_run(run, tmp_path):
    code, out, err = run(run__seed=None, run__sed=1, pool__size="8Kib")
    assert (code, out) == (2, "")
    first, *wrong = err.splitlines()
    assert first == f"vecalloc: {tmp_path / 'small.toml'}: cannot be run as it is"
    assert len(wrong) == 2 and "run.sed" in err and "pool.size" in err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("file", ["provenance.json", "parts/format.json"])
def test_a_store_of_a_newer_version(run, tmp_path, file):
    run()
    path = tmp_path / "results" / "small" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    before = snapshot(tmp_path / "results")
    for options in ([], ["--check"], ["--fresh"], ["--dry-run"]):
        code, out, err = run(*options)
        assert (code, out) == (2, "")
        assert err.startswith(f"vecalloc: {path}: written by a newer vecalloc (format 99, this one knows 1): install")
        assert err.count("\n") == 1
    assert snapshot(tmp_path / "results") == before


def test_results_of_another_experiment(run, tmp_path):
    run()
    (tmp_path / "results" / "small").rename(tmp_path / "results" / "other")
    write(tmp_path, name="other")
    (tmp_path / "results" / "small").mkdir(exist_ok=True)
    for path in (tmp_path / "results" / "other").iterdir():
        path.rename(tmp_path / "results" / "small" / path.name)
    provenance = tmp_path / "results" / "small" / "provenance.json"
    provenance.write_text(provenance.read_text().replace('"experiment": "small"', '"experiment": "other"'))
    before = snapshot(tmp_path / "results")
    code, out, err = run()
    assert (code, out) == (2, "")
    assert err == (
        f"vecalloc: {provenance}: the folder holds results of the experiment 'other', not of 'small': "
        "move it away, or use another one\n"
    )
    assert snapshot(tmp_path / "results") == before


def test_a_truncated_part(run, tmp_path):
    run()
    text = rows_text(tmp_path)
    victim = min((tmp_path / "results" / "small" / "parts").glob("*.parquet"))
    victim.write_bytes(victim.read_bytes()[:50])
    code, _, err = run()
    assert code == 0
    note, said, _ = err.splitlines()
    assert note.startswith(f"note: {victim} is truncated or damaged") and note.endswith("what it held will be redone")
    assert not said.startswith("small: 0 replicas")
    assert rows_text(tmp_path) == text


def test_a_folder_that_cannot_be_written(vecalloc, tmp_path):
    (tmp_path / "results").write_text("a file")
    code, out, err = vecalloc("run", write(tmp_path), "--results", tmp_path / "results")
    assert (code, out) == (2, "")
    assert err.startswith(f"vecalloc: {tmp_path}/results/small") and err.count("\n") == 1


def test_an_unknown_executor(run, tmp_path):
    code, out, err = run("--executor", "treads:2")
    assert (code, out) == (2, "")
    assert err.startswith("vecalloc: --executor is 'treads:2': ") and "write threads:N" in err
    assert not (tmp_path / "results").exists()


# --- fast where nothing is to be simulated ---------------------------------------------------------------------------


def modules_after(*arguments):
    """What a command has loaded when it ends, in a process of its own; and its exit code."""
    code = (
        "import sys, vecalloc.cli as c; sys.argv[:1] = ['vecalloc']\n"
        "try: c.main()\nexcept SystemExit as e: code = e.code or 0\n"
        "print('LOADED', code, *sys.modules, file=sys.stderr)"
    )
    words = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment())
    _, code, *modules = done.stderr.splitlines()[-1].split()
    return int(code), set(modules)


def test_only_who_simulates_loads_numba(run, tmp_path):
    results = ["--results", tmp_path / "results"]
    bad = tmp_path / "bad.toml"
    bad.write_text("question = 3")
    for arguments in (
        ["run", bad],
        ["run", tmp_path / "no_such.toml"],
        ["run", write(tmp_path), *results, "--shard", "x"],
        ["schema"],
    ):
        code, modules = modules_after(*arguments)
        assert code == (0 if arguments == ["schema"] else 2)
        assert not modules & {"numba", "scipy.stats"}
    run()
    for options in ([], ["--check"], ["--dry-run"]):
        code, modules = modules_after("run", write(tmp_path), *results, *options)
        assert code == 0
        assert not modules & {"numba", "matplotlib"}


# --- progress --------------------------------------------------------------------------------------------------------


def test_progress_in_words():
    progress = Progress(cells=4, planned=8e9)
    assert cli._state_of(progress, 0.0) == "0 of 4 cells"
    progress = Progress(4, 3, replicas=5000, events=10**8, done=6e9, planned=8e9, half_width=0.00213, target=0.001)
    assert cli._state_of(progress, 10.0) == (
        "3 of 4 cells, 500 replicas/s, 10.0 M events/s, half-width 0.0021 of 0.001, 3 s left"
    )
    progress.planned = 6e11
    assert cli._state_of(progress, 10.0).endswith(", 16 min left")
    progress.planned = 6e12
    assert cli._state_of(progress, 10.0).endswith(", 2.8 h left")
    progress.stopping = True
    assert cli._state_of(progress, 10.0).startswith("stopping: ")


def test_plain_lines_where_there_is_no_terminal(run, monkeypatch):
    monkeypatch.setattr(cli, "_PLAIN_EVERY", 0.0)
    _, _, err = run()
    *lines, last, _, _ = err.splitlines()
    assert all(
        re.match(r"\d of 2 cells(, [\d,]+ replicas/s, \d+\.\d M events/s, \d+ s left)?$", line) for line in lines
    )
    assert re.match(r"2 of 2 cells, [\d,]+ replicas/s, \d+\.\d M events/s, 1 s left", last)
    monkeypatch.setattr(cli, "_PLAIN_EVERY", 1000.0)
    assert len(run("--fresh")[2].splitlines()) == 2


def test_a_line_that_is_written_over_on_a_terminal(tmp_path):
    until = {"metric": "holes", "half_width": 0.05}
    changes = {"run/replicas": None, "run/until": until, "run/cap": 400, "run/requests": 3000}
    inside, outside = pty.openpty()
    words = command("run", write(tmp_path, changes), "--results", tmp_path / "results")
    terminal = environment() | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=outside, text=True, env=terminal) as driver:
        os.close(outside)
        shown = b""
        while True:
            try:
                more = os.read(inside, 65536)
            except OSError:  # Linux: nobody holds the other end any more
                break
            shown += more
        out = driver.stdout.read()
    os.close(inside)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", shown.decode()).replace("\r", "\n")
    assert driver.returncode == 0, text
    assert re.search(
        r"\d of 2 cells, [\d,]+ replicas/s, \d+\.\d M events/s, half-width 0\.\d+ of 0\.05, \d+ s left", text
    )
    assert b"\x1b[2K" in shown  # written over
    assert "Which policy fails least?" in out
    last = text.strip().splitlines()
    assert last[-1].endswith("there were no rows before")
    assert any("replicas simulated, 0 were there" in line for line in last)


def test_help_is_there_for_each_option(vecalloc):
    code, out, _ = vecalloc("run", "--help")
    assert code == 0
    for option in ("--executor", "--results", "--shard", "--fresh", "--check", "--dry-run", "--json"):
        assert option in out
