"""Callbacks that several tests use."""

import gpunn as gn


class StopAfter(gn.Callback):
    """Ends the fit in this step, counted over all fits."""

    def __init__(self, steps):
        self.steps = steps

    def on_step(self, trainer):
        trainer.stop = trainer.steps == self.steps
