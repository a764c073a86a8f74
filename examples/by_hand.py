"""A network by hand, with nothing but functions: every equation of backpropagation, one line each.

    python examples/by_hand.py [epochs]

A 64-30-10 network for handwritten digits. Symbols as in Nielsen's chapter 2, but with one example a row: z are the
weighted inputs of a layer, a its outputs, and d before a name is the gradient of the loss with respect to it.
"""

import sys

import numpy as np

from gpunn import datasets, ops


def initial(rng):
    """Weights N(0, 1/n_in), so that the weighted inputs begin with a variance of about 1; biases 0."""
    return {
        "W1": rng.standard_normal((64, 30)) / 8,
        "b1": np.zeros(30),
        "W2": rng.standard_normal((30, 10)) / np.sqrt(30),
        "b2": np.zeros(10),
    }


def forward(p, x):
    z1 = ops.linear(x, p["W1"], p["b1"])  # z1 = x W1 + b1      (N, 30)
    a1 = ops.sigmoid(z1)  #                 a1 = sigma(z1)
    z2 = ops.linear(a1, p["W2"], p["b2"])  # z2 = a1 W2 + b2    (N, 10)
    return a1, z2


def gradients(p, x, y):
    """The loss of a batch and its gradient for each parameter, from the last layer back to the first."""
    a1, z2 = forward(p, x)
    loss, probabilities = ops.softmax_cross_entropy(z2, y)
    dz2 = ops.softmax_cross_entropy_backward(probabilities, y)  #  dz2 = (softmax(z2) - y) / N        (BP1)
    da1, dW2, db2 = ops.linear_backward(dz2, a1, p["W2"])  #       da1 = dz2 W2^T                     (BP2)
    dz1 = ops.sigmoid_backward(da1, a1)  #                         dz1 = da1 * a1 (1 - a1)            (BP2)
    _, dW1, db1 = ops.linear_backward(dz1, x, p["W1"], need_dx=False)  # dW1 = x^T dz1, db1 = sum dz1 (BP4, BP3)
    return loss, {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}


def accuracy(p, x, labels):
    return float((forward(p, x)[1].argmax(axis=1) == labels).mean())


def train(epochs=20, batch=10, eta=0.5, seed=0):
    rng = np.random.default_rng(seed)
    (x, labels), (x_test, test_labels) = datasets.digits()
    x, x_test = x.astype(float), x_test.astype(float)
    y = np.eye(10)[labels]
    p = initial(rng)
    for epoch in range(1, epochs + 1):
        order, losses = rng.permutation(len(x)), []
        for first in range(0, len(x), batch):
            rows = order[first : first + batch]
            loss, g = gradients(p, x[rows], y[rows])
            losses.append(loss)
            for name in p:
                p[name] -= eta * g[name]  # gradient descent: w <- w - eta dL/dw
        if epoch % 5 == 0 or epoch == epochs:
            right = accuracy(p, x_test, test_labels)
            print(f"epoch {epoch:3}: loss {np.mean(losses):.4f}, {right:.2%} of the test images right")
    return p, accuracy(p, x_test, test_labels)


if __name__ == "__main__":
    train(epochs=int(sys.argv[1]) if len(sys.argv) > 1 else 20)
