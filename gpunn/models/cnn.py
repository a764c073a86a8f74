"""Convolutional networks for small images."""

from gpunn.errors import OptionError
from gpunn.layers import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Reshape,
    Sequential,
    Tanh,
)

__all__ = ["cnn", "lenet"]

Image = tuple[int, int, int]


def lenet(image: Image = (28, 28, 1), n_classes: int = 10) -> Sequential:
    """LeNet-5 (LeCun, Bottou, Bengio and Haffner, 1998), for images (height, width, channels) or rows of their numbers.

    Two convolutions of 5x5 with 6 and 16 features, each followed by a mean over 2x2 pixels, then 120 and 84 neurons,
    all with tanh. Two things are not LeCun's but usual today: every feature of the second convolution sees all of the
    first, and the output is a softmax. 61,706 parameters for images of 28x28.
    """
    image = _checked(image)
    features = [
        Conv2d(image[2], 6, 5, padding="same", init="xavier"),
        Tanh(),
        AvgPool2d(2),
        Conv2d(6, 16, 5, init="xavier"),
        Tanh(),
        AvgPool2d(2),
        Flatten(),
    ]
    (n,) = Sequential(*features).output_shape(image) or ()
    return Sequential(
        Reshape(image),
        *features,
        Linear(n, 120, init="xavier"),
        Tanh(),
        Linear(120, 84, init="xavier"),
        Tanh(),
        Linear(84, n_classes, init="xavier"),
        output="softmax",
    )


def cnn(image: Image = (28, 28, 1), n_classes: int = 10, *, width: int = 16, dropout: float = 0.3) -> Sequential:
    """A small network of today's kind, for images (height, width, channels) or rows of their numbers.

    Three convolutions that keep the size of the image, with `width`, 2 width and 4 width features, the first of 5x5 and
    the others of 3x3, each followed by batch normalisation and ReLU. After the first two the image is halved by the
    maximum over 2x2 pixels, before normalisation and ReLU, which then have a quarter of the work to do and give the
    same, or nearly so. At the end dropout and a linear layer.
    """
    image = _checked(image)

    def block(n_in: int, n_out: int, kernel: int, *pool: Layer) -> list[Layer]:
        return [Conv2d(n_in, n_out, kernel, padding="same", bias=False), *pool, BatchNorm(n_out), ReLU()]

    features = [
        *block(image[2], width, 5, MaxPool2d(2)),
        *block(width, 2 * width, 3, MaxPool2d(2)),
        *block(2 * width, 4 * width, 3),
        Flatten(),
    ]
    (n,) = Sequential(*features).output_shape(image) or ()
    return Sequential(
        Reshape(image), *features, Dropout(dropout), Linear(n, n_classes, init="xavier"), output="softmax"
    )


def _checked(image: Image) -> Image:
    if not isinstance(image, list | tuple) or len(image) != 3:
        raise OptionError(f"image must be (height, width, channels), such as (28, 28, 1); got {image!r}")
    return image[0], image[1], image[2]
