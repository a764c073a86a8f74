import io
import os
import re
import sys
from types import SimpleNamespace

import pytest

from gpunn.train import live
from gpunn.train.history import History
from gpunn.train.live import LiveChart, chart


def rows(n, loss=lambda i: 10.0 ** -(i / 10)):
    return [{"epoch": i + 1, "loss": loss(i), "valid_loss": 2 * loss(i), "valid_accuracy": 0.5} for i in range(n)]


def test_a_falling_loss_falls_from_corner_to_corner():
    lines = chart(History([{"epoch": i + 1, "loss": 10.0 ** -(i / 10)} for i in range(21)]), 21, 32, 5)
    assert lines == [
        ". training   loss, logarithmic",
        "        1 |...",
        "          |   .....",
        "          |        .....",
        "          |             .....",
        "     0.01 |                  ...",
        "          +---------------------",
        "    epoch  1                  21",
    ]


def test_validation_is_drawn_over_training_on_one_scale():
    lines = chart(History(rows(11)), 11, 40, 8)
    assert lines[0] == ". training   o validation   loss, logarithmic"
    assert lines[1].split("|")[0].strip() == "2"
    assert lines[8].split("|")[0].strip() == "0.1"
    drawn = "".join(line.partition("|")[2] for line in lines[1:9])
    assert drawn.count("o") >= 29
    assert drawn.count(".") >= 20


def test_a_run_that_is_half_done_fills_half():
    lines = chart(History(rows(10)), 20, 60, 8)
    assert max(len(line) for line in lines[1:9]) == pytest.approx(10 + 49 * 9 / 19, abs=2)


def test_steep_parts_have_no_holes():
    lines = chart(History([{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.0}, {"epoch": 3, "loss": 1.0}]), 3, 18, 9)
    assert lines[0].endswith("   loss")  # 0 has no logarithm
    columns = list(zip(*(line[11:].ljust(7) for line in lines[1:10]), strict=True))
    assert all("." in column for column in columns)
    assert all("." in line[11:] for line in lines[1:10])


@pytest.mark.parametrize(("width", "height"), [(79, 14), (40, 6), (23, 3), (5, 1)])
@pytest.mark.parametrize("n", [0, 1, 2, 200])
def test_any_size_can_be_drawn(width, height, n):
    lines = chart(History(rows(n)), max(n, 1), width, height)
    assert len(lines) == max(height, 3) + 3
    assert all(len(line) <= max(width, 45) for line in lines)
    assert all(line.isascii() and line.isprintable() for line in lines)


def test_values_that_are_not_there_or_equal_are_no_error():
    history = History([{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 1.0, "valid_loss": 1.0}])
    assert any("o" in line[11:] for line in chart(history, 2, 40, 4)[1:5])


class Terminal(io.StringIO):
    def isatty(self):
        return True


def screen(written):
    """The lines that a terminal shows after this was written to it."""
    lines, at = [""], 0
    for piece in re.findall(r"\x1b\[\d*[AJ]|\n|[^\x1b\n]+", written):
        if piece.endswith("A") and piece.startswith("\x1b"):
            at -= int(piece[2:-1])
        elif piece == "\x1b[J":
            del lines[at:]
            lines.append("")
        elif piece == "\n":
            at += 1
            lines += [""] * (at == len(lines))
        else:
            lines[at] = piece
    return lines


@pytest.mark.parametrize("columns", [120, 80, 30])
def test_each_picture_takes_the_place_of_the_one_before(monkeypatch, columns):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(live, "_EVERY", -1.0)
    monkeypatch.setattr(live.shutil, "get_terminal_size", lambda: os.terminal_size((columns, 24)))
    print("before")
    shown, history = LiveChart(), History()
    trainer = SimpleNamespace(epoch=0, batch=0, history=history)
    shown.on_start(trainer, 4, 2)
    for row in rows(4):
        trainer.batch = 1
        shown.on_step(trainer)
        trainer.epoch, trainer.batch = trainer.epoch + 1, 0
        history.rows.append(row)
        shown.on_epoch(trainer, row)
    shown.on_end(trainer)
    lines = screen(terminal.getvalue())
    width = min(columns - 1, 80)
    assert lines[0] == "before"
    assert lines[1:-2] == [line[:width] for line in chart(history, 4, width, 14)]
    assert lines[-2:] == ["epoch 4 of 4  loss 0.5012  valid loss 1.002  valid accuracy 50.00%"[:width], ""]
    assert "epoch 2 of 4, batch 1 of 2" in terminal.getvalue()


def test_pictures_are_not_drawn_too_often(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(live, "_EVERY", 1e9)
    shown, trainer = LiveChart(), SimpleNamespace(epoch=0, batch=1, history=History())
    shown.on_start(trainer, 4, 2)
    for _ in range(5):
        shown.on_step(trainer)
    assert terminal.getvalue().count("+---") == 1


def test_only_a_terminal_can_be_drawn_on(monkeypatch):
    assert not LiveChart.possible()
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert LiveChart.possible()
    monkeypatch.setenv("TERM", "dumb")
    assert not LiveChart.possible()


def test_below_the_chart_stand_all_figures_of_the_last_epoch():
    row = {"epoch": 3, "loss": 2.0, "valid_loss": 3.0, "valid_r2": 0.25}
    trainer = SimpleNamespace(epoch=3, batch=0, history=History([row]))
    assert LiveChart()._state(trainer) == "epoch 3 of 0  loss 2  valid loss 3  valid r2 0.2500"
