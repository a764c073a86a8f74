"""The multilayer perceptron."""

from collections.abc import Iterable, Sequence

from gpunn.checks import positional, shown
from gpunn.errors import OptionError
from gpunn.init import Initializer
from gpunn.layers import (
    ELU,
    GELU,
    SELU,
    HardSwish,
    Layer,
    LeakyReLU,
    Linear,
    Mish,
    ReLU,
    Sequential,
    SiLU,
    Softplus,
    activation,
)

__all__ = ["mlp"]

# functions that pass about half of their input
_LIKE_RELU = ReLU | LeakyReLU | ELU | GELU | SiLU | Softplus | Mish | HardSwish

Which = str | Layer | type[Layer]


@positional(1, "mlp takes the sizes as one list, all else by name: mlp([64, 30, 10], hidden='tanh')")
def mlp(
    sizes: Sequence[int],
    *,
    hidden: Which | Sequence[Which] = "relu",
    output: Which | None = None,
    init: str | Initializer | None = None,
    bias_init: str | Initializer = "zeros",
) -> Sequential:
    """Linear layers of the given sizes with activation functions between them, of any depth and width.

    `mlp([784, 100, 30, 10], hidden="tanh", output="softmax")` is the same as

        Sequential(Linear(784, 100, init="xavier"), Tanh(), Linear(100, 30, init="xavier"), Tanh(),
                   Linear(30, 10, init="xavier"), output="softmax")

    `hidden` is one activation for all hidden layers or a sequence with one for each; `output` is what turns the last
    layer's numbers into an answer (see Sequential). `init` is for all layers; without it, it is "he" before ReLU and
    its kin, "lecun" before SELU, which is made for it, and "xavier" otherwise. Raises OptionError for fewer than two
    sizes or a wrong number of activations.
    """
    if not isinstance(sizes, Iterable) or len(sizes := list(sizes)) < 2:
        raise OptionError(f"mlp expects at least two sizes, those of the input and of the output, got {shown(sizes)}")
    n_hidden = len(sizes) - 2
    kinds = hidden if isinstance(hidden, Sequence) and not isinstance(hidden, str) else [hidden] * n_hidden
    if len(kinds) != n_hidden:
        raise OptionError(
            f"mlp of sizes {sizes} has {n_hidden} hidden layers but hidden= names {len(kinds)} activations"
        )
    layers: list[Layer] = []
    functions = [activation(kind) for kind in kinds]
    for n_in, n_out, function in zip(sizes[:-1], sizes[1:], [*functions, None], strict=True):
        fitting = "he" if isinstance(function, _LIKE_RELU) else "lecun" if isinstance(function, SELU) else "xavier"
        layers.append(Linear(n_in, n_out, init=init or fitting, bias_init=bias_init))
        layers += [function] if function else []
    return Sequential(*layers, output=output)
