"""Sixty-four at a time: the handful of machine instructions that everything else is built of.

A bitmap is an array of int64 words; bit i of a set is bit `i & 63` of word `i >> 6`. Words are signed because numba
turns uint64 with int64 into float64. Each instruction that Python lacks is a `primitive`: LLVM's when compiled, a
plain-Python twin when the JIT is off (a test compares the two).
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from vecalloc.kernel import inline, primitive

LANES = 16
"""How many uint32 lanes the vector primitives look at: one node of a hole tree, one cache line."""

LANE_BITS = 4
"""log2(LANES)"""

_UNSIGNED = (1 << 64) - 1
_WORD = ir.IntType(64)


def _word_primitive(twin):
    """Pair a function of one int64 that emits LLVM with its plain-Python twin."""

    def pair(emit):
        @primitive(twin)
        def typing(typing_context, word):
            return types.int64(types.int64), lambda context, builder, signature, args: emit(builder, args[0])

        return typing

    return pair


def _constant(value):
    return ir.Constant(ir.IntType(64), value)


def _shift(builder, word, i):
    return builder.shl(_constant(word), builder.and_(i, _constant(63)))


def _lowest_twin(word):
    w = int(word) & _UNSIGNED
    return np.int64((w & -w).bit_length() - 1)


@_word_primitive(_lowest_twin)
def lowest(builder, word):
    """Index of the lowest set bit of a non-zero word."""
    return builder.cttz(word, ir.Constant(ir.IntType(1), 1))


def _highest_twin(word):
    return np.int64((int(word) & _UNSIGNED).bit_length() - 1)


@_word_primitive(_highest_twin)
def highest(builder, word):
    """Index of the highest set bit of a non-zero word: floor(log2) for positive numbers."""
    return builder.sub(_constant(63), builder.ctlz(word, ir.Constant(ir.IntType(1), 1)))


def _bit_twin(i):
    return np.int64(1) << np.int64(i & 63)


@_word_primitive(_bit_twin)
def bit(builder, i):
    """The word whose only bit is `i & 63`."""
    return _shift(builder, 1, i)


def _bits_from_twin(i):
    return np.int64(-1) << np.int64(i & 63)


@_word_primitive(_bits_from_twin)
def bits_from(builder, i):
    """The bits of a word at or above `i & 63`."""
    return _shift(builder, -1, i)


def _bits_above_twin(i):
    return np.int64(-2) << np.int64(i & 63)


@_word_primitive(_bits_above_twin)
def bits_above(builder, i):
    """The bits of a word strictly above `i & 63`; none for 63."""
    return _shift(builder, -2, i)


def _bits_up_to_twin(i):
    return ~_bits_above_twin(i)


@_word_primitive(_bits_up_to_twin)
def bits_up_to(builder, i):
    """The bits of a word at or below `i & 63`."""
    return builder.not_(_shift(builder, -2, i))


def _pair(high, low):
    return (int(high) & _UNSIGNED) << 64 | (int(low) & _UNSIGNED)


def _signed(word):
    return np.int64(word - (1 << 64) if word >> 63 else word)


def _funnel(name, builder, args):
    shift = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_WORD, [_WORD] * 3), f"llvm.{name}.i64")
    return builder.call(shift, args)


def _window_from_twin(high, low, i):
    return _signed((_pair(high, low) >> (int(i) & 63)) & _UNSIGNED)


@primitive(_window_from_twin)
def window_from(typing, high, low, i):
    """The 64 bits from bit `i & 63` of `low` on, where `high` follows `low`: bit 0 of the result is bit i."""

    def emit(context, builder, signature, args):
        return _funnel("fshr", builder, args)

    return types.int64(types.int64, types.int64, types.int64), emit


def _window_up_to_twin(high, low, i):
    return _signed((_pair(high, low) >> ((int(i) & 63) + 1)) & _UNSIGNED)


@primitive(_window_up_to_twin)
def window_up_to(typing, high, low, i):
    """The 64 bits up to bit `i & 63` of `high`, which follows `low`: bit 63 of the result is bit i."""

    def emit(context, builder, signature, args):
        high, low, i = args
        return _funnel("fshl", builder, [high, low, builder.not_(i)])

    return types.int64(types.int64, types.int64, types.int64), emit


def _at_twin(i):
    if i < 0:
        raise IndexError(f"index {i} is negative")
    return int(i)


@primitive(_at_twin)
def at(typing, i):
    """An index that is known not to be negative: without the question whether it counts from the end."""
    return types.uint64(types.int64), lambda context, builder, signature, args: args[0]


@inline
def ceil_log2(n):
    """The smallest k with 2**k >= n, for n >= 1."""
    return highest(n - 1) + 1 if n > 1 else np.int64(0)


# --- vectors: one node of a hole tree at a time ----------------------------------------------------------------------

_LANE = ir.IntType(32)
_VECTOR = ir.VectorType(_LANE, LANES)


def _load_lanes(context, builder, signature, args):
    array = context.make_array(signature.args[0])(context, builder, args[0])
    pointer = builder.gep(array.data, [args[1]])
    return builder.load(builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)


def _splat(builder, value):
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _lanes_at_least_twin(table, base, value):
    lanes = np.asarray(table[base : base + LANES]) >= value
    return np.int64(sum(1 << i for i in np.flatnonzero(lanes).tolist()))


@primitive(_lanes_at_least_twin)
def lanes_at_least(typing, table, base, value):
    """Which of `table[base : base + LANES]` (uint32) are >= `value`, as the bits of a word."""

    def emit(context, builder, signature, args):
        lanes = builder.icmp_unsigned(">=", _load_lanes(context, builder, signature, args), _splat(builder, args[2]))
        return builder.zext(builder.bitcast(lanes, ir.IntType(LANES)), ir.IntType(64))

    return types.int64(table, types.int64, types.uint32), emit


def _maximum_with_twin(table, base, lane, value):
    lanes = np.array(table[base : base + LANES])
    lanes[int(lane)] = value
    return lanes.max()


@primitive(_maximum_with_twin)
def maximum_with(typing, table, base, lane, value):
    """Maximum of `table[base : base + LANES]` (uint32) as if lane `lane` were `value`.

    The lane is replaced in the register: reading a vector right after writing one of its lanes stalls the pipeline.
    """

    def emit(context, builder, signature, args):
        numbers = ir.Constant(_VECTOR, list(range(LANES)))
        chosen = builder.icmp_unsigned("==", numbers, _splat(builder, args[2]))
        lanes = builder.select(chosen, _splat(builder, args[3]), _load_lanes(context, builder, signature, args))
        reduce = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_LANE, [_VECTOR]), f"llvm.vector.reduce.umax.v{LANES}i32"
        )
        return builder.call(reduce, [lanes])

    return types.uint32(table, types.int64, types.uint32, types.uint32), emit
