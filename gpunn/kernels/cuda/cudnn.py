"""Convolution on a GPU by cuDNN, where it is installed: pip install "gpunn[cudnn]".

cuDNN computes on the images as they lie, (N, H, W, C), without the columns that `conv` lays out for a matrix product.
Only the weights are copied for it, into (M, U, V, C). It accepts strides that say how gpunn's weights lie, but plans
for them what it plans for its own order, without the transposition that others get: nothing shows that it heeds them.

It is used for what tensor cores compute, bfloat16 and float32 `with tf32()`. For float32 and float64 it has engines
without them, but these turn images into (N, C, H, W) and back, or are general ones, so that columns are used, unless
cuDNN was faster `with tuning()`. Inside that the best eight engines and the columns are timed; otherwise the engine is
the one that cuDNN thinks best, which is the same in every run. Engines that give other bits each time are left out.

The first convolution of each kind is also made by columns, and compared: if they disagree, cuDNN is used no more, with
a warning. Zeros prove nothing: after them the columns alone are used once, then three times, seven times and so on,
before it is compared again. Where it has no engine for a convolution, columns are used and nothing is said. While a
CUDA graph is captured nothing is planned. A ReLU is computed in the same kernel, if that leaves NaN as it is.

`GPUNN_CUDNN=0` in the environment leaves cuDNN out. Checked: cuDNN 9.12 and 9.28 plan every kind of convolution for a
described H200; what the descriptions say is computed by a stand-in in the tests. Not yet run on a GPU.
"""

import functools
import math
import os
import threading
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gpunn.errors import LibraryError
from gpunn.kernels.cuda import module, product
from gpunn.kernels.cuda.module import empty
from gpunn.ops.conv import Pair

__all__ = ["Plan", "Spec", "convolve", "cudnn_state"]

Array = Any
Shape = tuple[int, ...]

TYPE = {"float32": "FLOAT", "float64": "DOUBLE", "bfloat16": "BFLOAT16"}
NEAR = {"float32": 1e-3, "tf32": 2e-2, "float64": 1e-9, "bfloat16": 5e-2}  # of the largest number; a wrong layout is 1
SAMPLE = 1 << 22  # so many numbers, or up to three times as many, are compared
WORKSPACE = 1 << 30  # bytes: engines that need more are left out


class Library:
    """cuDNN, through its frontend."""

    def __init__(self, cudnn: Any) -> None:
        self.cudnn, self.off = cudnn, False
        self.handles: dict[int, Any] = {}

    def handle(self, device: int) -> Any:
        """The library's handle for a GPU, which is the current one."""
        if device not in self.handles:
            self.handles[device] = self.cudnn.create_handle()
        return self.handles[device]

    def give_up(self, why: str) -> None:
        """Use cuDNN no more, and say so."""
        self.off = True
        warnings.warn(
            f"cuDNN {self.cudnn.backend_version_string()} is not used any more, convolutions go by columns and matrix "
            f"products, which is slower: {why}. GPUNN_CUDNN=0 in the environment avoids this warning",
            RuntimeWarning,
            stacklevel=2,
        )


@functools.cache
def _library() -> Library | None:
    """cuDNN; None where it is not installed, and with one warning where it is but cannot be loaded."""
    if os.environ.get("GPUNN_CUDNN") == "0":
        return None
    try:
        import cudnn

        cudnn.backend_version()
        return Library(cudnn)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "cudnn":
            return None
        warnings.warn(
            f"cuDNN cannot be loaded ({_line(error)}): convolutions go by columns and matrix products, which is "
            'slower. To mend it: pip install "gpunn[cudnn]", or GPUNN_CUDNN=0 in the environment',
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def cudnn_state() -> dict[str, str] | None:
    """The versions of cuDNN and its frontend, if convolutions on a GPU are to go by it; otherwise None."""
    library = _library()
    if library is None or library.off:
        return None
    return {"cudnn": library.cudnn.backend_version_string(), "frontend": library.cudnn.__version__}


class Spec(NamedTuple):
    """All that a plan depends on: which of x, W and y is made of the other two, and the shapes of these."""

    result: str
    x: Shape  # (N, H, W, C)
    W: Shape  # (U, V, C, M)
    y: Shape  # (N, P, Q, M)
    stride: Pair
    padding: Pair
    dtype: str
    tf32: bool
    bias: bool  # only for the result y
    relu: bool = False  # only with a bias


class Plan:
    """A convolution that is described to cuDNN, and the engine for it. Used by one thread at a time.

    `where` is what it is planned for: `handle`, or `device_property` for a GPU that is not here. Raises what cuDNN
    raises, cudnnGraphNotSupportedError where it has no engine.
    """

    def __init__(self, cudnn: Any, spec: Spec, **where: Any) -> None:
        self.spec, self.workspace = spec, 0
        self.engine: int | None = None
        self.tried = self.timed = False
        self.zeros = self.pause = 0  # how often there was nothing to compare; uses to come that are not compared
        dtype = getattr(cudnn.data_type, TYPE[spec.dtype])
        sums = cudnn.data_type.DOUBLE if spec.dtype == "float64" else cudnn.data_type.FLOAT
        graph = cudnn.pygraph(
            io_data_type=dtype, intermediate_data_type=sums, compute_data_type=sums, name="convolution", **where
        )
        U, V, C, M = spec.W
        lies = {"x": _nhwc(spec.x), "W": _nhwc((M, U, V, C)), "y": _nhwc(spec.y), "b": _nhwc((1, 1, 1, M))}
        at = {name: graph.tensor(name=name, **lies[name]) for name in "xWy" if name != spec.result}
        named = {"stride": list(spec.stride), "padding": list(spec.padding), "dilation": [1, 1]}
        if spec.result == "y":
            out = graph.conv_fprop(image=at["x"], weight=at["W"], **named)
        elif spec.result == "x":
            out = graph.conv_dgrad(loss=at["y"], filter=at["W"], **named)
        else:
            out = graph.conv_wgrad(image=at["x"], loss=at["y"], **named)
        if spec.bias:
            at["b"] = graph.tensor(name="b", **lies["b"])
            out = graph.bias(input=out, bias=at["b"])
        if spec.relu:
            out = graph.relu(input=out)
        lie = lies[spec.result]
        out.set_output(True).set_data_type(dtype).set_dim(lie["dim"]).set_stride(lie["stride"])
        self.graph, self.tensors = graph, at | {spec.result: out}
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        note = cudnn.numerical_note
        left_out = [note.NONDETERMINISTIC, note.REDUCED_PRECISION_REDUCTION, note.DOWN_CONVERT_INPUTS]
        if spec.dtype == "float32" and not spec.tf32:
            left_out.append(note.TENSOR_CORE)
        graph.deselect_numeric_notes(left_out)
        graph.deselect_workspace_greater_than(WORKSPACE)
        graph.check_support()

    def engines(self, count: int) -> list[int]:
        """The numbers of the engines that cuDNN thinks best and can build here, `count` at most."""
        built: list[int] = []
        for engine in range(self.graph.get_execution_plan_count()):
            if len(built) == count:
                break
            try:
                self.graph.build_plan_at_index(engine)
            except Exception:  # left out above, or not for these shapes
                continue
            built.append(engine)
        return built

    def take(self, engine: int | None) -> None:
        """Use this engine from now on; None for none, the columns."""
        self.engine = engine
        self.workspace = 0 if engine is None else self.graph.get_workspace_size_plan_at_index(engine)

    def run(self, handle: Any, arrays: dict[str, Array]) -> None:
        """Enqueue it. The workspace is from CuPy's pool, so that a captured graph keeps its own."""
        workspace = empty(max(1, self.workspace), np.uint8)
        at = {self.tensors[name]: product.address(array) for name, array in arrays.items()}
        self.graph.execute_plan_at_index(at, product.address(workspace), self.engine, handle=handle)


def _nhwc(shape: Shape) -> dict[str, list[int]]:
    """The shape (N, H, W, C) and its strides in the order of cuDNN, N, C, H, W."""
    n, h, w, c = shape
    return {"dim": [n, c, h, w], "stride": [h * w * c, 1, w * c, c]}


_plans: dict[tuple[int, Spec], Plan | None] = {}  # None: cuDNN has no engine
_lock = threading.RLock()


def convolve(
    result: str,
    x: Array,
    W: Array,
    y: Array,
    b: Array | None,
    stride: Pair,
    padding: Pair,
    by_columns: Callable[[], None],
    relu: bool = False,
) -> bool:
    """Make one of y = conv(x, W) + b, x = dL/dx of y = dL/dy, and W = dL/dW of y = dL/dy, as `result` says.

    All lie in one piece and are of one type, x (N, H, W, C), W (U, V, C, M), y (N, P, Q, M), b (M,). With `relu` y is
    max(conv(x, W) + b, 0). `by_columns` makes it, too, for comparison. dL/dW of bfloat16 may be of float32, but cuDNN
    rounds it to bfloat16 first. Returns whether it has been made: False where cuDNN does not.
    """
    library = _library()
    if library is None or library.off or (*W.shape[:2], *stride, *padding) == (1, 1, 1, 1, 0, 0):
        return False  # in the last case it is a matrix product as it is
    settings, dtype = product._settings, y.dtype.name
    tf32 = settings.tf32 and dtype == "float32"
    spec = Spec(result, x.shape, W.shape, y.shape, stride, padding, dtype, tf32, b is not None, relu)
    device, stream = product.device_id(x), module.cupy().cuda.get_current_stream()
    waits = not stream.is_capturing()  # in a capture one cannot wait for a result
    with _lock:
        if (device, spec) not in _plans and waits and (tf32 or dtype == "bfloat16" or settings.tuning):
            _plans[device, spec] = _planned(library, spec, device)
        plan = _plans.get((device, spec))
        if plan is None:
            return False

        def run(b: Array | None = b) -> None:
            rows = W.reshape(-1, W.shape[3])  # (U V C, M)
            turned = empty(rows.shape[::-1], y.dtype) if result == "W" else module.cupy().ascontiguousarray(rows.T)
            arrays = {"x": _aligned(x), "W": turned, "y": _aligned(y)} | ({} if b is None else {"b": _aligned(b)})
            library.cudnn.set_stream(handle=library.handle(device), stream=stream.ptr)
            plan.run(library.handle(device), arrays)
            if result == "W":
                rows[...] = turned.T

        if waits and (not plan.tried or (settings.tuning and not plan.timed)):
            if plan.pause:
                plan.pause -= 1
            else:
                _try(library, plan, run, by_columns, {"x": x, "W": W, "y": y}[result], settings.tuning)
        if not plan.tried or plan.engine is None:
            return False
        run()
        return True


def _planned(library: Library, spec: Spec, device: int) -> Plan | None:
    """The plan; None where cuDNN has no engine, or cannot say."""
    try:
        return Plan(library.cudnn, spec, handle=library.handle(device))
    except library.cudnn.cudnnGraphNotSupportedError:
        return None
    except Exception as error:
        library.give_up(f"it cannot plan {spec}: {_line(error)}")
        return None


def _try(
    library: Library,
    plan: Plan,
    run: Callable[..., None],
    by_columns: Callable[[], None],
    result: Array,
    tune: bool,
) -> None:
    """Compare the best engine, or with `tune` each of the best, with the columns, and take it, or the fastest."""
    by_columns()
    wanted = _sample(result)
    size = float(abs(wanted).max())
    if not 0.0 < size < math.inf:
        plan.zeros += 1
        plan.pause = 2**plan.zeros - 1
        return
    plan.tried = False
    chosen, best = None, product._time(by_columns) if tune else math.inf
    spec = plan.spec
    near = NEAR["tf32" if spec.tf32 else spec.dtype] * size
    for engine in plan.engines(product.CANDIDATES if tune else 1):
        plan.take(engine)
        try:
            run()
            if not float(abs(_sample(result) - wanted).max()) <= near:
                raise LibraryError("its result is not that of the columns")
            if spec.relu:
                run(product.nans(result.shape[3], result.dtype))
                if not product.all_nan(_sample(result)):
                    continue  # a network that has gone wrong would look well
        except MemoryError:
            raise
        except Exception as error:
            library.give_up(f"it cannot compute {spec}: {_line(error)}")
            chosen = None
            break
        taken = product._time(run) if tune else 0.0
        if taken < best:
            chosen, best = engine, taken
    plan.take(chosen)
    plan.tried, plan.timed = True, tune


def _sample(x: Array) -> Array:
    """Some of the numbers of x, if there are many: every third, or fifth, or so on."""
    return x.reshape(-1)[:: 1 + 2 * (x.size // (2 * SAMPLE))].astype(np.float64)


def _aligned(x: Array) -> Array:
    """x, or a copy of it where it does not begin at 16 bytes, as cuDNN takes for granted."""
    return x if product.address(x) % 16 == 0 else x.copy()


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
