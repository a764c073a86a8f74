import io
import sys
from types import SimpleNamespace

import pytest

from gpunn.train import EpochTable

ROW = {"epoch": 1, "step": 3, "lr": 1e-3, "loss": 0.5, "valid_loss": 0.25, "valid_accuracy": 0.9, "seconds": 1.5}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def screen(written):
    """The lines a terminal shows once this was written to it."""
    lines = []
    for line in written.split("\n"):
        cells = []
        for piece in line.split("\r"):
            cells[: len(piece)] = piece
        lines.append("".join(cells).rstrip())
    return lines


def epoch(table, batches=3, row=ROW, start=0):
    trainer = SimpleNamespace(epoch=row["epoch"] - 1, batch=start, stop=False)
    for _ in range(start, batches):
        trainer.batch += 1
        table.on_step(trainer)
    table.on_epoch(trainer, row)


def test_a_line_per_epoch_under_one_heading(capsys):
    table = EpochTable()
    table.on_start(None, 2, 3)
    epoch(table)
    epoch(table, row=ROW | {"epoch": 2})
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "epoch        loss  valid loss  valid accuracy  learning rate  seconds",
        "    1      0.5000      0.2500          90.00%          0.001     1.50",
        "    2      0.5000      0.2500          90.00%          0.001     1.50",
    ]
    assert err == ""


def test_columns_that_were_not_measured_are_left_out(capsys):
    table = EpochTable()
    table.on_start(None, 1, 3)
    epoch(table, row={"epoch": 1, "lr": 1.0, "loss": 2.0, "seconds": 0.0})
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.split() == ["epoch", "loss", "learning", "rate", "seconds"]
    assert line.split() == ["1", "2.0000", "1", "0.00"]


@pytest.mark.parametrize(
    ("loss", "text"),
    [(0.0, "0.0000"), (2e-4, "0.0002"), (1.5e-7, "1.500e-07"), (99999.0, "99999.0000"), (2e12, "2.000e+12")],
)
def test_every_loss_fits_its_column(capsys, loss, text):
    table = EpochTable()
    table.on_start(None, 1, 3)
    epoch(table, row=ROW | {"loss": loss})
    heading, line = capsys.readouterr().out.splitlines()
    assert line.split()[1] == text
    assert len(heading) == len(line)


def test_a_terminal_shows_a_bar_that_leaves_nothing_behind(capsys, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    table = EpochTable()
    table.on_start(None, 1, 3)
    epoch(table)
    assert "epoch 1:   0%|" in terminal.getvalue()
    assert "0/3" in terminal.getvalue()
    assert screen(terminal.getvalue()) == [""]
    assert "|" not in capsys.readouterr().out


def test_the_bar_of_a_resumed_epoch_begins_where_that_stands(capsys, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    table = EpochTable()
    table.on_start(None, 1, 4)
    epoch(table, batches=4, start=2)
    assert "2/4" in terminal.getvalue()
    assert "0/4" not in terminal.getvalue()


def test_a_fit_that_is_stopped_takes_the_bar_away(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    table = EpochTable()
    table.on_start(None, 1, 4)
    table.on_step(SimpleNamespace(epoch=0, batch=1))
    assert screen(terminal.getvalue()) != [""]
    table.on_end(None)
    assert screen(terminal.getvalue()) == [""]


def test_elsewhere_there_are_no_control_characters(capsys):
    table = EpochTable()
    table.on_start(None, 1, 3)
    epoch(table)
    out, err = capsys.readouterr()
    assert all(c.isprintable() or c == "\n" for c in out + err)
