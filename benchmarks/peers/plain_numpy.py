"""A network in plain NumPy, written as the books do: the equations, one after another, in as few lines as they take."""

import numpy as np

from benchmarks.peers import Task
from benchmarks.workloads import ADAM, endless


def build(w, weights, images, labels):
    Ws, bs = ([np.copy(array) for array in arrays] for arrays in zip(*weights, strict=True))
    params = Ws + bs
    m, v = ([np.zeros_like(p) for p in params] for _ in range(2))
    sigmoid, adam = w.hidden == "sigmoid", w.optimizer == "adam"
    beta1, beta2, epsilon = ADAM.values()
    batches, inputs, t = endless(images, labels), endless(images), 0

    def forward(x):
        activations = [x]
        for W, b in zip(Ws[:-1], bs[:-1], strict=True):
            z = activations[-1] @ W + b
            activations.append(1 / (1 + np.exp(-z)) if sigmoid else np.maximum(z, 0))
        z = activations[-1] @ Ws[-1] + bs[-1]
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return activations, e / e.sum(axis=1, keepdims=True)

    def step():
        nonlocal t
        x, y = next(batches)
        activations, p = forward(x)
        n = len(x)
        loss = -np.log(p[np.arange(n), y]).mean()
        delta = p.copy()
        delta[np.arange(n), y] -= 1
        delta /= n
        dWs, dbs = [None] * len(Ws), [None] * len(bs)
        for i in reversed(range(len(Ws))):
            a = activations[i]
            dWs[i] = a.T @ delta
            dbs[i] = delta.sum(axis=0)
            if i > 0:
                delta = (delta @ Ws[i].T) * (a * (1 - a) if sigmoid else a > 0)
        t += 1
        for i, g in enumerate(dWs + dbs):
            if not adam:
                params[i] -= w.lr * g
                continue
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g**2
            params[i] -= w.lr * (m[i] / (1 - beta1**t)) / (np.sqrt(v[i] / (1 - beta2**t)) + epsilon)
        return loss

    if w.task == "infer":
        return Task(lambda: forward(*next(inputs))[1], np.asarray)
    return Task(step, float)
