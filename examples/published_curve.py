"""A published training curve, recomputed to the last digit.

Michael Nielsen published the numbers behind the overfitting figure of chapter 3 of "Neural Networks and Deep
Learning": a 784-30-10 network of sigmoid neurons, trained for 400 epochs on the first 1,000 images of MNIST with the
cross-entropy cost. His program drew its random numbers with Python 2 and NumPy of its day. Here the same weights and
the same batches go through gpunn, in float64, and the same numbers come out.

    python examples/published_curve.py [epochs]

GPUNN_DATA_DIR names the folder with mnist/ and nielsen/overfitting.json, which is fig/overfitting.json of
https://github.com/mnielsen/neural-networks-and-deep-learning (four lists of 400: test cost, test images right of
10,000, training cost, training images right of 1,000).
"""

import json
import os
import random
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

import gpunn as gn

SIZES = [784, 30, 10]


def first_weights():
    """Weights N(0, 1) as his program drew them: all biases, then all weights, each (n_out, n_in)."""
    np.random.seed(12345678)
    for _ in range(2):  # once by default, then again for "large weights", which replace the first
        biases = [np.random.randn(n, 1) for n in SIZES[1:]]
        weights = [np.random.randn(n_out, n_in) for n_in, n_out in pairwise(SIZES)]
    return {f"linear{i + 1}.W": W.T for i, W in enumerate(weights)} | {
        f"linear{i + 1}.b": b[:, 0] for i, b in enumerate(biases)
    }


def shuffle_like_python2(order):
    for i in reversed(range(1, len(order))):
        j = int(random.random() * (i + 1))
        order[i], order[j] = order[j], order[i]


def run(epochs=400, device="cpu"):
    """A list of (test cost, test right, training cost, training right), one for each epoch."""
    train, test = gn.datasets.mnist()
    # 256, not 255, and rounded to float32 first, as in the book's data file
    x, xt = (np.float64(np.float32(part.x) / np.float32(256)) for part in (train[:1000], test))
    y, yt = train.y[:1000], test.y

    net = gn.mlp(SIZES, hidden="sigmoid", output="sigmoid").init(device=device, dtype="float64")
    net.load_state_dict(first_weights())
    trainer = gn.Trainer(net, loss=gn.SigmoidCrossEntropy(), optimizer=gn.SGD(0.5), device=device)

    random.seed(12345678)
    order = list(range(1000))  # stays shuffled from one epoch to the next
    rows = []
    for _ in range(epochs):
        shuffle_like_python2(order)
        for k in range(0, 1000, 10):
            trainer.step(x[order[k : k + 10]], y[order[k : k + 10]])
        on_test, on_train = trainer.evaluate((xt, yt)), trainer.evaluate((x, y))
        rows.append(
            (on_test["loss"], round(10_000 * on_test["accuracy"]), on_train["loss"], round(1000 * on_train["accuracy"]))
        )
    return rows


def published():
    path = Path(os.environ.get("GPUNN_DATA_DIR", "")) / "nielsen" / "overfitting.json"
    if not path.is_file():
        sys.exit(f"{path}: there is no such file; the first lines of this program say where it is from")
    return list(zip(*json.loads(path.read_text()), strict=True))


def main():
    epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    theirs, ours = published()[:epochs], run(epochs)
    print(f"{'epoch':>5}  {'test cost':>18}  {'published':>18}  {'right':>5}  {'published':>9}")
    for epoch in sorted({0, 1, *range(9, epochs, max(epochs // 10, 1)), epochs - 1} & set(range(epochs))):
        a, b = ours[epoch], theirs[epoch]
        print(f"{epoch + 1:>5}  {a[0]:>18.15f}  {b[0]:>18.15f}  {a[1]:>5}  {b[1]:>9}")
    counts = sum(a[1] == b[1] and a[3] == b[3] for a, b in zip(ours, theirs, strict=True))
    costs = max(abs(a[i] - b[i]) for a, b in zip(ours, theirs, strict=True) for i in (0, 2))
    print(f"{counts} of {epochs} epochs with both counts equal; largest difference between costs {costs:.1e}")


if __name__ == "__main__":
    main()
