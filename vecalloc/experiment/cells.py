"""The file of a cell -> what is wrong with it, or the Cell.

First each table by itself (models.py); then what no table shows by itself: whether the policies exist and can serve
the pool, and whether there is a workload in the laws and the load. Of these two the modules are asked that will use
them, `vecalloc.spec` and `vecalloc.workload`: no rule stands in two places.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from math import ceil, isfinite
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from vecalloc.errors import InputError, did_you_mean
from vecalloc.experiment.complaints import MISSING, Complaint, complaints_of
from vecalloc.experiment.fields import Warmup
from vecalloc.experiment.models import SECTIONS, File, Policy, Pool, Run, Workload
from vecalloc.experiment.remedies import KEY as RECLAIM
from vecalloc.experiment.remedies import readable
from vecalloc.experiment.toml import KeyPath, overlap, shown
from vecalloc.reclaim.table import Remedy, Swap
from vecalloc.spec import (
    Plan,
    contradictions_of,
    label_of,
    label_of_reclaim,
    make_plan,
    parse_policy,
    parse_reclaim,
    policies_of,
)

ALWAYS_WAIT = ("saturated", "fill-then-free")
"""Arrivals that are a queue which never ends: a request that does not fit waits."""

OF_PROCESSES = ("work", "active", "idle")
"""Keys of the workload that say what processes do with their time."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of swept values: everything that a simulation of it needs, but for the number of replicas.

    Attributes
    ----------
    index : int
        Place among the experiment's cells.
    parameters : dict
        Swept key -> value as written, remedies by their label; the columns of the rows.
    pool, granule : int
        In bytes.
    workload : dict
        The [workload] table after the sweep's values have been put in, for `vecalloc.workload.workload_of`. Cells share
        what is equal in it: not to be changed.
    policies : tuple of str
        Canonical labels.
    on_failure : str
        "drop", "wait", "grow" or "stop".
    reclaim : str
        Canonical label of the remedies, "none" without any.
    queue_limit : int
        Requests that may wait before a replica is given up as unstable.
    requests : int
        That end a replica.
    warmup : Warmup
    seed : int
    """

    index: int
    parameters: dict[str, Any]
    pool: int
    granule: int
    workload: dict[str, Any]
    policies: tuple[str, ...]
    on_failure: str
    reclaim: str
    queue_limit: int
    requests: int
    warmup: Warmup
    seed: int


class Tables(NamedTuple):
    """The tables of a cell's file that are right in themselves; None where one is not."""

    pool: Pool | None
    workload: Workload | None
    policy: Policy | None
    run: Run | None


def cell_of(index: int, parameters: dict[str, Any], file: dict[str, Any], tables: Tables) -> Cell:
    """The cell of a file in which nothing is wrong."""
    pool, workload, policy, run = tables
    assert pool and workload and policy and run
    waits = workload.arrivals in ALWAYS_WAIT or has_processes(workload)
    return Cell(
        index=index,
        parameters={key: readable(key, value) for key, value in parameters.items()},
        pool=pool.size,
        granule=pool.granule,
        workload=file["workload"],
        policies=tuple(dict.fromkeys(label for text in policy.use for label in _labels_of(text))),
        on_failure=policy.on_failure or ("wait" if waits else "drop"),
        reclaim=label_of_reclaim(parse_reclaim(policy.reclaim)),
        queue_limit=policy.queue_limit,
        requests=run.requests,
        warmup=run.warmup,
        seed=run.seed,
    )


class Check:
    """The check of the files of all cells of an experiment.

    Parameters
    ----------
    folder : Path
        Of the files that the workload names.
    unseen : sequence of str, or None
        Keys that a broken sweep would have put in: what depends on them is left alone. None where no sweep is broken.
    """

    def __init__(self, folder: Path, unseen: Sequence[str] | None = None) -> None:
        self.unseen = unseen
        self._wrong_laws = lru_cache(4096)(partial(_wrong_laws, folder))  # many cells have the same workload
        self._largest = lru_cache(4096)(partial(_largest, folder))

    def __call__(self, file: dict[str, Any]) -> tuple[Tables, list[Complaint]]:
        """The tables of a cell's file, and everything that is wrong with it."""
        tables, found = _each_by_itself(file)
        if self.unseen is not None:  # what is missing may have been swept
            found = [each for each in found if not each.text.startswith(MISSING)]
        return tables, [*found, *self._together(file, tables, found)]

    def _together(self, file: dict[str, Any], tables: Tables, found: Iterable[Complaint]) -> Iterator[Complaint]:
        """What is wrong beside what is found already."""
        raw = {name: table if isinstance(table := file.get(name), dict) else {} for name in SECTIONS}
        yield from _wrong_policies(raw["policy"], tables.pool if self._sees("pool") else None)
        if tables.policy and tables.workload and self._sees("policy.on_failure") and self._sees("workload.arrivals"):
            yield from _wrong_failure(tables.policy.on_failure, tables.workload.arrivals)
        yield from self._wrong_remedies(raw, tables)
        refused = {path[1] for path, _ in found if path[0] == "workload" and len(path) > 1}
        laws = {
            key: value
            for key, value in raw["workload"].items()
            if key in _HARMLESS and key not in refused and not isinstance(value, str) and self._sees(f"workload.{key}")
        }
        whole = tables.workload is not None and self._sees("workload")
        yield from self._wrong_laws(json.dumps(raw["workload"] if whole else laws), tuple(laws), whole)

    def _wrong_remedies(self, raw: dict[str, dict[str, Any]], tables: Tables) -> Iterator[Complaint]:
        """What is wrong between the remedies, the policies, the pool and the workload, as far as they are seen."""
        remedies = _remedies_of(raw["policy"]) if self._sees(RECLAIM) else ()
        swaps = [remedy for remedy in remedies if isinstance(remedy, Swap)]
        seen = tables.workload if all(self._sees(f"workload.{key}") for key in OF_PROCESSES) else None
        processes = has_processes(seen) if seen else bool(swaps)
        if not remedies and not processes:
            return
        pool = tables.pool if self._sees("pool") and self._sees("policy.use") else None
        known = tables.workload is not None and self._sees("workload.sizes")
        bounded = bool(swaps) and swaps[0].swap_space is not None
        largest = self._largest(json.dumps(raw["workload"]["sizes"])) if known and bounded else 0
        on_failure = tables.policy.on_failure if tables.policy and self._sees("policy.on_failure") else None
        plans: list[Plan | None] = [*_plans_of(raw["policy"], pool)] if remedies and pool else []
        for plan in plans or [None]:
            for key, value, why in contradictions_of(remedies, plan, on_failure, processes=processes, largest=largest):
                yield Complaint(("policy", key), f"{shown(value)}: {why}")

    def _sees(self, key: str) -> bool:
        return not any(overlap(key, other) for other in self.unseen or ())


def _each_by_itself(file: dict[str, Any]) -> tuple[Tables, list[Complaint]]:
    """Check a whole file; where something is wrong, its other tables can still be checked against each other."""
    try:
        checked = File.model_validate(file)
    except ValidationError as error:
        sound: dict[str, Any] = {}
        for name, model in SECTIONS.items():
            try:
                sound[name] = model.model_validate(file.get(name, {}))
            except ValidationError:
                sound[name] = None
        return Tables(**sound), list(complaints_of(error, File))
    return Tables(checked.pool, checked.workload, checked.policy, checked.run), []


# --- policies --------------------------------------------------------------------------------------------------------


def _wrong_policies(table: dict[str, Any], pool: Pool | None) -> Iterator[Complaint]:
    """Policies that are not known, or that cannot serve the pool (where there is one)."""
    use = table.get("use", "all")
    above: KeyPath = ("policy", "use")
    entries = [((*above, i), text) for i, text in enumerate(use)] if isinstance(use, list) else [(above, use)]
    labels: list[str] = []
    for path, text in entries:
        if not isinstance(text, str):  # pydantic says so
            return
        if wrong := _refusal(_labels_of, text):
            yield Complaint(path, wrong)
            continue
        labels += _labels_of(text)
        plans = (_refusal(_planned, label, pool.size, pool.granule) for label in _labels_of(text)) if pool else ()
        yield from (Complaint(path, wrong) for wrong in plans if wrong)
    compare_to = table.get("compare_to")
    if isinstance(compare_to, str) and (wrong := _wrong_comparison(compare_to, labels)):
        yield Complaint(("policy", "compare_to"), wrong)


def _wrong_comparison(compare_to: str, labels: list[str]) -> str | None:
    if wrong := _refusal(parse_policy, compare_to):
        return wrong
    label = label_of(*parse_policy(compare_to))
    if label in labels:
        return None
    return f"{shown(label)}: not among the policies{did_you_mean(label, labels)}: write one of {', '.join(labels)}"


@lru_cache(1024)
def _labels_of(text: str) -> tuple[str, ...]:
    """The canonical forms of the policies that an entry of `use` names."""
    return tuple(label_of(*parse_policy(name)) for name in policies_of(text))


_planned = lru_cache(4096)(make_plan)


def _plans_of(table: dict[str, Any], pool: Pool) -> list[Plan]:
    """The policies that are known and can serve the pool."""
    use = table.get("use", "all")
    texts = [text for text in (use if isinstance(use, list) else [use]) if isinstance(text, str)]
    labels = [label for text in texts if not _refusal(_labels_of, text) for label in _labels_of(text)]
    return [
        _planned(label, pool.size, pool.granule)
        for label in labels
        if not _refusal(_planned, label, pool.size, pool.granule)
    ]


def _wrong_failure(on_failure: str | None, arrivals: Any) -> Iterator[Complaint]:
    if arrivals in ALWAYS_WAIT and on_failure not in (None, "wait"):
        text = f'{shown(on_failure)}: with arrivals = "{arrivals}" requests wait: leave it out'
        yield Complaint(("policy", "on_failure"), text)


def _refusal(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> str | None:
    """Say why the function does not take these; None: it does."""
    try:
        function(*arguments, **keywords)
    except InputError as error:
        return str(error)
    return None


# --- remedies --------------------------------------------------------------------------------------------------------


def has_processes(workload: Workload) -> bool:
    """Whether processes arrive, which work and idle: what does not fit then waits."""
    return any(getattr(workload, key) is not None for key in OF_PROCESSES)


def _remedies_of(table: dict[str, Any]) -> tuple[Remedy, ...]:
    """The remedies of a [policy] table; none where they are not right in themselves, which is said elsewhere."""
    try:
        return parse_reclaim(table.get("reclaim"))
    except InputError:
        return ()


def _largest(folder: Path, written: str) -> int | None:
    """Bytes that no request exceeds, by the law of sizes, as JSON: None if it has no end, 0 if it is not right."""
    from vecalloc.workload.sizes import sizes_of

    try:
        sizes = sizes_of(json.loads(written), folder=folder)
    except InputError:
        return 0
    if sizes.high is not None:
        return sizes.high
    highest = max(sizes.law.support()[1], sizes.low or 0)
    return ceil(highest) if isfinite(highest) else None


# --- laws ------------------------------------------------------------------------------------------------------------

_HARMLESS: dict[str, Any] = {
    "sizes": 1, "lifetimes": 1, "work": 1, "active": 1, "idle": 1, "priority": 0, "arrivals": {"dist": "expon"},
    "batch": 1, "phases": [{"duration": 1}],
}  # fmt: skip
"""The parts of a workload that are laws or hold some, and what can stand for them while the others are tried."""

_LIVES = {"lifetimes": 1}
_PROCESSES = {"work": 1, "active": 1, "idle": 1, "priority": 0}
"""What stands beside a law, sizes and a rate while it is tried: one or the other."""


def _wrong_laws(folder: Path, written: str, laws: tuple[str, ...], whole: bool) -> tuple[Complaint, ...]:
    """What is wrong with a workload, as JSON: with each of the laws alone; and if it is the whole, with the rest."""
    from vecalloc.workload import workload_of

    table = json.loads(written)
    try_out = partial(_refusal, workload_of, key="workload", folder=folder)
    if whole and not try_out(table):
        return ()
    alone = {
        key: try_out({"sizes": 1, "rate": 1, **(_PROCESSES if key in _PROCESSES else _LIVES), key: table[key]})
        for key in laws
    }
    refused = {key: why for key, why in alone.items() if why}
    found: list[str | None] = list(refused.values())
    if whole:
        rest = {**table, **{key: _HARMLESS[key] for key in refused}}
        is_fleet = isinstance(table["sizes"], dict) and "fleet" in table["sizes"]
        has_lives = table.get("arrivals") == "fill-then-free" or any(key in table for key in OF_PROCESSES)
        if is_fleet and "sizes" in refused and not has_lives:
            rest.setdefault("lifetimes", 1)  # a fleet has its own
        found.append(try_out(rest))
    texts = [why if why.startswith("workload") else f"workload: {why}" for why in found if why]
    return tuple(Complaint((), text) for text in texts)
