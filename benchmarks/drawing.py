"""How well drawn digits are read, and how soon.

    python -m benchmarks.drawing RUN [RUN ...] [--only accuracy|answer] [--out benchmarks/results/drawing.json]

RUN is the run folder of `gpunn train` or `gpunn train mnist`, or a file that gn.save wrote.

Accuracy: 1,000 images that were held out (all 359 of digits) are cut out and drawn anew on paper of 280 x 280, at a
random size and place, and read as the page reads them; the same is done five times. Answer: the mouse draws loops on
the page in headless Chromium, and the time from each of its moves to the changed answer is taken in the page.
Needs Pillow; for the answer Chromium, chromedriver, selenium, and the extra "web".
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import gpunn as gn
from benchmarks.machine import describe
from gpunn.io.network import load, model_file
from gpunn.web.export import to_html
from gpunn.web.reader import Reader

IMAGES, REPEATS = 1000, 5
MOVES = 300


def redrawn(image, rng, side=280):
    """An image of bytes (h, w) cut out and drawn at a random size and place on paper of side x side."""
    from PIL import Image

    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    ink = Image.fromarray(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    scale = side * rng.uniform(0.35, 1.0) / max(ink.size)
    ink = ink.resize([max(1, round(n * scale)) for n in ink.size], Image.Resampling.BICUBIC)
    paper = Image.new("L", (side, side))
    paper.paste(ink, tuple(int(rng.integers(0, side - n + 1)) for n in ink.size))
    return np.asarray(paper)


def accuracy(net):
    """The share read right of held-out images as they are, and of the same ones drawn anew."""
    reader = Reader(net)
    small = reader.image[0] == 8
    _, test = gn.datasets.digits() if small else gn.datasets.mnist()
    rows = np.random.default_rng(0).permutation(len(test))[:IMAGES]
    images, labels = test.images[rows, :, :, 0], test.y[rows]
    images = np.round(images * 255).astype(np.uint8) if small else images
    clean = images.reshape(len(images), *reader.shape) / 255 * reader.white
    right = []
    for seed in range(REPEATS):
        rng = np.random.default_rng(seed)
        pictures = np.stack([reader.prepare(redrawn(image, rng)) for image in images])
        right.append(share_right(net, pictures.reshape(clean.shape) * reader.white, labels))
    return {
        "images": len(images),
        "clean": share_right(net, clean, labels),
        "redrawn": statistics.mean(right),
        "redrawn_each": right,
    }


def share_right(net, x, labels):
    x = net.store.device.asarray(x, net.store.dtype)
    return float((np.asarray(net(x)).argmax(axis=1) == labels).mean())


# The time from when the browser learned that the mouse had moved to the changed answer. One move at a time, so that it
# is clear which one an answer is for.
WATCH = """
window.times = [];
let moved = 0;
paper.addEventListener(MOVED, (event) => { moved = event.timeStamp; }, {capture: true});
new MutationObserver(() => {
  if (moved) times.push(performance.now() - moved);
  moved = 0;
}).observe(document.getElementById("bars"), {subtree: true, childList: true, attributes: true, characterData: true});
"""


def answer_times(page):
    """Milliseconds from the mouse to the answer while loops are drawn."""
    page.js(WATCH)
    for start in range(0, MOVES, 60):
        angles = np.linspace(0, 4 * np.pi, 61)
        points = [(140 + (40 + 5 * a) * np.cos(a), 140 + (40 + 5 * a) * np.sin(a)) for a in angles]
        page.mouse("mousePressed", *points[0])
        page.settled()
        for point in points[1 : 1 + MOVES - start]:
            page.mouse("mouseMoved", *point)
            page.settled()
        page.mouse("mouseReleased", *point)
        page.clear()
    times = page.js("return times")
    return {
        "answers": len(times),
        "median_ms": round(statistics.median(times), 2),
        "p95_ms": round(float(np.quantile(times, 0.95)), 2),
        "max_ms": round(max(times), 2),
    }


def answers(run):
    """How soon the page answers, with a server and without."""
    from tests.web.conftest import Page, chromium

    with tempfile.TemporaryDirectory() as folder:
        to_html(load(model_file(run)), Path(folder) / "page.html")
        command = [sys.executable, "-m", "gpunn", "draw", run, "--port", "0", "--no-browser"]
        driver = chromium(Path(folder) / "chromium")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                served = re.search(r"http://\S+", server.stdout.readline())[0]
                exported = (Path(folder) / "page.html").as_uri()
                return {
                    "chromium": driver.capabilities["browserVersion"],
                    "served": answer_times(Page(driver, served)),
                    "exported": answer_times(Page(driver, exported)),
                }
            finally:
                driver.quit()
                server.terminate()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--only", choices=("accuracy", "answer"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = json.loads(options.out.read_text())["networks"] if options.out and options.out.exists() else {}
    for run in options.runs:
        net = load(model_file(run))
        layers = [type(layer).__name__ for layer in net.children().values()]
        parameters = sum(param.size for param in net.params().values())
        row = results.setdefault(Path(run).stem, {"layers": layers, "parameters": parameters})
        if options.only != "answer":
            row["accuracy"] = accuracy(net)
        if options.only != "accuracy":
            row["answer"] = answers(run)
        print(Path(run).stem, json.dumps({key: row[key] for key in ("accuracy", "answer") if key in row}, indent=2))
    if options.out:
        options.out.write_text(json.dumps({**describe(), "networks": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
