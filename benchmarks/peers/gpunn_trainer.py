"""gpunn: `trainer.step(x, labels)` and `net(x)`, with arrays on the device."""

from importlib.util import find_spec

import gpunn as gn
from benchmarks.peers import Skip, Task
from benchmarks.workloads import ADAM, endless


def build(w, weights, images, labels, device="cpu", numba=False, graph="auto", tune=False):
    if numba and not find_spec("numba"):
        raise Skip("Numba is not installed")
    try:
        device = gn.device(device)
    except gn.errors.DeviceUnavailable as error:
        raise Skip(error.reason) from None
    net = network(w).init(device=device)
    net.load_state_dict(dict(zip(net.params(), (array for layer in weights for array in layer), strict=True)))
    images, labels = ([device.asarray(batch) for batch in batches] for batches in (images, labels))

    def wait(result):
        device.synchronize()

    if w.task == "infer":
        inputs = endless(images)
        return Task(lambda: net(*next(inputs)), gn.to_host, wait)
    optimizer = gn.Adam(w.lr, **ADAM) if w.optimizer == "adam" else gn.SGD(w.lr)
    trainer = gn.Trainer(
        net, gn.SoftmaxCrossEntropy(), optimizer, device=device, dtype=w.precision, graph=graph, tune=tune
    )
    batches = endless(images, labels)
    return Task(lambda: trainer.step(*next(batches)), float, wait)


def network(w):
    dense = gn.mlp(w.sizes, hidden=w.hidden, output="softmax")
    if w.kind == "mlp":
        return dense
    features = gn.Conv2d(1, 32, 3), gn.ReLU(), gn.Conv2d(32, 64, 3), gn.ReLU(), gn.MaxPool2d(2), gn.Flatten()
    return gn.Sequential(*features, *dense.layers, output="softmax")
