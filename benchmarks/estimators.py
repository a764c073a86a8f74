"""gpunn's MLP estimators beside scikit-learn's, with the same settings, on ten data sets that ship with scikit-learn.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/estimators.py [--out FILE.json]

Six are scikit-learn's own, four ask another question of the same real data (see DATA). For each of five seeds a quarter
of the rows is held out, inputs and numbers to predict are standardised, and both estimators are fitted in turn with
their defaults but max_iter=1000. The score is the accuracy, or R^2, on the rows held out; seconds are
of the processor, so that other programs do not count.
"""

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from datetime import date
from pathlib import Path

import numpy as np
import sklearn
from foundation import processor
from sklearn import datasets, neural_network
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import gpunn as gn
from gpunn.environment import blas, versions

SETTINGS = {"max_iter": 1000}
SEEDS = range(5)


def patches():
    """Which of scikit-learn's two photographs, the temple or the flower, a patch of 5 x 5 pixels is from."""
    rng, x, y = np.random.default_rng(0), [], []
    for label, image in enumerate(datasets.load_sample_images().images):
        for i, j in rng.integers(0, np.array(image.shape[:2]) - 5, (1000, 2)):
            x.append(image[i : i + 5, j : j + 5].reshape(-1) / 255.0)
            y.append(label)
    return np.array(x), np.array(y)


def own(name):
    return lambda: getattr(datasets, f"load_{name}")(return_X_y=True)


def odd_digits():
    x, y = own("digits")()
    return x, y % 2


def lower_half():
    x, _ = own("digits")()
    images = x.reshape(-1, 8, 8)
    return x[:, :32], images[:, 4:, 2:6].reshape(-1, 16)  # the outer columns hardly vary


def alcohol():
    x, _ = own("wine")()
    return x[:, 1:], x[:, 0]


DATA = {  # name: (what is asked, how it is loaded)
    "iris": ("3 classes", own("iris")),
    "wine": ("3 classes", own("wine")),
    "breast_cancer": ("2 classes", own("breast_cancer")),
    "digits": ("10 classes", own("digits")),
    "diabetes": ("a number", own("diabetes")),
    "linnerud": ("3 numbers, of 20 rows", own("linnerud")),
    "digits, odd or even": ("2 classes", odd_digits),
    "digits, the lower half": ("16 of its pixels, from the upper half", lower_half),
    "wine, its alcohol": ("a number", alcohol),
    "photographs": ("2 classes, of 5 x 5 pixels", patches),
}


def measure(x, y, seed):
    """{library: (score, seconds, epochs)} on one split, the two in turn."""
    regression = y.dtype.kind == "f"
    kind = "MLPRegressor" if regression else "MLPClassifier"
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=0.25, random_state=seed, stratify=None if regression else y
    )
    found = {}
    libraries = {"scikit-learn": neural_network, "gpunn": gn}
    for library in sorted(libraries, reverse=bool(seed % 2)):
        mine = {"device": "cpu"} if library == "gpunn" else {}
        estimator = getattr(libraries[library], kind)(random_state=seed, **SETTINGS, **mine)
        if regression:
            estimator = TransformedTargetRegressor(estimator, transformer=StandardScaler())
        pipeline = make_pipeline(StandardScaler(), estimator)
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of 1000 epochs that do not suffice
            pipeline.fit(x_train, y_train)
        seconds = time.process_time() - start
        fitted = pipeline[-1].regressor_ if regression else pipeline[-1]
        found[library] = (pipeline.score(x_test, y_test), seconds, fitted.n_iter_)
    return found


def summary(runs):
    """The mean of each figure and the standard deviation of the score, for both libraries, and for the difference."""
    row = {}
    for library in ("gpunn", "scikit-learn"):
        scores, seconds, epochs = zip(*(run[library] for run in runs), strict=True)
        row[library] = {
            "score": statistics.mean(scores),
            "score_sd": statistics.stdev(scores),
            "seconds": statistics.mean(seconds),
            "epochs": statistics.mean(epochs),
            "scores": scores,
        }
    differences = [a - b for a, b in zip(row["gpunn"]["scores"], row["scikit-learn"]["scores"], strict=True)]
    row["difference"] = {"mean": statistics.mean(differences), "sd": statistics.stdev(differences)}
    return row


def table(results):
    lines = [
        "| data | rows x features | asked | gpunn | scikit-learn | gpunn, s (epochs) | scikit-learn, s (epochs) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in results.items():
        cells = [name, f"{row['rows']:,} x {row['features']}", row["asked"]]
        cells += [f"{row[k]['score']:.4f} ({row[k]['score_sd']:.4f})" for k in ("gpunn", "scikit-learn")]
        cells += [f"{row[k]['seconds']:.2f} ({row[k]['epochs']:.0f})" for k in ("gpunn", "scikit-learn")]
        lines.append(f"| {' | '.join(cells)} |")
    for what, regression in (("accuracy", False), ("R^2", True)):
        rows = [row for row in results.values() if row["regression"] == regression]
        means = [f"{statistics.mean(row[k]['score'] for row in rows):.4f}" for k in ("gpunn", "scikit-learn")]
        times = [f"{sum(row[k]['seconds'] for row in rows):.2f}" for k in ("gpunn", "scikit-learn")]
        lines.append(f"| {' | '.join(['mean ' + what, '', '', *means, *times])} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the figures to this file, and the table beside it as .md")
    arguments = parser.parse_args()
    results = {}
    for name, (asked, load) in DATA.items():
        x, y = load()
        row = summary([measure(x, y, seed) for seed in SEEDS])
        results[name] = {
            "asked": asked,
            "rows": x.shape[0],
            "features": x.shape[1],
            "regression": y.dtype.kind == "f",
            **row,
        }
    print(table(results))
    if arguments.out:
        about = {
            "date": date.today().isoformat(),
            "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.platform()},
            "versions": {**versions(), "scikit-learn": sklearn.__version__},
            "blas": blas(),
            "settings": SETTINGS,
        }
        arguments.out.write_text(json.dumps({**about, "data": results}, indent=2) + "\n")
        arguments.out.with_suffix(".md").write_text(table(results) + "\n")


if __name__ == "__main__":
    main()
