"""All that has to be run on a real GPU, in one call of under ten minutes: is it right, and how long does it take?

    python benchmarks/gpu_check.py FOLDER [--minutes 9] [--only PART ...]

Each part is a process of its own, and writes FOLDER/<part>.json as soon as it is done; what fails is written there too,
and the others go on. FOLDER/summary.json says how each went. The exit status is 0 only if all went well. Written where
there was no GPU: not yet run on one.
"""

# ruff: noqa: E402
import argparse
import contextlib
import dataclasses
import functools
import importlib.util
import inspect
import itertools
import json
import subprocess
import sys
import time
import traceback
import warnings
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))  # for `benchmarks`, and for gpunn where it is not installed

import gpunn as gn
from benchmarks import process
from benchmarks.machine import on_cuda
from benchmarks.peers import PEERS
from benchmarks.peers.gpunn_trainer import network
from benchmarks.rounds import TOLERANCE
from benchmarks.workloads import ADAM, PRECISIONS, SECTIONS, WIDE, Workload, floor, weights
from gpunn import ops
from gpunn.data import streamed
from gpunn.device import probe_cuda, to_host
from gpunn.environment import versions
from gpunn.kernels.common import CONSTANTS
from gpunn.kernels.cuda import TWINS, cudnn, module, product, twins
from gpunn.kernels.cuda.graph import Graph, Tables
from gpunn.kernels.cuda.ring import Ring
from gpunn.train import loader
from gpunn.train.reproduce import ROWS, measure

rng = np.random.default_rng(0)
SHAPES = [(32, 128), (1024, 1024), (16384, 10), (4099, 257), (8192, 4096)]  # the last for the rate of the memory
RUNS = 20  # of what is timed
LIMIT, LIMITS = 180, {"against": 300, "convolutions": 240, "suite": float("inf")}  # seconds of a part, at most
IMAGES = (256, 24, 24, 32)
CONVOLUTIONS = [  # x, W, stride, padding
    ((256, 28, 28, 1), (3, 3, 1, 32), (1, 1), (0, 0)),
    ((256, 26, 26, 32), (3, 3, 32, 64), (1, 1), (0, 0)),
    ((256, 12, 12, 20), (5, 5, 20, 40), (1, 1), (0, 0)),
    ((64, 28, 28, 3), (5, 5, 3, 20), (2, 3), (1, 2)),
]
PRODUCTS = [(32, 784, 128), (1024, 784, 1024), (1024, 1024, 1024), (1024, 1024, 10), (16384, 784, 1024), (4096,) * 3]
NEAR = {"float32": 2e-5, "tf32": 5e-3, "bfloat16": 2e-2, "float64": 1e-11}  # errors, as parts of the largest number
NETWORKS = [
    ("784-30-10", [10]),
    ("784-128-10", [32, 128, 1024]),
    ("784-1024-1024-10", [128, 1024, 16384]),
    ("cnn", [64, 1024]),
]


def cp():
    return module.cupy()


def normal(shape, dtype="float32"):
    return cp().asarray(rng.standard_normal(shape).astype(dtype))


def type_of(precision):
    """The data type of what is multiplied in this precision."""
    return module.bfloat16() if precision == "bfloat16" else np.dtype("float32" if precision == "tf32" else precision)


def microseconds(f, runs=RUNS):
    """The time of f on the device, the mean of `runs` after two to warm up."""
    for _ in range(2):
        f()
    return 1e3 * product._time(lambda: [f() for _ in range(runs)]) / runs


def host_microseconds(f, runs=10 * RUNS):
    """The time until f returns, without waiting for the device."""
    f()
    start = time.perf_counter()
    for _ in range(runs):
        f()
    taken = (time.perf_counter() - start) / runs
    cp().cuda.Device().synchronize()
    return 1e6 * taken


def error(got, wanted):
    """The largest difference, as a part of the largest number."""
    got, wanted = got.astype("float64"), wanted.astype("float64")
    return float(abs(got - wanted).max()) / (float(abs(wanted).max()) or 1.0)


def attempt(found, f, **about):
    """Put the rows that f() returns into `found`; or one that says why there are none, so that the next are tried."""
    try:
        found += f()
    except (Exception, SystemExit):
        found.append(about | {"error": traceback.format_exc()[-2000:], "ok": False})


# --- the parts: each returns what is written, and whether all is well


def environment():
    runtime = cp().cuda.runtime
    properties = runtime.getDeviceProperties(0)
    library = product._library()
    return {
        "device": properties["name"].decode(),
        "processors": properties["multiProcessorCount"],
        "capability": [properties["major"], properties["minor"]],
        "driver": runtime.driverGetVersion(),
        "runtime": runtime.runtimeGetVersion(),
        "versions": versions(),
        "cublaslt": library is not None,
        "cudnn": cudnn.cudnn_state(),
    }, library is not None


def compiling():
    """Seconds to compile all kernels for a type, or to find them in CuPy's cache."""
    found = {}
    for dtype in module.TYPES:
        start = time.perf_counter()
        module._module(dtype).get_function("gn_relu")
        found[dtype] = time.perf_counter() - start
    return found, True


def pytest(folder, name, seconds, *arguments):
    report = folder / f"{name}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}", *arguments]
    start = time.perf_counter()
    try:
        ran = subprocess.run(
            command, cwd=HERE, env=process.environment(), timeout=seconds, capture_output=True, text=True
        )
        last, status = ran.stdout[-3000:], ran.returncode
    except subprocess.TimeoutExpired as late:
        last, status = (late.stdout or b"").decode(errors="replace")[-3000:], None
    found = {"seconds": time.perf_counter() - start, "status": status, "output": last}
    if report.exists():
        suite = next(ElementTree.parse(report).iter("testsuite"))
        found |= {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
        found["failed"] = [
            {"test": f"{case.get('classname')}::{case.get('name')}", "message": problem.get("message", "")[:500]}
            for case in suite.iter("testcase")
            for problem in [*case.iter("failure"), *case.iter("error")]
        ]
    return found, status == 0


def kernels():
    """Twins beside their references, both on the device: errors, and microseconds of each."""
    rows = []

    def compare(name, *args, **named):
        attempt(rows, lambda: [compared(name, *args, **named)], op=name, shape=list(args[0].shape))

    def compared(name, *args, near=NEAR["float32"], **named):
        ours, theirs = ([a.copy() if hasattr(a, "copy") else a for a in args] for _ in range(2))
        got, wanted = TWINS[name](*ours, **named), getattr(ops, name).reference(*theirs, **named)
        pairs = [pair for pair in zip(ours, theirs, strict=True) if hasattr(pair[0], "astype")]
        if isinstance(wanted, tuple):
            pairs += zip(got, wanted, strict=True)
        elif wanted is not None:
            pairs.append((got, wanted))
        worst = max(error(g, w) for g, w in pairs if w is not None)
        row = {"op": name, "shape": list(args[0].shape), "error": worst, "ok": worst <= near}
        row["twin_us"] = microseconds(lambda: TWINS[name](*ours, **named))
        row["reference_us"] = microseconds(lambda: getattr(ops, name).reference(*theirs, **named))
        row["twin_host_us"] = host_microseconds(lambda: TWINS[name](*ours, **named))
        return row

    alpha = {"leaky_relu": {"alpha": 0.1}, "elu": {"alpha": 1.0}}
    steps = {
        "by": 1e-4,
        "eta": 1e-3,
        "mu": 0.9,
        "beta1": 0.9,
        "beta2": 0.999,
        "rho": 0.9,
        "epsilon": 1e-8,
        "t": 3,
        "rate": 0.1,
    }
    for shape in SHAPES:
        x, dy = normal(shape), normal(shape)
        labels = cp().asarray(rng.integers(0, shape[1], shape[0]))
        for name in twins.ACTIVATIONS if shape in SHAPES[1:2] else ("relu", "gelu", "sigmoid"):
            compare(name, x, **alpha.get(name, {}))
            compare(f"{name}_backward", dy, x * x + 0.01, **alpha.get(name, {}), near=1e-4)  # with what y may be
        p = ops.softmax.reference(x)
        compare("softmax", x)
        compare("softmax_backward", dy, p)
        compare("softmax_cross_entropy", x, labels)
        compare("softmax_cross_entropy_backward", p, labels)
        compare("softmax_cross_entropy_both", x, labels)
        attempt(rows, lambda x=x, labels=labels: [_same_bits(x, labels)], op="softmax_cross_entropy_both, bits")
        compare("sigmoid_cross_entropy", x, p)
        compare("dropout", x, rate=0.3, key=(1, 2), step=3)
        compare("dropout_backward", dy, x)
        compare("scale_shift", x, x[0], dy[0])
        compare("scale_shift_backward", dy, x, x[0], near=1e-4)
        for axes in ((-1,), (0,)):
            compare("normalize", x, axes=axes, epsilon=1e-5)
            y, r, *_ = ops.normalize.reference(x, axes=axes, epsilon=1e-5)
            compare("normalize_backward", dy, y, r, axes=axes)
        compare("clip_by_norm", x.reshape(-1), limit=1.0)
        attempt(rows, lambda x=x: [compared("cast", x, module.bfloat16(), near=0.0)], op="cast", shape=list(shape))
        for name in CONSTANTS:
            of = inspect.signature(getattr(ops, name)).parameters.values()
            arrays = [abs(normal(x.size)) for parameter in of if parameter.kind is parameter.POSITIONAL_ONLY]
            compare(name, *arrays, **{p.name: steps[p.name] for p in of if p.kind is p.KEYWORD_ONLY})
    for shape in ((1024, 1024), (784, 128), (3, 3, 32, 64)):
        compare("muon", *(normal(shape) for _ in range(3)), eta=1e-3, mu=0.9, near=1e-3)
        compare("orthogonalize", normal(shape).reshape(-1, shape[-1]), near=1e-3)
    images = normal(IMAGES)
    for name in ("max_pool2d", "avg_pool2d"):
        named = {"window": (2, 2), "stride": (2, 2)}
        compare(name, images, **named)
        y = TWINS[name](images, **named)
        compare(f"{name}_backward", y, *((images, y) if name == "max_pool2d" else (images,)), **named)
    W = normal((3, 3, IMAGES[3], 64))
    compare("conv2d", images, W, W[0, 0, 0], near=1e-4)
    compare("conv2d_relu", images, W, W[0, 0, 0], near=1e-4)
    compare("linear_relu", normal((1024, 784)), normal((784, 1024)), normal(1024), near=1e-4)
    compare("conv2d_backward", TWINS["conv2d"](images, W), images, W, near=1e-3)
    for precision in PRECISIONS:
        attempt(rows, lambda p=precision: [_relu_between(p)], op="relu_linear_backward", dtypes=[precision])
    for kind, enters in itertools.product(("uint8", "float32"), ("float32", "bfloat16")):
        attempt(rows, lambda k=kind, e=enters: [_begin(k, e)], op="begin_step", dtypes=[kind, enters])
    return {"rows": rows}, all(row["ok"] for row in rows)


def _same_bits(x, labels):
    """Whether the loss is the same in every launch, whichever of the blocks is the last."""
    losses = [TWINS["softmax_cross_entropy_both"](x, labels)[0] for _ in range(10 * RUNS)]
    same = len({to_host(loss).tobytes() for loss in losses}) == 1
    return {"op": "softmax_cross_entropy_both, bits", "shape": list(x.shape), "ok": same}


def _relu_between(precision):
    """A ReLU between two linear maps, forward and backward: by a mask in the products, and by a kernel of its own."""
    dtype = type_of(precision)
    shapes = (1024, 784), (784, 1024), (1024,), (1024, 1024), (1024, 1024)
    x, W, b, V, dy = (normal(shape).astype(dtype) for shape in shapes)

    def in_one(y=None, kept=None):
        y, kept = (y, kept) if y is not None else TWINS["linear_relu_kept"](x, W, b)
        return TWINS["relu_linear_backward"](dy, y, V, kept)

    def apart(y=None):
        y = TWINS["linear_relu"](x, W, b) if y is None else y
        dx, *others = TWINS["linear_backward"](dy, y, V)
        return TWINS["relu_backward"](dx, y), *others

    with product.tf32(precision == "tf32"):
        y, kept = TWINS["linear_relu_kept"](x, W, b)
        worst = max(error(*pair) for pair in zip(in_one(y, kept), apart(y), strict=True))  # of the very same y
        taken = {"twin_us": microseconds(in_one), "apart_us": microseconds(apart)}
        numbers = [product.EPILOGUES[name] for name in (("relu", True, True), ("relu_backward", False, True))]
        specs = [(spec.epilogue, plan) for (_, spec), (plan, _) in product._plans.items() if spec.dtype == dtype.name]
        fused = [any(plan is not None for e, plan in specs if e == number) for number in numbers]
    row = {"op": "relu_linear_backward", "shape": [1024, 1024, 1024], "dtypes": [precision], "fused": fused}
    return row | taken | {"error": worst, "ok": worst <= NEAR[precision]}


def _begin(kind, enters):
    """The first kernel of a captured step: the batch it takes, the weights it rounds if the batch is rounded."""
    enters = type_of(enters)
    data, labels = (cp().asarray(rng.integers(0, 256, shape)) for shape in ((6000, 784), 6000))
    data, order, weights = data.astype(kind), cp().asarray(rng.integers(0, 6000, 1024)), normal(1_863_690)
    rounds = (cp().empty(weights.size, enters), weights) if enters.itemsize == 2 else None
    about = {"dtype": np.dtype("float32"), "x": data, "y": labels, "enters": enters, "rounds": rounds}
    tables = Tables(steps=1, batch=1024, width=8, **about)
    tables.send(0, np.ones((1, 8)), order)
    tables.begin(data, labels, ordered=True)
    wanted = data[order].astype("float32") / (255 if kind == "uint8" else 1)
    pairs = [(tables.x, wanted.astype(enters)), (tables.y, labels[order])]
    pairs += [(rounds[0], weights.astype(enters))] if rounds else []
    row = {"op": "begin_step", "shape": [1024, 784], "dtypes": [kind, enters.name]}
    row["error"] = max(error(*pair) for pair in pairs)
    row["ok"] = row["error"] <= (1e-6 if enters.itemsize == 4 else 4e-3)  # by x / 255 in another last digit
    return row | {"twin_us": microseconds(lambda: tables.begin(data, labels, ordered=True))}


def products():
    """Products against float64 on the host or the device: types, transposes, epilogues; times beside CuPy's product."""
    rows = []
    for (n, k, m), precision in itertools.product(PRODUCTS, NEAR):
        with product.tf32(precision == "tf32"):
            of = functools.partial(_products, n, k, m, precision)
            attempt(rows, of, shape=[n, k, m], precision=precision)
    nan, mask = normal((32, 64)) * float("nan"), product.mask_for(32, 32)
    with_mask = {"bias": nan[0, :32], "aux": mask}
    kept = [bool(cp().isnan(product.product(nan, nan.T, epilogue="relu", **given)).all()) for given in ({}, with_mask)]
    return {"rows": rows, "relu_keeps_nan": kept}, all(row["ok"] for row in rows)


def _products(n, k, m, precision):
    rows = []
    dtype = type_of(precision)
    a64, b64 = normal((n, k), "float64"), normal((k, m), "float64")
    a, b = a64.astype(dtype), b64.astype(dtype)
    a64, b64 = a.astype("float64"), b.astype("float64")  # as they were rounded
    wanted = cp().matmul(a64, b64)
    for left, right in itertools.product((False, True), repeat=2):
        x = cp().ascontiguousarray(a.T).T if left else a
        y = cp().ascontiguousarray(b.T).T if right else b
        row = {"shape": [n, k, m], "precision": precision, "transposed": [left, right]}
        row["error"] = error(product.product(x, y), wanted)
        row["ok"] = row["error"] <= NEAR[precision]
        out = cp().empty((n, m), dtype)
        row["first_us"] = microseconds(lambda x=x, y=y, out=out: product.product(x, y, out=out))
        with product.tuning():
            product.product(x, y, out=out)
        row["tuned_us"] = microseconds(lambda x=x, y=y, out=out: product.product(x, y, out=out))
        row["tuned_error"] = error(out, wanted)
        row["ok"] &= row["tuned_error"] <= NEAR[precision]
        row["tflops"] = 2e-6 * n * k * m / row["tuned_us"]
        row["cupy_us"] = microseconds(lambda x=x, y=y, out=out: cp().matmul(x, y, out=out))
        row["host_us"] = host_microseconds(lambda x=x, y=y, out=out: product.product(x, y, out=out))
        rows.append(row)
    return rows + _epilogues(a, b, wanted, precision)


def _epilogues(a, b, z, precision):
    """Each epilogue against the op in float64, and whether cuBLASLt itself does it."""
    n, m = z.shape
    bias = normal(m, "float64").astype(a.dtype)
    total = z + bias.astype("float64")
    mask, kept = product.mask_for(n, m), cp().empty((n, m), a.dtype)
    gradient = cp().empty(m, a.dtype)
    wide = {"bias": cp().empty(m, "float32"), "out": cp().empty((n, m), "float32")}  # as gradients of weights are
    above = total > 0
    rows = []
    for name, given, wanted, side in (
        ("bias", {"bias": bias}, total, None),
        ("relu", {"bias": bias}, total * above, None),
        ("relu", {"bias": bias, "aux": mask}, total * above, None),
        ("gelu", {"bias": bias}, ops.gelu.reference(total), None),
        ("gelu", {"bias": bias, "aux": kept}, ops.gelu.reference(total), (kept, total)),
        ("relu_backward", {"bias": gradient, "aux": mask}, z * above, (gradient, (z * above).sum(0))),
        ("relu_backward", {"aux": mask}, z * above, None),
        (
            *("gelu_backward", {"bias": gradient, "aux": kept}, ops.gelu_backward.reference(z, total)),
            (gradient, ops.gelu_backward.reference(z, total).sum(0)),
        ),
        ("bias_gradient", {"bias": gradient}, z, (gradient, b.astype("float64").sum(0))),
        *([("bias_gradient", wide, z, (wide["bias"], b.astype("float64").sum(0)))] if precision == "bfloat16" else []),
    ):
        number = product.EPILOGUES[name, "bias" in given, "aux" in given]
        got = product.product(a, b, epilogue=name, **given)
        worst = max(error(got, wanted), error(*side) if side else 0.0)
        fused = [plan is not None for (_, spec), (plan, _) in product._plans.items() if spec.epilogue == number]
        row = {"shape": [n, a.shape[1], m], "precision": precision, "epilogue": name, "aux": "aux" in given}
        row["out"] = got.dtype.name
        row |= {"error": worst, "ok": worst <= 5 * NEAR[precision], "fused": bool(fused and fused[-1])}
        row["first_us"] = microseconds(lambda name=name, given=given: product.product(a, b, epilogue=name, **given))
        with product.tuning():
            product.product(a, b, epilogue=name, **given)
        row["tuned_us"] = microseconds(lambda name=name, given=given: product.product(a, b, epilogue=name, **given))
        if "aux" in given and name == "relu":
            bits = np.unpackbits(to_host(mask), axis=1, count=m, bitorder="little")
            row["mask_as_documented"] = float(np.mean(bits == to_host(above)))
            row["ok"] &= row["mask_as_documented"] > 0.99  # numbers near 0 may be rounded to either side
        rows.append(row)
    return rows


def convolutions(shapes=CONVOLUTIONS, precisions=tuple(NEAR), device="cuda", seconds=120):
    """Convolution by columns, by cuDNN's first engine, by what is fastest: the CNN's steps; errors beside float64."""
    until, found = time.perf_counter() + seconds, {"steps": [], "rows": [], "engines": [], "left_out": []}
    library = cudnn._library()
    hows = ("columns", "first", "fastest") if library else ("columns",)
    w, losses = next(w for w in rows() if w.kind == "cnn"), {}
    for precision, how in itertools.product(PRECISIONS, hows):
        if time.perf_counter() > until:
            found["left_out"].append([precision, how])
            continue
        with _by(how):
            trained = _trained(dataclasses.replace(w, precision=precision), True, device, 1000)
        losses[how] = trained["arrays"][0]
        row = {key: trained[key] for key in ("step_us", "fit_us", "graphs", "grown_bytes")}
        row |= {"by": how, "precision": precision, "losses": losses[how].tolist()}
        found["steps"].append(row | {"ok": bool(np.allclose(losses[how], losses["columns"], rtol=0.05))})
    for (x, W, stride, padding), precision in itertools.product(shapes, precisions):
        if time.perf_counter() > until:
            found["left_out"].append([x, precision])
            continue
        dtype = type_of(precision)
        named = {"stride": stride, "padding": padding}
        x, W, b = (normal(shape, "float64").astype(dtype) for shape in (x, W, W[-1:]))
        exact = [a.astype("float64") for a in (x, W, b)]  # as they were rounded
        wanted = {"y": ops.conv2d.reference(*exact, **named)}
        dy = normal(wanted["y"].shape, "float64").astype(dtype)
        wanted["x"], wanted["W"], _ = ops.conv2d_backward.reference(dy.astype("float64"), *exact[:2], **named)
        about = {"x": list(x.shape), "W": list(W.shape), **named, "precision": precision}
        with product.tf32(precision == "tf32"):
            for how in hows:
                found["rows"].append(about | {"by": how} | _convolution(how, x, W, b, dy, wanted, named, precision))
        if library:
            for row in _engines(library, x, W, b, dy, wanted, named, precision):
                found["engines"].append(about | row)
    found["cudnn"] = cudnn.cudnn_state()  # None where it was given up on the way
    well = all(row["ok"] for part in ("steps", "rows", "engines") for row in found[part])
    return found, well and bool(found["cudnn"]) == bool(library)


@contextlib.contextmanager
def _by(how):
    """Convolutions by columns, by cuDNN's first engine where cuDNN is usual, or by what is timed as fastest."""
    library = cudnn._library()
    with contextlib.ExitStack() as stack:
        if how != "first":
            stack.enter_context(product.tuning())
        if library and how == "columns":
            stack.callback(setattr, library, "off", library.off)
            library.off = True
        yield


def _convolution(how, x, W, b, dy, wanted, named, precision):
    """Errors, times, and whether a captured one has the same bits."""

    def forward():
        return TWINS["conv2d"](x, W, b, **named)

    def backward():
        return TWINS["conv2d_backward"](dy, x, W, **named)[:2]

    with _by(how):
        forward()
        backward()
        got = [forward(), *backward()]
        row = {f"error_{name}": error(g, wanted[name]) for name, g in zip("yxW", got, strict=True)}
        for _ in range(2):  # the first compares
            y = TWINS["conv2d_relu"](x, W, b, **named)
        row["error_relu"] = error(y, wanted["y"] * (wanted["y"] > 0))
        row["ok"] = max(row.values()) <= 5 * NEAR[precision]
        row |= {"forward_us": microseconds(forward), "backward_us": microseconds(backward)}
        row["relu_us"] = microseconds(lambda: TWINS["conv2d_relu"](x, W, b, **named))
        of = x.shape, x.dtype.name, precision == "tf32"
        plans = [plan for (_, s), plan in cudnn._plans.items() if s.relu and (s.x, s.dtype, s.tf32) == of]
        row["relu_in_one"] = how != "columns" and any(plan and plan.engine is not None for plan in plans)
        held = []

        def enqueue():
            held[:] = [forward(), *backward()]

        graph = Graph(enqueue)
        graph.replay()
        cp().cuda.Device().synchronize()
        row["same_bits_captured"] = all(np.array_equal(to_host(a), to_host(b)) for a, b in zip(held, got, strict=True))
        row["ok"] &= row["same_bits_captured"]
    return row


def _engines(library, x, W, b, dy, wanted, named, precision):
    """The three engines that cuDNN thinks best for each kind, whether they are used or not."""
    handle = library.handle(0)
    library.cudnn.set_stream(handle=handle, stream=cp().cuda.get_current_stream().ptr)
    there = {"x": x, "W": cp().ascontiguousarray(W.reshape(-1, W.shape[3]).T), "y": dy, "b": b}
    rows = []
    for result in "yxW":
        spec = (result, x.shape, W.shape, dy.shape, *named.values(), x.dtype.name)
        made = module.empty(there[result].shape, x.dtype)
        arrays = {name: array for name, array in (there | {result: made}).items() if name != "b" or result == "y"}
        try:
            plan = cudnn.Plan(library.cudnn, cudnn.Spec(*spec, precision == "tf32", result == "y"), handle=handle)
        except library.cudnn.cudnnGraphNotSupportedError as refused:
            rows.append({"result": result, "refused": str(refused)[:500], "ok": True})
            continue
        for engine in plan.engines(3):
            plan.take(engine)
            plan.run(handle, arrays)
            off = error(made.T.reshape(W.shape) if result == "W" else made, wanted[result])
            row = {"result": result, "engine": plan.graph.get_plan_name_at_index(engine), "workspace": plan.workspace}
            taken = microseconds(lambda plan=plan, arrays=arrays: plan.run(handle, arrays))
            rows.append(row | {"error": off, "us": taken, "ok": off <= 5 * NEAR[precision]})
    return rows


def capture():
    """A forward and a backward pass of a layer inside a stream capture: replayed, the same bits as without."""
    cupy = cp()
    x, W, b = normal((64, 784)), normal((784, 128)), normal(128)
    labels = cupy.asarray(rng.integers(0, 128, 64))
    w = cupy.asarray(to_host(W))
    m, v = cupy.zeros(w.size, "float32"), cupy.zeros(w.size, "float32")
    held = {}

    def step():
        z = TWINS["linear"](x, w, b)
        y = TWINS["gelu"](z)
        y, mask = TWINS["dropout"](y, rate=0.1, key=(1, 2), step=3)
        loss, dy = TWINS["softmax_cross_entropy_both"](y, labels)
        dz = TWINS["gelu_backward"](TWINS["dropout_backward"](dy, mask), z)
        _, dW, db = TWINS["linear_backward"](dz, x, w, need_dx=False)
        norm = TWINS["clip_by_norm"](dW.reshape(-1), limit=1.0)
        adam = {"eta": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "t": 1}
        TWINS["adam"](w.reshape(-1), dW.reshape(-1), m, v, **adam)
        held.update(loss=loss, norm=norm, dW=dW, db=db)

    def start():
        w[...], m[...], v[...] = W, 0.0, 0.0

    stream, pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()
    cupy.cuda.Device().synchronize()
    with cupy.cuda.using_allocator(pool.malloc), stream:
        start()
        eager = []
        for _ in range(3):
            step()
            eager.append([to_host(held[key]).copy() for key in ("loss", "norm", "dW", "db")])
        stream.synchronize()
        stream.begin_capture()
        try:
            step()
        finally:
            graph = stream.end_capture()
        graph.upload(stream)
        start()
        same = []
        for wanted in eager:
            graph.launch(stream)
            stream.synchronize()
            got = [to_host(held[key]) for key in ("loss", "norm", "dW", "db")]
            same.append([bool(np.array_equal(g, e)) for g, e in zip(got, wanted, strict=True)])
        before = pool.total_bytes()
        begun = time.perf_counter()
        for _ in range(1000):
            graph.launch(stream)
        stream.synchronize()
        replay = 1e3 * (time.perf_counter() - begun)
        eager_us = host_microseconds(step)
    found = {"same_bits": same, "replay_us": replay, "eager_us": eager_us, "grown_bytes": pool.total_bytes() - before}
    return found, all(map(all, same))


def steps(folder):
    """Eager training steps with these kernels and without them."""
    found, well = {}, True
    for fast, (name, batches) in itertools.product("10", NETWORKS):
        out = folder / f"bench-{name}-{fast}.json"
        arguments = ["bench", name, "--batch-size", ",".join(map(str, batches)), "--device", "cuda", "--json", str(out)]
        ran = subprocess.run(
            [sys.executable, "-m", "gpunn", *arguments],
            env=process.environment() | {"GPUNN_FAST": fast},
            capture_output=True,
            text=True,
            timeout=120,
        )
        well &= ran.returncode == 0
        key = f"{name}, {'kernels' if fast == '1' else 'CuPy alone'}"
        found[key] = json.loads(out.read_text())["rows"] if out.exists() else ran.stderr[-2000:]
    return found, well


def rows(precision="float32"):
    """The training steps that are compared."""
    chosen = [*SECTIONS["mlp"][-1:], *SECTIONS["mlp"][0:3:2], *WIDE, Workload("cnn", (9216, 128, 10), 1024)]
    return [dataclasses.replace(w, precision=precision) for w in chosen]


def graphs(device="cuda", workloads=None, precisions=PRECISIONS, steps=1000, more=None):
    """Fits with graphs and without: the same losses and weights, with memory poisoned in between; no memory growth.

    `more` are (workload, augmentations) in float32: by default with Muon, and on images that are augmented.
    """
    if more is None:
        augment = gn.data.RandomAffine(shift=2), gn.data.CutOut(8)
        more = [
            (Workload(*row, 64, optimizer="muon"), ()) for row in (("mlp", (784, 128, 10)), ("cnn", (9216, 128, 10)))
        ]
        more.append((Workload("cnn", (9216, 128, 10), 64), augment))
    chosen = itertools.product(workloads or rows(), precisions)
    found, cases = [], [(dataclasses.replace(w, precision=precision), ()) for w, precision in chosen]
    for w, augment in [*cases, *more]:
        row = {
            "workload": w.name,
            "precision": w.precision,
            "optimizer": w.optimizer,
            "augment": list(map(str, augment)),
        }
        try:
            eager = _trained(w, False, device, steps, augment)
            captured = _trained(w, True, device, 10 * steps, augment)  # for memory that might grow
            row |= {"eager_us": eager["step_us"], "captured_us": captured["step_us"], "fit_us": captured["fit_us"]}
            row |= {key: captured[key] for key in ("graphs", "grown_bytes")}
            row["same_bits"] = all(map(np.array_equal, eager["arrays"], captured["arrays"]))
            row["error"] = max(map(error, captured["arrays"], eager["arrays"]))
            row["ok"] = captured["graphs"] > 1 and row["error"] <= 1e-4 and row["grown_bytes"] <= 0
        except Exception:
            row |= {"error": traceback.format_exc()[-2000:], "ok": False}
        found.append(row)
    return {"rows": found}, all(row["ok"] for row in found)


def _trained(w, graph, device, steps, augment=()):
    numbers = np.random.default_rng(5)
    n = 16 * w.batch + w.batch // 2  # whole batches, and a smaller one
    x, y = numbers.integers(0, 256, (n, *w.image), dtype=np.uint8), numbers.integers(0, 10, n)
    net = network(w).init(device=device)
    net.load_state_dict(dict(zip(net.params(), (a for layer in weights(w) for a in layer), strict=True)))
    optimizers = {"sgd": gn.SGD, "adam": lambda lr: gn.Adam(gn.schedules.Cosine(lr, 60), **ADAM)}
    optimizers["muon"] = lambda lr: gn.Muon(gn.schedules.Cosine(lr, 60), weight_decay=0.1)
    optimizer = optimizers[w.optimizer](w.lr)
    trainer = gn.Trainer(net, optimizer=optimizer, device=device, dtype=w.precision, graph=graph, clip_norm=5.0)
    data = gn.data.Dataset(x, y, image_shape=w.image if len(w.image) == 3 else (1, *w.image, 1))
    poison = _poison() if graph else ()
    history = trainer.fit(data, epochs=3, batch_size=w.batch, callbacks=poison, augment=augment)
    made = [np.array(history["loss"]), to_host(net.store.values).copy()]
    fit_us = 1e6 * history["seconds"][-1] / 17
    x, y = trainer._loader.move(x[: w.batch] / 255.0), trainer.device.asarray(y[: w.batch])
    steps = min(steps, 20 + 5 * 10**12 // w.flops_needed)  # a second, or less
    for _ in range(20):
        trainer.step(x, y)
    trainer.device.synchronize()
    before, begun = _held(), time.perf_counter()
    for _ in range(steps):
        loss = trainer.step(x, y)
    float(loss)
    step_us = 1e6 * (time.perf_counter() - begun) / steps
    grown, count = _held() - before, len(trainer._graphs._steps) if graph else 0
    return {"arrays": made, "fit_us": fit_us, "step_us": step_us, "graphs": count, "grown_bytes": grown}


def precisions(device="cuda", rows=None, epochs=10):
    """Networks trained on the digits of the package in each precision: losses near those of float32, epoch by epoch."""
    train, test = gn.datasets.digits()
    x, y = train.x[:rows].reshape(-1, 8, 8, 1), train.y[:rows]
    found = []
    for name, make in (
        ("mlp", lambda: gn.Sequential(gn.Flatten(), *gn.mlp([64, 256, 10]).layers)),
        (
            "cnn",
            lambda: gn.Sequential(
                *(gn.Conv2d(1, 16, 3, padding="same"), gn.BatchNorm(16), gn.ReLU(), gn.MaxPool2d(2), gn.Flatten()),
                *(gn.Dropout(0.2), gn.Linear(256, 64), gn.LayerNorm(64), gn.GELU(), gn.Linear(64, 10)),
            ),
        ),
    ):
        exact = None
        for precision in PRECISIONS:
            trainer = gn.Trainer(make(), optimizer=gn.AdamW(2e-3), device=device, dtype=precision)
            losses = np.array(trainer.fit((x, y), epochs=epochs, batch_size=64)["loss"])
            exact = losses if exact is None else exact
            row = {"network": name, "precision": precision, "losses": losses.tolist()}
            row |= trainer.evaluate((test.x[:rows].reshape(-1, 8, 8, 1), test.y[:rows]))
            row["ok"] = bool(np.allclose(losses, exact, rtol=0.05, atol=0.01)) and trainer.dtype == "float32"
            found.append(row)
    return {"rows": found}, all(row["ok"] for row in found)


def mnist(device="cuda", data=None, epochs=400):
    """MNIST, from the folder in GPUNN_DATA_DIR: is it as on a CPU, and how long does it take to learn?"""
    train, test = data or gn.datasets.mnist()
    found = []

    def tried(f, *args, **about):
        attempt(found, lambda: [about | row for row in f(*args)], **about)

    tried(_as_on_a_cpu, train, device, what="an epoch of SGD on the CPU and here")
    tried(_curve, device, epochs, what="the curve of examples/published_curve.py, in float64")
    for precision, run in itertools.product(PRECISIONS, ("cold", "warm")):
        what = "784-512-10 to 98 %; asked: 1 s when warm"
        tried(_until_98, train, test, device, precision, what=what, precision=precision, run=run)
    for run in ("cold", "warm"):
        tried(_one_epoch, train, test, device, what="one-epoch; asked: 99.04 % in 0.5 s when warm", run=run)
    return {"rows": found}, all(row["ok"] for row in found)


def _as_on_a_cpu(train, device):
    runs = []
    for where in ("cpu", device):
        trainer = gn.Trainer(gn.mlp([784, 128, 10]), optimizer=gn.SGD(0.1), device=where)
        losses = np.array(trainer.fit(train, epochs=1, batch_size=64)["loss"])
        runs.append((losses, to_host(trainer.net.store.values)))
    off = [error(here, there) for there, here in zip(*runs, strict=True)]
    return [{"error_loss": off[0], "error_weights": off[1], "ok": max(off) <= 1e-4}]


def _curve(device, epochs):
    spec = importlib.util.spec_from_file_location("published_curve", HERE / "examples" / "published_curve.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return _beside(example, device, epochs)


def _beside(example, device, epochs):
    begun = time.perf_counter()
    theirs, ours = (np.array(rows) for rows in (example.published()[:epochs], example.run(epochs, device)))
    same = int((ours[:, 1::2] == theirs[:, 1::2]).all(axis=1).sum())
    off = float(abs(ours - theirs)[:, ::2].max())
    row = {"epochs": epochs, "same_counts": same, "error_costs": off, "seconds": time.perf_counter() - begun}
    return [row | {"ok": same == epochs and off < 1e-9}]


def _until_98(train, test, device, precision):
    """Seconds of training, without the accuracies after each epoch."""

    class Until(gn.Callback):
        def on_epoch(self, trainer, row):
            self.accuracy = trainer.evaluate(test)["accuracy"]
            trainer.stop = self.accuracy >= 0.98

    reached, batch, epochs = Until(), 128, 6
    optimizer = gn.Adam(gn.schedules.OneCycle(2e-3, 4 * -(-len(train) // batch)))
    trainer = gn.Trainer(gn.mlp([784, 512, 10]), optimizer=optimizer, device=device, dtype=precision)
    history = trainer.fit(train, epochs=epochs, batch_size=batch, callbacks=reached)
    seconds = sum(history["seconds"])
    return [{"epochs": len(history), "accuracy": reached.accuracy, "seconds": seconds, "ok": trainer.stop}]


def _one_epoch(train, test, device):
    """The row of `gpunn reproduce`."""
    setting, _ = ROWS["one-epoch"].settings[""]
    whole = dataclasses.replace(setting, train=len(train))
    row = measure(whole, (train, test, test), 0, gn.device(device))
    return [row | {"ok": row["accuracy"] > 98.8}]


def _poison():
    """Fills memory that is free with NaN after every few steps: whoever still uses it shows."""

    class Poison(gn.Callback):
        def on_step(self, trainer):
            if trainer.steps % 5 == 0:
                held = [cp().empty(1 << k, np.float32) for k in range(6, 24, 2) for _ in range(3)]
                for array in held:
                    array[...] = float("nan")

    return Poison()


def _held():
    return cp().get_default_memory_pool().total_bytes()


def streaming(device="cuda", workloads=None, n=1 << 21, batch=16384):
    """Data that stay on the host beside data on the GPU: the same bits; seconds of an epoch; the rate of the link."""
    found, chosen = [], workloads or [Workload("mlp", (784, 128, 10), 32), Workload("cnn", (9216, 128, 10), 64)]
    for w, graph in itertools.product(chosen, (False, True)):
        row = {"workload": w.name, "graph": graph}
        try:
            there = _trained(w, graph, device, 20)
            with _streamed(3 * w.batch * int(np.prod(w.image))):  # chunks of three batches
                here = _trained(w, graph, device, 20)
            row["error"] = max(map(error, here["arrays"], there["arrays"]))
            row["ok"] = all(map(np.array_equal, here["arrays"], there["arrays"])) and here["graphs"] == there["graphs"]
        except Exception:
            row |= {"error": traceback.format_exc()[-2000:], "ok": False}
        found.append(row)
    return {"rows": found, "rates": _rates_of_streaming(device, n, batch)}, all(row["ok"] for row in found)


@contextlib.contextmanager
def _streamed(chunk=streamed.CHUNK):
    """Inside it all data stay on the host, and go to the GPU in chunks of so many bytes."""
    before = loader.SHARE, streamed.CHUNK
    loader.SHARE, streamed.CHUNK = 0.0, chunk
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the data take")
            yield
    finally:
        loader.SHARE, streamed.CHUNK = before


def _rates_of_streaming(device, n, batch):
    """Seconds of an epoch on n images in bytes, on the GPU and streamed; GB/s of that, of the link and of gathering."""
    x, y = rng.integers(0, 256, (n, 784), dtype=np.uint8), rng.integers(0, 10, n)
    seconds = {}
    for name, context in (("on the GPU", contextlib.nullcontext()), ("streamed", _streamed())):
        with context:
            history = gn.Trainer(gn.mlp([784, 128, 10]), device=device).fit((x, y), epochs=3, batch_size=batch)
        seconds[name] = min(history["seconds"][1:])
    count = min(n, streamed.CHUNK // 784)
    ring, room, order, runs = Ring(count, (784,), x.dtype), np.empty_like(x[:count]), rng.permutation(n)[:count], 40
    taken = {}
    for name, run in (
        ("link", lambda i: ring.send(i % 2, count, lambda _: None)),
        ("gathering", lambda _: np.take(x, order, axis=0, out=room, mode="wrap")),
    ):
        for i in range(2 + runs):
            if i == 2:
                cp().cuda.Device().synchronize()
                begun = time.perf_counter()
            run(i)
        cp().cuda.Device().synchronize()
        taken[name] = (time.perf_counter() - begun) / runs
    rate = {name: 1e-9 * room.nbytes / s for name, s in taken.items()}
    rate["streamed"] = 1e-9 * x.nbytes / seconds["streamed"]
    return {
        "epoch_s": seconds,
        "gb_per_s": rate,
        "of_on_the_gpu": seconds["on the GPU"] / seconds["streamed"],
        "of_link": rate["streamed"] / rate["link"],
    }


def against(until):
    """The steps in gpunn and its peers, each in a process of its own; ratios to the best peer and to the floor."""
    process.LIMIT = 90  # seconds for one answer, with all that a peer compiles first
    contestants = {"gpunn, graph": ("gpunn-cuda", {"graph": True})}
    contestants |= {name: (name, {}) for name in ("torch-cuda", "jax-cuda", "torch-compile-cuda")}
    contestants["gpunn, eager"] = "gpunn-cuda", {"graph": False}  # last, should the time not suffice
    contestants["gpunn, not tuned"] = "gpunn-cuda", {"graph": True, "tune": False}
    found, missing = [], {}
    for (title, (name, options)), precision in itertools.product(contestants.items(), PRECISIONS):
        peer = dataclasses.replace(PEERS[name], options=PEERS[name].options | options)
        try:
            with process.Process(peer) as worker:
                for w in rows(precision):
                    if time.perf_counter() > until:
                        raise process.Gone("no time was left")
                    told = worker.ask("prepare", workload=dataclasses.asdict(w), warm=0.2)
                    steps = max(10, min(2000, int(0.1 / told["step_s"])))
                    best = min(worker.ask("run", steps=steps)["seconds"] / steps for _ in range(5))
                    row = {"workload": w.name, "precision": precision, "who": title, "step_us": 1e6 * best}
                    found.append(row | {"losses": told["losses"]})
        except process.Gone as gone:
            missing[f"{title}, {precision}"] = str(gone)
    return {"rows": found, "missing": missing, "summary": (summary := _compared(found))}, all(
        row["losses_agree"] for row in summary
    )


def _compared(found, rates=None):
    """For each workload and precision: gpunn's step beside the best peer's and the floor."""
    rates, compared = rates or on_cuda(), []
    for w in itertools.chain.from_iterable(map(rows, PRECISIONS)):
        of = {row["who"]: row for row in found if row["workload"] == w.name}
        if "gpunn, graph" not in of:
            continue
        ours, peers = of["gpunn, graph"], {who: row["step_us"] for who, row in of.items() if "gpunn" not in who}
        floor_us = 1e6 * floor(w, rates)
        row = {"workload": w.name, "precision": w.precision, "step_us": ours["step_us"], "floor_us": floor_us}
        row |= {"of_floor": ours["step_us"] / floor_us, "peers_us": peers}
        if peers:
            row["of_best_peer"] = ours["step_us"] / min(peers.values())
        near = TOLERANCE[w.precision]
        row["losses_agree"] = all(np.allclose(other["losses"], ours["losses"], rtol=near) for other in of.values())
        compared.append(row)
    return compared


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the results go")
    parser.add_argument("--minutes", type=float, default=9.0, help="parts that are not begun by then are left out")
    parser.add_argument("--only", nargs="+", metavar="PART", help="these parts alone")
    given = parser.parse_args()
    until = time.perf_counter() + 60 * given.minutes
    folder = given.folder.resolve()
    parts = {
        "environment": environment,
        "compiling": compiling,
        "capture": capture,
        "graphs": graphs,
        "precisions": precisions,
        "mnist": mnist,
        "streaming": streaming,
        "against": lambda: against(min(until, time.perf_counter() + 240)),
        "kernel-tests": lambda: pytest(folder, "kernel-tests", 100, "tests/kernels/cuda"),
        "products": products,
        "kernels": kernels,
        "convolutions": convolutions,
        "steps": lambda: steps(folder),
        "suite": lambda: pytest(  # last, with all the time that is left
            *(folder, "suite", max(10.0, until - time.perf_counter()), "tests", "-k", "cuda", "-m", "not slow"),
        ),
    }
    if unknown := set(given.only or ()) - set(parts):
        parser.error(f"no part is called {', '.join(unknown)}; there are {', '.join(parts)}")
    report = probe_cuda(0)
    if not report.available:
        sys.exit(f"there is no GPU to check: {report.reason}; to mend it: {report.fix}")
    folder.mkdir(parents=True, exist_ok=True)
    names = given.only or list(parts)
    if len(names) == 1:
        well = written(folder, names[0], parts[names[0]])
        print(f"{'ok' if well else 'FAILED'}: {folder / names[0]}.json")
        sys.exit(not well)
    summary = {}
    for name in names:
        begun = time.perf_counter()
        left = until - begun
        command = [sys.executable, __file__, str(folder), "--only", name, "--minutes", str(left / 60)]
        limit = min(left + 20, LIMITS.get(name, LIMIT))
        well = apart(folder, name, command, limit) if left > 0 else written(folder, name, late)
        summary[name] = {"ok": well, "seconds": round(time.perf_counter() - begun, 1)}
        (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        print(f"{name:<14}{'ok' if well else 'FAILED':<8}{summary[name]['seconds']:>7.1f} s", flush=True)
    sys.exit(not all(part["ok"] for part in summary.values()))


def late():
    return {"skipped": "no time was left"}, False


def written(folder, name, part):
    """Write what a part finds; returns whether all is well."""
    try:
        found, well = part()
    except Exception:
        found, well = {"error": traceback.format_exc()}, False
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1, default=str) + "\n")
    return bool(well)


def apart(folder, name, command, seconds):
    """A part in a process of its own: where a kernel fails, or the process dies or hangs, the next are tried."""
    (folder / f"{name}.json").unlink(missing_ok=True)
    try:
        out, err = subprocess.DEVNULL, subprocess.PIPE
        ran = subprocess.run(command, timeout=seconds, stdout=out, stderr=err, text=True, errors="replace")
        status, said = ran.returncode, ran.stderr
    except subprocess.TimeoutExpired as over:
        status, said = f"stopped after {seconds:.0f} s", (over.stderr or b"").decode(errors="replace")
    if status == 0:
        return True
    if (folder / f"{name}.json").exists():
        return False

    def ended():
        raise RuntimeError(f"{name} ended with {status}: {said[-2000:]}")

    return written(folder, name, ended)


if __name__ == "__main__":
    main()
