"""One neuron can learn AND, but not XOR; two layers can.

    python examples/perceptron_and_xor.py

Rosenblatt's perceptron (1958) moves its line towards every example it gets wrong. For AND there is a line that parts 1
from 0, and it is found. For XOR there is none (Minsky and Papert, 1969), and the perceptron goes round for ever. With a
hidden layer, and gradients to train it, XOR is easy: each hidden neuron draws a line, and the output combines them.
"""

import numpy as np

import gpunn as gn

X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
TABLES = {"AND": np.array([0, 0, 0, 1]), "XOR": np.array([0, 1, 1, 0])}


def perceptron(y, epochs=50):
    """Rosenblatt's rule: w <- w + (y - answer) x, and so for the bias; returns how many are wrong at the end."""
    w, b = np.zeros(2), 0.0
    for _ in range(epochs):
        for x, target in zip(X, y, strict=True):
            answer = int(x @ w + b > 0)
            w, b = w + (target - answer) * x, b + (target - answer)
    return int(((X @ w + b > 0) != y).sum())


def two_layers(y, epochs=500, seed=0):
    """Train a 2-4-1 network; returns its answers."""
    net = gn.mlp([2, 4, 1], hidden="tanh", output="sigmoid")
    trainer = gn.Trainer(net, gn.SigmoidCrossEntropy(), gn.Adam(0.05), device="cpu", seed=seed)
    trainer.fit((X, y), epochs=epochs, batch_size=4)
    return trainer.predict(X)[:, 0]


def main():
    for name, y in TABLES.items():
        print(f"{name}: the perceptron gets {perceptron(y)} of 4 wrong")
        print(f"     two layers answer {np.round(two_layers(y), 2)}, right is {y}")


if __name__ == "__main__":
    main()
