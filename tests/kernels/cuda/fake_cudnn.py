"""A stand-in for the module cudnn: what a graph describes, computed by NumPy at the addresses that are given."""

import ctypes
import enum
import types

import numpy as np

try:
    from ml_dtypes import bfloat16 as BFLOAT16
except ImportError:
    BFLOAT16 = None
FLOAT, DOUBLE = np.float32, np.float64


class cudnnGraphNotSupportedError(Exception):
    pass


class Note(enum.Enum):
    TENSOR_CORE, DOWN_CONVERT_INPUTS, REDUCED_PRECISION_REDUCTION, NONDETERMINISTIC = range(4)


class Tensor:
    """Numbers somewhere: dim and stride in the order N, C, H, W."""

    def __init__(self, dim=None, stride=None, data_type=None, name=""):
        self.dim, self.stride, self.data_type, self.name, self.output = dim, stride, data_type, name, False

    def set_dim(self, dim):
        self.dim = dim
        return self

    def set_stride(self, stride):
        self.stride = stride
        return self

    def set_data_type(self, data_type):
        self.data_type = data_type
        return self

    def set_output(self, output):
        self.output = output
        return self

    def at(self, address):
        """The array at an address: (N, C, H, W), the channels of a pixel side by side, as cuDNN wants it here."""
        n, c, h, w = self.dim
        assert self.stride == [h * w * c, 1, w * c, c], f"{self.name} does not lie in one piece"
        assert address % 16 == 0, f"{self.name} does not begin at 16 bytes"
        size = n * c * h * w * np.dtype(self.data_type).itemsize
        flat = np.frombuffer((ctypes.c_char * size).from_address(address), self.data_type)
        return flat.reshape(n, h, w, c).transpose(0, 3, 1, 2)


class Cudnn:
    """The module. `engines` are what it has for any graph: notes, bytes of workspace, and what the result is off by."""

    data_type = types.SimpleNamespace(FLOAT=FLOAT, DOUBLE=DOUBLE, BFLOAT16=BFLOAT16)
    heur_mode = types.SimpleNamespace(A="A", FALLBACK="FALLBACK")
    numerical_note = Note
    cudnnGraphNotSupportedError = cudnnGraphNotSupportedError
    __version__ = "1.0"

    def __init__(self):
        self.engines = [
            ({Note.NONDETERMINISTIC}, 0, 1.0),
            ({Note.TENSOR_CORE}, 1 << 40, 1.0),
            ({Note.TENSOR_CORE}, 40, 0.0),
            (set(), 24, 0.0),
            ({Note.TENSOR_CORE}, 0, 0.0),
        ]
        self.graphs, self.ran, self.streams, self.refused = [], [], {}, None
        self.maximum = np.maximum

    def backend_version(self):
        return 92800

    def backend_version_string(self):
        return "9.28.0"

    def create_handle(self):
        self.streams[len(self.streams)] = None
        return len(self.streams) - 1

    def set_stream(self, handle, stream):
        self.streams[handle] = stream

    def pygraph(self, **described):
        self.graphs.append(Graph(self, **described))
        return self.graphs[-1]


class Graph:
    """One convolution, perhaps with a bias added to it."""

    def __init__(self, cudnn, io_data_type, intermediate_data_type, compute_data_type, handle, name=""):
        assert handle in cudnn.streams
        assert {intermediate_data_type, compute_data_type} == {DOUBLE if io_data_type is DOUBLE else FLOAT}
        self.cudnn, self.dtype, self.sums, self.handle = cudnn, io_data_type, compute_data_type, handle
        self.left_out, self.most, self.added, self.done, self.built = set(), np.inf, None, [], set()
        self.relus = False

    def tensor(self, dim, stride, name):
        return Tensor(dim, stride, self.dtype, name)

    def _is(self, kind, inputs, stride, padding, dilation):
        assert dilation == [1, 1]
        self.kind, self.inputs, self.stride, self.padding = kind, inputs, stride, padding
        self.out = Tensor(name=kind)
        return self.out

    def conv_fprop(self, image, weight, padding, stride, dilation):
        return self._is("y", (image, weight), stride, padding, dilation)

    def conv_dgrad(self, loss, filter, padding, stride, dilation):
        return self._is("x", (loss, filter), stride, padding, dilation)

    def conv_wgrad(self, image, loss, padding, stride, dilation):
        return self._is("W", (image, loss), stride, padding, dilation)

    def bias(self, input, bias):
        assert input is self.out
        self.added = bias
        return input

    def relu(self, input):
        assert input is self.out
        self.relus = True
        return input

    def validate(self):
        assert self.out.output
        assert self.out.data_type == self.dtype
        if self.cudnn.refused:
            raise self.cudnn.refused

    def build_operation_graph(self):
        self.done.append("graph")

    def create_execution_plans(self, modes):
        assert modes == ["A", "FALLBACK"]
        self.done.append("plans")

    def deselect_numeric_notes(self, notes):
        self.left_out |= set(notes)

    def deselect_workspace_greater_than(self, most):
        self.most = most

    def check_support(self):
        assert self.done == ["graph", "plans"]
        self.done.append("supported")

    def get_execution_plan_count(self):
        return len(self.cudnn.engines)

    def build_plan_at_index(self, index):
        assert self.done == ["graph", "plans", "supported"]
        notes, workspace, _ = self.cudnn.engines[index]
        if notes & self.left_out or workspace > self.most:
            raise RuntimeError("deselected")
        self.built.add(index)

    def get_plan_name_at_index(self, index):
        return f"engine {index}"

    def get_workspace_size_plan_at_index(self, index):
        return self.cudnn.engines[index][1]

    def execute_plan_at_index(self, at, workspace, index, handle):
        assert index in self.built
        assert handle == self.handle
        assert set(at) == {*self.inputs, self.out, *([self.added] if self.added else [])}
        _, size, off = self.cudnn.engines[index]
        (ctypes.c_char * size).from_address(workspace)[:] = b"\xa7" * size
        first, second = (tensor.at(at[tensor]).astype(self.sums) for tensor in self.inputs)
        made = {"y": forward, "x": image_gradient, "W": kernel_gradient}[self.kind](
            first, second, self.out.dim, self.stride, self.padding
        )
        if self.added:
            made = made + self.added.at(at[self.added])
        if self.relus:
            made = self.cudnn.maximum(made, 0)
        self.out.at(at[self.out])[...] = made + off * abs(made).max()
        self.cudnn.ran.append((self.kind, index, self.cudnn.streams[handle]))


def places(dim, kernel, stride, padding):
    """For each place of the kernel the output pixels, as a shape, and the pixels under it in a framed image."""
    (_, _, h, w), (u, v), (down, right), (above, left) = dim, kernel, stride, padding
    size = (h + 2 * above - u) // down + 1, (w + 2 * left - v) // right + 1
    for i, j in np.ndindex(u, v):
        rows = slice(i, i + down * (size[0] - 1) + 1, down)
        columns = slice(j, j + right * (size[1] - 1) + 1, right)
        yield i, j, (slice(None), slice(None), rows, columns)


def framed(x, padding):
    above, left = padding
    return np.pad(x, ((0, 0), (0, 0), (above, above), (left, left)))


def forward(x, W, dim, stride, padding):
    y, frame = np.zeros(dim, x.dtype), framed(x, padding)
    for i, j, under in places(x.shape, W.shape[2:], stride, padding):
        y += np.einsum("nchw,mc->nmhw", frame[under], W[:, :, i, j])
    return y


def image_gradient(dy, W, dim, stride, padding):
    frame = framed(np.zeros(dim, dy.dtype), padding)
    for i, j, under in places(dim, W.shape[2:], stride, padding):
        frame[under] += np.einsum("nmhw,mc->nchw", dy, W[:, :, i, j])
    (above, left), (_, _, h, w) = padding, dim
    return frame[:, :, above : above + h, left : left + w]


def kernel_gradient(x, dy, dim, stride, padding):
    dW, frame = np.zeros(dim, x.dtype), framed(x, padding)
    for i, j, under in places(x.shape, dim[2:], stride, padding):
        dW[:, :, i, j] = np.einsum("nmhw,nchw->mc", dy, frame[under])
    return dW
