"""Arithmetic on whole vector registers, for what a compiler does not find by itself: sums that stay in registers.

A core multiplies and adds a register of `LANES` numbers at once, and could do so in every cycle if the numbers had not
to be fetched first. A tile of a matrix product holds rows x vectors of its sums in registers, so that a number of a
that is fetched serves `vectors` of them, and a vector of b `rows` of them. The loops are written here not in Python but
in the instructions that they are to become (LLVM's), by functions that emit one each.
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

__all__ = ["LANES", "multiply", "sandwich"]

AVX512 = llvm.get_host_cpu_features().get("avx512f", False)
LANES = 16 if AVX512 else 8  # numbers of float32 in a register
WIDE = 4 if AVX512 else 2  # 6 x WIDE sums and WIDE + 1 factors: 29 of 32 registers, or 15 of 16

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

    def load(self, address: Any) -> Any:
        return self.builder.load(self.builder.bitcast(address, VECTOR.as_pointer()), align=4)

    def store(self, vector: Any, address: Any) -> None:
        self.builder.store(vector, self.builder.bitcast(address, VECTOR.as_pointer()), align=4)

    def constant(self, number: float) -> Any:
        return ir.Constant(VECTOR, [float(np.float32(number))] * LANES)

    def spread(self, address: Any) -> Any:
        """The one number at an address in all lanes of a vector."""
        none = ir.Constant(VECTOR, ir.Undefined)
        one = self.builder.insert_element(none, self.builder.load(address), ir.Constant(INT, 0))
        return self.builder.shuffle_vector(one, none, ir.Constant(ir.VectorType(INT, LANES), [0] * LANES))

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
def _tile(typing, rows, vectors, a, a_at, b, b_at, c, c_at, size, add):
    """`multiply` for a fixed number of rows, and of columns `vectors` * LANES."""

    def generate(context, builder, signature, arguments):
        emit, R, J = _Emit(context, builder), rows.literal_value, vectors.literal_value
        (a0, ai, ao, ak), (b0, bo, bk), (c0, ci), (n_o, n_k) = (
            cgutils.unpack_tuple(builder, arguments[i]) for i in (3, 5, 7, 8)
        )
        a, b, c = (emit.start(signature.args[i], arguments[i], at) for i, at in ((2, a0), (4, b0), (6, c0)))
        sums = [[cgutils.alloca_once_value(builder, emit.constant(0.0)) for _ in range(J)] for _ in range(R)]
        with cgutils.for_range(builder, n_o) as o:
            a_o, b_o = emit.step(a, o.index, ao), emit.step(b, o.index, bo)
            a_io = [emit.step(a_o, i, ai) for i in range(R)]
            with cgutils.for_range(builder, n_k) as k:
                b_ok = emit.step(b_o, k.index, bk)
                right = [emit.load(emit.step(b_ok, j, LANES)) for j in range(J)]
                for i in range(R):
                    left = emit.spread(emit.step(a_io[i], k.index, ak))
                    for j in range(J):
                        builder.store(emit.fma(left, right[j], builder.load(sums[i][j])), sums[i][j])
        to = [[emit.step(emit.step(c, i, ci), j, LANES) for j in range(J)] for i in range(R)]
        with builder.if_then(arguments[9]):
            for i, j in np.ndindex(R, J):
                builder.store(builder.fadd(builder.load(sums[i][j]), emit.load(to[i][j])), sums[i][j])
        for i, j in np.ndindex(R, J):
            emit.store(builder.load(sums[i][j]), to[i][j])
        return context.get_dummy_value()

    return types.void(rows, vectors, a, a_at, b, b_at, c, c_at, size, add), generate


def _panel(height: int, vectors: int) -> Callable[..., Any]:
    """`multiply` for `vectors` * LANES columns: tiles of `height` rows, and of one row for those that are left."""

    @called
    def panel(a, a_at, b, b_at, c, c_at, rows, size, add):
        (a0, ai, ao, ak), (c0, ci), i = a_at, c_at, 0
        while i + height <= rows:
            _tile(height, vectors, a, (a0 + i * ai, ai, ao, ak), b, b_at, c, (c0 + i * ci, ci), size, add)
            i += height
        while i < rows:
            _tile(1, vectors, a, (a0 + i * ai, ai, ao, ak), b, b_at, c, (c0 + i * ci, ci), size, add)
            i += 1

    return panel


_wide, _two, _one = _panel(6, WIDE), _panel(8 if AVX512 else 6, 2), _panel(8, 1)


@called
def multiply(a, a_at, b, b_at, c, c_at, rows, columns, size, add):
    """c_im = sum_o sum_k a_iok b_okm, or with `add` that much more, for i < rows, m < columns, and (o, k) < size.

    a, b and c are flat arrays of float32. Where a number lies in them is given by (offset, strides of i, o and k) for
    a, (offset, strides of o and k) for b, (offset, stride of i) for c; those of m are 1. `columns` is a multiple of
    LANES.
    """
    (b0, bo, bk), (c0, ci), m = b_at, c_at, 0
    while m < columns:
        if columns - m >= WIDE * LANES:
            _wide(a, a_at, b, (b0 + m, bo, bk), c, (c0 + m, ci), rows, size, add)
            m += WIDE * LANES
        elif columns - m >= 2 * LANES:
            _two(a, a_at, b, (b0 + m, bo, bk), c, (c0 + m, ci), rows, size, add)
            m += 2 * LANES
        else:
            _one(a, a_at, b, (b0 + m, bo, bk), c, (c0 + m, ci), rows, size, add)
            m += LANES


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

    return called(lambda x, x_at, y, y_at: transform(x, x_at, y, y_at))
