"""A policy with its options, a size, a pool as people write them -> a checked Plan in granules.

One grammar for Pool, the command line and experiment files:

    policy   name | name[key=value,...]          best-fit[ties=lifo,min_split=64]
    value    a TOML scalar, a bare word or a list  64, high, 4KiB, [4KiB,4KiB,1MiB]
    size     bytes, or a number with a unit        4096, 4KiB, 1.5MiB (1024s), 4kB (1000s)
    pool     a size, or a factor of the peak load  16MiB, 0.9x
    reclaim  remedies joined by +, or none         compact[when={every=1000}]+swap[victim=lru,latency=8ms]
    time     seconds, or a number with a unit      0.008, 8 ms, 10 us
    rate     bytes a second, or a size per second  1e9, 40 MB/s, 1GiB/s, inf

The canonical form (keys sorted, defaults dropped) is the label of a policy everywhere, and of what reclaims.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, inf, isfinite
from numbers import Real
from types import ModuleType
from typing import Any, NamedTuple

from vecalloc.errors import InputError, did_you_mean
from vecalloc.policies.table import POLICIES, Option, Policy, Rules
from vecalloc.reclaim.table import REMEDIES, WHENS, Compact, Remedy, Swap
from vecalloc.reclaim.table import Option as RemedyOption

_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{p}iB": 1024**k for k, p in enumerate("KMGT", 1)}
_UNITS |= {f"{p}B": 1000**k for k, p in enumerate("kMGT", 1)}
_SECONDS = {"": Fraction(1), "s": Fraction(1)}
_SECONDS |= {f"{p}s": Fraction(1, 1000**k) for k, p in enumerate(("m", "u", "n"), 1)}
_SECONDS |= {f"{p}s": Fraction(1, 1000**2) for p in "\u00b5\u03bc"}  # both of Unicode's letters for it
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
_QUANTITY = re.compile(r"\s*([0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?)\s*([^\W\d_]*)\s*(/\s*s)?\s*")
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


def parse_duration(value: Any, what: str = "duration") -> float:
    """Seconds of a time as people write it: 0.008, "8 ms", "10 us"."""
    remedy = "write seconds from 0 up, or a number with a unit such as 8 ms or 10 us"
    if not isinstance(value, str):
        return _number(value, what, remedy, lambda seconds: 0 <= seconds < inf)
    return _quantity(value, what, remedy, _SECONDS)


def parse_rate(value: Any, what: str = "rate") -> float:
    """Bytes a second of a rate as people write it: 1e9, "40 MB/s", "1GiB/s"; "inf" for no limit."""
    remedy = "write bytes a second above 0, such as 40 MB/s or 1GiB/s, or inf"
    if not isinstance(value, str):
        return _number(value, what, remedy, lambda rate: 0 < rate <= inf)
    rate = inf if value.strip() == "inf" else _quantity(value, what, remedy, _UNITS, per_second=True)
    if rate == 0:
        raise InputError(f"{what} is {value[:60]!r}: {remedy}")
    return rate


def _number(value: Any, what: str, remedy: str, fits: Callable[[float], bool]) -> float:
    """A real number that fits, as a float."""
    if not isinstance(value, bool) and isinstance(value, Real):
        try:
            if fits(number := float(value)):
                return number
        except OverflowError:  # a whole number beyond the floats
            pass
    raise InputError(f"{what} is {_shown(value)}: {remedy}")


def _quantity(text: str, what: str, remedy: str, units: Mapping[str, Any], per_second: bool = False) -> float:
    """A number with a unit, as a float: the one that is nearest to it."""
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in units or (match[3] and not per_second):
        hint = did_you_mean(match[2], units) if match else ""
        raise InputError(f"{what} is {text[:60]!r}{hint}: {remedy}")
    try:
        return float(Fraction(match[1]) * units[match[2]])
    except OverflowError:
        raise InputError(f"{what} is {text[:60]!r}, which is too large: {remedy}") from None


def _shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # more digits than Python converts
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


def checked_choice(value: Any, what: str, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        hint = did_you_mean(value[:60], choices) if isinstance(value, str) else ""
        raise InputError(f"{what} is {_shown(value)}{hint}: one of {', '.join(choices)}")
    return value


def split_list(text: str, at: str = ",") -> list[str]:
    """Split at the commas that stand outside brackets."""
    parts, depth, start = [], 0, 0
    for i, letter in enumerate(text):
        depth += (letter in "[{") - (letter in "]}")
        if letter == at and depth == 0:
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
    name, inside = _split_brackets(text, "policy")
    policy = POLICIES.get(name)
    if policy is None:
        raise InputError(f"policy {name!r} is not known{did_you_mean(name, POLICIES)}: one of {', '.join(POLICIES)}")
    given = _options_in(inside, name)
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


def _split_brackets(text: str, what: str) -> tuple[str, str]:
    """`name[...]` -> the name, and what stands in the brackets."""
    name, bracket, rest = text.strip().partition("[")
    if bracket and not rest.endswith("]"):
        raise InputError(f"{what} {text!r} has no closing bracket: write {name}[key=value,...]")
    return name, rest[:-1]


def _options_in(text: str, name: str) -> dict[str, Any]:
    """The options in somebody's brackets, as they are written."""
    given: dict[str, Any] = {}
    for part in split_list(text):
        key, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"option {part!r} of {name} has no value: write {part}=value")
        if key.strip() in given:
            raise InputError(f"option {key.strip()!r} of {name} is given twice")
        given[key.strip()] = _parse_value(value.strip())
    return given


def _parse_value(text: str) -> Any:
    """A TOML scalar, a bare word, or a list or table of those."""
    if text.startswith("[") and text.endswith("]"):
        return [_parse_scalar(part) for part in split_list(text[1:-1])]
    if text.startswith("{") and text.endswith("}"):
        pairs = [part.partition("=") for part in split_list(text[1:-1])]
        table = {key.strip(): _parse_scalar(value.strip()) for key, equals, value in pairs if equals}
        return table if len(table) == len(pairs) else text  # what is no table, the option says
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
        raise InputError(f"{what} is {_shown(size)}: write at most {LARGEST_OPTION} bytes")
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


# --- remedies --------------------------------------------------------------------------------------------------------

NO_REMEDY = "none"


def parse_reclaim(value: Any) -> tuple[Remedy, ...]:
    """The remedies that people write, checked, in the order in which they are tried.

    Parameters
    ----------
    value : None, str, dict, or a list of str and dict
        "none" or None; `compact[how=slide,...]`, several joined by +; a table of a file, {"kind": "compact", ...}.

    Raises
    ------
    InputError
        If a remedy or an option is not known, or given twice, or a value is not one that the option takes.
    """
    if value is None or (isinstance(value, str) and value.strip() == NO_REMEDY):
        return ()
    remedies: list[Remedy] = []
    for entry in value if isinstance(value, (list, tuple)) else [value]:
        remedies += [_remedy_of(part) for part in split_list(entry, "+")] if isinstance(entry, str) else [_table(entry)]
    if not remedies:
        raise InputError(f"reclaim is {_shown(value)}: {_HOW_TO_RECLAIM}")
    for kind in REMEDIES:
        if sum(remedy.kind == kind for remedy in remedies) > 1:
            raise InputError(f"reclaim has {kind} twice: write each remedy once")
    return tuple(remedies)


def remedies_of(text: str) -> list[tuple[Remedy, ...]]:
    """The ways to reclaim of a comma-separated list, each once: `compact[how=slide],compact[how=two-finger],none`."""
    by_label: dict[str, tuple[Remedy, ...]] = {}
    for part in split_list(text):
        remedies = parse_reclaim(part)
        by_label.setdefault(label_of_reclaim(remedies), remedies)
    if not by_label:
        raise InputError('no remedy is named: write one such as compact, or "none"')
    return list(by_label.values())


_HOW_TO_RECLAIM = 'write "none", a remedy such as "compact[how=slide]", a table with its kind, or a list of remedies'


def _remedy_of(text: str) -> Remedy:
    """The remedy of a text: options stand side by side in brackets."""
    name, inside = _split_brackets(text, "remedy")
    if name == NO_REMEDY:
        raise InputError(f"reclaim has {NO_REMEDY!r} among remedies: write it alone, or leave it out")
    if name not in REMEDIES:
        hint = did_you_mean(name, REMEDIES)
        raise InputError(f"remedy {name[:60]!r} is not known{hint}: one of {', '.join(REMEDIES)}; + joins several")
    return _filled_in(name, _options_in(inside, name))


def _table(table: Any) -> Remedy:
    """The remedy of a table: some options stand in a table of their own."""
    if not isinstance(table, Mapping):
        raise InputError(f"reclaim is {_shown(table)}: {_HOW_TO_RECLAIM}")
    kind = checked_choice(table.get("kind"), "kind of reclaim", tuple(REMEDIES))
    options = REMEDIES[kind].options
    keys = list(dict.fromkeys(option.within or option.name for option in options))
    given: dict[str, Any] = {}
    for key, value in table.items():
        if key == "kind":
            continue
        if key not in keys:
            within = next((option.within for option in options if option.name == key), "")
            if within:
                raise InputError(f"{kind} has no option {key!r} beside the others: write {within} = {{{key} = ...}}")
            hint = did_you_mean(str(key), keys)
            raise InputError(f"{kind} has no option {key!r}{hint}: its options are {', '.join(keys)}")
        inner = [option.name for option in options if option.within == key]
        if not inner:
            given[key] = value
            continue
        if not isinstance(value, Mapping):
            raise InputError(f"option {key!r} of {kind} is {_shown(value)}: write a table with {' and '.join(inner)}")
        for each in value:
            if each not in inner:
                hint = did_you_mean(str(each), inner)
                raise InputError(f"{key} of {kind} has no option {each!r}{hint}: its options are {', '.join(inner)}")
        given |= value
    return _filled_in(kind, given)


def _filled_in(kind: str, given: Mapping[str, Any]) -> Remedy:
    """The remedy with these options, however they were written."""
    names = [option.name for option in REMEDIES[kind].options]
    fields: dict[str, Any] = {}
    for name, value in given.items():
        if name not in names:
            hint = did_you_mean(name, names)
            raise InputError(f"{kind} has no option {name!r}{hint}: its options are {', '.join(names)}")
        fields |= checked_remedy_option(REMEDIES[kind].option(name), value, f"option {name!r} of {kind}")
    return REMEDIES[kind].filled_in(**fields)


def checked_remedy_option(option: RemedyOption, value: Any, what: str) -> dict[str, Any]:
    """Check the value of an option; what it comes to, by attributes of `Compact` or `Swap`.

    Raises
    ------
    InputError
        That begins with `what`, if the option does not take the value.
    """
    if option.form == "choice":
        return {option.name: checked_choice(value, what, option.choices)}
    if option.form == "when":
        return _checked_when(value, what)
    return {option.name: _FORMS[option.form](value, what)}


def _checked_when(value: Any, what: str) -> dict[str, Any]:
    if isinstance(value, str) and value == WHENS[0]:
        return {"when": value}
    key = str(next(iter(value), "")) if isinstance(value, Mapping) else value if isinstance(value, str) else ""
    if not isinstance(value, Mapping) or len(value) != 1 or key not in WHENS[1:]:
        hint = did_you_mean(key[:60], WHENS) if key not in WHENS else ""
        remedy = f"write {WHENS[0]}, {{every = 1000}} or {{external_fragmentation = 0.5}}"
        raise InputError(f"{what} is {_shown(value)}{hint}: {remedy}")
    amount = value[key]
    if key == "every":
        events = whole_number(amount, f"every, in {what},", "of events")
        if not 1 <= events <= LARGEST_OPTION:
            raise InputError(f"every, in {what}, is {_shown(events)}: write a whole number from 1 to {LARGEST_OPTION}")
        return {"when": key, "every": events}
    remedy = "write a number between 0 and 1"
    return {"when": key, key: _number(amount, f"{key}, in {what},", remedy, lambda x: 0 < x < 1)}


def _checked_budget(value: Any, what: str) -> float | None:
    if value is None or (isinstance(value, str) and value == NO_REMEDY):
        return None
    return _number(value, what, "write a number above 1, or none", lambda c: c > 1 and isfinite(c))


def _checked_space(value: Any, what: str) -> int | None:
    if value is None or (isinstance(value, str) and value == NO_REMEDY):
        return None
    size = parse_size(value, what)
    if size > LARGEST_OPTION:
        raise InputError(f"{what} is {_shown(size)}: write at most {LARGEST_OPTION} bytes, or none")
    return size


def _checked_flag(value: Any, what: str) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{what} is {_shown(value)}: write true or false")
    return value


def _checked_share(value: Any, what: str) -> float:
    return _number(value, what, "write a share from 0 up and below 1", lambda share: 0 <= share < 1)


_FORMS: dict[str, Callable[[Any, str], Any]] = {
    "budget": _checked_budget,
    "share": _checked_share,
    "rate": parse_rate,
    "duration": parse_duration,
    "space": _checked_space,
    "flag": _checked_flag,
}


def label_of_reclaim(remedies: Sequence[Remedy]) -> str:
    """The canonical form of remedies: keys sorted, defaults dropped, joined by +; "none" without any."""
    return "+".join(map(_label_of_remedy, remedies)) or NO_REMEDY


def _label_of_remedy(remedy: Remedy) -> str:
    plain = type(remedy)()
    names = sorted(option.name for option in REMEDIES[remedy.kind].options)
    shown = [f"{name}={text}" for name in names if (text := _text_of(remedy, name)) != _text_of(plain, name)]
    return remedy.kind + (f"[{','.join(shown)}]" if shown else "")


def _text_of(remedy: Remedy, name: str) -> str:
    """The value of an option as it stands in brackets."""
    value = getattr(remedy, name)
    if name == "when" and value != WHENS[0]:
        return f"{{{value}={_plain(getattr(remedy, value))}}}"
    return _plain(value)


def _plain(value: Any) -> str:
    if value is None:
        return NO_REMEDY
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and value < 1 << 53:
        return str(int(value))
    return str(value)


class Contradiction(NamedTuple):
    """Something that does not go together: a key ("reclaim" or "on_failure"), its value, and why, with the remedy."""

    key: str
    value: str
    why: str


def check_reclaim(
    remedies: Sequence[Remedy],
    plan: Plan | None = None,
    on_failure: str | None = None,
    *,
    processes: bool = False,
    largest: int | None = None,
) -> None:
    """Check remedies against all that they must go with.

    Parameters
    ----------
    remedies : sequence of Remedy
    plan : Plan, optional
        The policy and the pool; what refers to them is left alone without.
    on_failure : str, optional
        None: by default, which is "wait" where processes are swapped.
    processes : bool
        Whether processes arrive, which work and idle.
    largest : int, optional
        Bytes that no request exceeds, where that is known.

    Raises
    ------
    InputError
        For the first contradiction: the key, the value, why and the remedy.
    """
    for key, value, why in contradictions_of(remedies, plan, on_failure, processes=processes, largest=largest):
        raise InputError(f"{key} is {value}: {why}")


def contradictions_of(
    remedies: Sequence[Remedy],
    plan: Plan | None = None,
    on_failure: str | None = None,
    *,
    processes: bool = False,
    largest: int | None = None,
    policy: str = "",
) -> Iterator[Contradiction]:
    """Everything that `check_reclaim` would refuse; `policy` is its name where there is no plan yet."""
    compact = next((remedy for remedy in remedies if isinstance(remedy, Compact)), None)
    swap = next((remedy for remedy in remedies if isinstance(remedy, Swap)), None)
    refused: list[str] = []
    if compact:
        refused += _wrong_compact(compact, plan.policy.name if plan else policy, processes or swap is not None)
    if swap:
        refused += _wrong_swap(swap, plan, processes, largest)
    if compact and swap and not swap.relocate:
        refused.append(
            "relocate = false, but compaction moves processes: write relocate = true, or leave compaction out"
        )
    yield from (Contradiction("reclaim", label_of_reclaim(remedies), why) for why in refused)
    if (processes or swap) and on_failure not in (None, "wait"):
        yield Contradiction("on_failure", str(on_failure), "processes wait for room: leave it out, or write wait")


def _wrong_compact(compact: Compact, policy: str, with_processes: bool) -> Iterator[str]:
    if policy == "static-partition":
        yield "units of static-partition cannot move: leave compaction out, or use other policies only"
    if policy == "buddy" and compact.how != "slide":
        yield f"how = {compact.how}, but blocks of buddy only slide: write how = slide, or use other policies only"
    if compact.when == WHENS[0]:
        return
    when = f"when = {_text_of(compact, 'when')}"
    if compact.how == "first-window":
        yield f"{when}, but first-window looks for the room that a request needs: write when = failure, or how = slide"
    if with_processes:
        yield f"{when}, but processes are moved only when there is no room for one: write when = failure"


def _wrong_swap(swap: Swap, plan: Plan | None, processes: bool, largest: int | None) -> Iterator[str]:
    if not processes:
        yield (
            "only processes are swapped, and there are none: write an experiment whose workload has work, active and "
            "idle instead of lifetimes, or leave swapping out"
        )
    sizes = [size for size in (plan.pool if plan else None, largest) if size is not None]
    if swap.swap_space is not None and sizes and swap.swap_space < min(sizes):
        yield (
            f"swap_space = {swap.swap_space} bytes, but a process may have {min(sizes)}, and could never be swapped: "
            f"write at least {min(sizes)}, or bound the sizes by max"
        )
