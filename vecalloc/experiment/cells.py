"""The file of a cell -> what is wrong with it, or the Cell.

First each table by itself (models.py); then what no table shows by itself: whether the policies exist and can serve
the pool, and whether there is a workload in the laws and the load. Of these two the modules are asked that will use
them, `vecalloc.spec` and `vecalloc.workload`: no rule stands in two places.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from vecalloc.errors import InputError, did_you_mean
from vecalloc.experiment.complaints import MISSING, Complaint, complaints_of
from vecalloc.experiment.fields import Warmup
from vecalloc.experiment.models import SECTIONS, File, Policy, Pool, Run, Workload
from vecalloc.experiment.toml import KeyPath, overlap, shown
from vecalloc.spec import label_of, make_plan, parse_policy, policies_of

ALWAYS_WAIT = ("saturated", "fill-then-free")
"""Arrivals that are a queue which never ends: a request that does not fit waits."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of swept values: everything that a simulation of it needs, but for the number of replicas.

    Attributes
    ----------
    index : int
        Place among the experiment's cells.
    parameters : dict
        Swept key -> value as written; the columns of the rows.
    pool, granule : int
        In bytes.
    workload : dict
        The [workload] table after the sweep's values have been put in, for `vecalloc.workload.workload_of`. Cells share
        what is equal in it: not to be changed.
    policies : tuple of str
        Canonical labels.
    on_failure : str
        "drop", "wait", "grow" or "stop".
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
    always_waits = workload.arrivals in ALWAYS_WAIT
    return Cell(
        index=index,
        parameters=parameters,
        pool=pool.size,
        granule=pool.granule,
        workload=file["workload"],
        policies=tuple(dict.fromkeys(label for text in policy.use for label in _labels_of(text))),
        on_failure=policy.on_failure or ("wait" if always_waits else "drop"),
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
        refused = {path[1] for path, _ in found if path[0] == "workload" and len(path) > 1}
        laws = {
            key: value
            for key, value in raw["workload"].items()
            if key in _HARMLESS and key not in refused and not isinstance(value, str) and self._sees(f"workload.{key}")
        }
        whole = tables.workload is not None and self._sees("workload")
        yield from self._wrong_laws(json.dumps(raw["workload"] if whole else laws), tuple(laws), whole)

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


# --- laws ------------------------------------------------------------------------------------------------------------

_HARMLESS: dict[str, Any] = {
    "sizes": 1, "lifetimes": 1, "arrivals": {"dist": "expon"}, "batch": 1, "phases": [{"duration": 1}],
}  # fmt: skip
"""The parts of a workload that are laws or hold some, and what can stand for them while the others are tried."""


def _wrong_laws(folder: Path, written: str, laws: tuple[str, ...], whole: bool) -> tuple[Complaint, ...]:
    """What is wrong with a workload, as JSON: with each of the laws alone; and if it is the whole, with the rest."""
    from vecalloc.workload import workload_of

    table = json.loads(written)
    try_out = partial(_refusal, workload_of, key="workload", folder=folder)
    if whole and not try_out(table):
        return ()
    alone = {key: try_out({"sizes": 1, "lifetimes": 1, "rate": 1, key: table[key]}) for key in laws}
    refused = {key: why for key, why in alone.items() if why}
    found: list[str | None] = list(refused.values())
    if whole:
        rest = {**table, **{key: _HARMLESS[key] for key in refused}}
        is_fleet = isinstance(table["sizes"], dict) and "fleet" in table["sizes"]
        if is_fleet and "sizes" in refused and table.get("arrivals") != "fill-then-free":
            rest.setdefault("lifetimes", 1)  # a fleet has its own
        found.append(try_out(rest))
    texts = [why if why.startswith("workload") else f"workload: {why}" for why in found if why]
    return tuple(Complaint((), text) for text in texts)
