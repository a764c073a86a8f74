"""A CUDA GPU in which nothing is real but the numbers: the stand-ins of tests/kernels/cuda behind gpunn's device."""

import importlib.util
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import gpunn as gn
from gpunn.kernels.cuda import cudnn, module, product
from gpunn.train import graph
from tests.kernels.cuda import fake_cudnn

CUDA = Path(__file__).parents[1] / "kernels" / "cuda"


def _load(name):
    spec = importlib.util.spec_from_file_location(f"stand_in_{name}", CUDA / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="session")
def _stand_ins():
    return _load("conftest"), _load("fake_cupy")


@pytest.fixture
def fake_gpu(_stand_ins, kernels_folder, monkeypatch):
    """The device; `fake_gpu.state` is what the stand-in knows of captures, `fake_gpu.launches` the kernels launched."""
    if not shutil.which("g++"):
        pytest.skip("there is no g++ to compile the kernels for a CPU")
    conftest, fake = _stand_ins
    emulator = conftest.Emulator(kernels_folder)
    state = fake.state
    state.live.clear()
    state.refused.clear()
    state.capturing = state.pool = None
    state.replays, state.freed = 0, []
    state.computed.clear()
    state.copies, state.reads, state.targets, state.pinned = [], [], {}, []

    class Cupy(types.ModuleType):
        ndarray, cuda, asarray = fake.ndarray, fake.cuda, fake.xp.asarray
        matmul = staticmethod(fake.xp.matmul)

        @staticmethod
        def empty(shape, dtype):
            array = emulator.empty(shape, dtype)  # where 256 bytes begin, as CuPy's
            if array.dtype.kind in "fV":  # V: bfloat16
                array[...] = np.nan
            fake.note(lambda: array)  # the pool of a graph keeps what its replays write to
            return fake.ndarray(array)

        @staticmethod
        def zeros(shape, dtype):
            return fake.compute(np.zeros, shape, dtype)

        @staticmethod
        def ascontiguousarray(x):
            return fake.compute(np.ascontiguousarray, x)

        @staticmethod
        def RawModule(*, code, options):
            real = emulator.RawModule(code=code, options=options)

            def get_function(name):
                kernel = real.get_function(name)

                def run(grid, threads, args):
                    args = fake.unwrap(args)

                    def launch():
                        fake.touch(*args)
                        kernel(grid, threads, args)

                    launch()
                    fake.note(launch)

                return run

            return types.SimpleNamespace(get_function=get_function)

        @staticmethod
        def get_default_memory_pool():
            sizes = dict.fromkeys(("total_bytes", "free_bytes", "used_bytes", "get_limit"), lambda: 0)
            return types.SimpleNamespace(free_all_blocks=lambda: state.freed.append(1), **sizes)

    class Lt(conftest.StandIn):
        def Matmul(self, handle, desc, *rest):
            described = dict(self.things[desc.value])  # as they are now: a replay has no other

            def again():
                later, self.things[desc.value] = self.things[desc.value], described
                super(Lt, self).Matmul(handle, desc, *rest)
                self.things[desc.value] = later

            again()
            fake.note(again)

    cupy = Cupy("cupy")
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(module, "cupy", lambda: cupy)
    monkeypatch.setattr(product, "_plans", {})
    lt = Lt()
    library = product.Library(lt)
    monkeypatch.setattr(product, "_library", lambda: library)
    monkeypatch.setattr(cudnn, "_plans", {})
    monkeypatch.setattr(cudnn, "_library", lambda: None)
    monkeypatch.setitem(sys.modules["gpunn.device"]._namespaces, fake.ndarray, fake.xp)
    monkeypatch.delenv("GPUNN_FAST", raising=False)
    monkeypatch.setattr("gc.collect", lambda: 0)  # takes long where much is imported
    monkeypatch.setattr(graph, "WARM_UP", 2)  # so that there are graphs soon
    monkeypatch.setattr(graph, "TABLE", 5)
    for cache in (module._module, module._function):
        cache.cache_clear()
    place = gn.Device("cuda:0", fake.xp, fake.device)
    yield types.SimpleNamespace(
        device=place, state=state, launches=emulator.launches, library=library, algorithms=lt.algorithms
    )
    for cache in (module._module, module._function):
        cache.cache_clear()


@pytest.fixture
def dnn(fake_gpu, _stand_ins, monkeypatch):
    """The stand-in for cuDNN on this device."""
    note = _stand_ins[1].note

    class Graph(fake_cudnn.Graph):
        def execute_plan_at_index(self, *args, **kwargs):
            def again():
                super(Graph, self).execute_plan_at_index(*args, **kwargs)

            again()
            note(again)

    stand_in = fake_cudnn.Cudnn()
    monkeypatch.setattr(stand_in, "pygraph", lambda **described: Graph(stand_in, **described))
    library = cudnn.Library(stand_in)
    monkeypatch.setattr(cudnn, "_library", lambda: library)
    return stand_in
