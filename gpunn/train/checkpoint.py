"""Checkpoints: all that a trainer needs to go on exactly where it stood."""

from pathlib import Path
from typing import Any

import numpy as np

from gpunn.errors import Diverged, FileError, ShapeError
from gpunn.io.tensors import read_tensors, write_tensors
from gpunn.train.history import History
from gpunn.train.mean import Mean
from gpunn.train.trainer import Trainer

__all__ = ["load_checkpoint", "save_checkpoint"]

_PLACE = {"steps": int, "epoch": int, "batch": int, "order": dict, "seconds": float}  # as they are in a Trainer
_KINDS = _PLACE | {"losses": list, "history": list, "best": dict, "config": dict}


def save_checkpoint(path: str | Path, trainer: Trainer, config: dict[str, Any] | None = None) -> None:
    """Write a trainer's parameters, optimiser state, history and place in the data to a safetensors file.

    There is no state of random generators to keep: every random choice follows from the seed and the number of the
    epoch or step. `config` is kept with it. Raises FileError, and Diverged where a number is not finite; an older
    checkpoint is then still there, whole.
    """
    store, best = trainer.net.store, trainer.best
    tensors = {f"network/{name}": array for name, array in trainer.net.state_dict().items()}
    for kept, flat in trainer.state.items():
        tensors |= {f"optimizer/{kept}/{name}": trainer.device.to_host(a) for name, a in store.views(flat).items()}
    tensors |= {f"best/{name}": array for name, array in best.get("weights", {}).items()}
    numbers = {**tensors, **(trainer.history[-1] if len(trainer.history) else {})}
    if wrong := next((name for name, array in numbers.items() if not np.isfinite(array).all()), None):
        raise Diverged(
            f"NaN or infinity in {wrong!r} after step {trainer.steps} (epoch {trainer.epoch}), which is not written to "
            f"{path}. Try a smaller learning rate, or clip_norm=1.0"
        )
    trainer.losses.look()
    about = {
        **_shared(trainer),
        **{name: getattr(trainer, name) for name in _PLACE},
        "losses": [trainer.losses.total, trainer.losses.weight],
        "history": trainer.history.rows,
        "best": {name: value for name, value in best.items() if name != "weights"},
        "config": config or {},
    }
    write_tensors(path, "checkpoint", tensors, about)


def load_checkpoint(path: str | Path, trainer: Trainer) -> dict[str, Any]:
    """Bring a trainer of the same network, seed and optimiser to where the checkpoint's one stood; returns its config.

    Training then goes on to the very weights of an uninterrupted run (to the bit on the same machine, with as many
    threads and the same versions). Raises FileError, and changes nothing, for a checkpoint of something else.
    """
    tensors, about = read_tensors(path, "checkpoint")
    for name, here in _shared(trainer).items():
        if about.get(name) != here:
            raise FileError(f"{path}: a checkpoint of a run with {name} {about.get(name)!r}, and this one has {here!r}")

    def part(prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}

    there = {name.split("/")[1] for name in tensors if name.startswith("optimizer/")}
    if there != trainer.state.keys():
        what = [", ".join(sorted(names)) or "nothing" for names in (there, trainer.state)]
        raise FileError(f"{path}: a checkpoint of an optimiser that keeps {what[0]}, and this one keeps {what[1]}")
    store = trainer.net.store
    kept = {name: (store.views(flat), part(f"optimizer/{name}/")) for name, flat in trainer.state.items()}
    for name, (views, arrays) in kept.items():
        if {n: tuple(a.shape) for n, a in arrays.items()} != {n: tuple(v.shape) for n, v in views.items()}:
            raise FileError(f"{path}: a checkpoint of another network: the optimiser's {name!r} does not fit this one")
    for name, kind in _KINDS.items():
        if not isinstance(about.get(name), kind):
            raise FileError(f"{path}: its description lacks {name!r}: use a checkpoint that gpunn wrote")
    try:
        trainer.net.load_state_dict(part("network/"))
    except ShapeError as error:
        raise FileError(f"{path}: a checkpoint of another network: {error}") from None
    for views, arrays in kept.values():
        for name, array in arrays.items():
            views[name][...] = trainer.device.asarray(array, trainer.dtype)
    vars(trainer).update({name: about[name] for name in _PLACE})
    trainer.losses, trainer.history, trainer.best = Mean(*about["losses"]), History(about["history"]), about["best"]
    if weights := part("best/"):
        trainer.best["weights"] = weights
    return about["config"]


def _shared(trainer: Trainer) -> dict[str, Any]:
    """What a trainer must have in common with the one whose checkpoint it takes."""
    return {"seed": trainer.seed, "dtype": trainer.dtype, "optimizer": type(trainer.optimizer).__name__}
