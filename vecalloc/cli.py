"""The command line: `vecalloc run`, `replay`, `policies` and `schema`.

Heavy imports stand inside the commands, so that `--help` and every complaint about what was typed answer at once. Bad
input is one line on stderr and exit code 2; a closed pipe and Ctrl-C end quietly.
"""

import json
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer

import vecalloc
from vecalloc.errors import InputError

if TYPE_CHECKING:
    from pyarrow import Table

    from vecalloc.api import Replay
    from vecalloc.experiment import Experiment
    from vecalloc.policies.table import Policy
    from vecalloc.reclaim.table import Kind, Remedy
    from vecalloc.study import Study
    from vecalloc.sweep import Progress

app = typer.Typer(
    help="Simulate memory allocators: which way of managing free space wastes how much, and fails how often.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run the command line; every failure that a person can mend is one line."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who called
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")  # a file name may be anything
    try:
        app()
    except InputError as error:
        print(f"vecalloc: {error}", file=sys.stderr)
        sys.exit(2)
    except MemoryError as error:
        print(f"vecalloc: not enough memory ({error}): choose a smaller pool or a larger granule", file=sys.stderr)
        sys.exit(2)


@contextmanager
def _output() -> Iterator[None]:
    """What is printed inside reaches the reader, or ends the command quietly where he has seen enough (`| head`)."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise InputError(f"the output cannot be written ({error.strerror}): make room, or write elsewhere") from error


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"vecalloc {vecalloc.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    experiment: Annotated[Path, typer.Argument(help="An experiment's .toml, or a script with a main().")],
    executor: Annotated[
        str,
        typer.Option(help="threads:N, processes:N, dask:ADDRESS or package.module:factory.", show_default="all cores"),
    ] = "",
    results: Annotated[
        Path | None, typer.Option(help="The folder for results.", show_default="results/ beside experiments/")
    ] = None,
    shard: Annotated[str, typer.Option(help="i/n: only one of n parts; a run without it merges them.")] = "1/1",
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the replicas that are there.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Compare with the rows that are there; write none.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be simulated, and how long it takes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Run an experiment, or what is missing of it, and print its rows."""
    if experiment.suffix == ".py":
        given = {"executor": executor, "results": results, "shard": shard != "1/1", "fresh": fresh, "check": check}
        given |= {"dry-run": dry_run, "json": as_json}
        _run_script(experiment, [f"--{name}" for name, value in given.items() if value])
        return
    part = _shard(shard)
    if check and part[1] > 1:
        raise InputError("--check needs all rows: leave --shard out")
    if dry_run:
        _dry_run(experiment, results, as_json)
        return
    try:
        from vecalloc.study import study

        with _progress() as report:
            done = study(experiment, executor or None, results, part, fresh, check, report)
    except KeyboardInterrupt as interrupt:
        again = {"--executor": executor, "--results": results, "--shard": shard if part[1] > 1 else ""}
        words = ["vecalloc", "run", experiment, *(word for pair in again.items() if pair[1] for word in pair)]
        state = "nothing was written" if check else "every finished batch is kept, and the same again goes on"
        print(f"stopped: {state}: {shlex.join(map(str, words))}", file=sys.stderr, flush=True)
        if isinstance(interrupt.__context__, KeyboardInterrupt):
            os._exit(130)  # the second one: a batch still runs in a thread that nothing can stop, so do not wait for it
        raise typer.Exit(130) from None
    _say_what_was_simulated(done)
    if done.table is None:
        print(f"shard {shard} is done: vecalloc run {experiment} merges the shards", file=sys.stderr)
        return
    if as_json:
        _print_json(done.table.to_pylist())
    else:
        _print_rows(done.experiment, done.table)
    assert done.comparison is not None
    print(f"{done.folder}: {done.comparison.summary}", file=sys.stderr)
    for line in done.comparison.differences[:_MOST_DIFFERENCES]:
        print(f"  {line}", file=sys.stderr)
    if check and done.comparison.verdict in ("differs", "new"):
        raise typer.Exit(1)


def _say_what_was_simulated(done: "Study") -> None:
    for note in done.notes:
        print(f"note: {note}", file=sys.stderr)
    made, kept = done.progress.replicas, done.progress.kept
    nothing = " (this shard has no part in the experiment)" if not (made or kept) else ""
    print(f"{done.experiment.name}: {made:,} replicas simulated, {kept:,} were there{nothing}", file=sys.stderr)


_MOST_DIFFERENCES = 20


def _run_script(script: Path, options: Sequence[str]) -> None:
    """Run a script's main() as `python script.py` would."""
    import runpy

    if not script.is_file():
        raise InputError(f"{script}: there is no such file: name an experiment's .toml, or a script with a main()")
    if options:
        raise InputError(f"{script}: {options[0]} is for experiments; a script does all by itself: leave it out")
    sys.path.insert(0, str(script.parent))
    sys.argv = [str(script)]
    names = runpy.run_path(str(script), run_name="__vecalloc_run__")
    if not callable(names.get("main")):
        raise InputError(f"{script} has no main(): write one that runs the study and calls vecalloc.save")
    names["main"]()


def _shard(text: str) -> tuple[int, int]:
    part, _, whole = text.partition("/")
    if not (part.isdecimal() and whole.isdecimal() and 1 <= int(part) <= int(whole)):
        raise InputError(f"--shard is {text!r}: write i/n with 1 <= i <= n, such as 3/64")
    return int(part), int(whole)


def _dry_run(path: Path, results: Path | None, as_json: bool) -> None:
    """What an experiment would simulate."""
    from vecalloc.executors import cores
    from vecalloc.study import outlook

    experiment, plan = outlook(path, results)
    seconds = plan.progress.planned / 1e9 / cores()
    if as_json:
        _print_json({
            "experiment": experiment.name, "requests": plan.requests, "replicas_kept": plan.progress.kept,
            "seconds": seconds, "cells": [{"parameters": cell.parameters, "pool": cell.pool, "requests": cell.requests,
            "policies": cell.policies} for cell in experiment.cells],
        })  # fmt: skip
        return
    first = "" if experiment.until is None else " (up to the next look; more if the intervals are still too wide)"
    there = f" beside {plan.progress.kept:,} replicas that are there" if plan.progress.kept else ""
    _print_table(
        f"{experiment.name}: {experiment.question}\n"
        f"{len(experiment.cells):,} cells x {len(experiment.policies)} policies; {plan.requests:,} requests to draw"
        f"{there}{first}, about {_duration(seconds)} on {cores()} cores",
        ["cell", *experiment.sweep.keys, "pool", "requests", "policies"],
        [
            [
                str(cell.index), *(str(cell.parameters[key]) for key in experiment.sweep.keys),
                f"{cell.pool:,}", f"{cell.requests:,}", ", ".join(cell.policies),
            ]
            for cell in experiment.cells
        ],
        left=1,
    )  # fmt: skip


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def _progress() -> "Iterator[Callable[[Progress], None]]":
    """A line that is written over on a terminal; elsewhere a plain line now and then."""
    start: list[float] = []  # when there was something to report, all imports behind
    last = [0.0]

    def state(progress: "Progress") -> str:
        start[:] = start or [time.monotonic()]
        return _state_of(progress, time.monotonic() - start[0])

    if not sys.stderr.isatty():

        def plain(progress: "Progress") -> None:
            text = state(progress)
            now = time.monotonic()
            if now - max(start[0], last[0]) >= _PLAIN_EVERY or progress.stopping:
                last[0] = now
                print(text, file=sys.stderr, flush=True)

        yield plain
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    columns = (BarColumn(bar_width=16), TextColumn("{task.description}", table_column=Column()))  # a Column wraps
    with Bar(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=None)

        def live(progress: "Progress") -> None:
            text = state(progress)
            shown.update(task, completed=progress.done, total=max(progress.planned, 1), description=text)

        yield live


_PLAIN_EVERY = 10.0
"""Seconds between two lines of progress where nothing can be written over."""


def _state_of(progress: "Progress", seconds: float) -> str:
    if progress.stopping:
        return "stopping: what has begun is finished and kept (Ctrl-C again: it is not)"
    text = f"{progress.cells_done:,} of {progress.cells:,} cells"
    if progress.replicas:
        text += f", {progress.replicas / seconds:,.0f} replicas/s, {progress.events / seconds / 1e6:.1f} M events/s"
    if progress.half_width is not None and progress.target is not None:
        text += f", half-width {progress.half_width:.2g} of {progress.target:.2g}"
    if progress.done:
        text += f", {_duration(seconds * (progress.planned / progress.done - 1))} left"
    return text


def _print_rows(experiment: "Experiment", table: "Table") -> None:
    """Each metric with its interval, as wide as the digits that it leaves."""
    rows = table.to_pylist()
    flags = [name for name in ("met", "unstable", "warmup_batches") if name in table.column_names]
    titles = [*experiment.sweep.keys, "policy", *experiment.metrics, "replicas", *flags]
    first = experiment.metrics[0]
    lines = []
    for row in rows:
        values = [_with_interval(row[metric], row[f"{metric}_half_width"]) for metric in experiment.metrics]
        if experiment.compare_to is not None:
            apart = row[f"{first}_difference"]
            text = "" if apart is None else _with_interval(apart, row[f"{first}_difference_half_width"], signed=True)
            values.insert(1, text)
        swept = [str(row[key]) for key in experiment.sweep.keys]
        lines.append([*swept, row["policy"], *values, f"{row['replicas']:,}", *(str(row[flag]) for flag in flags)])
    if experiment.compare_to is not None:
        titles.insert(titles.index(first) + 1, f"- {experiment.compare_to}")
    heading = f"{experiment.question}  (± {experiment.confidence:.0%} intervals)"
    _print_table(heading, [title.rpartition(".")[2] for title in titles], lines, left=len(experiment.sweep.keys) + 1)


def _with_interval(value: float, half_width: float | None, signed: bool = False) -> str:
    """0.1234 ± 0.0012: two digits of the half-width, and the value to the same place; of nothing seen, a bound."""
    sign = "+" if signed else ""
    if half_width is None:
        return f"{value:{sign}.4g} ± ?"
    if half_width == 0:
        return f"{value:{sign}.4g} ± 0"
    if value == 0 and not signed:
        return f"< {half_width:.1g}"
    places = max(0, 1 - math.floor(math.log10(half_width)))
    return f"{value:{sign}.{places}f} ± {half_width:.{places}f}"


@app.command()
def schema() -> None:
    """Print the JSON Schema of experiment files, for editors."""
    from vecalloc.experiment import json_schema

    _print_json(json_schema())


@app.command()
def replay(
    trace: Annotated[Path, typer.Argument(help="A recorded trace: heaptrack --raw, or .npz.")],
    policy: Annotated[
        str, typer.Option(help="Policies, comma-separated: name or name[key=value,...]; all: every policy.")
    ] = "all",
    pool: Annotated[
        str, typer.Option(help="Pools, comma-separated: bytes, 4MiB, or 0.9x of the peak live extents.")
    ] = "1x",
    granule: Annotated[str, typer.Option(help="Bytes, a power of two.")] = "16",
    on_failure: Annotated[str, typer.Option(help="drop, grow or stop.")] = "drop",
    reclaim: Annotated[
        str, typer.Option(help="Remedies, comma-separated: compact[key=value,...] or none.", show_default="none")
    ] = "",
    seed: Annotated[int, typer.Option(help="Which blocks are pinned, where a remedy pins a share of them.")] = 0,
    clock: Annotated[str, typer.Option(help="event, or time where the trace carries times.")] = "event",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Replay a recorded program against policies, pools and remedies, and print what each came to."""
    from vecalloc.spec import (
        CLOCKS,
        NO_REMEDY,
        ON_FAILURES,
        checked_choice,
        checked_granule,
        make_plan,
        policies_of,
        remedies_of,
        split_list,
        whole_number,
    )

    checked_choice(on_failure, "--on-failure", ON_FAILURES)
    checked_choice(clock, "--clock", CLOCKS)
    whole_number(seed, "--seed")
    names, pools = policies_of(policy), split_list(pool)
    if not pools:
        raise InputError("no pool is named: write a size such as 4MiB, or a factor of the load such as 0.9x")
    unit = checked_granule(granule)
    for name in names:
        # Complain before anything heavy is loaded; a relative pool is checked when the load is known.
        for size in pools:
            if not size.endswith("x"):
                make_plan(name, size, unit)
    pairs, notes = _with_remedies(names, policy, remedies_of(reclaim or NO_REMEDY))
    from vecalloc import formats

    recorded = formats.read(trace)
    from vecalloc import api  # and numba with it: a file that cannot be read need not wait for it

    cases = [(name, size, remedies) for size in pools for name, remedies in pairs]

    def run(case: _Case, progress: Callable[[int], None]) -> "Replay":
        name, size, remedies = case
        return api.replay(
            recorded, name, size, unit, on_failure=on_failure, reclaim=remedies, seed=seed, clock=clock,
            progress=progress,
        )  # fmt: skip

    rows = [_row(done, len(recorded)) for done in _run_all(cases, run, len(recorded))]
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if as_json:
        _print_json({"trace": str(trace), "events": len(recorded), "rows": rows})
        return
    summary = f"{trace.name}: {len(recorded):,} events, {recorded.allocs:,} allocs, at most {recorded.slots:,} live"
    for kind, count in recorded.anomalies.items():
        summary += f"; {kind}: {count}"
    columns = [column for column in _COLUMNS if reclaim or column[0] not in _OF_REMEDIES]
    lines = [[show(row) for _, show in columns] for row in rows]
    _print_table(summary, [title for title, _ in columns], lines, left=2 if reclaim else 1)


_COLUMNS: "list[tuple[str, Callable[[dict[str, Any]], str]]]" = [
    ("policy", lambda row: row["policy"]),
    ("reclaim", lambda row: row["reclaim"]),
    ("pool", lambda row: f"{row['pool']:,}"),
    ("failed", lambda row: f"{sum(row['failures'].values()):,}"),
    ("too large", lambda row: f"{row['failures']['too-large']:,}"),
    ("capacity", lambda row: f"{row['failures']['capacity']:,}"),
    ("fragm.", lambda row: f"{row['failures']['fragmentation']:,}"),
    ("budget", lambda row: f"{row['failures'].get('budget', 0):,}"),
    ("peak live", lambda row: f"{row['peak_live']:,.0f}"),
    ("high water", lambda row: f"{row['high_water_mark']:,.0f}"),
    ("overhead", lambda row: f"{row['overhead']:.3f}"),
    ("internal", lambda row: f"{row['internal_fragmentation']:.3f}"),
    ("external", lambda row: f"{row['external_fragmentation']:.3f}"),
    ("holes", lambda row: f"{row['holes']:,.1f}"),
    ("passes", lambda row: f"{row['passes']:,}"),
    ("moved", lambda row: f"{row['moved_ratio']:.4f}"),
    ("ns/event", lambda row: f"{row['ns_per_event']:.0f}"),
]
"""The columns of a table of replays: title, and what a row shows there."""

_OF_REMEDIES = {"reclaim", "budget", "passes", "moved"}
"""Columns that are there only if somebody asked for remedies."""

_Case = tuple[str, str, str]
"""A policy, a pool, and remedies."""


def _with_remedies(
    names: Sequence[str], asked: str, remedies: "Sequence[tuple[Remedy, ...]]"
) -> tuple[list[tuple[str, str]], list[str]]:
    """Each policy with each way to reclaim, as labels, and notes.

    Where the blocks of a policy do not move like this, that is refused; but where the policy is there only because
    `all` was `asked` for, the pair is left out, and a note says so.
    """
    from vecalloc.spec import check_reclaim, contradictions_of, label_of, label_of_reclaim, parse_policy, split_list

    by_name = {label_of(*parse_policy(part)) for part in split_list(asked) if part != "all"}
    pairs, notes = [], []
    for name in names:
        policy, options = parse_policy(name)
        for each in remedies:
            check_reclaim(each)
            label = label_of_reclaim(each)
            why = next((why for _, _, why in contradictions_of(each, policy=policy.name)), "")
            if why and label_of(policy, options) in by_name:
                raise InputError(f"--reclaim is {label}: {why}")
            if why:
                notes.append(f"{name} is left out with {label}: {why.partition(': ')[0]}")
            else:
                pairs.append((name, label))
    return pairs, notes


def _row(done: "Replay", events: int) -> dict[str, Any]:
    return {
        "policy": done.plan.label,
        "reclaim": done.reclaim,
        "pool": done.plan.pool,
        "failures": done.failures,
        **done.metrics,
        "passes": done.passes,
        "ns_per_event": 1e9 * done.seconds / max(events, 1),
    }


def _run_all(
    cases: Sequence[_Case], run: "Callable[[_Case, Callable[[int], None]], Replay]", events: int
) -> "list[Replay]":
    """Run all cases on all cores, in order of the cases; a progress line on a terminal; Ctrl-C ends within a moment."""
    interrupted = Event()
    behind = [0] * len(cases)

    def one(i: int) -> "Replay":
        def progress(position: int) -> None:
            behind[i] = position
            if interrupted.is_set():
                raise KeyboardInterrupt

        return run(cases[i], progress)

    threads = ThreadPoolExecutor(os.cpu_count())
    try:
        futures = [threads.submit(one, i) for i in range(len(cases))]
        if sys.stderr.isatty():
            _show_progress(futures, behind, events)
        return [future.result() for future in futures]
    except BaseException:
        interrupted.set()
        threads.shutdown(cancel_futures=True)
        raise


def _show_progress(futures: "Sequence[Future[Replay]]", behind: Sequence[int], events: int) -> None:
    """A line on stderr until all cases are done, gone afterwards."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=max(1, events * len(futures)))
        while waiting := wait(futures, timeout=0.1).not_done:
            done = len(futures) - len(waiting)
            shown.update(task, completed=sum(behind), description=f"{done} of {len(futures)} replays")


@app.command()
def policies(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show options, defaults and what they mean.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the policies, and the remedies for when no hole fits; with -v their options too."""
    from vecalloc.policies.table import POLICIES
    from vecalloc.reclaim.table import REMEDIES

    if as_json:
        _print_json(
            {
                "policies": [_entry(policy) for policy in POLICIES.values()],
                "remedies": [_entry(kind) for kind in REMEDIES.values()],
            }
        )
        return
    rows = []
    for p in POLICIES.values():
        rows.append([p.name, "", p.meaning])
        for o in p.options if verbose else ():
            others = "".join(f" (or {choice})" for choice in o.choices if choice != o.default)
            rows.append([f"  {o.name}", f"{o.default}{others}" if o.default not in (None, ()) else "-", o.meaning])
    default = "default" if verbose else ""
    _print_table("", ["policy", default, "meaning"], rows, left=3)
    rows = []
    for kind in REMEDIES.values():
        rows.append([kind.name, "", kind.meaning])
        rows += [[f"  {o.name}", _bare(o.default), o.meaning] for o in kind.options if verbose]
    _print_table("\nWhen no hole fits:", ["remedy", default, "meaning"], rows, left=3)


def _entry(line: "Policy | Kind") -> dict[str, Any]:
    """A policy or a remedy with its options."""
    options = [{"name": o.name, "default": o.default, "choices": o.choices, "meaning": o.meaning} for o in line.options]
    return {"name": line.name, "meaning": line.meaning, "options": options}


def _bare(default: Any) -> str:
    """A default as it stands in brackets."""
    return str(default).lower() if isinstance(default, bool) else str(default)


def _print_json(value: Any) -> None:
    with _output():
        print(json.dumps(value, indent=1))


def _print_table(heading: str, titles: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> None:
    """A heading and a table: rich's in a terminal, plain columns of full width when piped."""
    with _output():
        if heading:
            print(heading)
        if not sys.stdout.isatty():
            _print_plain(titles, rows, left)
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for i, title in enumerate(titles):
            table.add_column(title, justify="left" if i < left else "right", no_wrap=i == 0, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))  # Text: square brackets are options, not markup
        Console().print(table)


def _print_plain(titles: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> None:
    widths = [max(len(row[i]) for row in [titles, *rows]) for i in range(len(titles))]
    for row in [titles, *rows]:
        cells = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(cells).rstrip())
