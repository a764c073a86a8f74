"""The matrix product on a GPU, by cuBLASLt: with a bias, an activation or their derivatives in the same kernel.

CuPy's own product cannot be captured in a CUDA graph, adds nothing to what is there, and knows no epilogue. This one
calls cuBLASLt through ctypes. Once a product of some shapes and types has been made, another waits for nothing and
allocates nothing but the result, or not even that with `out`.

cuBLASLt lays matrices out by columns, gpunn by rows. The same numbers by columns are the transposed matrix, so
C = A B is asked for as C^T = B^T A^T: its first operand is our second one, and its rows are our columns.

Each kind of product takes the algorithm that cuBLASLt thinks best for it, which is the same in every run. Inside
`with tuning():` the best eight are timed, and a fused epilogue beside kernels of its own; what was fastest is kept for
the process, but may differ from run to run, and with it the last bits of a result. An epilogue with a bias and a relu
that makes 0 of NaN is not used: this is looked at once for each kind of product.

All products on one GPU share a workspace of 32 MiB: make them on one stream, or on streams that wait for each other.

Checked: libcublasLt 13 accepts every description of a product; what they say is computed by a stand-in in the tests.
Not yet run on a GPU.
"""

import contextlib
import ctypes
import functools
import math
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from ctypes import byref
from typing import Any, NamedTuple

import numpy as np

from gpunn.errors import LibraryError, OptionError, ShapeError
from gpunn.kernels.cuda import module
from gpunn.kernels.cuda.module import blocks, empty, launch
from gpunn.kernels.cuda.twins import add_bias, relu_mask, relu_mask_backward, sum_rows

__all__ = ["all_nan", "mask_for", "nans", "product", "tf32", "tuning"]

Array = Any

# ---------------------------------------------------------------------------------------------------------------------
# cuBLASLt: the numbers are those of cublasLt.h, cublas_api.h and library_types.h

P, I32, U32, I64, U64, SIZE = (
    *(ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_int64),
    *(ctypes.c_uint64, ctypes.c_size_t),
)
TYPE = {"float32": 0, "float64": 1, "bfloat16": 14}
COMPUTE_32F, COMPUTE_64F, COMPUTE_32F_FAST_TF32 = 68, 70, 77
STATUS = {
    1: "not initialised", 3: "out of memory", 7: "an invalid value", 8: "not for this GPU", 11: "no access to memory",
    13: "execution failed", 14: "an internal error", 15: "not supported", 16: "no licence",
}  # fmt: skip
INVALID, NOT_SUPPORTED = 7, 15
# Attributes: number, type.
TRANSA, TRANSB, EPILOGUE = (3, I32), (4, I32), (7, U32)
BIAS_POINTER, AUX_POINTER, AUX_LD = (8, U64), (11, U64), (12, I64)
BATCH_COUNT, BATCH_STRIDE = (5, I32), (6, I64)
MAX_WORKSPACE, ALIGNMENT_A, ALIGNMENT_B, ALIGNMENT_C, ALIGNMENT_D = (1, U64), (5, U32), (6, U32), (7, U32), (8, U32)

PLAIN = 1
# (what is asked for, with a bias, with aux): the number of the epilogue
EPILOGUES = {
    ("none", False, False): PLAIN,
    ("bias", True, False): 4,
    ("relu", False, False): 2,
    ("relu", True, False): 6,
    ("relu", False, True): 130,
    ("relu", True, True): 134,
    ("gelu", False, False): 32,
    ("gelu", True, False): 36,
    ("gelu", False, True): 160,
    ("gelu", True, True): 164,
    ("relu_backward", False, True): 136,
    ("relu_backward", True, True): 152,
    ("gelu_backward", False, True): 192,
    ("gelu_backward", True, True): 208,
    ("bias_gradient", True, False): 256,  # sums over the columns of cuBLASLt's first operand, which is our second
}


class Algorithm(ctypes.Structure):
    """cublasLtMatmulAlgo_t."""

    _fields_ = (("data", U64 * 8),)


class Found(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = (
        ("algorithm", Algorithm),
        ("workspace", SIZE),
        ("state", I32),
        ("waves", ctypes.c_float),
        ("reserved", I32 * 4),
    )


ARGUMENTS: dict[str, list[Any]] = {
    "Create": [P],
    "MatmulDescCreate": [P, I32, I32],
    "MatmulDescSetAttribute": [P, I32, P, SIZE],
    "MatmulDescGetAttribute": [P, I32, P, SIZE, P],
    "MatrixLayoutCreate": [P, I32, U64, U64, I64],
    "MatrixLayoutSetAttribute": [P, I32, P, SIZE],
    "MatmulPreferenceCreate": [P],
    "MatmulPreferenceSetAttribute": [P, I32, P, SIZE],
    "MatmulPreferenceDestroy": [P],
    "MatmulAlgoGetHeuristic": [P, P, P, P, P, P, P, I32, P, P],
    "Matmul": [P, P, P, P, P, P, P, P, P, P, P, P, P, P, SIZE, P],
}
WORKSPACE = 32 << 20  # bytes for each GPU
CANDIDATES, RUNS = 8, 10  # when timing


class Library:
    """cuBLASLt, loaded."""

    def __init__(self, library: Any) -> None:
        self.functions = {name: getattr(library, f"cublasLt{name}") for name in ARGUMENTS}
        for name, types in ARGUMENTS.items():
            self.functions[name].argtypes, self.functions[name].restype = types, I32
        self.handles: dict[int, ctypes.c_void_p] = {}
        self.workspaces: dict[int, Array] = {}

    def call(self, name: str, *args: Any, may: tuple[int, ...] = ()) -> int:
        """Call a function of the library; returns its status, 0 or one of `may`.

        Raises LibraryError for others, which names the function and says what went wrong.
        """
        status = self.functions[name](*args)
        if status and status not in may:
            raise LibraryError(f"cublasLt{name} failed: {STATUS.get(status, 'an unknown error')} (status {status})")
        return status

    def set(self, kind: str, what: Any, attribute: tuple[int, Any], value: int) -> None:
        """Set an attribute of a MatmulDesc, MatrixLayout or MatmulPreference."""
        number, c_type = attribute
        held = c_type(value)
        self.call(f"{kind}SetAttribute", what, number, byref(held), ctypes.sizeof(held))

    def handle(self, device: int) -> ctypes.c_void_p:
        """The library's handle for a GPU, which is the current one."""
        if device not in self.handles:
            handle = ctypes.c_void_p()
            self.call("Create", byref(handle))
            self.handles[device] = handle
            self.workspaces[device] = empty(WORKSPACE, np.uint8)
        return self.handles[device]


@functools.cache
def _library() -> Library | None:
    """cuBLASLt; None, with one warning, where it cannot be loaded."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        return Library(ctypes.CDLL(load_nvidia_dynamic_lib("cublasLt").abs_path))
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        warnings.warn(
            f"cuBLASLt cannot be loaded ({reason}): matrix products are CuPy's, slower and not for CUDA graphs. "
            'To mend it: pip install "cupy-cuda13x[ctk]"',
            RuntimeWarning,
            stacklevel=2,
        )
        return None


# ---------------------------------------------------------------------------------------------------------------------
# Describing a product


class Operand(NamedTuple):
    """How a matrix lies in memory: whether by columns, numbers from one row (column) to the next, and to the next
    matrix of a batch.
    """

    transposed: bool
    ld: int
    stride: int


class Spec(NamedTuple):
    """All that a plan depends on: C (n, m) = A (n, k) B (k, m), `batch` times."""

    n: int
    k: int
    m: int
    batch: int
    dtype: str
    out_dtype: str
    tf32: bool
    a: Operand
    b: Operand
    c: Operand
    epilogue: int
    aux_ld: int  # numbers (or bits of a mask) from one row to the next
    adds: bool  # whether beta is not 0
    alignment: tuple[int, ...]  # bytes, of A, B, C, the bias and aux


class Plan:
    """A product that is described to cuBLASLt, and the algorithm for it. Used by one thread at a time."""

    def __init__(self, library: Library, spec: Spec) -> None:
        self.library, self.spec = library, spec
        double = spec.dtype == "float64"
        compute = COMPUTE_64F if double else COMPUTE_32F_FAST_TF32 if spec.tf32 else COMPUTE_32F
        self.scalar = ctypes.c_double if double else ctypes.c_float
        self.desc = ctypes.c_void_p()
        library.call("MatmulDescCreate", byref(self.desc), compute, TYPE["float64" if double else "float32"])
        for attribute, value in (
            (TRANSA, int(spec.b.transposed)),
            (TRANSB, int(spec.a.transposed)),
            (EPILOGUE, spec.epilogue),
            *([(AUX_LD, spec.aux_ld)] if spec.aux_ld else []),
        ):
            library.set("MatmulDesc", self.desc, attribute, value)
        self.a = self._layout(spec.dtype, spec.n, spec.k, spec.a)
        self.b = self._layout(spec.dtype, spec.k, spec.m, spec.b)
        self.c = self._layout(spec.out_dtype, spec.n, spec.m, spec.c)
        self.algorithm, self.workspace = Algorithm(), 0

    def _layout(self, dtype: str, rows: int, columns: int, operand: Operand) -> ctypes.c_void_p:
        """Our rows are cuBLASLt's columns, unless the matrix lies by columns already."""
        high, wide = (rows, columns) if operand.transposed else (columns, rows)
        layout = ctypes.c_void_p()
        self.library.call("MatrixLayoutCreate", byref(layout), TYPE[dtype], high, wide, operand.ld)
        if self.spec.batch > 1:
            self.library.set("MatrixLayout", layout, BATCH_COUNT, self.spec.batch)
            self.library.set("MatrixLayout", layout, BATCH_STRIDE, operand.stride)
        return layout

    def point(self, bias: int, aux: int) -> None:
        """Say where the bias and aux are: 0 for none."""
        if bias:
            self.library.set("MatmulDesc", self.desc, BIAS_POINTER, bias)
        if aux:
            self.library.set("MatmulDesc", self.desc, AUX_POINTER, aux)

    def candidates(self, device: int, count: int) -> list[Found]:
        """The algorithms that cuBLASLt proposes, best first; none where it cannot do such a product."""
        library, preference = self.library, ctypes.c_void_p()
        handle = library.handle(device)
        library.call("MatmulPreferenceCreate", byref(preference))
        a, b, c, *_ = self.spec.alignment  # those of the bias and aux are seen by where they are
        for attribute, value in (
            (MAX_WORKSPACE, WORKSPACE),
            (ALIGNMENT_A, b),
            (ALIGNMENT_B, a),
            (ALIGNMENT_C, c),
            (ALIGNMENT_D, c),
        ):
            library.set("MatmulPreference", preference, attribute, value)
        found, n = (Found * count)(), ctypes.c_int()
        may = (NOT_SUPPORTED,) if self.spec.epilogue == PLAIN else (NOT_SUPPORTED, INVALID)
        try:
            status = library.call(
                *("MatmulAlgoGetHeuristic", handle, self.desc, self.b, self.a, self.c, self.c),
                *(preference, count, found, byref(n)),
                may=may,
            )
        finally:
            library.call("MatmulPreferenceDestroy", preference)
        return [] if status else [one for one in found[: n.value] if one.state == 0]

    def take(self, found: Found) -> None:
        """Use this algorithm from now on."""
        self.algorithm, self.workspace = found.algorithm, found.workspace

    def run(self, device: int, stream: int, at: Sequence[int], alpha: float, beta: float) -> bool:
        """Enqueue C <- alpha A B + beta C with the epilogue, `at` the addresses of these; False where it cannot."""
        library, (a, b, c) = self.library, at
        handle, one, other = library.handle(device), self.scalar(alpha), self.scalar(beta)
        return not library.call(
            *("Matmul", handle, self.desc, byref(one), b, self.b, a, self.a, byref(other), c, self.c, c, self.c),
            *(byref(self.algorithm), address(library.workspaces[device]), self.workspace, stream),
            may=(NOT_SUPPORTED, INVALID),
        )


_plans: dict[tuple[int, Spec], tuple[Plan | None, bool]] = {}  # None: not by cuBLASLt; and whether it was timed
_lock = threading.RLock()


class _Settings(threading.local):
    tf32 = tuning = False


_settings = _Settings()


@contextlib.contextmanager
def tuning() -> Iterator[None]:
    """Inside it, products that are met for the first time are timed with several algorithms. This waits for the GPU."""
    before, _settings.tuning = _settings.tuning, True
    try:
        yield
    finally:
        _settings.tuning = before


@contextlib.contextmanager
def tf32(on: bool = True) -> Iterator[None]:
    """Inside it, products of float32 round their factors to TF32, which has 11 bits: about 1e-3, and much faster."""
    before, _settings.tf32 = _settings.tf32, on
    try:
        yield
    finally:
        _settings.tf32 = before


def address(x: Array) -> int:
    """Where an array of CuPy lies."""
    return x.data.ptr


def device_id(x: Array) -> int:
    """The number of the GPU that an array of CuPy is on."""
    return x.device.id


def operand(x: Array) -> Operand | None:
    """How the matrices x (..., rows, columns) lie; None where cuBLASLt cannot take them as they are."""
    rows, columns = x.shape[-2:]
    *outer, down, right = (s // x.itemsize for s in x.strides)
    stride = outer[0] if outer else 0
    if (columns == 1 or right == 1) and (rows == 1 or down >= columns):
        return Operand(False, down if rows > 1 else columns, stride)
    if (rows == 1 or down == 1) and (columns == 1 or right >= rows):
        return Operand(True, right if columns > 1 else rows, stride)
    return None


def alignment(pointer: int) -> int:
    """The largest power of two, to 256, that divides an address."""
    return min(pointer & -pointer, 256)


def nans(n: int, dtype: Any) -> Array:
    """An array (n,) of NaN."""
    return module.cupy().asarray(np.full(n, math.nan, dtype))


def all_nan(x: Array) -> bool:
    """Whether all numbers of x are NaN; waits for the GPU."""
    x = x.astype(np.float64)
    return bool((x != x).min())


def mask_for(n: int, m: int) -> Array:
    """An array for the mask of a "relu" epilogue on (n, m): a bit a number, rows of whole 128 bits."""
    return empty((n, -(-m // 128) * 16), np.uint8)


# ---------------------------------------------------------------------------------------------------------------------
# The product


def product(
    a: Array,
    b: Array,
    *,
    out: Array | None = None,
    alpha: float = 1.0,
    beta: float = 0.0,
    epilogue: str = "none",
    bias: Array | None = None,
    aux: Array | None = None,
) -> Array:
    """C = f(alpha A B + beta C) for A (N, K), B (K, M), C (N, M), or batches (S, N, K), (S, K, M), (S, N, M).

    A and B may be transposed views, and one of them without the axis S; `out`, in which C is put, lies in one piece by
    rows. It may be float32 where A and B are bfloat16, whose products are summed in float32 anyway; `bias` is of the
    type of `out`. The epilogue:

        none
        bias             + bias (M,)
        relu, gelu       of the sum with the bias, if there is one. `aux` is filled in for the backward pass, if it is
                         given: for relu the array from `mask_for`, for gelu (N, M) with what gelu was taken of
        relu_backward    times the derivative, by the `aux` of the forward pass; `bias` (M,), if given, takes the sum
        gelu_backward    over the rows, the gradient of the bias
        bias_gradient    `bias` (M,) takes the sum over the rows of B, beside the product: for dW = x^T dy

    Raises ShapeError for shapes that do not fit, OptionError for an epilogue that does not go with `bias` and `aux`,
    LibraryError where cuBLASLt fails.
    """
    number = EPILOGUES.get((epilogue, bias is not None, aux is not None))
    if number is None or (epilogue != "none" and max(a.ndim, b.ndim) > 2):
        given = f"bias={'...' if bias is not None else None}, aux={'...' if aux is not None else None}"
        raise OptionError(
            f"arrays of {a.ndim} and {b.ndim} axes have no product with epilogue={epilogue!r}, {given}; expected one "
            "of those in the docstring of gpunn.kernels.cuda.product.product"
        )
    if not {a.ndim, b.ndim} <= {2, 3} or a.shape[-1] != b.shape[-2] or (a.ndim == b.ndim == 3 and len(a) != len(b)):
        raise ShapeError(f"matrices of shape {a.shape} and {b.shape} cannot be multiplied")
    outer = a.shape[:-2] or b.shape[:-2]
    shape = (*outer, a.shape[-2], b.shape[-1])
    if out is None:
        out = empty(shape, a.dtype)
    elif out.shape != shape or not out.flags.c_contiguous:
        raise ShapeError(f"out has shape {out.shape}, expected {shape} in one piece by rows")
    library = _library() if a.size and b.size and a.dtype == b.dtype and _known(a.dtype, out.dtype) else None
    apart = functools.partial(_apart, a, b, out, alpha, beta, epilogue, bias, aux)
    if library is None or not _by_library(library, a, b, out, alpha, beta, number, bias, aux, apart):
        apart()
    return out


@functools.cache
def _known(dtype: np.dtype, out_dtype: np.dtype) -> bool:
    return dtype.name in TYPE and (dtype == out_dtype or (dtype.name, out_dtype.name) == ("bfloat16", "float32"))


def _by_library(
    library: Library,
    a: Array,
    b: Array,
    out: Array,
    alpha: float,
    beta: float,
    number: int,
    bias: Array | None,
    aux: Array | None,
    apart: Callable[[], None] | None = None,
) -> bool:
    """Whether cuBLASLt has done it."""
    lies = [operand(a), operand(b)]
    if lies[0] is None:
        a = module.cupy().ascontiguousarray(a)
        lies[0] = operand(a)
    if lies[1] is None:
        b = module.cupy().ascontiguousarray(b)
        lies[1] = operand(b)
    n, m = out.shape[-2:]
    batch = out.shape[0] if out.ndim == 3 else 1
    at = [address(x) for x in (a, b, out)]
    bias_at, aux_at = (0 if x is None else address(x) for x in (bias, aux))
    aux_ld = 0 if aux is None else aux.shape[1] * (8 if aux.dtype == np.uint8 else 1)
    if aux is not None and aux.dtype != np.uint8 and aux_ld % 8:
        return False  # cuBLASLt wants rows of whole eights
    spec = Spec(
        *(n, a.shape[-1], m, batch, a.dtype.name, out.dtype.name, _settings.tf32 and a.dtype == np.float32),
        *(lies[0], lies[1], Operand(False, m, n * m), number, aux_ld, beta != 0.0),  # type: ignore[arg-type]
        tuple(alignment(place) for place in (*at, bias_at, aux_at)),
    )
    device = device_id(out)
    stream = module.cupy().cuda.get_current_stream()
    with _lock:
        plan, timed = _plans.get((device, spec), (None, None))
        tune = _settings.tuning and not timed and not stream.is_capturing()
        if timed is None or tune:
            plan = Plan(library, spec)
            plan.point(bias_at, aux_at)
            found = plan.candidates(device, CANDIDATES if tune else 1)
            if not found:
                plan = None
            elif tune:
                plan = _fastest(plan, found, lambda p: p.run(device, stream.ptr, at, alpha, beta), apart, out, beta)
            else:
                plan.take(found[0])
            if plan is not None and number in (EPILOGUES["relu", True, False], EPILOGUES["relu", True, True]):
                if stream.is_capturing():  # and so nothing can be looked at
                    return False
                plan = plan if _keeps_nan(plan, device, stream.ptr, at, out) else None
            _plans[device, spec] = plan, tune
        if plan is None:
            return False
        plan.point(bias_at, aux_at)
        if plan.run(device, stream.ptr, at, alpha, beta):
            return True
        _plans[device, spec] = None, tune
    warnings.warn(
        f"cuBLASLt refuses a product that it has proposed an algorithm for, which is made otherwise, slower: {spec}",
        RuntimeWarning,
        stacklevel=2,
    )
    return False


def _fastest(
    plan: Plan,
    found: list[Found],
    run: Callable[[Plan], bool],
    apart: Callable[[], None] | None,
    out: Array,
    beta: float,
) -> Plan | None:
    """The plan with the algorithm that takes least time; None if the epilogue is faster by kernels of its own."""
    before = out.copy() if beta else None
    times = []
    for one in found:
        plan.take(one)
        times.append(_time(lambda: run(plan)) if run(plan) else math.inf)
    plan.take(found[times.index(min(times))])
    fused = plan.spec.epilogue == PLAIN or apart is None or min(times) <= _time(apart)
    if before is not None:
        out[...] = before
    return plan if fused else None


def _keeps_nan(plan: Plan, device: int, stream: int, at: Sequence[int], like: Array) -> bool:
    """Whether NaN stays NaN under a relu: where it became 0, a network that has gone wrong would look well."""
    bias, out = nans(like.shape[1], like.dtype), empty(like.shape, like.dtype)
    plan.point(address(bias), 0)
    return plan.run(device, stream, [*at[:2], address(out)], 1.0, 0.0) and all_nan(out)


def _time(run: Callable[[], Any]) -> float:
    """Milliseconds that `run` takes on the GPU."""
    cuda = module.cupy().cuda
    start, end = cuda.Event(), cuda.Event()
    run()
    start.record()
    for _ in range(RUNS):
        run()
    end.record()
    end.synchronize()
    return cuda.get_elapsed_time(start, end) / RUNS


def _apart(
    a: Array,
    b: Array,
    out: Array,
    alpha: float,
    beta: float,
    epilogue: str,
    bias: Array | None,
    aux: Array | None,
) -> None:
    """The product, then its epilogue by kernels of its own."""
    if epilogue in ("relu", "gelu") and bias is not None and aux is None:
        product(a, b, out=out, alpha=alpha, beta=beta, epilogue="bias", bias=bias)
        if out.size:
            _in_place(epilogue, out)
        return
    library = _library() if epilogue != "none" and _known(a.dtype, out.dtype) and a.size and b.size else None
    if library is None or not _by_library(library, a, b, out, alpha, beta, PLAIN, None, None):
        c = module.cupy().matmul(a, b)
        if alpha != 1.0:
            c *= alpha
        if beta:
            out *= beta
            out += c
        else:
            out[...] = c
    if epilogue == "none":
        return
    if epilogue == "bias_gradient":
        sum_rows(module.cupy().ascontiguousarray(b), bias)
        return
    if not out.size:
        return
    if epilogue == "relu" and aux is not None:
        relu_mask(out, bias, aux)
    elif epilogue in ("bias", "relu", "gelu"):
        if bias is not None:
            add_bias(out, bias)
        if aux is not None:
            aux[...] = out
        if epilogue != "bias":
            _in_place(epilogue, out)
    else:
        if epilogue == "relu_backward":
            relu_mask_backward(out, aux)
        else:
            _in_place(epilogue, out, aux)
        if bias is not None:
            sum_rows(out, bias)


def _in_place(name: str, x: Array, *arrays: Array) -> None:
    launch(name, x.dtype, blocks(x.size), x, x, *arrays, x.size, 0.0)
