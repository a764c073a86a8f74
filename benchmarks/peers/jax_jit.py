"""JAX: the whole step, Adam included, in one jit with donated buffers.

In "bfloat16" weights and inputs are rounded at the beginning of the forward pass; loss and update are in float32.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.peers import Skip, Task
from benchmarks.workloads import ADAM, endless


def build(w, weights, images, labels, device="cpu"):
    try:
        jax.devices(device)
    except (RuntimeError, AssertionError) as error:  # the second, without a word, in builds for CPUs
        raise Skip(f"JAX has no {device} device: {(str(error) or 'a build for CPUs').splitlines()[0]}") from None
    exact = {"float32": "float32", "tf32": "tensorfloat32", "bfloat16": "default"}[w.precision]
    passing = jnp.bfloat16 if w.precision == "bfloat16" else jnp.float32
    jax.config.update("jax_default_matmul_precision", exact)  # on recent GPUs the default is TF32
    params = [tuple(map(jnp.array, layer)) for layer in weights]
    images, labels = ([jnp.asarray(batch) for batch in batches] for batches in (images, labels))
    sigmoid = w.hidden == "sigmoid"

    def net(params, x):
        params, x = jax.tree.map(lambda a: a.astype(passing), (params, x))
        for i, (W, b) in enumerate(params):
            if W.ndim == 4:
                x = lax.conv_general_dilated(x, W, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")) + b
            else:
                if x.ndim == 4:
                    x = max_pool(x).reshape(x.shape[0], -1)
                x = x @ W + b
            if i < len(params) - 1:
                x = jax.nn.sigmoid(x) if sigmoid else jax.nn.relu(x)
        return x.astype(jnp.float32)

    def wait(result):
        jax.block_until_ready(result)

    if w.task == "infer":
        answer, inputs = jax.jit(lambda params, x: jax.nn.softmax(net(params, x))), endless(images)
        if device == "cpu":
            return Task(lambda: answer(params, *next(inputs)).block_until_ready(), np.asarray)
        return Task(lambda: answer(params, *next(inputs)), np.asarray, wait)

    def loss_of(params, x, y):
        log_p = jax.nn.log_softmax(net(params, x))
        return -jnp.mean(jnp.take_along_axis(log_p, y[:, None], axis=1))

    def update(params, state, x, y):
        loss, grads = jax.value_and_grad(loss_of)(params, x, y)
        if w.optimizer == "sgd":
            return jax.tree.map(lambda p, g: p - w.lr * g, params, grads), state, loss
        (m, v, t), (beta1, beta2, epsilon) = state, ADAM.values()
        t = t + 1
        m = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, m, grads)
        v = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, v, grads)
        c1, c2 = 1 - beta1**t, 1 - beta2**t
        params = jax.tree.map(lambda p, m, v: p - w.lr * (m / c1) / (jnp.sqrt(v / c2) + epsilon), params, m, v)
        return params, (m, v, t), loss

    update, batches = jax.jit(update, donate_argnums=(0, 1)), endless(images, labels)
    state = [jax.tree.map(jnp.zeros_like, params) for _ in range(2)]
    kept = params, (*state, jnp.zeros((), jnp.float32))

    def step():
        nonlocal kept
        *kept, loss = update(*kept, *next(batches))
        return loss.block_until_ready() if device == "cpu" else loss

    return Task(step, float, wait)


def max_pool(x):
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))
