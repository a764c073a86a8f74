import functools

import numpy as np
import pytest

from gpunn import bench, machine


@pytest.fixture(autouse=True)
def _no_time(monkeypatch):
    monkeypatch.setattr(bench, "rates", functools.partial(machine.rates, size=16))


@pytest.mark.parametrize(
    ("name", "flops"),
    [
        ("7-5", 4 * 35),
        ("7-5-3", 4 * 35 + 6 * 15),
        ("784-512-512-10", 4 * 784 * 512 + 6 * (512 * 512 + 5120)),
        ("cnn", 4 * 26 * 26 * 9 * 32 + 6 * (24 * 24 * 9 * 32 * 64 + 9216 * 128 + 1280)),
    ],
)
def test_flops_are_those_of_the_products(name, flops):
    assert bench._flops(bench._network(name)[0]) == flops


def test_rows_are_measured_on_every_device(backend):
    lines = []
    found = bench.bench(["5-4-3", "cnn"], [2], device=backend.device, seconds=1e-3, say=lines.append)
    assert found["device"] == backend.device.name
    assert [row["network"] for row in found["rows"]] == ["5-4-3", "cnn"]
    for row in found["rows"]:
        low, middle, high = row["step_s"]
        assert 0.0 < low <= middle <= high
        assert row["first_s"] > 0.0
        assert row["share"] == row["flops"] / middle / found["rates"]["product_flops"]
    assert found["rows"][0]["flops"] == 2 * (4 * 20 + 6 * 12)


def test_what_is_measured_without_a_name(monkeypatch):
    monkeypatch.setattr(bench, "_measure", lambda *_: (1.0, [1.0, 2.0, 3.0]))
    monkeypatch.setattr(bench, "Trainer", lambda *args, **more: None)
    lines = []
    found = bench.bench(device="cpu", say=lines.append)
    three = (32, 128, 1024)
    assert [(row["network"], row["batch"]) for row in found["rows"]] == [
        ("784-30-10", 10),
        *(("784-128-10", n) for n in three),
        *(("784-512-512-10", n) for n in three),
        *(("784-2048-2048-10", n) for n in three),
        ("cnn", 64),
    ]
    assert lines[3].split()[:9] == ["784-30-10", "10", "1.00", "s", "2.00", "s", "1.00", "s", "to"]


def test_the_first_step_and_the_quartiles_of_the_others(monkeypatch):
    clock = iter(np.cumsum([0, 7, 0, 1, 0, 0, 1, 0, 0, 2, 0, 0, 3, 0, 0, 4, 0, 0, 5, 100]))
    monkeypatch.setattr(bench.time, "perf_counter", lambda: float(next(clock)))
    trainer = type("", (), {"step": lambda *_: None, "device": machine.find_device("cpu")})()
    assert bench._measure(trainer, None, None, 16.0) == (7.0, [2.0, 3.0, 4.0])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (4.2e-7, "0.42 µs"),
        (9.994e-6, "9.99 µs"),
        (8.91e-5, "89.1 µs"),
        (9.994e-4, "999 µs"),
        (9.996e-4, "1.00 ms"),
        (0.123, "123 ms"),
        (12.34, "12.3 s"),
        (1234.0, "1234 s"),
    ],
)
def test_times_have_three_digits(seconds, text):
    assert bench._time(seconds) == text
