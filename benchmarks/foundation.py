"""What the foundation costs: importing it, one small step, one optimiser update, a training run.

    python benchmarks/foundation.py [--out FILE.json]

Every figure is the median of several rounds; each pair that is compared is measured in alternating rounds of one run.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np

import gpunn as gn
from gpunn.environment import blas, versions
from gpunn.train.config import Config
from gpunn.train.recipe import load_data, make_network, make_trainer


def seconds(f, number=1):
    start = time.perf_counter()
    for _ in range(number):
        f()
    return (time.perf_counter() - start) / number


def alternating(*functions, rounds, number=1):
    """The median time of each function, over rounds in which all take their turn."""
    times = [[seconds(f, number) for f in functions] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def import_time():
    """Seconds that `import gpunn` takes beyond `import numpy`, in processes of their own."""

    def importing(what):
        return lambda: subprocess.run([sys.executable, "-c", f"import {what}"], check=True)

    importing("gpunn")()
    numpy, gpunn = alternating(importing("numpy"), importing("gpunn"), rounds=15)
    return {"numpy_s": numpy, "gpunn_s": gpunn, "beyond_numpy_s": gpunn - numpy}


def small_step():
    """One step of a 784-30-10 network of sigmoids on a batch of 10, SGD; beside it the same step in bare NumPy."""
    rng = np.random.default_rng(0)
    x, labels = rng.random((10, 784), dtype=np.float32), rng.integers(0, 10, 10)
    y = np.eye(10, dtype=np.float32)[labels]
    net = gn.mlp([784, 30, 10], hidden="sigmoid", output="sigmoid")
    trainer = gn.Trainer(net, gn.SigmoidCrossEntropy(), gn.SGD(0.5), device="cpu")
    W1, b1, W2, b2 = (np.array(a) for a in net.state_dict().values())

    def bare():
        nonlocal W1, b1, W2, b2
        a1 = 1 / (1 + np.exp(-(x @ W1 + b1)))
        a2 = 1 / (1 + np.exp(-(a1 @ W2 + b2)))
        d2 = (a2 - y) / 10
        d1 = (d2 @ W2.T) * a1 * (1 - a1)
        W2 -= 0.5 * (a1.T @ d2)
        b2 -= 0.5 * d2.sum(axis=0)
        W1 -= 0.5 * (x.T @ d1)
        b1 -= 0.5 * d1.sum(axis=0)

    step, plain = alternating(lambda: trainer.step(x, labels), bare, rounds=30, number=500)
    return {"gpunn_us": 1e6 * step, "bare_numpy_without_the_loss_us": 1e6 * plain}


def adam_update():
    """Adam over 5.8 million parameters: the reference op, and its twin in blocks that fit in the cache."""
    arrays = [np.ones(5_800_000, dtype=np.float32) for _ in range(4)]
    constants = {"eta": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "t": 10}
    twin, reference = alternating(
        lambda: gn.ops.adam(*arrays, **constants), lambda: gn.ops.adam.reference(*arrays, **constants), rounds=15
    )
    return {"twin_ms": 1e3 * twin, "reference_ms": 1e3 * reference}


def training(data, seeds):
    """`gpunn train DATA` with its defaults: test accuracy and seconds of training for each seed."""
    runs = []
    for seed in seeds:
        config = Config.of({"data": data, "seed": seed, "device": "cpu"})
        everything, test = load_data(config)
        train, valid = everything.split(config.valid, seed)
        trainer = make_trainer(config, make_network(config, train), train, gn.device("cpu"))
        took = seconds(
            lambda t=trainer, tr=train, v=valid, c=config: t.fit(tr, valid=v, epochs=c.epochs, batch_size=c.batch_size)
        )
        runs.append({"seed": seed, "test_accuracy": trainer.evaluate(test)["accuracy"], "seconds": took})
    return runs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the figures to this file, too")
    arguments = parser.parse_args()
    results = {
        "date": date.today().isoformat(),
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": versions(),
        "blas": blas(),
        "import": import_time(),
        "step_784_30_10_batch_10": small_step(),
        "adam_5.8M": adam_update(),
        "train_digits": training("digits", range(5)),
    }
    if os.environ.get("GPUNN_DATA_DIR"):
        results["train_mnist"] = training("mnist", range(3))
    text = json.dumps(results, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


if __name__ == "__main__":
    main()
