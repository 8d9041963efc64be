"""Laws as tables: scipy's by name, mixtures, tables of values; for sizes also traces, fleets and bounds.

Which one it is shows by its key, so that what is wrong in a mixture is said of a mixture. Whether a law exists and
takes its parameters is not known here: `vecalloc.workload` says so, to the cells.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema

from vecalloc.errors import InputError
from vecalloc.experiment.fields import Bytes, Table, is_number
from vecalloc.experiment.toml import shown

ANY_LAW = 'a number, a law such as {dist = "expon", scale = 1.0}, {mixture = [...]} or {table = [[value, weight], ...]}'
"""What is written where a law is wanted."""


def _parameter(value: Any) -> Any:
    numbers = value if isinstance(value, list) else [value]
    if not all(map(is_number, numbers)):
        raise InputError(f"{shown(value)}: write a number, for it stands among the parameters of a law")
    return value


def _kind(value: Any) -> str | None:
    """The tag of the model that a law is checked by; None where there is none for it."""
    if isinstance(value, dict):
        return next((f"<{key}>" for key in ("mixture", "table", "trace", "fleet") if key in value), "<dist>")
    if isinstance(value, str):
        return "<word>"
    return "<number>" if is_number(value) else None


BY_KIND = Discriminator(_kind)
"""Chooses among <word>, <number>, <dist>, <mixture>, <table>, <trace> and <fleet>."""


# --- by itself -------------------------------------------------------------------------------------------------------


class Dist(Table, title="law of scipy.stats", extra="allow"):
    """A law of scipy.stats: its name, and beside it its parameters by scipy's names (s, a, df, loc, scale, ...)."""

    __pydantic_extra__: dict[
        str, Annotated[Any, AfterValidator(_parameter), WithJsonSchema({"type": ["number", "array"]})]
    ]
    dist: str = Field(
        description='the name of a law of scipy.stats, such as "lognorm", "expon" or "geom"; its parameters beside it'
    )


class Mixture(Table, title="mixture"):
    """A mixture of laws: each value is drawn from one of them."""

    mixture: list["_Part"] = Field(
        min_length=1, description='a list of weighted laws such as [{weight = 0.8, dist = "expon", scale = 100.0}, ...]'
    )


class Pairs(Table, title="table of values"):
    """A table of values and their weights."""

    table: list[Annotated[list[float], Field(min_length=2, max_length=2)]] = Field(
        min_length=1, description="a list of pairs of a value and its weight, such as [[16, 0.5], [64, 0.5]]"
    )


class Trace(Table, title="sizes of a trace"):
    """The size histogram of a recorded trace; for sizes only."""

    trace: str = Field(description="the path of a recorded trace, whose sizes are drawn as often as they occur in it")


class Fleet(Table, title="fleet profile"):
    """A fleet profile: sizes with their rates and numbers; for sizes only."""

    fleet: str = Field(
        description="the path of a CSV file of rows size, alloc_rate, num_live: sizes are drawn by their rate, "
        "and live for num_live / alloc_rate on average"
    )


LawTable = Annotated[Dist, Tag("<dist>")] | Annotated[Mixture, Tag("<mixture>")] | Annotated[Pairs, Tag("<table>")]
Law = Annotated[Annotated[float, Tag("<number>")] | LawTable, BY_KIND]


# --- in a mixture ----------------------------------------------------------------------------------------------------


class Weighted(Table):
    """What a component of a mixture has beside its law."""

    weight: float = Field(ge=0, description="a number from 0 up, the weight of this law; they need not add up to 1")


class WeightedDist(Weighted, Dist, title="weighted law of scipy.stats"):
    """A law of scipy.stats with its weight in a mixture."""


class WeightedMixture(Weighted, Mixture, title="weighted mixture"):
    """A mixture with its weight in a mixture."""


class WeightedPairs(Weighted, Pairs, title="weighted table of values"):
    """A table of values with its weight in a mixture."""


class WeightedTrace(Weighted, Trace, title="weighted sizes of a trace"):
    """A trace with its weight in a mixture; for sizes only."""


_Part = Annotated[
    Annotated[WeightedDist, Tag("<dist>")]
    | Annotated[WeightedMixture, Tag("<mixture>")]
    | Annotated[WeightedPairs, Tag("<table>")]
    | Annotated[WeightedTrace, Tag("<trace>")],
    BY_KIND,
]


# --- of sizes --------------------------------------------------------------------------------------------------------


class Bounded(Table):
    """What sizes take beside their law; bounds apply after rounding."""

    min: Bytes | None = Field(None, description="a size in bytes, the smallest that is requested")
    max: Bytes | None = Field(None, description="a size in bytes, the largest that is requested")
    bounds: Literal["reject", "clip"] | None = Field(
        None, description='"reject" (draw again) or "clip" (take the bound) for sizes beyond min or max'
    )
    rounding: Literal["ceil", "round", "floor"] = Field(
        "ceil", description='"ceil", "round" or "floor" for how a size becomes whole bytes'
    )


class SizeDist(Bounded, Dist, title="law of scipy.stats for sizes"):
    """A law of scipy.stats for sizes: its parameters by scipy's names (s, a, df, loc, scale, ...), and bounds."""


class SizeMixture(Bounded, Mixture, title="mixture for sizes"):
    """A mixture of laws for sizes, and bounds."""


class SizePairs(Bounded, Pairs, title="table of sizes"):
    """A table of sizes and their weights, and bounds."""


class SizeTrace(Bounded, Trace, title="sizes of a trace"):
    """The size histogram of a recorded trace, and bounds."""


class SizeFleet(Bounded, Fleet, title="fleet profile"):
    """A fleet profile: sizes with their rates and numbers, and bounds."""


SizeLaw = Annotated[
    Annotated[float, Tag("<number>")]
    | Annotated[SizeDist, Tag("<dist>")]
    | Annotated[SizeMixture, Tag("<mixture>")]
    | Annotated[SizePairs, Tag("<table>")]
    | Annotated[SizeTrace, Tag("<trace>")]
    | Annotated[SizeFleet, Tag("<fleet>")],
    BY_KIND,
]

for _model in (Mixture, WeightedMixture, SizeMixture):
    _model.model_rebuild()  # their components are known now
