"""Arithmetic on whole vector registers, for what a compiler does not find by itself: sums that stay in registers.

A core multiplies and adds a register of `LANES` numbers at once, and could do so in every cycle if the numbers had not
to be fetched first. A tile of a matrix product holds rows x vectors of its sums in registers, so that a number of a
that is fetched serves `vectors` of them, and a vector of b `rows` of them. The loops are written here not in Python but
in the instructions that they are to become (LLVM's), by functions that emit one each. Columns that do not fill a
register are loaded and stored under a mask, so that none need be added: a network's last layer has few.
"""

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gpunn.kernels.cpu.fast._jit import called

__all__ = [
    "AVX512",
    "LANES",
    "LONG",
    "NO",
    "ONE",
    "WIDE",
    "YES",
    "ZERO",
    "copy",
    "long",
    "multiply",
    "sandwich",
    "transpose",
]

AVX512 = llvm.get_host_cpu_features().get("avx512f", False)
LANES = 16 if AVX512 else 8  # numbers of float32 in a register
WIDE = 4 if AVX512 else 2  # 6 x WIDE sums and WIDE + 1 factors: 29 of 32 registers, or 15 of 16
LONG = 16 if AVX512 else 8

# For `multiply`: Python's constants are of a type each, and it would be compiled for each set of them.
ZERO, ONE, NO, YES = np.int64(0), np.int64(1), np.bool_(False), np.bool_(True)

FLOAT, INT = ir.FloatType(), ir.IntType(32)
VECTOR = ir.VectorType(FLOAT, LANES)


class _Emit:
    """Emits instructions at a place in a function that is being compiled, and returns what stands for their results."""

    def __init__(self, context: Any, builder: Any) -> None:
        self.context, self.builder = context, builder
        kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
        self._fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")

    def start(self, array_type: Any, array: Any, offset: Any) -> Any:
        """The address of array[offset]."""
        data = self.context.make_array(array_type)(self.context, self.builder, value=array).data
        return self.builder.gep(data, [offset])

    def step(self, address: Any, count: Any, stride: Any) -> Any:
        """The address `count * stride` numbers further."""
        count, stride = (self.context.get_constant(types.intp, n) if isinstance(n, int) else n for n in (count, stride))
        return self.builder.gep(address, [self.builder.mul(count, stride)])

    def first(self, count: Any) -> Any:
        """Which lanes are the first `count`, for `load` and `store`."""
        lanes = ir.VectorType(ir.IntType(64), LANES)
        return self.builder.icmp_signed("<", ir.Constant(lanes, list(range(LANES))), self._in_all(count, lanes))

    def load(self, address: Any, lanes: Any = None) -> Any:
        """The numbers there; with `lanes` zeros in the others, whose places are not looked at."""
        address = self.builder.bitcast(address, VECTOR.as_pointer())
        if lanes is None:
            return self.builder.load(address, align=4)
        return self._masked(f"load.v{LANES}f32", VECTOR, [address, INT(4), lanes, self.constant(0.0)])

    def store(self, vector: Any, address: Any, lanes: Any = None) -> None:
        address = self.builder.bitcast(address, VECTOR.as_pointer())
        if lanes is None:
            self.builder.store(vector, address, align=4)
        else:
            self._masked(f"store.v{LANES}f32", ir.VoidType(), [vector, address, INT(4), lanes])

    def _masked(self, name: str, result: Any, arguments: list[Any]) -> Any:
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.masked.{name}.p0")
        return self.builder.call(function, arguments)

    def shuffle(self, a: Any, b: Any, places: Sequence[int]) -> Any:
        """The lanes at these places of a and b, those of b counted on from those of a."""
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT, LANES), list(places)))

    def constant(self, number: float) -> Any:
        return ir.Constant(VECTOR, [float(np.float32(number))] * LANES)

    def spread(self, address: Any) -> Any:
        """The one number at an address in all lanes of a vector."""
        return self._in_all(self.builder.load(address), VECTOR)

    def _in_all(self, number: Any, kind: Any) -> Any:
        """A number in all lanes of a vector of this kind."""
        none = ir.Constant(kind, ir.Undefined)
        one = self.builder.insert_element(none, number, ir.Constant(INT, 0))
        return self.shuffle(one, none, [0] * LANES)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a b + c."""
        return self.builder.call(self._fma, [a, b, c])

    def dot(self, numbers: Sequence[float], vectors: Sequence[Any]) -> Any:
        total = self.constant(0.0)
        for number, vector in zip(numbers, vectors, strict=True):
            if number != 0.0:
                total = self.fma(self.constant(number), vector, total)
        return total


@intrinsic(prefer_literal=True)
def _tile(typing, rows, vectors, a, a_at, b, b_at, c, c_at, columns, size, add):
    """`multiply` for a fixed number of rows, and of columns `vectors` * LANES; 0 vectors stand for a part of one."""

    def generate(context, builder, signature, arguments):
        emit, R, J = _Emit(context, builder), rows.literal_value, max(1, vectors.literal_value)
        lanes = None if vectors.literal_value else emit.first(arguments[8])
        (a0, ai, ao, ak), (b0, bo, bk), (c0, ci), (n_o, n_k) = (
            cgutils.unpack_tuple(builder, arguments[i]) for i in (3, 5, 7, 9)
        )
        a, b, c = (emit.start(signature.args[i], arguments[i], at) for i, at in ((2, a0), (4, b0), (6, c0)))
        sums = [[cgutils.alloca_once_value(builder, emit.constant(0.0)) for _ in range(J)] for _ in range(R)]
        with cgutils.for_range(builder, n_o) as o:
            a_o, b_o = emit.step(a, o.index, ao), emit.step(b, o.index, bo)
            a_io = [emit.step(a_o, i, ai) for i in range(R)]
            with cgutils.for_range(builder, n_k) as k:
                b_ok = emit.step(b_o, k.index, bk)
                right = [emit.load(emit.step(b_ok, j, LANES), lanes) for j in range(J)]
                for i in range(R):
                    left = emit.spread(emit.step(a_io[i], k.index, ak))
                    for j in range(J):
                        builder.store(emit.fma(left, right[j], builder.load(sums[i][j])), sums[i][j])
        to = [[emit.step(emit.step(c, i, ci), j, LANES) for j in range(J)] for i in range(R)]
        with builder.if_then(arguments[10]):
            for i, j in np.ndindex(R, J):
                builder.store(builder.fadd(builder.load(sums[i][j]), emit.load(to[i][j], lanes)), sums[i][j])
        for i, j in np.ndindex(R, J):
            emit.store(builder.load(sums[i][j]), to[i][j], lanes)
        return context.get_dummy_value()

    return types.void(rows, vectors, a, a_at, b, b_at, c, c_at, columns, size, add), generate


def _panel(height: int, vectors: int) -> Callable[..., Any]:
    """`multiply` for `vectors` * LANES columns: tiles of `height` rows, and of one row for those that are left.

    With vectors=0 it is for `columns`, fewer than LANES.
    """

    @called(made_of=(height, vectors))
    def panel(a, a_at, b, b_at, c, c_at, rows, columns, size, add):
        (a0, ai, ao, ak), (c0, ci), i = a_at, c_at, 0
        while i + height <= rows:
            _tile(height, vectors, a, (a0 + i * ai, ai, ao, ak), b, b_at, c, (c0 + i * ci, ci), columns, size, add)
            i += height
        while i < rows:
            _tile(1, vectors, a, (a0 + i * ai, ai, ao, ak), b, b_at, c, (c0 + i * ci, ci), columns, size, add)
            i += 1

    return panel


# `multiply` for WIDE, 2 and 1 times LANES columns, and for fewer.
_wide, _two, _one, _few = _panel(6, WIDE), _panel(8 if AVX512 else 6, 2), _panel(8, 1), _panel(8, 0)
long = _panel(1, LONG)  # and for LONG times LANES columns of a single row


@called
def multiply(a, a_at, b, b_at, c, c_at, rows, columns, size, add):
    """c_im = sum_o sum_k a_iok b_okm, or with `add` that much more, for i < rows, m < columns, and (o, k) < size.

    a, b and c are flat arrays of float32. Where a number lies in them is given by (offset, strides of i, o and k) for
    a, (offset, strides of o and k) for b, (offset, stride of i) for c; those of m are 1.
    """
    (b0, bo, bk), (c0, ci), m = b_at, c_at, 0
    while m < columns:
        left, right, to = columns - m, (b0 + m, bo, bk), (c0 + m, ci)
        if left >= WIDE * LANES:
            _wide(a, a_at, b, right, c, to, rows, left, size, add)
            m += WIDE * LANES
        elif left >= 2 * LANES:
            _two(a, a_at, b, right, c, to, rows, left, size, add)
            m += 2 * LANES
        elif left >= LANES:
            _one(a, a_at, b, right, c, to, rows, left, size, add)
            m += LANES
        else:
            _few(a, a_at, b, right, c, to, rows, left, size, add)
            m = columns


@intrinsic
def _copy(typing, a, a0, b, b0):
    """A register of numbers from a to b."""

    def generate(context, builder, signature, arguments):
        emit = _Emit(context, builder)
        a, b = (emit.start(signature.args[i], arguments[i], arguments[i + 1]) for i in (0, 2))
        emit.store(emit.load(a), b)
        return context.get_dummy_value()

    return types.void(a, a0, b, b0), generate


@intrinsic
def _transpose(typing, a, a_at, b, b_at):
    """`transpose` for LANES rows and columns.

    A register for each row; its first half is interleaved with the first half of the one LANES / 2 further, and the
    second halves likewise. Each time the place of a number, written in bits as (row, column), moves round by one bit:
    once it has done so for all bits of the column, row and column have changed places.
    """

    def generate(context, builder, signature, arguments):
        emit, half = _Emit(context, builder), LANES // 2
        (a0, ai), (b0, bm) = (cgutils.unpack_tuple(builder, arguments[i]) for i in (1, 3))
        a, b = (emit.start(signature.args[i], arguments[i], at) for i, at in ((0, a0), (2, b0)))
        rows = [emit.load(emit.step(a, i, ai)) for i in range(LANES)]
        both = [place + side * LANES for place in range(LANES) for side in (0, 1)]
        interleaved = both[:LANES], both[LANES:]
        for _ in range(LANES.bit_length() - 1):
            rows = [emit.shuffle(rows[i], rows[i + half], places) for i in range(half) for places in interleaved]
        for m, row in enumerate(rows):
            emit.store(row, emit.step(b, m, bm))
        return context.get_dummy_value()

    return types.void(a, a_at, b, b_at), generate


@called
def copy(a, a0, b, b0, columns):
    """b_m = a_m for m < columns, from a[a0] and b[b0] on."""
    m = 0
    while m + LANES <= columns:
        _copy(a, a0 + m, b, b0 + m)
        m += LANES
    while m < columns:
        b[b0 + m] = a[a0 + m]
        m += 1


@called
def transpose(a, a_at, b, b_at, rows, columns):
    """b_mi = a_im for i < rows, m < columns; given are (offset, stride of i) of a and (offset, stride of m) of b."""
    (a0, ai), (b0, bm), i = a_at, b_at, 0
    while i + LANES <= rows:
        m = 0
        while m + LANES <= columns:
            _transpose(a, (a0 + i * ai + m, ai), b, (b0 + m * bm + i, bm))
            m += LANES
        while m < columns:
            for r in range(i, i + LANES):
                b[b0 + m * bm + r] = a[a0 + r * ai + m]
            m += 1
        i += LANES
    while i < rows:
        for m in range(columns):
            b[b0 + m * bm + i] = a[a0 + i * ai + m]
        i += 1


def sandwich(T: np.ndarray, add: bool = False) -> Callable[..., None]:
    """A compiled function that makes T X T^T of LANES square matrices X that lie side by side, for this T.

    It is called with x, (offset, strides of rows and columns), y, and the same for y, where x and y are flat arrays,
    and fills y, or adds to it.
    """
    size = T.shape[1]

    @intrinsic
    def transform(typing, x, x_at, y, y_at):
        def generate(context, builder, signature, arguments):
            emit = _Emit(context, builder)
            (x0, xi, xj), (y0, yi, yj) = (cgutils.unpack_tuple(builder, arguments[i]) for i in (1, 3))
            x, y = (emit.start(signature.args[i], arguments[i], at) for i, at in ((0, x0), (2, y0)))
            columns = [[emit.load(emit.step(emit.step(x, i, xi), j, xj)) for i in range(size)] for j in range(size)]
            for i, row in enumerate(T):
                TX_i = [emit.dot(row, column) for column in columns]
                for j, other in enumerate(T):
                    to, number = emit.step(emit.step(y, i, yi), j, yj), emit.dot(other, TX_i)
                    emit.store(builder.fadd(number, emit.load(to)) if add else number, to)
            return context.get_dummy_value()

        return types.void(x, x_at, y, y_at), generate

    return called(lambda x, x_at, y, y_at: transform(x, x_at, y, y_at), made_of=(T.tolist(), add))
