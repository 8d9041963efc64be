"""[sweep] -> the swept values of each cell -> the file of each cell, as if somebody had written it.

Grid, zip and design are crossed, the design varying fastest. Designs are scrambled Sobol points and Latin hypercubes of
`scipy.stats.qmc`; for sensitivity indices the scheme of Saltelli et al. (2010, Computer Physics Communications 181):
matrices A and B from one Sobol sequence of twice the dimension, and AB_i, which is A with its column i taken from B.
"""

from collections.abc import Iterable, Iterator
from itertools import product
from math import exp, floor, log
from typing import Any

import numpy as np
from pydantic import ValidationError

from vecalloc.errors import did_you_mean
from vecalloc.experiment.complaints import Complaint, complaints_of
from vecalloc.experiment.laws import Bounded
from vecalloc.experiment.models import SECTIONS, Design, File, Phase, Sweep
from vecalloc.experiment.remedies import KEY as RECLAIM
from vecalloc.experiment.remedies import keys_of_remedy
from vecalloc.experiment.toml import is_within, overlap, path_of, put

OF_ALL_CELLS = (
    "question", "sweep", "policy.compare_to", "run.replicas", "run.until", "run.cap", "run.confidence", "run.metrics",
)  # fmt: skip
"""Keys that cannot be swept."""


# --- is it right? ----------------------------------------------------------------------------------------------------


def swept_keys(raw: Any) -> list[tuple[str, ...]]:
    """The paths of the swept keys in a [sweep] table, whatever else it is."""
    found: list[tuple[str, ...]] = []
    for part in (("grid",), ("zip",), ("design", "ranges")):
        table = raw
        for step in part:
            table = table.get(step) if isinstance(table, dict) else None
        found += [(*part, key) for key in table] if isinstance(table, dict) else []
    return found


def checked_sweep(raw: Any, base: dict[str, Any]) -> tuple[Sweep, list[Complaint]]:
    """The [sweep] table, and what is wrong with it; none is swept then, so that the rest of the file can be checked."""
    wrong = list(_wrong_keys(swept_keys(raw), base))
    try:
        sweep = Sweep.model_validate(raw)
    except ValidationError as error:
        wrong += complaints_of(error, File, ("sweep",))
    return (Sweep.model_validate({}) if wrong else sweep), wrong


def _wrong_keys(swept: list[tuple[str, ...]], base: dict[str, Any]) -> Iterator[Complaint]:
    """Swept keys that are none of the file, or not to be swept, or swept twice."""
    known = {*_keys_of(base), *(f"{name}.{key}" for name, model in SECTIONS.items() for key in model.model_fields)}
    known = {key for key in known if not _is_of_all_cells(key)}
    seen: dict[str, str] = {}
    for *part, key in swept:
        path = ("sweep", *part, key)
        if key in seen:
            yield Complaint(path, f"swept in {seen[key]} too: write it in one of them")
        elif _is_of_all_cells(key):
            yield Complaint(path, "holds for all cells, and cannot be swept: write it once in its own table")
        elif not (key in known or _is_parameter(key, base) or any(is_within(key, other[-1]) for other in swept)):
            yield Complaint(path, f"no such key{did_you_mean(key, known)}: write one of pool, workload, policy or run")
        seen.setdefault(key, ".".join(part))


def _is_of_all_cells(key: str) -> bool:
    return any(overlap(key, whole) for whole in OF_ALL_CELLS)


def _keys_of(tree: Any, above: str = "") -> Iterator[str]:
    """Every dotted key of the file, those that its laws, phases and remedies could have besides."""
    steps: Iterable[tuple[Any, Any]] = ()
    if isinstance(tree, dict):
        steps = tree.items()
        if above == "workload.sizes":
            yield from (f"{above}.{key}" for key in Bounded.model_fields)
        elif above.startswith("workload.phases."):
            yield from (f"{above}.{key}" for key in Phase.model_fields)
        elif above == RECLAIM or above.rpartition(".")[0] == RECLAIM:
            yield from keys_of_remedy(above)
    elif isinstance(tree, list):
        steps = enumerate(tree)
    for step, inner in steps:
        key = f"{above}.{step}" if above else str(step)
        yield key
        yield from _keys_of(inner, key)


def _is_parameter(key: str, base: dict[str, Any]) -> bool:
    """Whether this could be a parameter of a law of scipy.stats (whether it is one, the law says)."""
    tree: Any = base
    for step in path_of(key)[:-1]:
        try:
            tree = tree[step]
        except (LookupError, TypeError):
            return False
    return isinstance(tree, dict) and "dist" in tree


# --- what it comes to ------------------------------------------------------------------------------------------------


def combinations_of(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """The swept values of each cell, the design's varying fastest."""
    axes: list[list[dict[str, Any]]] = [[{key: value} for value in values] for key, values in sweep.grid.items()]
    if sweep.zip:
        rows = zip(*sweep.zip.values(), strict=True)
        axes.append([dict(zip(sweep.zip, row, strict=True)) for row in rows])
    if sweep.design:
        axes.append(_points_of(sweep.design))
    for parts in product(*axes):
        yield {key: value for part in parts for key, value in part.items()}


def _points_of(design: Design) -> list[dict[str, Any]]:
    """The points of a design: for "sensitivity" A, then B, then AB_1 .. AB_d."""
    from scipy.stats import qmc

    d = len(design.ranges)
    if design.method == "latin-hypercube":
        blocks = [qmc.LatinHypercube(d, rng=design.seed).random(design.points)]
    elif design.method == "sobol":
        blocks = [qmc.Sobol(d, rng=design.seed).random(design.points)]
    else:
        both = qmc.Sobol(2 * d, rng=design.seed).random(design.points)
        a, b = both[:, :d], both[:, d:]
        blocks = [a, b, *(np.where(np.arange(d) == i, b, a) for i in range(d))]
    return [
        {
            key: _scaled(u, low, high, key in design.log)
            for u, (key, (low, high)) in zip(point, design.ranges.items(), strict=True)
        }
        for block in blocks
        for point in block.tolist()
    ]


def _scaled(u: float, low: Any, high: Any, logarithmic: bool) -> Any:
    """A number of [0, 1) -> the range; between whole ends a whole number, each of them as often."""
    whole = isinstance(low, int) and isinstance(high, int)
    start, end = (low - 0.5, high + 0.5) if whole else (low, high)
    value = exp(log(start) + u * (log(end) - log(start))) if logarithmic else start + u * (end - start)
    return min(max(floor(value + 0.5) if whole else value, low), high)


def file_of(base: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """The file of a cell; where a table and a key of it are both swept, the table is put in first."""
    file = base
    for key in sorted(parameters, key=lambda key: key.count(".")):
        section, dot, _ = key.partition(".")
        if not dot or isinstance(base.get(section, {}), dict):  # else the section is complained of
            file = put(file, path_of(key), parameters[key])
    return file
