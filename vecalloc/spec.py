"""A policy with its options, a size, a pool as people write them -> a checked Plan in granules.

One grammar for Pool, the command line and experiment files:

    policy   name | name[key=value,...]          best-fit[ties=lifo,min_split=64]
    value    a TOML scalar, a bare word or a list  64, high, 4KiB, [4KiB,4KiB,1MiB]
    size     bytes, or a number with a unit        4096, 4KiB, 1.5MiB (1024s), 4kB (1000s)
    pool     a size, or a factor of the peak load  16MiB, 0.9x

The canonical form (keys sorted, defaults dropped) is the label of a policy everywhere.
"""

import re
import tomllib
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from types import ModuleType
from typing import Any

from vecalloc.errors import InputError, did_you_mean
from vecalloc.policies.table import POLICIES, Option, Policy, Rules

_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{p}iB": 1024**k for k, p in enumerate("KMGT", 1)}
_UNITS |= {f"{p}B": 1000**k for k, p in enumerate("kMGT", 1)}
LARGEST_OPTION = 1 << 61
"""Bytes of a header, an alignment and the like: with the largest request they still fit an int64."""

ON_FAILURES = ("drop", "grow", "stop")
"""What becomes of a request that does not fit: it is dropped; the pool grows; the replica stops."""

CLOCKS = ("event", "time")
"""What time averages are taken over: every event lasts one unit; or the times of the trace."""

LARGEST_GRANULE = 1 << 40
LARGEST_POOL = 1 << 62
"""Bytes of a pool: its addresses fit an int64."""

_SIZE = re.compile(r"\s*([0-9]{1,40}(?:\.[0-9]{1,40})?)\s*([A-Za-z]*)\s*")
_FACTOR = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{1,18})?)x\s*")


@dataclass(frozen=True)
class Plan:
    """A policy with every option, and its pool, checked and in granules.

    Attributes
    ----------
    policy : Policy
    options : dict
        Every option by name, as written or by default.
    granule, header, alignment : int
        In bytes.
    granules : int
        The pool.
    rules : Rules
        The options as the kernels need them.
    """

    policy: Policy
    options: dict[str, Any]
    granule: int
    granules: int
    rules: Rules

    @property
    def label(self) -> str:
        """The canonical form: keys sorted, defaults dropped."""
        return label_of(self.policy, self.options)

    @property
    def header(self) -> int:
        """Bytes added to every request."""
        return int(self.options["header"])

    @property
    def alignment(self) -> int:
        """Bytes that every extent is a multiple of."""
        return int(self.options["alignment"])

    @property
    def pool(self) -> int:
        """The pool in bytes."""
        return self.granules * self.granule

    @property
    def most(self) -> int:
        """The largest pool that the policy can address, in granules."""
        return self.policy.most(self.options)

    def module(self) -> ModuleType:
        """The file of policies/ that serves this plan."""
        return self.policy.module(self.options)


def whole_number(value: Any, what: str, of: str = "") -> int:
    """Return `value` as an int; an InputError that names `what` unless it is a whole number >= 0 (`of` something)."""
    try:
        number = value.__index__()
    except (AttributeError, TypeError):
        raise InputError(f"{what} is {value!r}: write a whole number {of}".rstrip()) from None
    if isinstance(value, bool):
        raise InputError(f"{what} is {value!r}: write a whole number {of}".rstrip())
    if number < 0:
        raise InputError(f"{what} is {number}: it cannot be negative")
    return int(number)


def parse_size(text: Any, what: str = "size") -> int:
    """Bytes of a size as people write it: 4096, "4KiB", "1.5MiB"."""
    if not isinstance(text, str):
        return whole_number(text, what, "of bytes")
    match = _SIZE.fullmatch(text)
    if match is None or match[2] not in _UNITS:
        hint = did_you_mean(match[2], _UNITS) if match else ""
        raise InputError(f"{what} is {text[:60]!r}{hint}: write bytes, or a number with a unit such as 64KiB or 1.5MiB")
    size = Fraction(match[1]) * _UNITS[match[2]]
    if size.denominator != 1:
        raise InputError(f"{what} is {text!r}, which is no whole number of bytes")
    return int(size)


def checked_choice(value: Any, what: str, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{what} is {value!r}{did_you_mean(str(value), choices)}: one of {', '.join(choices)}")
    return value


def split_list(text: str) -> list[str]:
    """Split at the commas that stand outside brackets."""
    parts, depth, start = [], 0, 0
    for i, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [part.strip() for part in [*parts, text[start:]] if part.strip()]


def policies_of(text: str) -> list[str]:
    """The policies of a comma-separated list; `all` stands for every policy with its defaults."""
    names: list[str] = []
    for part in split_list(text):
        names += POLICIES if part == "all" else [part]
    if not names:
        raise InputError("no policy is named: write one such as first-fit, or all")
    by_label: dict[str, str] = {}
    for name in names:
        by_label.setdefault(label_of(*parse_policy(name)), name)
    return list(by_label.values())


def parse_policy(text: str, keywords: dict[str, Any] | None = None) -> tuple[Policy, dict[str, Any]]:
    """A policy and its options by name, checked; `keywords` are options given beside the text.

    Raises
    ------
    InputError
        If the policy or an option is not known, or a value is not one that the option takes.
    """
    if not isinstance(text, str):
        raise InputError(f"policy is {text!r}: write a name such as 'best-fit[ties=lifo]'")
    name, bracket, rest = text.strip().partition("[")
    if bracket and not rest.endswith("]"):
        raise InputError(f"policy {text!r} has no closing bracket: write {name}[key=value,...]")
    policy = POLICIES.get(name)
    if policy is None:
        raise InputError(f"policy {name!r} is not known{did_you_mean(name, POLICIES)}: one of {', '.join(POLICIES)}")
    given: dict[str, Any] = {}
    for part in split_list(rest[:-1]) if bracket else []:
        key, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"option {part!r} of {name} has no value: write {part}=value")
        if key.strip() in given:
            raise InputError(f"option {key.strip()!r} of {name} is given twice")
        given[key.strip()] = _parse_value(value.strip())
    for key, value in (keywords or {}).items():
        if key in given:
            raise InputError(f"option {key!r} of {name} is given twice, in brackets and by keyword")
        given[key] = value
    options = {option.name: option.default for option in policy.options}
    for key, value in given.items():
        option = policy.option(key)
        if option is None:
            raise InputError(
                f"{name} has no option {key!r}{did_you_mean(key, options)}: its options are {', '.join(options)}"
            )
        options[key] = _checked(name, option, value)
    return policy, options


def _parse_value(text: str) -> Any:
    """A TOML scalar, a bare word, or a list of those."""
    if text.startswith("[") and text.endswith("]"):
        return [_parse_scalar(part) for part in split_list(text[1:-1])]
    return _parse_scalar(text)


def _parse_scalar(text: str) -> Any:
    """A TOML scalar; else the text as it is."""
    if not text.isprintable() or text[:1] in "[{" or "#" in text:  # no scalar, a second line, a comment
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except ValueError:  # no TOML, or more digits than Python converts
        return text


def _checked(name: str, option: Option, value: Any) -> Any:
    what = f"option {option.name!r} of {name}"
    if option.choices:
        return checked_choice(value, what, option.choices)
    if option.many:
        values = value.tolist() if hasattr(value, "tolist") else value
        if not isinstance(values, (list, tuple)) or not values:
            raise InputError(f"{what} is {value!r}: write a list of sizes such as [4KiB,64KiB]")
        return tuple(parse_size(v, what) for v in values)
    size = parse_size(value, what)
    if size > LARGEST_OPTION:
        raise InputError(f"{what} is {size}: write at most {LARGEST_OPTION} bytes")
    if option.name == "alignment" and (size < 1 or size & (size - 1)):
        raise InputError(f"{what} is {size}: write a power of two")
    return size


def label_of(policy: Policy, options: dict[str, Any]) -> str:
    """The canonical form of a policy with options: keys sorted, defaults dropped."""
    shown = {o.name: options[o.name] for o in policy.options if options[o.name] != o.default}
    written = [f"{k}={_written(shown[k])}" for k in sorted(shown)]
    return policy.name + (f"[{','.join(written)}]" if written else "")


def _written(value: Any) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


def checked_granule(granule: Any) -> int:
    """A granule in bytes: a power of two."""
    size = parse_size(granule, "granule")
    if size < 1 or size & (size - 1) or size > LARGEST_GRANULE:
        raise InputError(f"granule is {size}: write a power of two up to {LARGEST_GRANULE}, such as 16")
    return size


def make_plan(
    policy: str, pool: Any, granule: Any = 16, load: int | None = None, options: dict[str, Any] | None = None
) -> Plan:
    """Check a policy and a pool against each other.

    Parameters
    ----------
    policy : str
        `name` or `name[key=value,...]`.
    pool : int or str
        Bytes, a size, or a factor of the load such as "0.9x", which is rounded up to what the policy accepts.
    granule : int or str
        Bytes, a power of two.
    load : int, optional
        Peak of the live extents in granules, for relative pools.
    options : dict, optional
        Options by keyword.

    Raises
    ------
    InputError
        For anything that cannot be used; nothing has been allocated then.
    """
    chosen, values = parse_policy(policy, options)
    granule = checked_granule(granule)
    step = max(1, values["alignment"] // granule)
    granules = _granules_of(chosen, pool, granule, load, step)
    most = chosen.most(values)
    label = label_of(chosen, values)
    if granules > most:
        raise InputError(
            f"a pool of {granules * granule:,} bytes is {granules:,} granules of {granule}, more than the {most:,} "
            f"that {label} can address: choose a granule of at least {granule << ((granules - 1) // most).bit_length()}"
        )
    if granules * granule > LARGEST_POOL:
        raise InputError(f"pool is {granules * granule} bytes: write at most {LARGEST_POOL}")
    if values.get("carve") == "high" and granules % step:
        raise InputError(
            f"{label}: carving the high end of a pool of {granules * granule} bytes gives no addresses that are "
            f"multiples of {values['alignment']}: choose a pool that is"
        )
    rules = Rules(
        min_split=max(1, -(-values.get("min_split", 1) // granule)),
        carve_high=values.get("carve") == "high",
        **_units_of(label, values, granule, granules, step),
    )
    return Plan(chosen, values, granule, granules, rules)


def _granules_of(policy: Policy, pool: Any, granule: int, load: int | None, step: int) -> int:
    if isinstance(pool, str) and pool.strip().endswith("x"):
        match = _FACTOR.fullmatch(pool)
        if match is None:
            raise InputError(f"pool is {pool[:60]!r}: write a size, or a factor of the load such as 0.9x")
        factor = Fraction(match[1])
        if load is None:
            raise InputError(f"pool is {pool!r}, a factor of the peak load, but there is no trace here: write a size")
        if factor <= 0:
            raise InputError(f"pool is {pool!r}: the factor must be positive")
        granules = max(step, ceil(factor * load / step) * step)
        return 1 << (granules - 1).bit_length() if policy.power_of_two else granules
    size = parse_size(pool, "pool")
    if size < 1 or size % granule:
        near = max(granule, -(-size // granule) * granule)
        raise InputError(f"pool is {size} bytes, not a positive multiple of the granule {granule}: {near} is")
    granules = size // granule
    if policy.power_of_two and granules & (granules - 1):
        near = granule << granules.bit_length()
        raise InputError(
            f"pool is {size} bytes, but {policy.name} needs a power of two of granules: the next is {near}"
        )
    return granules


def _units_of(label: str, values: dict[str, Any], granule: int, granules: int, step: int) -> dict[str, Any]:
    """The units of a static partition in granules; nothing for other policies."""
    if "units" not in values:
        return {}
    sizes = list(values["units"])
    if sizes and values["unit"] is not None:
        raise InputError(f"{label}: give unit (equal units) or units (unequal ones), not both")
    if not sizes and values["unit"] is None:
        return {"unit": min(granules, max(granules // 64 // step, 1) * step)}
    for size in sizes or [values["unit"]]:
        if size < 1 or size % (granule * step):
            raise InputError(f"{label}: a unit of {size} bytes is no positive multiple of {granule * step}")
    if not sizes:
        if values["unit"] > granules * granule:
            raise InputError(
                f"{label}: a unit of {values['unit']} bytes is larger than the pool of {granules * granule}"
            )
        return {"unit": values["unit"] // granule}
    if sum(sizes) > granules * granule:
        raise InputError(f"{label}: the units add up to {sum(sizes)} bytes, more than the pool of {granules * granule}")
    return {"units": tuple(size // granule for size in sizes)}
