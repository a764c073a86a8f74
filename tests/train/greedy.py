"""A layer that needs too much memory, which tests of steps in parts share."""

import gpunn as gn


class Greedy(gn.Tanh):
    """Has memory for so many rows, in the forward or the backward pass."""

    def __init__(self, most, backward=False):
        super().__init__()
        self.most, self.late, self.passes = most, backward, []

    def forward(self, x, *, train=False, key=None):
        if train:
            self.passes.append(x.shape[0])
            if not self.late and x.shape[0] > self.most:
                raise MemoryError("no memory for this")
        return super().forward(x, train=train, key=key)

    def backward(self, dy, cache, *, need_dx=True):
        if self.late and dy.shape[0] > self.most:
            raise MemoryError("no memory for this")
        return super().backward(dy, cache, need_dx=need_dx)

    def config(self):
        return {}
