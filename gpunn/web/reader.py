"""What a network makes of a drawing, and what its layers say on the way."""

import math
from typing import Any

import numpy as np

from gpunn.checks import instance
from gpunn.data.image import centre, image_shape, ink_of, shrink
from gpunn.device import to_host
from gpunn.errors import DataError, OptionError
from gpunn.io.foreign import class_names, gives_probabilities
from gpunn.layers import Identity, Layer, Softmax
from gpunn.layers.steps import SILENT, steps

__all__ = ["Reader"]

_SIDE = 280  # pixels of the longer side of a drawing


class Reader:
    """A network that tells drawings apart.

    `net.about` must say which "classes" it knows and the "image_shape" = (height, width, 1) of its inputs; "white" is
    the value of full ink (1 if not said), and "box" how large the ink of its images is (see `gpunn.data.read_image`).
    A drawing is an array (H, W) of bytes, 0 where there is no ink; `size` = (H, W). Raises OptionError for a network
    that tells no classes, or does not take such images.
    """

    def __init__(self, net: Layer) -> None:
        self.net = instance("a network", net, Layer)
        names, about = class_names(net), net.about
        if names is None or "image_shape" not in about:
            raise OptionError(
                "the page is for networks that tell images apart, and this one does not say so: "
                "before gn.save, give it "
                'net.about = {"classes": [...], "image_shape": [28, 28, 1], "white": 1.0, "box": 20}'
            )
        self.classes = [str(name) for name in names]
        height, width, channels = image_shape(about)
        if channels != 1:
            raise OptionError(f"drawings have one channel, and the network takes images of {about['image_shape']}")
        self.image = height, width
        self.white, self.box = ink_of(about)
        longer = max(height, width)
        self.size = max(1, round(_SIDE * height / longer)), max(1, round(_SIDE * width / longer))
        self.steps = steps(net)
        # a network that names no output function, not even Identity, was trained with a softmax in the loss
        self.output = net.output or (Identity() if gives_probabilities(net) else Softmax())
        self.scores = net.output is not None and not gives_probabilities(net)
        self.shape = self._input_shape()
        self.shown = [name for name, layer in self.steps.items() if not isinstance(layer, SILENT)]
        answer, _, *layers = self.read(np.ones(self.size, np.uint8))  # also compiles what is to be compiled
        if answer.shape != (len(self.classes),):
            raise OptionError(f"the network gives {answer.shape} numbers for {len(self.classes)} classes")
        self.shapes = [array.shape for array in layers]

    def _input_shape(self) -> tuple[int, ...]:
        """The shape of one input: a row of pixels, or an image for a network that begins with a convolution."""
        for shape in ((math.prod(self.image),), (*self.image, 1)):
            try:
                self.net.output_shape(shape)
            except ValueError as error:  # a ShapeError
                reason = error
            else:
                return shape
        raise OptionError(f"the network does not take images of {self.image}: {reason}")

    def prepare(self, drawing: np.ndarray) -> np.ndarray:
        """The picture (h, w) that the network sees, from 0 to 1. Raises DataError for a drawing without ink."""
        if not drawing.any():
            raise DataError("there is no ink on this drawing")
        ink = drawing.astype(np.float64) / 255.0
        if self.box is not None:
            return centre(ink, self.box, self.image)
        return shrink(ink, [(0, n) for n in ink.shape], self.image)

    def read(self, drawing: np.ndarray) -> list[np.ndarray]:
        """[the answer for each class, the picture that the network sees, what each layer of `shown` makes of it]."""
        picture = self.prepare(drawing)
        store = self.net.store
        x = store.device.asarray((picture * self.white).reshape(1, *self.shape), store.dtype)
        layers = []
        for name, layer in self.steps.items():
            x = layer.infer(x)
            if name in self.shown:
                layers.append(x)
        return [to_host(self.output.infer(x))[0], picture, *(to_host(y)[0] for y in layers)]

    def description(self) -> dict[str, Any]:
        """What the page has to know, in JSON's types. `layers` are those that `read` shows, in its order.

        `scores` says that the answers are no probabilities, as those of a network trained with `Hinge` are not.
        """
        parameters = sum(param.size for param in self.net.params().values())
        return {
            "classes": self.classes,
            "scores": self.scores,
            "size": self.size,
            "image": self.image,
            "box": self.box,
            "white": self.white,
            "parameters": parameters,
            "layers": [
                {"name": name, "type": type(self.steps[name]).__name__, "shape": shape}
                for name, shape in zip(self.shown, self.shapes, strict=True)
            ],
        }
