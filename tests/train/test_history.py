import csv
import io
import math

import pytest

from gpunn.errors import OptionError
from gpunn.train import History

ROWS = [
    {"epoch": 1, "loss": 0.1 + 0.2, "valid_accuracy": 0.5},
    {"epoch": 2, "loss": 1e-17, "valid_accuracy": 0.75},
    {"epoch": 3, "loss": 1 / 3, "valid_accuracy": 0.75},
]


def test_columns_and_rows():
    history = History(ROWS)
    assert len(history) == 3
    assert history.columns == ["epoch", "loss", "valid_accuracy"]
    assert history["epoch"] == [1, 2, 3]
    assert history[-1] is ROWS[2]
    assert list(history) == history.rows == ROWS
    assert repr(history) == "History(3 epochs: epoch, loss, valid_accuracy)"
    assert repr(History(ROWS[:1])).startswith("History(1 epoch: ")


def test_an_unknown_column_is_named():
    with pytest.raises(OptionError, match="no column 'acc'; it has epoch, loss, valid_accuracy"):
        History(ROWS)["acc"]


def test_an_empty_history():
    history = History()
    assert (len(history), history.columns, history["loss"], history.best("loss")) == (0, [], [], None)
    assert history.to_csv() == ""


def test_the_best_is_the_first_lowest_loss_or_highest_accuracy():
    history = History(ROWS)
    assert history.best("loss") is ROWS[1]
    assert history.best("valid_accuracy") is ROWS[1]


def test_the_best_r2_is_the_highest():
    history = History([{"valid_r2": 0.5}, {"valid_r2": 0.9}, {"valid_r2": -2.0}])
    assert history.best("valid_r2") is history[1]


def test_nan_is_never_best():
    rows = [{"loss": math.nan}, {"loss": 2.0}, {"loss": math.nan}, {"loss": 1.0}]
    assert History(rows).best("loss") is rows[3]
    assert History(rows[:1]).best("loss") is rows[0]


def test_a_column_that_some_rows_lack_is_nan_there():
    history = History([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "valid_loss": 3.0}])
    assert history.columns == ["epoch", "loss", "valid_loss"]
    assert math.isnan(history["valid_loss"][0])
    assert history.best("valid_loss") is history[1]
    assert history.to_csv() == "epoch,loss,valid_loss\n1,2.0,\n2,1.0,3.0\n"


def test_csv_keeps_every_digit():
    rows = list(csv.DictReader(io.StringIO(History(ROWS).to_csv())))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == ROWS


def test_histories_share_no_rows():
    History().rows.append({"loss": 1.0})
    assert not History().rows
