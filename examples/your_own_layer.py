"""A layer of your own: write the forward pass, derive the backward pass, and have it checked.

    python examples/your_own_layer.py

The layer here is a radial one: each of its M neurons has a place c_m in the space of the inputs, and tells how near the
input is to it, y_nm = exp(-s_m |x_n - c_m|^2); c_m and s_m are learned (Broomhead and Lowe, 1988).

The derivation, with q_nm = |x_n - c_m|^2 and dy the gradient of the loss with respect to y:

    dq_nm = -s_m y_nm dy_nm                         since dy/dq = -s y
    ds_m  = sum_n -q_nm y_nm dy_nm                  since dy/ds = -q y
    dx_n  = sum_m 2 dq_nm (x_n - c_m)               since dq/dx = 2 (x - c)
    dc_m  = sum_n -2 dq_nm (x_n - c_m)              since dq/dc = -2 (x - c)
"""

import numpy as np

import gpunn as gn


class Radial(gn.Layer):
    """y_nm = exp(-s_m |x_n - c_m|^2) for x (N, D), c (M, D), s (M,)."""

    def __init__(self, n_in, n_out):
        self.n_in, self.n_out = n_in, n_out  # kept under their own names, so that the layer can be saved
        self.c = gn.Param((n_out, n_in), init="normal", decay=False)
        self.s = gn.Param((n_out,), init=gn.init.Constant(0.5), decay=False)

    def forward(self, x, *, train=False, key=None):
        xp = gn.namespace(x)  # the library of x: the layer works on all of them
        away = x[:, None, :] - self.c.value[None, :, :]  # (N, M, D)
        q = xp.sum(away * away, axis=-1)  #                (N, M)
        y = xp.exp(-self.s.value * q)
        return y, (away, q, y)

    def backward(self, dy, cache, *, need_dx=True):
        away, q, y = cache
        xp = gn.namespace(dy)
        dq = -self.s.value * y * dy
        towards = 2.0 * dq[:, :, None] * away  # (N, M, D)
        self.s.add_grad(xp.sum(-q * y * dy, axis=0))
        self.c.add_grad(-xp.sum(towards, axis=0))
        return xp.sum(towards, axis=1) if need_dx else None


class Mistaken(Radial):
    """The same with a mistake on the way back."""

    def backward(self, dy, cache, *, need_dx=True):
        return -super().backward(dy, cache, need_dx=need_dx)  # a sign, as easily happens


def spirals(n=200, seed=0):
    """Two spirals, one in the other: what no straight line parts."""
    rng = np.random.default_rng(seed)
    t, label = np.sqrt(rng.uniform(0.05, 1.0, n)) * 7.0, rng.integers(0, 2, n)
    angle = t + np.pi * label
    return np.stack([t * np.cos(angle), t * np.sin(angle)], axis=1) / 3.0, label


def main(epochs=300):
    x, y = spirals()
    for layer in (Radial(2, 6), Mistaken(2, 6)):
        errors = gn.gradcheck(layer, x[:8])
        verdict = "right" if max(errors.values()) < 1e-7 else "wrong"
        print(f"{type(layer).__name__:<9}", {name: f"{error:.0e}" for name, error in errors.items()}, verdict)
    net = gn.Sequential(Radial(2, 60), gn.Linear(60, 2, init="xavier"), output="softmax")
    trainer = gn.Trainer(net, gn.SoftmaxCrossEntropy(), gn.Adam(0.02))
    trainer.fit((x, y), epochs=epochs, batch_size=20)
    accuracy = trainer.evaluate((x, y))["accuracy"]
    print(f"two spirals, one in the other: {accuracy:.1%} of the points right")
    return accuracy


if __name__ == "__main__":
    main()
