"""What happens between the steps and epochs of a fit, as scikit-learn has it."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gpunn.checks import instance, number, whole
from gpunn.device import Array
from gpunn.optim import Adam
from gpunn.train import Callback, Trainer

if TYPE_CHECKING:
    from gpunn.estimator.base import Estimator

__all__ = ["Progress", "Shuffled"]


class Progress(Callback):
    """Notes of every epoch what scikit-learn notes, and stops training where it would.

    The loss of an epoch is that of its batches and the penalty of the weights that each began with: the very sum whose
    gradient the steps follow.
    """

    def __init__(self, estimator: "Estimator", held_out: Any = None) -> None:
        self.estimator, self.held_out = estimator, held_out
        self.alpha: float | None = None  # alpha over the mean weight of a row; None where the optimiser has its own
        self.epsilon = number("epsilon", estimator.epsilon, above=0.0)
        self.tol = number("tol", estimator.tol, at_least=0.0)
        patience = estimator.n_iter_no_change
        self.patience = patience if patience == math.inf else whole("n_iter_no_change", patience, at_least=1)
        e = estimator  # what was best in fits before this one counts, where they went by the same figure
        if held_out is None:
            e.best_loss_ = math.inf if e.best_loss_ is None else e.best_loss_
            e.best_validation_score_ = e.validation_scores_ = e._best_weights = None
        else:
            e.best_loss_ = None
            if e.validation_scores_ is None:
                e.best_validation_score_, e.validation_scores_ = -math.inf, []

    def on_start(self, trainer: Trainer, epochs: int, batches: int) -> None:
        self.rows, self.size = trainer.order["rows"], trainer.order["batch_size"]
        self.penalty: Array = 0.0
        self._look_ahead(trainer)

    def on_step(self, trainer: Trainer) -> None:
        self.penalty += self.next
        self._look_ahead(trainer)

    def _look_ahead(self, trainer: Trainer) -> None:
        """The penalty of the batch that comes next, and the weight decay that is its gradient."""
        first = trainer.batch * self.size
        n = min(self.size, self.rows - first if first < self.rows else self.rows)  # at the end of an epoch: of the next
        if self.alpha is not None:
            trainer.optimizer.weight_decay = self.alpha / n
        if self.estimator.solver == "adam":  # scikit-learn adds epsilon to the root of v before that is corrected
            optimizer = instance("the optimiser", trainer.optimizer, Adam)
            optimizer.epsilon = self.epsilon / math.sqrt(1.0 - optimizer.beta2 ** (trainer.steps + 1))
        store, rate = trainer.net.store, trainer.optimizer.weight_decay
        w = store.values[store.decaying]
        self.next = 0.5 * rate * n / self.rows * store.device.xp.vecdot(w, w) if rate else 0.0  # no GPU waits for it

    def on_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        e = self.estimator
        e.n_iter_ += 1
        e.t_ += trainer.order["rows"]
        e.loss_ = row["loss"] * e._unit + float(self.penalty)
        self.penalty = 0.0
        e.loss_curve_.append(e.loss_)
        better = self._by_loss() if self.held_out is None else self._by_score(trainer, row)
        e._no_better = 0 if better else e._no_better + 1
        by_name = e.solver == "sgd"  # as in scikit-learn: for others `learning_rate` says nothing
        if by_name and e.learning_rate == "invscaling":
            self._scale(trainer, (e.t_ + 1) ** -number("power_t", e.power_t, at_least=0.0))
        if e._no_better > self.patience:
            if by_name and e.learning_rate == "adaptive" and row["lr"] > 1e-6:
                self._scale(trainer, trainer.optimizer.scale / 5.0)
                e._no_better = 0
            else:
                trainer.stop = True

    def _scale(self, trainer: Trainer, scale: float) -> None:
        """Change the learning rate. scikit-learn's velocity is eta v and keeps its length where eta becomes less."""
        if "v" in trainer.state:
            trainer.state["v"] *= trainer.optimizer.scale / scale
        trainer.optimizer.scale = scale

    def _by_loss(self) -> bool:
        e = self.estimator
        better = e.loss_ <= e.best_loss_ - self.tol
        e.best_loss_ = min(e.best_loss_, e.loss_)
        return better

    def _by_score(self, trainer: Trainer, row: dict[str, float]) -> bool:
        e = self.estimator
        x, y, w = self.held_out
        score = e._score(trainer.predict(x), y, w)
        row["valid_accuracy" if trainer.loss.classifies else "valid_r2"] = score
        e.validation_scores_.append(score)
        better = score >= e.best_validation_score_ + self.tol
        if score > e.best_validation_score_:
            e.best_validation_score_, e._best_weights = score, trainer.net.state_dict()
        return better


class Shuffled:
    """The order of the rows in each epoch: that of the epoch before, shuffled, as scikit-learn does it."""

    def __init__(self, rng: np.random.RandomState) -> None:
        self.rng = rng
        self.order: np.ndarray | None = None

    def __call__(self, epoch: int, n: int) -> np.ndarray:
        places = np.arange(n)
        self.rng.shuffle(places)
        self.order = places if self.order is None else self.order[places]
        return self.order
