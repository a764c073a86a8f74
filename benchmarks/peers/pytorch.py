"""PyTorch, eager or compiled: zero_grad, forward, backward, step; inference_mode.

The optimisers are the fused ones, which were faster than compiled ones at every size (784-2048-2048-10 on 2 cores: 3.1
ms against 4.2). Images are in channels_last order: on a CPU it made no difference in speed, but in the other order the
compiled network of PyTorch 2.13 had wrong gradients of the convolutions, which the comparison of losses found.

In "bfloat16" the forward pass is under torch.autocast, and with it the backward pass; weights are in float32.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.peers import Skip, Task
from benchmarks.workloads import ADAM, endless

_INFERENCE = torch.inference_mode()


def build(w, weights, images, labels, device="cpu", compiled=False):
    if device == "cuda":
        if not torch.cuda.is_available():
            raise Skip("torch.cuda.is_available() is False" + (": a build for CPUs" if not torch.version.cuda else ""))
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = w.precision == "tf32"
    net = network(w, weights).to(device)
    images = [image_batch(batch).to(device) for batch in images]
    labels = [torch.from_numpy(batch).to(device) for batch in labels]

    def wait(result):
        if device == "cuda":
            torch.cuda.synchronize()

    def narrow(f):
        def call(*args):
            with torch.autocast(device, torch.bfloat16):
                return f(*args)

        return call if w.precision == "bfloat16" else f

    def compiling(f):
        f = narrow(f)
        return torch.compile(f, mode="reduce-overhead" if device == "cuda" else "default") if compiled else f

    if w.task == "infer":
        _INFERENCE.__enter__()  # once for the process: cheaper for PyTorch than once for each call
        answer, inputs = compiling(lambda x: functional.softmax(net(x), dim=1)), endless(images)
        return Task(lambda: answer(*next(inputs)), lambda y: y.cpu().numpy(), wait)

    loss_of, batches = compiling(lambda x, y: functional.cross_entropy(net(x), y)), endless(images, labels)
    if w.optimizer == "adam":
        beta1, beta2, epsilon = ADAM.values()
        optimizer = torch.optim.Adam(net.parameters(), lr=w.lr, betas=(beta1, beta2), eps=epsilon, fused=True)
    else:
        optimizer = torch.optim.SGD(net.parameters(), lr=w.lr, fused=True)

    def step():
        optimizer.zero_grad()
        loss = loss_of(*next(batches))
        loss.backward()
        optimizer.step()
        return loss

    return Task(step, lambda loss: loss.item(), wait)


def network(w, weights):
    """The same network, with images (N, C, H, W)."""
    layers, hidden = [], {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}[w.hidden]
    for W, b in weights:
        if W.ndim == 4:
            layer, W = nn.Conv2d(W.shape[2], W.shape[3], W.shape[:2]), W.transpose(3, 2, 0, 1)
        else:
            layer = nn.Linear(*W.shape)
            if w.kind == "cnn" and len(layers) == 4:  # the rows of the first dense layer are pixels times channels
                layers += [nn.MaxPool2d(2), nn.Flatten()]
                W = W.reshape(12, 12, 64, -1).transpose(2, 0, 1, 3).reshape(W.shape)
            W = W.T
        layer.load_state_dict({"weight": torch.from_numpy(np.ascontiguousarray(W)), "bias": torch.from_numpy(b)})
        layers += [layer, hidden()]
    net = nn.Sequential(*layers[:-1])
    return net.to(memory_format=torch.channels_last) if w.kind == "cnn" else net


def image_batch(batch):
    x = torch.from_numpy(batch)
    return x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
