"""Laws of chance as an experiment file writes them -> something that draws, and knows its mean.

    3.5                                                     always this number
    {dist = "lognorm", s = 1.0, scale = 256}                any law of one number in scipy.stats, by scipy's names
    {mixture = [{weight = 0.8, dist = "expon"}, {weight = 0.2, dist = "expon", scale = 9}]}     its components are laws
    {table = [[16, 0.5], [64, 0.5]]}                        values and their weights
    {trace = "sqlite3.npz"}                                 sizes only: the sizes that a recorded program asked for
    {fleet = "profile.csv"}                                 sizes only: rows `size, alloc_rate, num_live` of a fleet

A law is plain data (names, numbers, arrays that nobody writes to), so it can be compared, sent to another process, and
written down (`canonical`) for the identity of a result. numpy and scipy do the drawing, always from the generator that
the caller brings: equal generators give equal draws. What a law is drawn with stays out of it. scipy's frozen laws
carry state from call to call (`rvs` saves, uses and restores the random state of its instance), so every thread builds
its own, once.

Tables are drawn by inversion: a uniform u falls on the first value whose cumulative probability exceeds u, which is
what `numpy.searchsorted` finds in 70 ns among a thousand values. A guide table (Chen and Asau 1974) says for each of
2^k equal cells of u where its search begins; seven times out of eight it also ends there, so a draw takes 10 ns.

Every draw is an answer to (law, generator): whoever changes what a law draws raises REVISION, and a test that knows the
digest of a thousand draws of each kind will not let it be forgotten.
"""

import hashlib
import math
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecalloc.errors import InputError, did_you_mean
from vecalloc.trace import LARGEST_SIZE

REVISION = 1
"""Raised whenever a law draws other numbers than before from the same generator."""

LARGEST_PROFILE = 16 << 20
"""Bytes of a fleet profile."""

MOST_LINES = 1_000_000
"""Lines of a fleet profile."""

LISTED = 64
"""Tables with more entries than this are written down as a digest."""

LONGEST_SUM = 1 << 24
"""Terms of a survival function that has to be added up."""

_ANGLES = ("vonmises", "vonmises_line", "wrapcauchy")
"""Laws of scipy whose draws are wrapped into one turn, whatever loc and scale say."""

_ADDED_UP = ("betabinom", "betanbinom", "nchypergeom_fisher", "nchypergeom_wallenius", "nhypergeom")
"""Laws of scipy that know their probabilities only one by one."""

_KINDS = ("dist", "mixture", "table")
_SIZE_KINDS = (*_KINDS, "trace", "fleet")

_LARGEST_GUIDE = 1 << 20

Floats = NDArray[np.float64]


class Law(ABC):
    """A law of one number."""

    @abstractmethod
    def draw(self, generator: np.random.Generator, count: int) -> Floats:
        """Draw `count` numbers from the generator, float64 (count,)."""

    @abstractmethod
    def mean(self) -> float:
        """Return the mean: inf where it is infinite, nan where there is none."""

    @abstractmethod
    def sf(self, x: ArrayLike) -> Floats:
        """Return P(X > x), float64 in the shape of x."""

    @abstractmethod
    def support(self) -> tuple[float, float]:
        """Return the smallest and the largest value that can be drawn."""

    @abstractmethod
    def canonical(self) -> dict[str, Any]:
        """Return everything that determines the draws, defaults included, as JSON can write it."""


# --- the laws --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Constant(Law):
    """Always the same number; takes nothing from the generator.

    Attributes
    ----------
    value : float
    """

    value: float

    def draw(self, generator: np.random.Generator, count: int) -> Floats:
        """Return the number `count` times, float64 (count,)."""
        return np.full(count, self.value)

    def mean(self) -> float:
        """Return the number."""
        return self.value

    def sf(self, x: ArrayLike) -> Floats:
        """Return 1 where x is below the number, else 0."""
        return np.asarray(np.asarray(x) < self.value, np.float64)

    def support(self) -> tuple[float, float]:
        """Return the number twice."""
        return self.value, self.value

    def canonical(self) -> dict[str, Any]:
        """Return {"constant": value}."""
        return {"constant": self.value}


@dataclass(frozen=True)
class ScipyLaw(Law):
    """A frozen law of scipy.stats: its name and its parameters.

    Attributes
    ----------
    name : str
        As in scipy.stats.
    parameters : tuple of (str, float or tuple of float)
        Shapes in scipy's order, then loc, then scale (which discrete laws do not have).
    """

    name: str
    parameters: tuple[tuple[str, float | tuple[float, ...]], ...]

    @property
    def discrete(self) -> bool:
        """Whether only whole numbers are drawn."""
        return all(name != "scale" for name, _ in self.parameters)

    @property
    def frozen(self) -> Any:
        """The frozen law of scipy that belongs to the calling thread."""
        return _of_this_thread.frozen(self)

    def draw(self, generator: np.random.Generator, count: int) -> Floats:
        """Return scipy's `rvs(size=count, random_state=generator)`, float64 (count,)."""
        if count == 0:
            return np.empty(0)  # not every law of scipy can
        with np.errstate(all="ignore"):
            return np.asarray(self.frozen.rvs(size=count, random_state=generator), np.float64)

    def mean(self) -> float:
        """Return scipy's mean."""
        return _mean_of(self)

    def sf(self, x: ArrayLike) -> Floats:
        """Return scipy's survival function."""
        with _quiet():
            if self.name == "zipf":
                return _sf_of_zipf(self, x)
            if self.name in _ADDED_UP:
                return _sf_added_up(self, x)
            return np.asarray(self.frozen.sf(x), np.float64)

    def support(self) -> tuple[float, float]:
        """Return scipy's support."""
        low, high = self.frozen.support()
        return float(low), float(high)

    def canonical(self) -> dict[str, Any]:
        """Return {"dist": name, parameter: value, ...}."""
        return {"dist": self.name} | {k: list(v) if isinstance(v, tuple) else v for k, v in self.parameters}


def _freeze(law: ScipyLaw) -> Any:
    """Build the frozen law; where a law counts, numpy insists on whole parameters that are ints."""
    import scipy.stats

    parameters = dict(law.parameters)
    if law.discrete:
        parameters |= {
            k: int(v) for k, v in law.parameters if isinstance(v, float) and v.is_integer() and abs(v) < 1 << 63
        }
    return getattr(scipy.stats, law.name)(**parameters)


class _Frozen(threading.local):
    """The frozen laws of a thread, those used last; building one takes half a millisecond."""

    def __init__(self) -> None:
        self.frozen = lru_cache(maxsize=64)(_freeze)


_of_this_thread = _Frozen()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to ourselves what scipy has to say about its integrals; the caller looks at the result."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@lru_cache(maxsize=1024)
def _mean_of(law: ScipyLaw) -> float:
    with _quiet():
        return float(law.frozen.mean())


def _sf_of_zipf(law: ScipyLaw, x: ArrayLike) -> Floats:
    """Return zipf's survival function, which is a zeta function; scipy adds up the probabilities of 1, 2, ..., x."""
    from scipy.special import zeta

    parameters = dict(law.parameters)
    above = np.maximum(np.floor(np.asarray(x) - parameters["loc"]), 0.0) + 1
    return np.asarray(zeta(parameters["a"], above) / zeta(parameters["a"]))


def _sf_added_up(law: ScipyLaw, x: ArrayLike) -> Floats:
    """Return a survival function that is a sum of probabilities: added up once, where scipy does so for every x."""
    bottom, top = law.support()
    index = (np.clip(np.floor(x), bottom - 1, top) - bottom).astype(np.int64) + 1
    count = int(index.max(initial=0))
    if count > LONGEST_SUM:
        raise InputError(
            f"{law.name} has no survival function but a sum, here of {count} terms: set a max of at most {LONGEST_SUM}"
        )
    below = np.append(0.0, np.cumsum(law.frozen.pmf(bottom + np.arange(count))))
    return np.where(np.asarray(x) < top, np.maximum(1.0 - below[index], 0.0), 0.0)


@dataclass(frozen=True, eq=False)
class Table(Law):
    """Finitely many values with their probabilities.

    Attributes
    ----------
    values : float64 (entries,)
        Not decreasing.
    probabilities : float64 (entries,)
        Positive, adding up to 1.
    """

    values: Floats
    probabilities: Floats

    def __post_init__(self) -> None:
        for array in self._arrays():
            array.setflags(write=False)  # threads share it

    def _arrays(self) -> tuple[Floats, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arrays()  # without what it has worked out for drawing

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Table) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(np.stack(self._arrays()).astype("<f8").tobytes()).hexdigest()

    @cached_property
    def _cumulative(self) -> Floats:
        cumulative = np.cumsum(self.probabilities)
        cumulative[-1] = 1.0  # above every uniform
        return cumulative

    @cached_property
    def _guide(self) -> NDArray[np.int64]:
        """Where the search begins for each cell of equal width; 8 cells an entry."""
        cells = min(1 << (8 * len(self.values) - 1).bit_length(), _LARGEST_GUIDE)
        return np.searchsorted(self._cumulative, np.arange(cells) / cells, side="right")

    def pick(self, generator: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draw entries by their index, int64 (count,); one uniform each, in order."""
        uniform = generator.random(count)
        guide = self._guide
        index = guide[(uniform * len(guide)).astype(np.int64)]  # exact: the cells are a power of two
        late = np.flatnonzero(self._cumulative[index] <= uniform)
        index[late] = np.searchsorted(self._cumulative, uniform[late], side="right")
        return index

    def draw(self, generator: np.random.Generator, count: int) -> Floats:
        """Draw values, float64 (count,); one uniform each, in order."""
        return self.values[self.pick(generator, count)]

    def mean(self) -> float:
        """Return the sum of values times probabilities."""
        return float(self.probabilities @ self.values)

    def sf(self, x: ArrayLike) -> Floats:
        """Return the probabilities of the values above x."""
        above = np.append(np.cumsum(self.probabilities[::-1])[::-1], 0.0)
        return np.asarray(above[np.searchsorted(self.values, x, side="right")])

    def support(self) -> tuple[float, float]:
        """Return the smallest and the largest value."""
        return float(self.values[0]), float(self.values[-1])

    def canonical(self) -> dict[str, Any]:
        """Return {"table": [[value, probability], ...]}, or the number of entries and their SHA-256 if many."""
        return {"table": self._listed()}

    def _listed(self) -> Any:
        if len(self.values) <= LISTED:
            return np.stack(self._arrays(), axis=1).tolist()
        return {"entries": len(self.values), "sha256": self._digest}


@dataclass(frozen=True, eq=False)
class Fleet(Table):
    """The sizes of a fleet's requests by their rate, each with the mean life of its blocks.

    By Little's law the mean life of the blocks of a size is num_live / alloc_rate.

    Attributes
    ----------
    values : float64 (sizes,)
        Bytes, not decreasing.
    probabilities : float64 (sizes,)
        The share of all requests.
    lives : float64 (sizes,)
        Mean life, in the time unit of the rates.
    """

    lives: Floats

    def mean_life_of(self, sizes: NDArray[np.int64]) -> Floats:
        """Return the mean life of blocks of these sizes, float64 in the same shape.

        Parameters
        ----------
        sizes : int64 array
            Bytes as drawn from this law, before any rounding or bounds: a clipped request keeps its own life.

        Raises
        ------
        KeyError
            If a size is none of the profile's.
        """
        index = np.minimum(np.searchsorted(self.values, sizes), len(self.values) - 1)
        if not np.array_equal(self.values[index], sizes):
            raise KeyError("a size that is not in the fleet's profile")
        return self.lives[index]

    def mean_life(self) -> float:
        """Return the mean life of a request: all blocks that live / the rate of all requests."""
        return float(self.probabilities @ self.lives)

    def mean_size_life(self) -> float:
        """Return E[size x life]: the bytes that live at a rate of one request a unit of time."""
        return float(self.probabilities @ (self.values * self.lives))

    def canonical(self) -> dict[str, Any]:
        """Return {"fleet": [[size, probability, life], ...]}, or the number of sizes and their SHA-256."""
        return {"fleet": self._listed()}


@dataclass(frozen=True)
class Mixture(Law):
    """One of several laws, drawn by its weight; a hyperexponential law is a mixture of exponential ones.

    Attributes
    ----------
    weights : tuple of float
        Positive, adding up to 1.
    components : tuple of Law
    """

    weights: tuple[float, ...]
    components: tuple[Law, ...]

    @cached_property
    def _choice(self) -> Table:
        return Table(np.arange(len(self.weights), dtype=np.float64), np.array(self.weights))

    def draw(self, generator: np.random.Generator, count: int) -> Floats:
        """Draw first the components of all `count` numbers, then for each component in order what falls to it."""
        chosen = self._choice.pick(generator, count)
        values = np.empty(count)
        for i, law in enumerate(self.components):
            mine = np.flatnonzero(chosen == i)
            values[mine] = law.draw(generator, mine.size)
        return values

    def mean(self) -> float:
        """Return the weighted mean of the means."""
        return math.fsum(weight * law.mean() for weight, law in zip(self.weights, self.components, strict=True))

    def sf(self, x: ArrayLike) -> Floats:
        """Return the weighted sum of the survival functions."""
        total = np.zeros(np.shape(x))
        for weight, law in zip(self.weights, self.components, strict=True):
            total += weight * law.sf(x)
        return total

    def support(self) -> tuple[float, float]:
        """Return the smallest and the largest value of any component."""
        ends = [law.support() for law in self.components]
        return min(low for low, _ in ends), max(high for _, high in ends)

    def canonical(self) -> dict[str, Any]:
        """Return {"mixture": [{"weight": ..., law}, ...]}."""
        parts = zip(self.weights, self.components, strict=True)
        return {"mixture": [{"weight": weight, **law.canonical()} for weight, law in parts]}


# --- from the words of an experiment file ----------------------------------------------------------------------------


def law_of(
    table: Any,
    key: str,
    folder: str | Path = ".",
    at_least: float = -math.inf,
    sizes: bool = False,
    others: Sequence[str] = (),
) -> Law:
    """Check a law as it is written, and make it.

    Parameters
    ----------
    table : dict or number
        In the grammar above.
    key : str
        Where it stands, such as "workload.lifetimes": every message begins with it.
    folder : str or Path
        What paths are relative to.
    at_least : float
        The law must not draw below this.
    sizes : bool
        Whether traces and fleets are laws here.
    others : sequence of str
        Words that the caller takes out of the same table: known when a word is looked for.

    Raises
    ------
    InputError
        If it is no law, if scipy refuses it, if it can draw less than `at_least`, or if a file of it cannot be used.
    """
    law = _parse(table, key, Path(folder), _SIZE_KINDS if sizes else _KINDS, tuple(others))
    low, _ = law.support()
    if low < at_least:
        name = law.name if isinstance(law, ScipyLaw) else "this law"
        raise InputError(
            f"{key} can draw {low:g} ({name}), but must be at least {at_least:g}: choose a law that begins there, such "
            "as expon or lognorm, or a truncated one such as truncnorm"
        )
    return law


def _parse(table: Any, key: str, folder: Path, kinds: tuple[str, ...], others: tuple[str, ...]) -> Law:
    if not isinstance(table, Mapping):
        return Constant(_number(table, key, "a number or a table such as {dist = 'expon', scale = 100}"))
    given = [kind for kind in _SIZE_KINDS if kind in table]
    if not given:
        unknown = next((str(word) for word in table if word not in others), None)
        hint = f" but {unknown!r}{did_you_mean(unknown, (*kinds, *others))}" if unknown else ""
        raise InputError(f"{key} names no law{hint}: write one of {', '.join(kinds)}")
    if len(given) > 1:
        raise InputError(f"{key} has both {given[0]} and {given[1]}: keep one of them")
    kind = given[0]
    if kind not in kinds:
        raise InputError(f"{key} is a {kind}, which is no law here: write one of {', '.join(kinds)}")
    if kind == "dist":
        return _scipy_law(table, key, others)
    for word in table:
        if word != kind:
            known = (kind, *others)
            raise InputError(f"{key} has a {kind}, but no {word!r}{did_you_mean(str(word), known)}: remove it")
    if kind == "mixture":
        return _mixture(table[kind], key, folder, tuple(k for k in kinds if k != "fleet"))
    if kind == "table":
        return _table(table[kind], f"{key}.table")
    path = table[kind]
    if not isinstance(path, str) or not path or "\0" in path:
        raise InputError(f"{key}.{kind} is {_shown(path)}: write the path of a file")
    return _recorded(folder / path) if kind == "trace" else _fleet(folder / path)


def _shown(value: Any) -> str:
    """A value as it stands in a message: one line, not too long."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # more digits than Python writes down
        return "a number too long to show"
    return text if len(text) <= 60 else text[:57] + "..."


def _number(value: Any, key: str, what: str = "a number") -> float:
    """Return a finite number as a float."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{key} is {_shown(value)}: write {what}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{key} is {_shown(value)}: write a finite number")
    return number


# --- scipy's ---------------------------------------------------------------------------------------------------------


def _scipy_law(table: Mapping[str, Any], key: str, others: tuple[str, ...]) -> ScipyLaw:
    """Make a law of scipy of the parameters beside `dist`."""
    name = table["dist"]
    required, defaults = _parameters_of(name, key)
    known = [*required, *defaults]
    for word in table:
        if word != "dist" and word not in known:
            hint = did_you_mean(str(word), [*known, *others])
            raise InputError(f"{key}: {name} has no parameter {word!r}{hint}: its parameters are {', '.join(known)}")
    missing = [word for word in required if word not in table]
    if missing:
        raise InputError(
            f"{key}: {name} needs {' and '.join(missing)}: write all of {', '.join(required)}, "
            f"and {' and '.join(defaults)} where they are not the usual ones"
        )
    values: dict[str, float | tuple[float, ...]] = {**defaults}
    values |= {word: _parameter(table[word], name, f"{key}.{word}") for word in known if word in table}
    law = ScipyLaw(name, tuple((word, values[word]) for word in known))
    _try_out(law, key)
    return law


def _parameters_of(name: Any, key: str) -> tuple[list[str], dict[str, float]]:
    """The parameters that a law of scipy must be given, and those that have defaults."""
    from scipy import stats

    laws = (stats.rv_continuous, stats.rv_discrete)
    law = getattr(stats, name, None) if isinstance(name, str) else None
    if name in _ANGLES:
        raise InputError(f"{key}.dist is {name!r}, a law of angles: write a law of numbers such as lognorm")
    if not isinstance(law, laws):
        known = [each for each in dir(stats) if isinstance(getattr(stats, each), laws) and each not in _ANGLES]
        there = f", which scipy.stats has, but not as a law of one number{_close(name, known)}" if law else ""
        hint = there or did_you_mean(str(name), known)
        raise InputError(f"{key}.dist is {_shown(name)}{hint}: write a law of scipy.stats such as lognorm")
    shapes = [shape.strip() for shape in law.shapes.split(",")] if law.shapes else []
    return shapes, {"loc": 0.0} | ({} if isinstance(law, stats.rv_discrete) else {"scale": 1.0})


def _close(name: str, known: list[str]) -> str:
    return did_you_mean(name.removesuffix("_gen").removeprefix("multivariate_"), known)


def _parameter(value: Any, law: str, key: str) -> float | tuple[float, ...]:
    """Return a parameter as a float; the one law that takes a list of numbers gets them as a tuple."""
    if law == "poisson_binom" and isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_number(each, key) for each in value)
    return _number(value, key)


def _try_out(law: ScipyLaw, key: str) -> None:
    """Complain about parameters that scipy refuses, or cannot draw with."""
    given = dict(law.parameters)
    if law.discrete and not float(given["loc"]).is_integer():  # type: ignore[arg-type]
        raise InputError(f"{key}.loc is {given['loc']}, but {law.name} draws whole numbers: write a whole number")
    if not law.discrete and float(given["scale"]) <= 0:  # type: ignore[arg-type]
        raise InputError(f"{key}.scale is {given['scale']}: write a positive number")
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            refused = any(map(math.isnan, law.support()))
            law.draw(np.random.Generator(np.random.Philox(0)), 0 if refused else 1)
    except Exception:  # whatever scipy and numpy raise for parameters that they cannot take
        refused = True
    if refused:
        written = ", ".join(f"{name} = {value}" for name, value in law.parameters)
        raise InputError(
            f"{key}: {law.name} refuses {_cut(written)}: see what it takes at "
            f"https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.{law.name}.html"
        )


def _cut(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."


# --- weights, tables, files ------------------------------------------------------------------------------------------


def _mixture(parts: Any, key: str, folder: Path, kinds: tuple[str, ...]) -> Mixture:
    """Make a mixture of a list of tables, each a weight and a law; what weighs nothing is left out."""
    if not isinstance(parts, Sequence) or isinstance(parts, str) or not parts:
        raise InputError(f"{key}.mixture is {_shown(parts)}: write a list of tables, each with weight and a law")
    weights, laws = [], []
    for i, part in enumerate(parts):
        here = f"{key}.mixture[{i}]"
        if not isinstance(part, Mapping) or "weight" not in part:
            raise InputError(f"{here} is {_shown(part)}: write a table with weight and a law")
        weights.append(_number(part["weight"], f"{here}.weight"))
        rest = {word: value for word, value in part.items() if word != "weight"}
        laws.append(_parse(rest, here, folder, kinds, ("weight",)))
    shares = _shares(np.array(weights), f"{key}.mixture").tolist()
    kept = [(share, law) for share, law in zip(shares, laws, strict=True) if share > 0]
    return Mixture(tuple(share for share, _ in kept), tuple(law for _, law in kept))


def _shares(weights: Floats, key: str) -> Floats:
    """Return weights as parts of their sum."""
    if (weights < 0).any():
        raise InputError(f"{key} has the weight {weights.min():g}: weights cannot be negative")
    with np.errstate(over="ignore"):
        total = float(weights.sum())
    if not 0 < total < math.inf:
        raise InputError(f"{key} has weights that add up to {total:g}: write some that add up to a positive number")
    return weights / total


def _table(rows: Any, key: str) -> Table:
    """Make a table of [[value, weight], ...]; equal values are one entry, and what weighs nothing is left out."""
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
        raise InputError(f"{key} is {_shown(rows)}: write a list of [value, weight]")
    pairs = []
    for i, row in enumerate(rows):
        if not isinstance(row, Sequence) or isinstance(row, str) or len(row) != 2:
            raise InputError(f"{key}[{i}] is {_shown(row)}: write [value, weight]")
        pairs.append([_number(cell, f"{key}[{i}]") for cell in row])
    values, weights = np.array(pairs).T
    return tabulated(values, _shares(weights, key))


def tabulated(values: Floats, shares: Floats) -> Table:
    """Make a Table of values in any order: sorted, equal ones added up, those without weight left out.

    Parameters
    ----------
    values, shares : float64 (entries,)
        The shares add up to 1.
    """
    kept, where = np.unique(values, return_inverse=True)
    total = np.bincount(where, weights=shares).astype(np.float64)
    return Table(kept[total > 0] + 0.0, total[total > 0])  # + 0.0: no negative zero


def _recorded(path: Path) -> Table:
    """The sizes that a recorded program asked for, by how often it did."""
    from vecalloc import formats

    trace = formats.read(path)
    if not trace.allocs:
        raise InputError(f"{path}: has no allocs, so there are no sizes to draw from: record a program that allocates")
    sizes, counts = np.unique(trace.size[trace.is_alloc], return_counts=True)
    return tabulated(sizes.astype(np.float64), (counts / trace.allocs).astype(np.float64))


def _fleet(path: Path) -> Fleet:
    """Read a fleet profile: rows `size, alloc_rate, num_live`, checked line by line."""
    lines = _lines_of(path)
    rows: dict[int, tuple[float, float]] = {}
    for number, line in enumerate(lines, 1):
        size, rate, live = _profiled(line, f"{path}, line {number}", number == 1)
        if size in rows:
            raise InputError(f"{path}, line {number}: size {size} is there twice: add its rows up")
        rows[size] = (rate, live)
    sizes = np.array(sorted(rows), np.float64)
    rates, lives = np.array([rows[size] for size in sorted(rows)]).T
    return Fleet(sizes, _shares(rates, str(path)), lives / rates)


def _lines_of(path: Path) -> list[str]:
    """The lines of a fleet profile; a file that is too large is not read."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; write the path of a fleet profile, rows of size, alloc_rate, num_live")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_PROFILE + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text; write rows of size, alloc_rate, num_live") from None
    lines = text.removesuffix("\n").split("\n") if text else []
    if len(content) > LARGEST_PROFILE or len(lines) > MOST_LINES:
        raise InputError(
            f"{path}: has more than {LARGEST_PROFILE} bytes or {MOST_LINES} lines; merge sizes until it has fewer"
        )
    if lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise InputError(f"{path}: is empty; write rows of size, alloc_rate, num_live")
    return lines


def _profiled(line: str, where: str, first: bool) -> tuple[int, float, float]:
    """Size, alloc_rate and num_live of a line."""
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != 3:
        raise InputError(f"{where}: has {len(cells)} fields ({_shown(line)}): write size, alloc_rate, num_live")
    numbers = [_number_in(cell) for cell in cells]
    if first and not any(map(math.isfinite, numbers)):
        raise InputError(f"{where}: is a header ({_shown(line)}): delete it, for rows hold size, alloc_rate, num_live")
    for name, cell, number in zip(("size", "alloc_rate", "num_live"), cells, numbers, strict=True):
        if not math.isfinite(number):
            raise InputError(f"{where}: {name} is {_shown(cell)}: write a number")
    size, rate, live = numbers
    if not 0 <= size <= LARGEST_SIZE or not size.is_integer():
        raise InputError(f"{where}: size is {_shown(cells[0])}: write a whole number of bytes up to {LARGEST_SIZE}")
    if rate <= 0:
        raise InputError(f"{where}: alloc_rate is {_shown(cells[1])}: write a positive number, or leave the size out")
    if live < 0 or not math.isfinite(live / rate):
        raise InputError(f"{where}: num_live is {_shown(cells[2])}: write a number that is 0 or more")
    return int(size), rate, live


def _number_in(text: str) -> float:
    """Return the number that a cell holds; nan if there is none."""
    try:
        return math.nan if "_" in text else float(text)  # Python's float takes 1_000
    except ValueError:
        return math.nan
