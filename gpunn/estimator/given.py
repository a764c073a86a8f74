"""What users give to an estimator, made into arrays and numbers that can be relied on."""

import sys
import warnings
from typing import Any

import numpy as np

from gpunn.checks import whole
from gpunn.device import Array, device_of, namespace, to_host
from gpunn.errors import DataError, DtypeError, ShapeError

__all__ = [
    "feature_names",
    "floats",
    "legacy",
    "numbers_of",
    "on_host",
    "row_weights",
    "rows",
    "seed_of",
    "unique",
    "warn",
]


def warn(category: str, message: str) -> None:
    """Warn with scikit-learn's own category of that name where it is in use, else with a plain UserWarning."""
    kind = getattr(sys.modules.get("sklearn.exceptions"), category, UserWarning)
    level = 2
    while sys._getframe(level).f_globals.get("__name__", "").startswith("gpunn.estimator"):
        level += 1
    warnings.warn(message, kind, stacklevel=level + 1)


def seed_of(random_state: Any) -> int:
    """The whole number that all random choices of a fit come from."""
    if random_state is None:
        return int(np.random.randint(2**31 - 1))  # noqa: NPY002  what np.random.seed sets, as in scikit-learn
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31 - 1))
    return whole("random_state", random_state)


def legacy(seed: int) -> np.random.RandomState:
    """scikit-learn's generator: from the same seed its initial weights and its orders of the rows come."""
    return np.random.RandomState(seed % 2**32)


def feature_names(X: Any) -> np.ndarray | None:
    """The names of a frame's columns, where all are texts."""
    columns = getattr(X, "columns", None)
    names = [] if columns is None else list(columns)
    return np.asarray(names, dtype=object) if names and all(isinstance(name, str) for name in names) else None


def _is_array(x: Any) -> bool:
    """Whether x is an array of a library that gpunn computes with, other than NumPy."""
    try:
        return not isinstance(x, np.ndarray) and bool(device_of(x))
    except DtypeError:
        return False


def on_host(y: Any) -> np.ndarray:
    """y as a NumPy array, of texts too."""
    if _is_sparse(y):
        y = y.toarray()
    return to_host(y) if _is_array(y) else _as_numpy(y, "y")


def _as_numpy(x: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(x)
    except ValueError as error:  # a list whose rows are not alike
        raise DataError(f"{name} is no array of numbers, nor can it be made one: {error}") from None


def _is_sparse(x: Any) -> bool:
    return hasattr(x, "toarray") and hasattr(x, "nnz")


def unique(y: np.ndarray) -> np.ndarray:
    """The labels, sorted, each once."""
    try:
        return np.unique(y)
    except TypeError:
        raise DtypeError(
            "Unknown label type: y mixes labels of several kinds, or has gaps: make all of one kind"
        ) from None


def numbers_of(y: np.ndarray) -> np.ndarray:
    """y as float64, finite."""
    if y.dtype.kind == "c":
        raise DataError(f"Complex data not supported: y is {y.dtype}, take its real part")
    try:
        y = y.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"y must hold numbers ({error}); a classifier takes other labels") from None
    if not np.isfinite(y).all():
        raise DataError("Input y contains NaN or infinity: remove those rows, or fill them in")
    return y


def floats(X: Any) -> Array:
    """X as an array of float32, if it is that, or float64: in its own library, or in NumPy where it is no array."""
    complex_data = "Complex data not supported: X is {}, take its real part"
    x = X.toarray() if _is_sparse(X) else X
    if _is_array(x):
        xp, where = namespace(x), device_of(x)
        if xp.isdtype(x.dtype, "complex floating"):
            raise DataError(complex_data.format(x.dtype))
        is_float = x.dtype in (where.dtype("float32"), where.dtype("float64"))
        return x if is_float else xp.astype(x, where.dtype("float64"))
    x = _as_numpy(x, "X")
    if x.dtype.kind == "c":
        raise DataError(complex_data.format(x.dtype))
    if x.dtype.kind in "OUS":
        return _floats_of_objects(x, X)
    if x.dtype.kind not in "biuf":
        raise DtypeError(f"X is {x.dtype}, expected numbers")
    return x if x.dtype in (np.float32, np.float64) else x.astype(np.float64)


def _floats_of_objects(x: np.ndarray, X: Any) -> np.ndarray:
    try:
        return x.astype(np.float64)
    except (TypeError, ValueError) as error:
        names, column = feature_names(X), ""
        for i in range(x.shape[1] if x.ndim == 2 else 0):
            try:
                x[:, i].astype(np.float64)
            except (TypeError, ValueError):
                column = f"the column {names[i]!r} of " if names is not None else f"column {i} of "
                break
        kind = DtypeError if isinstance(error, TypeError) else DataError
        raise kind(f"{column}X does not hold numbers: {error}. Encode texts, fill in what is missing") from None


def row_weights(sample_weight: Any, n: int) -> np.ndarray | None:
    """Weights of rows (n,) as float64 on the host, checked."""
    if sample_weight is None:
        return None
    w = on_host(sample_weight)
    try:
        w = w.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"sample_weight must hold numbers ({error})") from None
    if w.ndim == 0:
        w = np.full(n, float(w))
    if w.shape != (n,):
        raise ShapeError(f"sample_weight is of shape {w.shape}, expected ({n},): one for each row")
    if not np.isfinite(w).all() or (w < 0).any():
        raise DataError("sample_weight must be finite numbers, 0 or more")
    if not w.any():
        raise DataError("sample_weight is zero for every row: at least one must count")
    return w


def rows(data: tuple[Array, Any, Any], chosen: np.ndarray) -> tuple[Array, Any, Any]:
    """The chosen rows of inputs, targets and weights."""
    x, y, w = data
    x = namespace(x).take(x, device_of(x).asarray(chosen), axis=0)
    return x, y[chosen], None if w is None else w[chosen]
