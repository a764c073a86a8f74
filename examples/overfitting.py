"""Overfitting and its cures: a large network, few images, and what helps.

    python examples/overfitting.py [epochs] [seeds]

1,000 images of MNIST and a network of 225,000 weights: it learns every training image by heart, and does worse on new
ones. Each cure takes away some of that freedom, or gives more to learn from. Printed are the accuracies on the images
it was trained on, unchanged, and on the test images: means over the seeds. MNIST is downloaded once, or taken from the
folder in GPUNN_DATA_DIR.

Not every cure suits every case: in a run with the defaults, more images, moved ones among them, raised the accuracy on
new ones by about 5 points, noise and label smoothing by about 1.5. The other four, each by itself, changed it by 0.6 or
less, and none raised it.
"""

import sys

import numpy as np

import gpunn as gn

CURES = {
    "nothing": {},
    "L2, weight decay 0.001": {"decay": 0.001},
    "dropout 0.5": {"dropout": 0.5},
    "noise on the inputs": {"noise": 0.3},
    "label smoothing 0.1": {"smoothing": 0.1},
    "stopping early": {"patience": 5},
    "no weights longer than 1": {"max_norm": 1.0},
    "images moved and turned": {"augment": gn.data.RandomAffine(shift=2.0, rotate=10.0, scale=0.1)},
    "dropout and moved images": {"dropout": 0.3, "augment": gn.data.RandomAffine(shift=2.0, rotate=10.0, scale=0.1)},
    "five times the images": {"images": 5_000},
}


def run(
    data,
    seed,
    epochs,
    *,
    decay=0.0,
    dropout=0.0,
    noise=0.0,
    smoothing=0.0,
    patience=None,
    max_norm=None,
    augment=(),
    images=1_000,
):
    train, valid, test = data[0][:images], data[0][50_000:], data[1]
    net = gn.Sequential(
        gn.GaussianNoise(noise),
        gn.Linear(784, 256),
        gn.ReLU(),
        gn.Dropout(dropout),
        gn.Linear(256, 90),
        gn.ReLU(),
        gn.Dropout(dropout),
        gn.Linear(90, 10, init="xavier"),
        output="softmax",
    )
    loss = gn.SoftmaxCrossEntropy(label_smoothing=smoothing)
    trainer = gn.Trainer(net, loss, gn.Adam(1e-3, weight_decay=decay), device="cpu", seed=seed)
    trainer.fit(
        train,
        valid=valid if patience else None,
        epochs=epochs,
        batch_size=20,
        patience=patience,
        restore_best=bool(patience),
        augment=augment,
        callbacks=gn.MaxNorm(max_norm) if max_norm else (),
    )
    return trainer.evaluate(train)["accuracy"], trainer.evaluate(test)["accuracy"]


def main(epochs=60, seeds=3, cures=CURES):
    data = gn.datasets.mnist()
    print(f"{'':<26} {'training':>9} {'test':>9}")
    results = {}
    for name, options in cures.items():
        results[name] = np.mean([run(data, seed, epochs, **options) for seed in range(seeds)], axis=0)
        print(f"{name:<26} {results[name][0]:9.2%} {results[name][1]:9.2%}", flush=True)
    return results


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
