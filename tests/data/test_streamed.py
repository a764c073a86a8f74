"""Rows that stay on the host, for devices that get them batch by batch; for CUDA see tests/train/test_streaming.py."""

import tracemalloc

import numpy as np
import pytest

import gpunn as gn
from gpunn.data import streamed
from gpunn.data.streamed import Streamed
from gpunn.device import to_host
from gpunn.testing import assert_close

rng = np.random.default_rng(2)


def mapped(folder, x, name="x", order="C"):
    np.save(folder / f"{name}.npy", np.asarray(x, order=order))
    return np.load(folder / f"{name}.npy", mmap_mode="r")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
def test_rows_come_as_they_are_asked_for(backend, tmp_path, order, dtype):
    x = (100 * rng.random((23, 4, 2))).astype(dtype)
    kind = "uint8" if dtype == "uint8" else "float32"
    chosen, shuffled = rng.permutation(23)[:17], rng.permutation(17)
    s, wanted = Streamed(mapped(tmp_path, x, order=order), backend.device, kind), x.astype(kind)
    assert s.shape == (23, 4, 2)
    assert_close(s.rows(20, 8), wanted[20:], like=backend.asarray(wanted))
    s, wanted = s.select(chosen), wanted[chosen]
    assert s.shape == (17, 4, 2)
    assert_close(s.rows(2, 5), wanted[2:7], like=backend.asarray(wanted))
    assert_close(s.rows(15, 5, shuffled), wanted[shuffled][15:], like=backend.asarray(wanted))
    assert_close(s.select(shuffled[:4]).rows(0, 9), wanted[shuffled[:4]], like=backend.asarray(wanted))


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_a_fit_on_a_file_is_that_on_the_array(backend, tmp_path, dtype):
    if not backend.device.on_host:
        pytest.skip("a file that fits is moved to the device as a whole")
    x, y = (255 * rng.random((60, 5))).astype(dtype), rng.integers(0, 3, 60)
    found = []
    for data in (x, y), (mapped(tmp_path, x), mapped(tmp_path, y, "y")):
        trainer = gn.Trainer(gn.mlp([5, 4, 3]), device=backend.device)
        history = trainer.fit(data, valid=0.2, epochs=2, batch_size=8)
        figures = [row["loss"] for row in history.rows] + [row["valid_loss"] for row in history.rows]
        found.append((figures, trainer.evaluate(data), to_host(trainer.predict(data[0])).tolist()))
    assert found[0] == found[1]


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_file_is_not_copied_into_the_memory(tmp_path, order, monkeypatch):
    monkeypatch.setattr(streamed, "CHUNK", 1 << 20)  # a part that is looked at for gaps
    x = mapped(tmp_path, np.zeros((100_000, 50)), order=order)  # 40 MB, and 20 as float32
    y = np.zeros(100_000, int)
    trainer = gn.Trainer(gn.mlp([50, 3]), device="cpu")
    trainer.fit((x[:100], y[:100]), valid=0.1, epochs=1)  # what is imported at the first use is no copy
    tracemalloc.start()
    try:
        trainer.fit((x, y), valid=0.1, epochs=1, batch_size=1000)
        trainer.evaluate((x, y))
        trainer.predict(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8e6  # labels and orders of rows
