"""Chapters 1 to 3 of Nielsen's "Neural Networks and Deep Learning", each step of the story a few lines.

    python examples/nielsen.py [epochs] [images]

1. A network of sigmoid neurons with a quadratic cost learns to read digits.
2. A neuron that is surely wrong learns slowly with the quadratic cost, and fast with the cross-entropy.
3. With the cross-entropy, smaller initial weights and L2 regularisation the same network does better.

MNIST is downloaded once, or taken from the folder in GPUNN_DATA_DIR. `gpunn reproduce` has the book's own results.
"""

import sys

import numpy as np

import gpunn as gn


def one_neuron(loss, steps=150):
    """Chapter 3's toy: a neuron with w = b = 2 is to turn 1 into 0, at eta 0.15; its output before each step."""
    net = gn.Sequential(gn.Linear(1, 1, init=gn.init.Constant(2.0), bias_init=gn.init.Constant(2.0)), output="sigmoid")
    trainer = gn.Trainer(net, loss, gn.SGD(0.15), device="cpu", dtype="float64")
    outputs = []
    for _ in range(steps):
        outputs.append(float(trainer.predict([[1.0]])[0, 0]))
        trainer.step([[1.0]], [0])
    return outputs


def network(loss, eta, weights, decay=0.0, *, data, epochs):
    """Train a 784-30-10 network of sigmoid neurons; its accuracy on the test images after each epoch."""
    train, test = data
    net = gn.mlp([784, 30, 10], hidden="sigmoid", output="sigmoid", init=weights, bias_init="normal")
    trainer = gn.Trainer(net, loss, gn.SGD(eta, weight_decay=decay / len(train)), device="cpu")
    history = trainer.fit(train, valid=test, epochs=epochs, batch_size=10)
    return history["valid_accuracy"]


def main(epochs=5, images=50_000):
    train, test = gn.datasets.mnist()
    data = train[:images], test
    lam = 5.0 * images / 50_000  # lambda, in proportion to the number of images
    stories = {
        "chapter 1: quadratic cost, weights N(0, 1), eta 3.0": (gn.Quadratic(), 3.0, "normal"),
        "chapter 3: cross-entropy, eta 0.5": (gn.SigmoidCrossEntropy(), 0.5, "normal"),
        "           and weights N(0, 1/n_in)": (gn.SigmoidCrossEntropy(), 0.5, "lecun"),
        f"           and L2 regularisation, lambda {lam:g}": (gn.SigmoidCrossEntropy(), 0.5, "lecun", lam),
    }
    quadratic, cross = one_neuron(gn.Quadratic()), one_neuron(gn.SigmoidCrossEntropy())
    print("The output of a neuron that begins with 0.98 where 0 is right, after 0, 50, 100 and 149 steps:")
    print("  quadratic cost ", np.round(quadratic[::50] + quadratic[-1:], 2))
    print("  cross-entropy  ", np.round(cross[::50] + cross[-1:], 2))
    results = {}
    for name, setting in stories.items():
        results[name] = network(*setting, data=data, epochs=epochs)
        print(f"{name:<52} {max(results[name]):.2%}", flush=True)
    return quadratic, cross, results


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
