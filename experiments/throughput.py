"""How fast: every policy beside a loop that allocates nothing, a C++ best-fit of two trees, and other allocators.

    python experiments/throughput.py                      all traces, five rounds: results/throughput/
                                                          and the Monte Carlo part: results/throughput_monte_carlo/
    python experiments/throughput.py --parts kernels --traces T2 --rounds 1 --no-save

Each trace is a heap in equilibrium: as many allocs as frees, sizes lognormal (median 128 bytes, sigma 1.2, clipped to
16 .. 4096, in granules of 16), lifetimes exponential, 75 % of the pool requested on average; T4 has powers of two. What
is timed comes after a warm-up of at least three times the live blocks. One round runs everything once, one after the
other, so a ratio compares neighbours in time; the table has medians over rounds. experiments/README.md says what each
column is.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numba
import numpy as np
import throughput_monte_carlo
import throughput_reclaim

import vecalloc as va
from vecalloc.kernel import inline, kernel, rows
from vecalloc.loops import replay_each
from vecalloc.mechanisms.registers import GRANTED, LIMIT, new_registers
from vecalloc.simulate import Simulation, Switches
from vecalloc.spec import make_plan
from vecalloc.trace import Events

GRANULE = 16
LARGEST = 256
"""Granules of the largest request."""

HERE = Path(__file__).parent

POLICIES = (
    "static-partition", "static-partition[order=lifo]", "first-fit", "best-fit", "best-fit[ties=lifo]", "worst-fit",
    "next-fit", "buddy", "buddy[order=lifo]",
)  # fmt: skip
NULL, TREES = "null loop", "C++ std::set best-fit"

NO_SPACE = 0xFFFFFFFF
"""What OffsetAllocator gives for an offset when nothing fits."""


# --- traces ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heap:
    """A trace in equilibrium.

    Attributes
    ----------
    name : str
    granules : int
        The pool.
    live : int
        Blocks that live on average.
    slots, extents : int32, int64 (events,)
        Extents in granules, negative in a free.
    warm : int
        Events before the timed ones.
    """

    name: str
    granules: int
    live: int
    slots: np.ndarray
    extents: np.ndarray
    warm: int


def lognormal(rng: np.random.Generator, count: int) -> np.ndarray:
    """Granules of `count` requests."""
    size = np.clip(rng.lognormal(np.log(128), 1.2, count), 16, 16 * LARGEST)
    return np.ceil(size / GRANULE).astype(np.int64)


def powers(rng: np.random.Generator, count: int) -> np.ndarray:
    """Granules of `count` requests, each a power of two, the smaller the more frequent."""
    return np.int64(1) << np.minimum(rng.geometric(0.35, count) - 1, 8)


HEAPS = {"T1": (21, lognormal), "T2": (14, lognormal), "T3": (24, lognormal), "T4": (21, powers)}


def equilibrium(name: str, timed: int) -> Heap:
    """A heap with exponential lifetimes: whoever dies next is any of the live blocks."""
    bits, law = HEAPS[name]
    rng = np.random.default_rng([2026, bits, law is powers])
    live = int(0.75 * (1 << bits) / law(rng, 1_000_000).mean())
    warm = max(3 * live, 1 << 20)  # long, for the loop is left and entered again after as many events
    count = warm + timed
    room = int(live + 12 * live**0.5 + 64)
    slots, extents = np.empty(count, np.int32), np.empty(count, np.int64)
    _live_and_die(live, law(rng, count), rng.random(count), rng.random(count), slots, extents, np.arange(room)[::-1])
    return Heap(name, 1 << bits, live, slots, extents, warm)


@numba.njit
def _live_and_die(live, sizes, whether, who, slots, extents, spare):  # type: ignore[no-untyped-def]
    """Births come at rate `live`, each block dies at rate 1; only the order of events is kept."""
    alive = np.empty(len(spare), np.int64)
    size_of = np.empty(len(spare), np.int64)
    spares = spare.copy()
    count, left = 0, len(spares)
    for i in range(len(slots)):
        if i < live or whether[i] * (live + count) < live:
            left -= 1
            slot = spares[left]
            alive[count] = slot
            count += 1
            size_of[slot] = sizes[i]
            extents[i] = sizes[i]
        else:
            chosen = int(who[i] * count)
            slot = alive[chosen]
            count -= 1
            alive[chosen] = alive[count]
            spares[left] = slot
            left += 1
            extents[i] = -size_of[slot]
        slots[i] = slot


# --- the null loop ---------------------------------------------------------------------------------------------------


class Nothing(NamedTuple):
    """An allocator without a heap."""

    registers: np.ndarray


@rows
def _pick(state, r):  # type: ignore[no-untyped-def]
    return Nothing(state.registers[r]), state.registers[r]


@inline
def _alloc(pool, extent):  # type: ignore[no-untyped-def]
    return np.int64(0)


@inline
def _free(pool, address):  # type: ignore[no-untyped-def]
    pass


@inline
def _largest(pool):  # type: ignore[no-untyped-def]
    return pool.registers[LIMIT] - pool.registers[GRANTED]


@inline
def _cause(pool, extent):  # type: ignore[no-untyped-def]
    return 0


@kernel
def _replay(pools, events, ledger, passes, cursors, first, last):  # type: ignore[no-untyped-def]
    replay_each(_pick, _alloc, _free, _largest, _cause, pools, events, ledger, passes, cursors, first, last)


class NullPolicy:
    """What `Simulation` needs of a policy."""

    replay = staticmethod(_replay)


# --- what is timed ---------------------------------------------------------------------------------------------------


class Timing(NamedTuple):
    """What one run gave."""

    ns: float
    failed: float
    checksum: int


def run_policy(heap: Heap, label: str, metrics: bool) -> Timing:
    """Nanoseconds an event in the kernel, after the warm-up."""
    granules, policy = heap.granules, label
    if label.startswith("static-partition"):
        # A unit for every block that can live, large enough for every request: nothing fails.
        granules = LARGEST * (int(heap.slots.max()) + 1)
        policy = label.removesuffix("]") + ("," if "[" in label else "[") + f"unit={LARGEST * GRANULE}]"
    elif label.startswith("buddy") and heap.name != "T4":
        granules *= 2  # for what powers of two waste
    plan = make_plan("first-fit" if label == NULL else policy, granules * GRANULE, GRANULE)
    simulation = Simulation(plan, 1, int(heap.slots.max()) + 1, "drop", Switches(metrics=metrics), workers=1)
    if label == NULL:
        simulation.policy = NullPolicy  # type: ignore[assignment]
        simulation.state = Nothing(new_registers(1))
        simulation.state.registers[:, LIMIT] = granules
    requested = heap.extents * GRANULE
    events = Events(heap.slots[None], requested[None], heap.extents[None], None)
    simulation.prepare(events)
    positions = simulation.feed(events, heap.warm, keep_addresses=True)
    next(positions)
    start = perf_counter()
    for _ in positions:
        pass
    seconds = perf_counter() - start
    addresses = simulation.ledger.addresses[0]
    return Timing(1e9 * seconds / (len(heap.slots) - heap.warm), (addresses < 0).mean(), checksum_of(addresses))


@numba.njit
def checksum_of(addresses):  # type: ignore[no-untyped-def]
    """The checksum that the C++ peers print."""
    total = np.int64(0)
    for address in addresses:
        total = total * 31 + address
    return total


@dataclass(frozen=True)
class Peer:
    """A C++ program that runs the same trace.

    Attributes
    ----------
    name, source : str
    flags : tuple of str
        For the compiler.
    preload : str
        A library to put in the place of malloc.
    """

    name: str
    source: str
    flags: tuple[str, ...] = ()
    preload: str = ""

    def build(self, folder: Path) -> Path | str:
        """The program, or why there is none."""
        compiler = shutil.which("g++")
        if compiler is None:
            return "g++ is not installed"
        if self.preload and not self._library():
            return f"{self.preload} is not installed"
        program = folder / self.source
        command = [compiler, "-std=c++17", "-O3", "-march=native", *self.flags, f"{HERE / 'peers' / self.source}.cpp"]
        done = subprocess.run([*command, "-o", str(program)], capture_output=True, text=True)
        if done.returncode:
            missing = "vk_mem_alloc.h" in done.stderr and "No such file" in done.stderr
            return "vk_mem_alloc.h is not installed" if missing else done.stderr.splitlines()[0]
        return program

    def _library(self) -> str:
        folders = [Path("/usr/lib") / f"{platform.machine()}-linux-gnu", Path("/usr/lib"), Path("/usr/local/lib")]
        return next((str(f / self.preload) for f in folders if (f / self.preload).exists()), "")

    def run(self, program: Path, trace: Path) -> Timing:
        """Nanoseconds an event as the program measured them."""
        environment = os.environ | ({"LD_PRELOAD": self._library()} if self.preload else {})
        done = subprocess.run([program, trace], capture_output=True, text=True, check=True, env=environment)
        ns, checksum = done.stdout.split()
        return Timing(float(ns), 0.0, int(np.uint64(int(checksum)).astype(np.int64)))


PEERS = (
    Peer(TREES, "best_fit_set"),
    Peer("VMA virtual block", "virtual_block"),
    Peer("glibc malloc", "malloc"),
    Peer("jemalloc", "malloc", preload="libjemalloc.so.2"),
    Peer("mimalloc", "malloc", preload="libmimalloc.so.2"),
)


def run_offset_allocator(heap: Heap) -> Timing:
    """sebbbi's OffsetAllocator through its Python binding: what a native one costs a Python program, call by call."""
    from TLSFAllocator import OffsetAllocator  # type: ignore[import-not-found]

    allocator = OffsetAllocator(heap.granules, 4 * (int(heap.slots.max()) + 1))  # blocks and holes
    held = [None] * (int(heap.slots.max()) + 1)
    events = list(zip(heap.extents.tolist(), heap.slots.tolist(), strict=True))

    def go(part: list[tuple[int, int]]) -> int:
        failed = 0
        for extent, slot in part:
            if extent > 0:
                held[slot] = block = allocator.allocate(extent)
                failed += block.offset == NO_SPACE
            elif held[slot].offset != NO_SPACE:  # type: ignore[attr-defined]
                allocator.free(held[slot])
        return failed

    go(events[: heap.warm])
    start = perf_counter()
    failed = go(events[heap.warm :])
    seconds = perf_counter() - start
    return Timing(1e9 * seconds / (len(events) - heap.warm), failed / (heap.extents[heap.warm :] > 0).sum(), 0)


# --- rounds and tables -----------------------------------------------------------------------------------------------


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="kernels,monte-carlo,reclaim", help="comma-separated; default all")
    parser.add_argument("--traces", default="T1,T2,T3,T4", help="comma-separated; default all")
    parser.add_argument("--policies", default=";".join(POLICIES), help="separated by semicolons; default all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=4_000_000, help="timed events a run")
    parser.add_argument("--no-save", action="store_true", help="print only")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if "kernels" in parts:
        table = measure_kernels(arguments)
        if not arguments.no_save:
            va.save("throughput", table, {"where_the_time_goes.md": shares(table)}, vars(arguments))
    if "monte-carlo" in parts:
        rows = throughput_monte_carlo.measure(arguments.rounds)
        throughput_monte_carlo.print_table(rows)
        if not arguments.no_save:
            va.save("throughput_monte_carlo", rows, parameters=vars(arguments))
    if "reclaim" in parts:
        rows = throughput_reclaim.measure(arguments.rounds)
        throughput_reclaim.print_table(rows)
        if not arguments.no_save:
            va.save("throughput_reclaim", rows, parameters=vars(arguments))


def measure_kernels(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Rows of all traces."""
    labels = arguments.policies.split(";")
    table = []
    with tempfile.TemporaryDirectory() as folder:
        programs = {peer: peer.build(Path(folder)) for peer in PEERS}
        for peer, program in programs.items():
            if isinstance(program, str):
                print(f"{peer.name}: left out, {program}", file=sys.stderr)
        if not find_spec("TLSFAllocator"):
            print("OffsetAllocator: left out, pip install TLSFAllocator brings it", file=sys.stderr)
        runnable = {peer: program for peer, program in programs.items() if isinstance(program, Path)}
        for name in arguments.traces.split(","):
            heap = equilibrium(name, arguments.events)
            table += measure(heap, labels, arguments.rounds, runnable, Path(folder))
            print_trace([row for row in table if row["trace"] == name])
    return table


def measure(
    heap: Heap, labels: list[str], rounds: int, programs: dict[Peer, Path], folder: Path
) -> Iterator[dict[str, object]]:
    """Rows of one trace: medians over rounds, ratios taken within each."""
    file = folder / "trace"
    write_trace(heap, file)
    runs: dict[tuple[str, str], Callable[[], Timing]] = {}
    for label in [NULL, *labels]:
        for ledger in ("addresses", "metrics"):
            runs[label, ledger] = lambda label=label, ledger=ledger: run_policy(heap, label, ledger == "metrics")  # type: ignore[misc]
    for peer, program in programs.items():
        runs[peer.name, ""] = lambda peer=peer, program=program: peer.run(program, file)  # type: ignore[misc]
    if find_spec("TLSFAllocator"):
        runs["OffsetAllocator from Python", ""] = lambda: run_offset_allocator(heap)
    timings: dict[tuple[str, str], list[Timing]] = {what: [] for what in runs}
    for number in range(rounds):
        for what, run in runs.items():
            progress(f"{heap.name}: round {number + 1} of {rounds}: {what[0]} {what[1]}")
            timings[what].append(run())
    progress("")
    if (TREES, "") in timings and ("best-fit", "addresses") in timings:
        ours, theirs = timings["best-fit", "addresses"][0].checksum, timings[TREES, ""][0].checksum
        if ours != theirs:
            raise SystemExit(f"{heap.name}: best-fit and the C++ trees give different addresses")
    null = np.array([t.ns for t in timings[NULL, "addresses"]])
    for (name, ledger), of in timings.items():
        ns = np.array([t.ns for t in of])
        yield {
            "trace": heap.name,
            "live": heap.live,
            "what": name,
            "ledger": ledger,
            "ns_per_event": round(float(np.median(ns)), 3),
            "least": round(float(ns.min()), 3),
            "most": round(float(ns.max()), 3),
            "to_null": round(float(np.median(ns / null)), 3),
            "failed": round(float(of[0].failed), 6),
            "rounds": rounds,
        }


def write_trace(heap: Heap, file: Path) -> None:
    """The trace as peers/peer.hpp reads it."""
    with file.open("wb") as out:
        out.write(np.array([heap.granules, heap.slots.max() + 1, len(heap.slots), heap.warm], np.int64).tobytes())
        out.write(heap.extents.tobytes())
        out.write(heap.slots.tobytes())


def progress(text: str) -> None:
    """One line that is written over, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def print_trace(table: list[dict[str, object]]) -> None:
    """Where the time goes, one line a policy: the loop, the placement, the ledger."""
    by = {(row["what"], row["ledger"]): row for row in table}
    null = by[NULL, "addresses"]
    print(f"\n{null['trace']}: {null['live']:,} blocks live; ns an event, medians of {null['rounds']} rounds")
    print(f"{'':32}{'addresses':>10}{'/ null':>8}{'metrics':>9}{'ledger':>8}{'failed':>9}")
    for (what, ledger), row in by.items():
        if ledger == "metrics":
            continue
        ns = float(str(row["ns_per_event"]))
        line = f"{what:32}{ns:10.1f}{row['to_null']:8.2f}"
        if ledger:
            full = float(str(by[what, "metrics"]["ns_per_event"]))
            line += f"{full:9.1f}{full - ns:8.1f}{row['failed']:9.2%}"
        print(line)


def shares(table: list[dict[str, object]]) -> str:
    """Of each nanosecond with all metrics on: the loop, the placement (policy and index), the ledger."""
    lines = ["# Where the time goes", ""]
    for trace in dict.fromkeys(row["trace"] for row in table):
        ns = {(row["what"], row["ledger"]): float(str(row["ns_per_event"])) for row in table if row["trace"] == trace}
        lines += [f"## {trace}", "", "| policy | ns an event | loop | placement | ledger |", "|---|--:|--:|--:|--:|"]
        for what in dict.fromkeys(what for what, ledger in ns if ledger and what != NULL):
            whole, bare, loop = ns[what, "metrics"], ns[what, "addresses"], ns[NULL, "addresses"]
            parts = " | ".join(f"{part / whole:.0%}" for part in (loop, bare - loop, whole - bare))
            lines.append(f"| `{what}` | {whole:.1f} | {parts} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
