"""The README is true: its commands are CI's, its table is printed, its Python runs, and the files it names exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from vecalloc.policies.table import POLICIES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
VENV = "python3 -m venv .venv && .venv/bin/pip install -q -e "


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]
EXAMPLES = blocks("python")


def test_two_commands_each_complete_in_itself():
    assert len(COMMANDS) == 2
    assert all(command.startswith(VENV) for command in COMMANDS)


def test_ci_runs_the_test_command():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert [line for line in lines if line.startswith("python3 -m venv")] == [COMMANDS[1]]


def printed_by(arguments, *more):
    done = subprocess.run(
        [sys.executable, "-m", "vecalloc", *shlex.split(arguments), *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_table_is_what_the_first_command_prints(tmp_path):
    """Cut at the right; the numbers are those of the committed rows, so another environment may differ in digits."""
    arguments = COMMANDS[0].rpartition("&& .venv/bin/vecalloc ")[2]
    lines = printed_by(arguments, "--results", str(tmp_path)).splitlines()
    assert [line[: len(cut)] for line, cut in zip(lines, blocks("text")[0].splitlines(), strict=True)] == (
        blocks("text")[0].splitlines()
    )


def without_times(table):
    """The lines of a table but for its last column, ns/event: another machine takes another time."""
    return [line.rpartition(" ")[0].rstrip() if line[0].islower() else line for line in table.splitlines()]


def test_the_replay_table_is_what_its_command_prints():
    command = re.search(r"`\.venv/bin/vecalloc (replay [^`]*)`", README)[1]
    table = next(block for block in blocks("text") if block.startswith("sqlite3"))
    assert without_times(table) == without_times(printed_by(command))


def test_the_experiments_can_be_run():
    from vecalloc.experiment import experiment_of

    assert [len(experiment_of(text, "readme", ROOT).cells) for text in blocks("toml")] == [3, 1]


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_run(example, monkeypatch):
    monkeypatch.chdir(ROOT)
    exec(compile(example, "README.md", "exec"), {"__name__": "readme"})


def test_there_are_examples():
    assert len(EXAMPLES) == 4
    for example, shown in zip(EXAMPLES, ("va.Pool(", "va.replay(", "sample(", "reclaim="), strict=True):
        assert shown in example


def test_every_policy_and_option_is_named():
    for policy in POLICIES.values():
        row = next(line for line in README.splitlines() if line.startswith(f"| `{policy.name}` |"))
        named = set(re.findall(r"`(\w+)`", row.rsplit("|", 2)[1]))
        assert named | {"header", "alignment"} == {option.name for option in policy.options}
    for option in {option.name for policy in POLICIES.values() for option in policy.options}:
        assert f"| `{option}`" in README


def test_files_that_are_named_exist():
    for name in re.findall(r"`((?:vecalloc|tests|experiments)/[\w./]*)`", README):
        assert (ROOT / name).exists(), name
