"""scikit-learn: one call of `MLPClassifier.partial_fit` on one batch is one step; `predict_proba` is inference."""

import numpy as np
from sklearn.neural_network import MLPClassifier

from benchmarks.peers import Task
from benchmarks.workloads import ADAM, endless


def build(w, weights, images, labels):
    beta1, beta2, epsilon = ADAM.values()
    net = MLPClassifier(
        w.sizes[1:-1],
        activation={"relu": "relu", "sigmoid": "logistic"}[w.hidden],
        solver=w.optimizer,
        alpha=0.0,
        batch_size=w.batch,
        learning_rate_init=w.lr,
        shuffle=False,
        momentum=0.0,
        nesterovs_momentum=False,
        beta_1=beta1,
        beta_2=beta2,
        epsilon=epsilon * (1 - beta2) ** 0.5,  # here it is added before the bias correction: the same in the first step
    )
    net.partial_fit(images[0], labels[0], classes=np.arange(w.sizes[-1]))  # makes the arrays; then the same weights
    for mine, given in zip((net.coefs_, net.intercepts_), zip(*weights, strict=True), strict=True):
        for array, values in zip(mine, given, strict=True):
            array[...] = values
    del net._optimizer  # the next call makes a new one, without the moments of that step
    if w.task == "infer":
        inputs = endless(images)
        return Task(lambda: net.predict_proba(*next(inputs)), np.asarray)
    batches = endless(images, labels)
    return Task(lambda: net.partial_fit(*next(batches)).loss_, float)
