import dataclasses
import importlib.util
import json
import math
import os

import pytest

import benchmarks.__main__ as command
import gpunn as gn
from benchmarks import cost, drawing, machine, scaling
from benchmarks.peers import PEERS, Peer
from benchmarks.plots import crossing, draw
from benchmarks.process import ROOT, Gone, Process
from benchmarks.report import report
from benchmarks.rounds import deviations, measure
from benchmarks.workloads import CHECKED, SECTIONS, Workload, floor

TINY = Workload("mlp", (20, 8, 6, 5), 4)
SIGMOID = Workload("mlp", (20, 8, 5), 4, hidden="sigmoid", optimizer="sgd", lr=0.5)
CNN = Workload("cnn", (9216, 16, 10), 2)
OURS = {name: PEERS[name] for name in ("gpunn", "numpy")}


def short(workload, peers, **more):
    return measure(workload, peers, rounds=2, turn=0.001, **more)


@pytest.fixture
def made_up(tmp_path):
    """Makes a peer whose module has the text that is given."""

    def make(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        path = os.pathsep.join([str(ROOT), str(tmp_path)])
        return Peer(name, name, "pass", (), environment={"PYTHONPATH": path})

    return make


# --- what is measured


def test_products_are_counted_as_they_are_done():
    w = SECTIONS["mlp"][0]
    parameters = 784 * 128 + 128 * 10
    assert w.flops == 6 * 32 * parameters
    assert w.flops_needed == w.flops - 2 * 32 * 784 * 128
    assert Workload("mlp", (784, 128, 10), 32, "infer").flops_needed == 2 * 32 * parameters
    forward = [26 * 26 * 9 * 32, 24 * 24 * 9 * 32 * 64, 9216 * 128, 128 * 10]
    w = SECTIONS["cnn"][0]
    assert w.flops == 3 * 64 * 2 * sum(forward)
    assert w.flops_needed == 64 * 2 * (3 * sum(forward) - forward[0])


def test_the_floor_is_that_of_the_products_or_of_the_memory():
    w = SECTIONS["mlp"][-1]  # 784-30-10, batch 10, SGD
    weights = 784 * 30 + 300
    fast = {"product_flops": 1e30, "bfloat16_flops": 1e30, "copy_bytes": 1.0}
    assert floor(w, fast) == 4 * (6 * weights + 10 * (5 * 40 + 2 * 784))
    assert floor(w, {"product_flops": 1.0, "copy_bytes": 1e30}) == 10 * (4 * 784 * 30 + 6 * 300)
    narrow = dataclasses.replace(w, precision="bfloat16")
    assert floor(narrow, fast) == (6 + 4 * 4) * weights + 2 * 10 * (5 * 40 + 2 * 784)
    assert floor(dataclasses.replace(w, precision="tf32"), fast) == floor(w, fast)  # its rate is not known


def test_each_precision_is_a_section_for_gpus():
    for precision in ("tf32", "bfloat16"):
        rows = SECTIONS[precision]
        assert {w.precision for w in rows} == {precision}
        assert [w.name for w in rows[-2:]] == [
            f"784-1024-1024-10 in {precision}, batch {batch}" for batch in ("1,024", "16,384")
        ]
    names = [w.name for workloads in SECTIONS.values() for w in workloads if w.task == "train"]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "w", [TINY, SIGMOID, Workload("mlp", (20, 8, 5), 4, "infer")], ids=lambda w: f"{w.hidden} {w.task}"
)
def test_gpunn_and_plain_numpy_do_the_same_work(w):
    row = short(w, OURS)
    assert row["peers"].keys() == OURS.keys()
    for figures in row["peers"].values():
        assert figures["same_work"]
        assert figures["deviation"] < 1e-5
        assert len(figures["seconds"]) == 2
        assert 0 < figures["q1"] <= figures["median"] <= figures["q3"]
    if w.task == "train":
        losses = row["peers"]["gpunn"]["losses"]
        assert len(losses) == CHECKED
        assert losses[0] != losses[-1]


@pytest.mark.parametrize(
    ("name", "workload"), [("torch", CNN), ("jax", CNN), ("sklearn", TINY)], ids=["torch", "jax", "sklearn"]
)
def test_other_libraries_do_the_same_work(name, workload):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    row = short(workload, {"gpunn": PEERS["gpunn"], name: PEERS[name]})
    assert not row["not_run"]
    assert all(figures["deviation"] < 1e-4 for figures in row["peers"].values())


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_other_libraries_compute_in_bfloat16(name):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    rows = [short(dataclasses.replace(TINY, precision=p), {name: PEERS[name]}) for p in ("float32", "bfloat16")]
    assert not any(row["not_run"] for row in rows)
    exact, near = (row["peers"][name]["losses"] for row in rows)
    assert 1e-5 < max(abs(a - b) / a for a, b in zip(exact, near, strict=True)) < 3e-2


def test_other_losses_are_found_and_not_ranked():
    losses = {"gpunn": [2.0, 1.0], "torch": [2.0, 1.0001], "jax": [2.0, 1.01], "numpy": [2.0, math.nan]}
    found = deviations({name: {"losses": each} for name, each in losses.items() if name != "numpy"})
    assert found["gpunn"] == pytest.approx(1e-4, rel=1e-3)
    assert found["torch"] == 0.0
    assert found["jax"] == pytest.approx(1e-2, rel=2e-2)
    assert deviations({name: {"losses": each} for name, each in losses.items()})["numpy"] == math.inf


# --- peers that are not here, and workers that fail


def test_a_missing_peer_is_skipped_by_name(made_up, capsys):
    row = short(TINY, {"absent": made_up("absent", "import no_such_package"), "numpy": PEERS["numpy"]})
    assert row["skipped"] == ["absent"]
    assert row["not_run"] == {"absent": "No module named 'no_such_package'"}
    assert row["peers"].keys() == {"numpy"}
    assert "absent: skipped: No module named 'no_such_package'" in capsys.readouterr().out


def test_a_crash_is_reported_with_its_last_words_and_the_rest_goes_on(made_up, capsys):
    crash = (
        "import os, sys\ndef build(*a):\n    print('first\\nlast words', file=sys.stderr, flush=True)\n    os._exit(3)"
    )
    wrong = "def build(*a):\n    raise ValueError('not so\\nnor so')"
    late = (
        "import itertools, os, time\nfrom benchmarks.peers import Task\n"
        "def build(*a):\n"
        "    counts = itertools.count()\n"
        "    def call():\n        time.sleep(0.01)\n        return os._exit(4) if next(counts) == 2 else [[0.2]]\n"
        "    return Task(call, list)"
    )
    peers = {name: made_up(name, text) for name, text in {"crash": crash, "wrong": wrong, "late": late}.items()}
    row = short(Workload("mlp", (20, 8, 5), 4, "infer"), peers | {"numpy": PEERS["numpy"]})
    assert row["skipped"] == []
    assert row["not_run"] == {
        "crash": "ended with code 3: last words",
        "wrong": "ValueError: not so",
        "late": "ended with code 4: nothing was said",
    }
    assert len(row["peers"]["numpy"]["seconds"]) == 2
    assert "crash: FAILED: ended with code 3: last words" in capsys.readouterr().out


def test_what_a_library_prints_does_not_come_between_the_answers(made_up):
    chatty = "from benchmarks.peers.plain_numpy import build\nprint('hello')"
    assert "chatty" in short(TINY, {"chatty": made_up("chatty", chatty)})["peers"]


def test_a_worker_that_is_gone_says_so_again():
    with Process(PEERS["numpy"]) as worker:
        worker._process.kill()
        worker._process.wait()
        with pytest.raises(Gone, match=r"ended with code -?\d+: nothing was said"):
            worker.ask("memory")


# --- costs, the machine, sizes


def test_costs_are_measured_where_they_can_be(monkeypatch, capsys):
    peers = {"numpy": PEERS["numpy"], "absent": Peer("absent", "absent", "import no_such_package", ())}
    monkeypatch.setattr(cost, "WORKLOADS", (TINY, CNN))
    found, missing = cost.cost(peers, rounds=1)
    assert missing == {"absent": "`import no_such_package` fails"}
    assert "absent: not measured: `import no_such_package` fails" in capsys.readouterr().out
    assert found.keys() == {"numpy"}
    figures = found["numpy"]
    assert figures["import_s"]["median"] > 0
    assert figures["training"].keys() == {TINY.name}
    assert figures["training"][TINY.name]["peak_bytes"] > 10e6
    assert figures["installed"]["packages"].keys() == {"numpy"}


def test_the_installed_size_has_all_that_is_required():
    found = cost.installed(("gpunn",))
    assert {"gpunn", "numpy", "safetensors", "tqdm"} <= found["packages"].keys()
    assert "pytest" not in found["packages"]
    assert all(size > 1000 for size in found["packages"].values())
    assert found["bytes"] == sum(found["packages"].values()) > 20e6
    with pytest.raises(ImportError, match="no-such-package"):
        cost.installed(("no-such-package",))


def test_pinned_variables_are_warned_of(monkeypatch, capsys):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    assert machine.pinned()["OPENBLAS_CORETYPE"] == "Prescott"
    command.warn()
    assert "WARNING: OPENBLAS_CORETYPE=Prescott is set" in capsys.readouterr().err


def test_growth_faster_than_the_work_is_flagged():
    seconds = [1e-6, 1e-5, 1e-3, 1.4e-3, 3e-3, 3.1e-3]
    points = scaling.flag([{"flops": 10, "median": s} for s in seconds])
    assert [point["flagged"] for point in points] == [False, False, False, False, True, False]


def test_sizes_that_do_not_fit_in_memory_are_left_out(monkeypatch):
    monkeypatch.setattr(scaling, "BATCHES", [1, 2, 4096])
    monkeypatch.setattr(scaling, "WIDTHS", [])
    monkeypatch.setattr(scaling, "free_memory", lambda: 200e6)

    def measured(workload, peers, rounds, turn, say):
        figures = {"median": 1.0, "q1": 1.0, "q3": 1.0}
        return {"peers": dict.fromkeys(peers, figures), "not_run": {}, "skipped": []}

    monkeypatch.setattr(scaling, "measure", measured)
    sweeps, left_out = scaling.scaling(OURS, 1, 0.1, say=lambda line: None)
    assert [(s["axis"], s["task"], s["peer"]) for s in sweeps] == [
        ("batch", task, name) for task in ("train", "infer") for name in OURS
    ]
    assert [point["size"] for point in sweeps[0]["points"]] == [1, 2]
    assert left_out.keys() == {f"{task}: 784-128-10, batch 4,096" for task in ("train", "infer")}


# --- tables and pictures


def figures(median, same_work=True, deviation=1e-6):
    seconds = [median, median, 1.1 * median]
    return {
        "losses": [2.3] * CHECKED,
        "seconds": seconds,
        "median": median,
        "q1": median,
        "q3": 1.05 * median,
        "same_work": same_work,
        "deviation": deviation,
    }


@pytest.fixture
def results():
    """Made-up figures of a whole run, with a GPU."""

    def row(w, peers):
        about = {"sizes": list(w.sizes), "kind": w.kind, "task": w.task, "batch": w.batch}
        return {
            "name": w.name,
            "workload": about,
            "flops": w.flops,
            "flops_needed": w.flops_needed,
            "peers": peers,
            "not_run": {},
            "skipped": [],
        }

    def peers(batch):
        cpu = {name: figures(batch * s) for name, s in (("gpunn-fast", 4e-6), ("gpunn", 6e-6), ("torch", 8e-6))}
        return cpu | {
            "numpy": figures(batch * 1e-6, False, 0.5),
            "gpunn-cuda": figures(1e-3),
            "jax": figures(batch * 5e-6),
        }

    sizes = (784, 128, 10)
    rows = [row(Workload("mlp", sizes, batch), peers(batch)) for batch in (32, 128, 1024)]
    rows.append(row(Workload("mlp", sizes, 1, "infer"), {"gpunn": figures(2e-6), "torch": figures(3e-6)}))
    points = [{"size": n, "batch": n, "flops": 10**6 * n, "median": 1e-4 * n} for n in (1, 2, 4)]
    return {
        "machine": {
            "date": "2026-01-02",
            "processor": "a processor",
            "cores": 2,
            "system": "Linux",
            "versions": {"numpy": "2.0"},
            "environment": {"OPENBLAS_CORETYPE": "Prescott"},
            "load": 3.0,
        },
        "settings": {"rounds": 3},
        "rates": {"cpu": {"product_flops": 4e11, "copy_bytes": 2e10, "threads": {"openblas": ["0.3", "SkylakeX", 2]}}},
        "rows": rows,
        "sweeps": [{"axis": "batch", "task": "train", "peer": "gpunn", "points": scaling.flag(points)}],
        "cost": {
            "gpunn": {
                "import_s": {"median": 0.25},
                "python_s": {"median": 0.01},
                "installed": {"bytes": 80e6},
                "training": {"CNN": {"first_ever_s": 0.5, "first_s": 0.2, "peak_bytes": 300e6}},
            },
            "sklearn": {"import_s": {"median": 1.0}, "python_s": {"median": 0.01}, "training": {}},
        },
        "skipped": {"jax-cuda": "no device"},
        "failed": {"torch-compile, CNN, batch 64": "no compiler"},
    }


def test_the_table_of_a_run(results, tmp_path, capsys):
    path = tmp_path / "made-up.json"
    path.write_text(json.dumps(results))
    command.main(["--table", str(path)])
    text = capsys.readouterr().out
    assert text == report(results)
    lines = text.splitlines()
    columns = "gpunn + Numba | gpunn | PyTorch eager | JAX jit | plain NumPy"
    ratios = "gpunn + Numba / fastest other | gpunn + Numba / PyTorch eager | gpunn / PyTorch eager"
    assert f"| one training step, or inference | {columns} | {ratios} |" in lines
    assert (
        "| 784-128-10, batch 128 | **512 µs** | 768 µs | 1.02 ms | 640 µs | 128 µs (other work) "
        "| 0.80 (0.80 to 0.80) JAX jit | 0.50 (0.50 to 0.50) | 0.75 (0.75 to 0.75) |"
    ) in lines
    assert (
        "| inference: 784-128-10, batch 1 | - | **2.00 µs** | 3.00 µs | - | - | - | - | 0.67 (0.67 to 0.67) |" in lines
    )
    assert "| 784-128-10, batch 1,024 | **1.00 ms** | - |" in text  # the GPU's table
    assert "plain NumPy in 784-128-10, batch 32 (5e-01 off)" in text
    assert "| 784-128-10, batch 128 | 0.0781 | 0.0524 | 25.6 % |" in text
    assert "| gpunn | 250 ms | 80 MB | 500 ms | 200 ms | 300 MB |" in lines
    assert "| scikit-learn | 1.00 s | - | - | - | - |" in lines
    assert "| 4 | 400 µs | 100 µs | 2.5 % |  |" in lines
    assert "- jax-cuda: no device" in lines
    assert "- torch-compile, CNN, batch 64: no compiler" in lines
    assert "BLAS kernel of NumPy: SkylakeX." in lines
    assert "**Measured with OPENBLAS_CORETYPE=Prescott" in text
    assert "a load of 3.0" in text


def test_the_table_of_a_gpu_has_its_precisions_and_a_floor(results):
    w = Workload("mlp", (784, 128, 10), 128, precision="bfloat16")
    of_w = {"name": w.name, "workload": dataclasses.asdict(w), "peers": {"gpunn-cuda": figures(1e-4)}}
    results["rows"].append(results["rows"][1] | of_w)
    rates = {"product_flops": 5e13, "bfloat16_flops": 1e12, "copy_bytes": 4e12, "to_bytes": 2e10, "from_bytes": 1e10}
    results["rates"]["cuda"] = {"name": "some GPU"} | rates
    text = report(results)
    assert "The GPU (some GPU) multiplies matrices of float32 at 50,000 GFLOP/s and copies 4,000.0 GB/s" in text
    assert "It multiplies at 1,000 GFLOP/s in bfloat16.\nTo it go 20.0 GB/s, from it 10.0." in text
    assert "| gpunn, CUDA / floor |" in text
    assert "| 784-128-10 in bfloat16, batch 128 | **100 µs** | - | 1.91 |" in text  # 52.4 MFLOP needed
    assert "| 784-128-10 in bfloat16, batch 128 | 0.0781 | 0.0524 | 52.4 % | 78.1 % |" in text


def test_where_the_gpu_draws_level():
    x, note = crossing([1, 4, 16], [1.0, 2.0, 8.0], [4.0, 4.0, 4.0])
    assert x == pytest.approx(8.0)
    assert note == "faster from 8 on"
    assert crossing([1, 4], [2.0, 3.0], [1.0, 1.0]) == (None, "faster from 1 on, or below")
    assert crossing([1, 4], [1.0, 1.0], [2.0, 2.0]) == (None, "not faster up to 4")


def test_the_plots_are_drawn(results, tmp_path):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    drawn = draw(results, tmp_path)
    assert [path.name for path in drawn] == ["steps.png", "scaling-cpu-gpu.png", "share.png", "scaling.png"]
    for path in drawn:
        with image.open(path) as picture:
            assert picture.size[0] > 400
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 10
    assert draw({"rows": [], "rates": {}}, tmp_path) == []


# --- the command


def test_a_whole_run_writes_its_files(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, "SECTIONS", {"mlp": [TINY]})
    monkeypatch.setattr(
        command, "rates", lambda device: {"product_flops": 1e9, "copy_bytes": 1e9} if device == "cpu" else {}
    )
    monkeypatch.setattr(command, "draw", lambda results, folder: [])
    arguments = ["--only", "mlp", "--peers", "numpy,gpunn,gpunn-cuda", "--device", "cpu", "--quick"]
    command.main([*arguments, "--out", str(tmp_path)])
    written = json.loads((tmp_path / "suite.json").read_text())
    assert written["rows"][0]["peers"].keys() == {"numpy", "gpunn"}
    assert written["machine"]["versions"]["numpy"]
    assert written["settings"]["rounds"] == 3
    assert (tmp_path / "suite.md").read_text() == report(written)
    assert not (tmp_path / "scaling.json").exists()
    with pytest.raises(SystemExit):
        command.main(["--only", "mpl"])
    assert "'mpl' is not known; expected some of mlp,cnn" in capsys.readouterr().err


# --- drawings


def test_digits_drawn_anew_are_read(monkeypatch):
    pytest.importorskip("PIL")
    monkeypatch.setattr(drawing, "REPEATS", 1)
    train, _ = gn.datasets.digits()
    net = gn.mlp([64, 64, 10], output="softmax")
    gn.Trainer(net, optimizer=gn.Adam(3e-3), device="cpu").fit(train, epochs=10, batch_size=32, verbose=False)
    net.about = {"classes": list("0123456789"), "image_shape": [8, 8, 1], "box": 8}
    found = drawing.accuracy(net)
    assert found["images"] == 359
    assert found["clean"] > 0.95
    assert found["clean"] - 0.04 < found["redrawn"] < 1.0
