"""What is measured: networks, their initial weights, their data, and how many products they need.

Every peer gets the same numbers. Weights are (n_in, n_out), kernels (height, width, n_in, n_out), images (N, 784) or
(N, 28, 28, 1), all float32; a peer that lays them out differently converts them before anything is timed.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

__all__ = [
    "ADAM",
    "CHECKED",
    "ON_GPUS",
    "PRECISIONS",
    "SECTIONS",
    "WIDE",
    "Workload",
    "data",
    "endless",
    "floor",
    "product_rate",
    "weights",
]

ADAM = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
CHECKED = 20  # steps whose losses every peer reports
PRECISIONS = "float32", "tf32", "bfloat16"  # the last two on a GPU alone

KERNELS, PIXELS = ((3, 3, 1, 32), (3, 3, 32, 64)), (26 * 26, 24 * 24)  # of the CNN: weights, and places of the window


@dataclass(frozen=True)
class Workload:
    """A network, a batch size, and whether it is trained or asked.

    `sizes` are those of an MLP's layers. With kind "cnn" they are those of the dense layers, after two convolutions of
    3x3 with 32 and 64 features and ReLU on images of 28x28, and the maximum over 2x2 pixels.
    """

    kind: str
    sizes: tuple[int, ...]
    batch: int
    task: str = "train"  # or "infer"
    hidden: str = "relu"  # or "sigmoid"
    optimizer: str = "adam"  # or "sgd"
    lr: float = 1e-3
    precision: str = "float32"  # one of PRECISIONS

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Workload":
        """The one with these fields, as JSON has them."""
        return cls(**fields | {"sizes": tuple(fields["sizes"])})

    @property
    def network(self) -> str:
        """The network's name, and what it is computed in if that is not float32."""
        name = "CNN" if self.kind == "cnn" else "-".join(map(str, self.sizes))
        return name if self.precision == "float32" else f"{name} in {self.precision}"

    @property
    def name(self) -> str:
        """What a row of the table is called."""
        return f"{self.network}, batch {self.batch:,}"

    @property
    def image(self) -> tuple[int, ...]:
        """The shape of one input."""
        return (28, 28, 1) if self.kind == "cnn" else self.sizes[:1]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the layers' weights, the lowest first."""
        return [*(KERNELS if self.kind == "cnn" else ()), *itertools.pairwise(self.sizes)]

    @property
    def products(self) -> list[int]:
        """Operations in the matrix product of each layer in one forward pass: 2 x batch x weights x places."""
        places = (*PIXELS, *[1] * len(self.sizes)) if self.kind == "cnn" else itertools.repeat(1)
        return [2 * self.batch * math.prod(shape) * n for shape, n in zip(self.shapes, places, strict=False)]

    @property
    def flops(self) -> int:
        """Operations in matrix products: forward, and in training as many again for dW and for dx, of every layer.

        For an MLP in training that is 6 x batch x weights, the usual count.
        """
        return sum(self.products) * (3 if self.task == "train" else 1)

    @property
    def flops_needed(self) -> int:
        """The same without dx of the lowest layer, which nobody needs: the work that really has to be done."""
        return self.flops - (self.products[0] if self.task == "train" else 0)


def weights(w: Workload) -> list[tuple[np.ndarray, np.ndarray]]:
    """[(W, b) of each layer]: W normal with variance 2 / fan-in before ReLU (He), else 1 / fan-in; b = 0."""
    rng, drawn = np.random.default_rng(1), []
    for i, shape in enumerate(w.shapes):
        gain = 2.0 if w.hidden == "relu" and i < len(w.shapes) - 1 else 1.0
        W = rng.standard_normal(shape, dtype=np.float32) * np.float32(math.sqrt(gain / math.prod(shape[:-1])))
        drawn.append((W, np.zeros(shape[-1], dtype=np.float32)))
    return drawn


def data(w: Workload) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(images, labels): 7 batches of uniform noise from -0.5 to 0.5, and 8 of random classes.

    Training takes both in turn, so that the same images come with other labels each time: nothing can be learned by
    heart, and the loss and the gradients stay of ordinary size however many steps are timed.
    """
    rng = np.random.default_rng(2)
    n = 7 if w.batch <= 4096 else 1  # to save memory
    images = [rng.random((w.batch, *w.image), dtype=np.float32) - np.float32(0.5) for _ in range(n)]
    return images, [rng.integers(0, w.sizes[-1], w.batch) for _ in range(8)]


def endless(*lists: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """Tuples of one of each list, all over and over again."""
    return zip(*map(itertools.cycle, lists), strict=False)


def product_rate(rates: Mapping[str, Any], precision: str) -> float | None:
    """Of what was measured of a device, the products' operations a second in this precision; None if they were not."""
    return rates.get("product_flops" if precision == "float32" else f"{precision}_flops")


def floor(w: Workload, rates: Mapping[str, Any]) -> float:
    """The seconds that a step's products take at the measured rates, or reading and writing, whichever is more.

    Bytes: weights are read forward and backward, their gradients written; the update reads and writes what it must;
    each activation is written, read twice, its gradient written and read. In bfloat16 the activations and the weights
    that are read take two bytes each, and the update writes those, too.
    """
    n = sum(math.prod(shape) for shape in w.shapes)
    update = 7 if w.optimizer == "adam" else 3  # reads w, g, m, v and writes w, m, v; or reads w, g and writes w
    places = PIXELS if w.kind == "cnn" else ()
    outputs = sum(shape[-1] * place for shape, place in itertools.zip_longest(w.shapes, places, fillvalue=1))
    narrow = w.precision == "bfloat16"
    passing = (3 if narrow else 2) * n + w.batch * (5 * outputs + 2 * math.prod(w.image))
    numbers = (2 if narrow else 4) * passing + 4 * (1 + update) * n
    flops = product_rate(rates, w.precision)
    return max(w.flops_needed / flops if flops else 0.0, numbers / rates["copy_bytes"])


def _mlp(*sizes: int, **more: Any) -> list[Workload]:
    return [Workload("mlp", sizes, batch, **more) for batch in (32, 128, 1024)]


_CNN = (9216, 128, 10)
WIDE = [Workload("mlp", (784, 1024, 1024, 10), batch) for batch in (1024, 16384)]

SECTIONS = {
    "mlp": [
        *_mlp(784, 128, 10),
        *_mlp(784, 512, 512, 10),
        *_mlp(784, 2048, 2048, 10),
        Workload("mlp", (784, 30, 10), 10, hidden="sigmoid", optimizer="sgd", lr=0.5),
    ],
    "cnn": [Workload("cnn", _CNN, batch) for batch in (64, 512)],
    "inference": [
        Workload(kind, sizes, batch, "infer")
        for kind, sizes in (("mlp", (784, 512, 512, 10)), ("cnn", _CNN))
        for batch in (1, 1024)
    ],
    "wide": WIDE,
}
_TRAINED = [*SECTIONS["mlp"], *SECTIONS["cnn"], *WIDE]
SECTIONS |= {p: [replace(w, precision=p) for w in _TRAINED] for p in PRECISIONS[1:]}
ON_GPUS = "wide", *PRECISIONS[1:]  # sections for those alone
