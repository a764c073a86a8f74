import sys

import pytest

from gpunn.errors import OptionError
from gpunn.train import run
from gpunn.train.config import Config
from gpunn.train.tensorboard import summary_writer

SMALL = {"hidden": [8], "epochs": 2, "schedule": "constant", "device": "cpu"}
pytestmark = pytest.mark.usefixtures("own_folder")


def written(folder):
    """{(name, epoch): value} of all event files, the later ones over the earlier."""
    from tensorboardX.proto import event_pb2

    found = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:  # records: length, checksum, event, checksum
            length = int.from_bytes(data[:8], "little")
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
    return found


def test_the_history_is_written_and_goes_on():
    pytest.importorskip("tensorboardX")
    folder, _ = run.train(Config.of(SMALL), "run", quiet=True, tensorboard=True)
    run.train(run.run_config("run", {"epochs": 3}), resume="run", quiet=True, tensorboard=True)
    found = written(folder / "tensorboard")
    assert {name for name, _ in found} == {"loss", "valid_loss", "valid_accuracy", "lr", "seconds"}
    lines = (folder / "history.csv").read_text().splitlines()
    loss = lines[0].split(",").index("loss")
    assert [found["loss", epoch] for epoch in (1, 2, 3)] == [
        pytest.approx(float(line.split(",")[loss]), rel=1e-6) for line in lines[1:]
    ]


def test_without_tensorboardx_it_is_said_before_anything_is_done(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(OptionError, match=r'^tensorboard needs tensorboardX: pip install "gpunn\[tensorboard\]"$'):
        summary_writer()
    with pytest.raises(OptionError, match="tensorboard needs"):
        run.train(Config.of(SMALL), "run", quiet=True, tensorboard=True)
    assert not list(tmp_path.iterdir())
