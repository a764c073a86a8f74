"""Two moons, and how a network learns to tell them apart: a film of its decision boundary, epoch by epoch.

    python examples/decision_boundary.py [film.gif]

Each point belongs to one of two interleaving half circles. No straight line parts them; the hidden layers bend one
until it does. The film shows the plane in the colours of the answers after every second epoch. Needs matplotlib, the
extra "plot".
"""

import sys

import numpy as np

import gpunn as gn


def moons(n, noise=0.15, seed=0):
    """n points of two half circles, each with the number of its circle."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    angle = np.pi * rng.random(n)
    x = np.where(y, 1 - np.cos(angle), np.cos(angle)), np.where(y, 0.5 - np.sin(angle), np.sin(angle))
    return np.stack(x, axis=1) + noise * rng.standard_normal((n, 2)), y


def main(path="moons.gif", epochs=60):
    x, y = moons(400)
    net = gn.mlp([2, 16, 16, 1], hidden="tanh", output="sigmoid")
    trainer = gn.Trainer(net, gn.SigmoidCrossEntropy(), gn.Adam(0.01), device="cpu", seed=0)
    film = gn.plot.BoundaryFilm(x, y, every=2, classes=["upper moon", "lower moon"], names=["x", "y"])
    trainer.fit((x, y), epochs=epochs, batch_size=32, callbacks=film)
    film.save(path)
    right = np.mean((trainer.predict(x)[:, 0] > 0.5) == y)
    print(f"{right:.1%} of the points are on the right side; the film is in {path}")
    return right


if __name__ == "__main__":
    main(*sys.argv[1:2])
