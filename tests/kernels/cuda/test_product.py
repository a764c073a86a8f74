"""The matrix product: what cuBLASLt is told, computed by a stand-in; and the library itself, if it can be loaded."""

import contextlib
import ctypes
import itertools
import threading

import numpy as np
import pytest

from gpunn import ops
from gpunn.device import to_host
from gpunn.errors import LibraryError, OptionError, ShapeError
from gpunn.kernels.cuda import product as module
from gpunn.kernels.cuda.product import mask_for, product
from tests.kernels.cuda.arrays import TOLERANCE, dtypes, normal


@dtypes
@pytest.mark.parametrize("sizes", [(1, 1, 1), (5, 7, 3), (4, 1, 6), (1, 8, 1), (6, 4, 1)])
def test_product(gpu, lt, compare, layouts, dtype, sizes):
    n, k, m = sizes
    a, b, c = normal((n, k), dtype), normal((k, m), dtype), normal((n, m), dtype)
    for x, y in itertools.product(layouts(gpu, a), layouts(gpu, b)):
        compare(product(x, y), a @ b, TOLERANCE[dtype])
        out = gpu.asarray(c)
        assert product(x, y, out=out, alpha=2.0, beta=0.5) is out
        compare(out, (2 * (a @ b) + c / 2).astype(dtype), TOLERANCE[dtype])


@dtypes
def test_batches(gpu, lt, compare, layouts, dtype):
    a, b = normal((3, 4, 5), dtype), normal((3, 5, 2), dtype)
    for x, y in itertools.product(layouts(gpu, a), layouts(gpu, b)):
        compare(product(x, y), a @ b, TOLERANCE[dtype])
    compare(product(gpu.asarray(a), gpu.asarray(b[0])), a @ b[0], TOLERANCE[dtype])
    compare(product(gpu.asarray(a[0]), gpu.asarray(b)), a[0] @ b, TOLERANCE[dtype])


@dtypes
@pytest.mark.parametrize("m", [8, 5, 136])
def test_epilogues_forward(gpu, lt, compare, dtype, m):
    x, W, b = normal((6, 7), dtype), normal((7, m), dtype), normal(m, dtype)
    X, V, bias = gpu.asarray(x), gpu.asarray(W), gpu.asarray(b)
    z = x @ W
    near = TOLERANCE[dtype]
    compare(product(X, V, epilogue="bias", bias=bias), z + b, near)
    compare(product(X, V, epilogue="relu"), np.maximum(z, 0), near)
    compare(product(X, V, epilogue="relu", bias=bias), np.maximum(z + b, 0), near)
    compare(product(X, V, epilogue="gelu"), ops.gelu.reference(z), near)
    compare(product(X, V, epilogue="gelu", bias=bias), ops.gelu.reference(z + b), near)
    for given, wanted in ((None, z), (bias, z + b)):
        mask, kept = mask_for(6, m), gpu.empty((6, m), x.dtype)
        compare(product(X, V, epilogue="relu", bias=given, aux=mask), np.maximum(wanted, 0), near)
        bits = np.unpackbits(to_host(mask), axis=1, count=m, bitorder="little")
        assert np.array_equal(bits, wanted > 0)
        compare(product(X, V, epilogue="gelu", bias=given, aux=kept), ops.gelu.reference(wanted), near)
        compare(kept, wanted, near)


@dtypes
@pytest.mark.parametrize("k", [8, 5])
def test_epilogues_backward(gpu, lt, compare, dtype, k):
    """dZ = (dY W^T) f'(Z) with its sum over the rows, and dW = X^T dY with that of dY."""
    dy, W, z, near = normal((6, 3), dtype), normal((k, 3), dtype), normal((6, k), dtype), TOLERANCE[dtype]
    DY, WT, Z = gpu.asarray(dy), gpu.asarray(W).T, gpu.asarray(z)
    mask, one = mask_for(6, k), gpu.asarray(np.eye(k, dtype=dtype))
    product(Z, one, epilogue="relu", aux=mask)
    for name, aux, wanted in (
        ("relu_backward", mask, dy @ W.T * (z > 0)),
        ("gelu_backward", Z, ops.gelu_backward.reference(dy @ W.T, z)),
    ):
        compare(product(DY, WT, epilogue=name, aux=aux), wanted, near)
        db = gpu.empty((k,), dy.dtype)
        compare(product(DY, WT, epilogue=name, aux=aux, bias=db), wanted, near)
        compare(db, wanted.sum(0), near)
    for beta in (0.0, 1.0):
        db, out = gpu.empty((3,), dy.dtype), gpu.asarray(normal((k, 3), dtype))
        wanted = z.T @ dy + beta * to_host(out)
        product(Z.T, DY, out=out, epilogue="bias_gradient", bias=db, beta=beta)
        compare(out, wanted, near)
        compare(db, dy.sum(0), near)


def test_nothing_to_add_up(gpu, lt, compare):
    bias = gpu.asarray(normal(3))
    compare(product(gpu.asarray(normal((4, 0))), gpu.asarray(normal((0, 3)))), np.zeros((4, 3)), 1e-300)
    got = product(gpu.asarray(normal((4, 0))), gpu.asarray(normal((0, 3))), epilogue="bias", bias=bias)
    compare(got, np.zeros((4, 3)) + to_host(bias), 1e-300)
    assert product(gpu.asarray(normal((0, 4))), gpu.asarray(normal((4, 3))), epilogue="bias", bias=bias).shape == (0, 3)


def test_what_cannot_be_multiplied(gpu, lt):
    x = gpu.asarray(normal((4, 3)))
    with pytest.raises(ShapeError, match=r"\(4, 3\) and \(4, 3\) cannot be multiplied"):
        product(x, x)
    with pytest.raises(ShapeError, match=r"expected \(4, 4\) in one piece"):
        product(x, x.T, out=gpu.asarray(normal((4, 3))))
    for wrong in ({"epilogue": "bias"}, {"epilogue": "sine"}, {"bias": x[0]}):
        with pytest.raises(OptionError, match="have no product with epilogue="):
            product(x, x.T, **wrong)
    with pytest.raises(OptionError):
        product(x[None], x.T, epilogue="relu")


# --- the plans, with the stand-in alone


@pytest.fixture
def stand_in(gpu, lt):
    if gpu.name != "emulated":
        pytest.skip("about the stand-in")
    return lt


whole = pytest.mark.parametrize("lt", ["whole"], indirect=True)


@whole
def test_a_product_is_planned_once(gpu, stand_in):
    x = gpu.asarray(normal((4, 4)))
    product(x, x)
    stand_in.calls.clear()
    product(x, x, alpha=3.0)
    assert stand_in.calls == ["Matmul"]
    product(x, x, beta=1.0, out=gpu.asarray(normal((4, 4))))
    assert "MatmulDescCreate" in stand_in.calls
    stand_in.calls.clear()
    for _ in range(2):
        product(x, x, epilogue="bias", bias=gpu.asarray(normal(4)))
    assert stand_in.calls.count("MatmulDescCreate") == 1


@whole
def test_tuning_takes_the_fastest_and_leaves_the_numbers_alone(gpu, stand_in, compare):
    x, out = normal((4, 4)), gpu.asarray(np.ones((4, 4)))
    product(gpu.asarray(x), gpu.asarray(x), beta=1.0, out=out)
    assert stand_in.algorithms[-1][0] == 0  # the first proposed
    gpu.times[:] = [3.0, 1.0, 2.0]
    with module.tuning():
        product(gpu.asarray(x), gpu.asarray(x), beta=1.0, out=out)
        product(gpu.asarray(x), gpu.asarray(x), beta=1.0, out=out)
    product(gpu.asarray(x), gpu.asarray(x), beta=1.0, out=out)
    assert [number for number, *_ in stand_in.algorithms[-3:]] == [1, 1, 1]
    assert stand_in.algorithms[-1][1] == 1024
    compare(out, 4 * (x @ x) + 1, 1e-12)


@whole
@pytest.mark.parametrize("fused", [True, False])
def test_tuning_decides_whether_an_epilogue_is_fused(gpu, stand_in, compare, fused):
    x = normal((4, 4))
    gpu.times[:] = [1.0, 2.0, 3.0, *([1.0] * 3), 2.0 if fused else 0.5]  # fused, the bare product, apart
    with module.tuning():
        got = product(gpu.asarray(x), gpu.asarray(x), epilogue="relu")
    assert not gpu.times
    compare(got, np.maximum(x @ x, 0), 1e-12)
    gpu.launches.clear()
    product(gpu.asarray(x), gpu.asarray(x), epilogue="relu")
    assert bool(gpu.launches) is not fused


@whole
@pytest.mark.parametrize("masked", [False, True])
def test_a_relu_that_loses_nan_is_not_used(gpu, stand_in, compare, monkeypatch, masked):
    """Where NaN became 0, a network that has gone wrong would look well."""
    x, b = normal((4, 6), "float32"), normal(6, "float32")
    W = normal((6, 6), "float32")
    calls, named = [], {"epilogue": "relu", "aux": mask_for(4, 6) if masked else None}
    for keeps in (True, False):
        monkeypatch.setattr(module, "_plans", {})
        if not keeps:
            monkeypatch.setattr(np, "maximum", np.fmax)  # what the stand-in takes
        for bias in (b, np.full_like(b, np.nan)):
            got = product(gpu.asarray(x), gpu.asarray(W), bias=gpu.asarray(bias), **named)
            compare(got, x @ W + bias if np.isnan(bias).any() else np.where(x @ W + b > 0, x @ W + b, 0), 1e-5)
        gpu.launches.clear()
        product(gpu.asarray(x), gpu.asarray(W), bias=gpu.asarray(b), **named)
        calls.append(gpu.launches[:])
    assert calls == [[], ["gn_bias_relu_mask" if masked else "gn_relu"]]  # the latter with the bias in the product
    if masked:
        bits = np.unpackbits(to_host(named["aux"]), axis=1, bitorder="little")
        assert np.array_equal(bits[:, :6], x @ W + b > 0)


@whole
def test_a_relu_is_not_looked_at_while_a_graph_is_captured(gpu, stand_in, compare):
    x, b = normal((4, 4)), normal(4)
    gpu.cuda.get_current_stream().is_capturing = lambda: True
    got = product(gpu.asarray(x), gpu.asarray(x), epilogue="relu", bias=gpu.asarray(b))
    compare(got, np.maximum(x @ x + b, 0), 1e-12)
    assert gpu.launches[-1] == "gn_relu"
    gpu.cuda.get_current_stream().is_capturing = lambda: False
    gpu.launches.clear()
    product(gpu.asarray(x), gpu.asarray(x), epilogue="relu", bias=gpu.asarray(b))
    assert not gpu.launches


@whole
def test_nothing_is_timed_while_a_graph_is_captured(gpu, stand_in):
    gpu.cuda.get_current_stream().is_capturing = lambda: True
    x = gpu.asarray(normal((4, 4)))
    with module.tuning():
        product(x, x)
    assert len(stand_in.algorithms) == 1


@whole
def test_tf32_is_for_float32_alone(gpu, stand_in):
    x, y = gpu.asarray(normal((4, 4), "float32")), gpu.asarray(normal((4, 4)))
    with module.tf32():
        product(x, x)
        product(y, y)
        with module.tf32(False):
            product(x, x)
        threading.Thread(target=product, args=(x, x)).run()
        other = threading.Thread(target=product, args=(x, x))
        other.start()
        other.join()
    assert [compute for *_, compute in stand_in.algorithms] == [77, 70, 68, 77, 68]


@whole
def test_the_alignment_of_the_numbers_is_told(gpu, stand_in):
    flat = gpu.empty((33,), np.dtype(np.float64))
    flat[...] = 1.0
    product(flat[1:].reshape(4, 8), gpu.asarray(normal((8, 4))))
    (spec,) = (spec for _, spec in module._plans)
    assert spec.alignment[0] == 8
    assert spec.alignment[1] == 256
    assert stand_in.aligned == [256, 8, 256, 256]  # its first operand is our second


@whole
def test_an_error_names_what_failed(gpu, stand_in, monkeypatch):
    x = gpu.asarray(normal((4, 4)))
    monkeypatch.setattr(stand_in, "Matmul", lambda *args: 13)
    with pytest.raises(LibraryError, match=r"cublasLtMatmul failed: execution failed \(status 13\)"):
        product(x, x)


@whole
@pytest.mark.parametrize("tuned", [False, True])
def test_what_the_library_refuses_after_all_is_made_otherwise(gpu, stand_in, compare, monkeypatch, tuned):
    x, b = normal((4, 4)), normal(4)
    does = stand_in.Matmul

    def refuses(handle, desc, *rest):
        return 15 if stand_in.things[desc.value][7] != module.PLAIN else does(handle, desc, *rest)

    monkeypatch.setattr(stand_in, "Matmul", refuses)
    gpu.times[:] = [1.0] * 5  # those of the bare product, and of what is apart
    warned = pytest.warns(RuntimeWarning, match="refuses a product .*epilogue=4")
    with module.tuning() if tuned else contextlib.nullcontext():
        with contextlib.nullcontext() if tuned else warned:  # what is timed is not taken, and that is all
            got = product(gpu.asarray(x), gpu.asarray(x), epilogue="bias", bias=gpu.asarray(b))
        compare(got, x @ x + b, 1e-12)
        again = product(gpu.asarray(x), gpu.asarray(x), epilogue="bias", bias=gpu.asarray(b))  # a warning is an error
    compare(again, x @ x + b, 1e-12)


def test_a_library_that_cannot_be_loaded_is_told_of_once(monkeypatch):
    import sys

    module._library.cache_clear()
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
    try:
        with pytest.warns(RuntimeWarning, match="cuBLASLt cannot be loaded .*pip install"):
            assert module._library() is None
        assert module._library() is None  # a warning would be an error
    finally:
        module._library.cache_clear()


# --- cuBLASLt itself: descriptions need no GPU


@pytest.fixture(scope="module")
def real():
    pathfinder = pytest.importorskip("cuda.pathfinder", reason="CuPy is not installed, nor the library")
    try:
        return module.Library(ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublasLt").abs_path))
    except Exception as error:
        pytest.skip(f"cuBLASLt cannot be loaded: {error}")


@pytest.mark.parametrize("epilogue", module.EPILOGUES, ids=str)
@pytest.mark.parametrize("dtype", module.TYPE)
def test_the_library_accepts_the_description(real, dtype, epilogue):
    number, ld = module.EPILOGUES[epilogue], 128 if epilogue[2] else 0
    for batch, transposed in ((1, False), (1, True), (4, True)):
        a = module.Operand(transposed, 64 if transposed else 32, 2048)
        b, c = module.Operand(False, 48, 0), module.Operand(False, 48, 64 * 48)
        spec = module.Spec(64, 32, 48, batch, dtype, dtype, dtype == "float32", a, b, c, number, ld, True, (16,) * 5)
        plan = module.Plan(real, spec)
        plan.point(0x7F0000000000 * epilogue[1], 0x7F0000100000 * epilogue[2])
        for (attribute, c_type), wanted in (
            (module.EPILOGUE, number),
            (module.TRANSA, 0),
            (module.TRANSB, int(transposed)),
            (module.AUX_LD, ld),
            (module.BIAS_POINTER, 0x7F0000000000 * epilogue[1]),
            (module.AUX_POINTER, 0x7F0000100000 * epilogue[2]),
        ):
            held, size = c_type(), ctypes.c_size_t()
            real.call(
                *("MatmulDescGetAttribute", plan.desc, attribute, ctypes.byref(held), ctypes.sizeof(held)),
                ctypes.byref(size),
            )
            assert (held.value, size.value) == (wanted, ctypes.sizeof(c_type))
    preference = ctypes.c_void_p()
    real.call("MatmulPreferenceCreate", ctypes.byref(preference))
    for attribute in (module.MAX_WORKSPACE, module.ALIGNMENT_A, module.ALIGNMENT_B, module.ALIGNMENT_C):
        real.set("MatmulPreference", preference, attribute, 16)
    real.call("MatmulPreferenceDestroy", preference)


def test_the_library_refuses_an_attribute_of_a_wrong_size(real):
    desc = ctypes.c_void_p()
    real.call("MatmulDescCreate", ctypes.byref(desc), module.COMPUTE_32F, 0)
    with pytest.raises(LibraryError, match="cublasLtMatmulDescSetAttribute failed: an invalid value"):
        real.set("MatmulDesc", desc, (3, ctypes.c_int16), 1)
