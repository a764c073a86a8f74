import numpy as np
import pytest

import gpunn as gn
from gpunn.device import to_host
from gpunn.errors import FileError, OptionError
from gpunn.train import histograms
from gpunn.train.histograms import BINS

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((40, 5)), RNG.integers(0, 3, 40)


def trainer_on(device="cpu", sizes=(5, 7, 3)):
    net = gn.mlp(sizes, output="softmax")
    return gn.Trainer(net, gn.SoftmaxCrossEntropy(), gn.SGD(0.5), device=device, dtype="float64")


class Spy(gn.Callback):
    """Copies of all values and gradients after every epoch."""

    def __init__(self):
        self.seen = []

    def on_epoch(self, trainer, row):
        params = trainer.net.params().items()
        self.seen.append(
            {("value", n): np.array(to_host(p.value)) for n, p in params}
            | {("gradient", n): np.array(to_host(p.grad)) for n, p in params}
        )


def test_they_are_the_histograms_and_lengths_of_every_epoch(backend):
    trainer, kept, spy = trainer_on(backend.device), gn.Histograms(), Spy()
    trainer.fit((X, Y), epochs=3, batch_size=16, callbacks=[kept, spy])
    assert kept.epochs == [1, 2, 3]
    assert kept.names == ["linear1.W", "linear1.b", "linear2.W", "linear2.b"]
    assert kept.counts.keys() == kept.ranges.keys() == kept.norms.keys() == spy.seen[0].keys()
    for key, counts in kept.counts.items():
        for e, seen in enumerate(spy.seen):
            low, high = kept.ranges[key][e]
            assert (low, high) == (seen[key].min(), seen[key].max())
            np.testing.assert_array_equal(counts[e], np.histogram(seen[key], BINS, (low, high))[0])
            assert kept.norms[key][e] == pytest.approx(np.linalg.norm(seen[key]))


@pytest.mark.parametrize(
    ("numbers", "counted"),
    [
        ([0.0] * 5, 5),
        ([3.0], 1),
        ([1e-40, 2e-40, -1e-40], 3),
        ([1e30, -1e30], 2),
        ([1.0, np.nan, np.inf, 2.0], 2),
        ([np.nan], 0),
    ],
)
def test_any_numbers_can_be_counted(numbers, counted):
    with np.errstate(all="raise", under="ignore", invalid="ignore"):
        counts, (low, high), norm = histograms._histogram(np.array(numbers, dtype=np.float32))
    assert counts.sum() == counted
    assert low < high
    assert np.isfinite([low, high, norm]).all()


def test_long_runs_are_thinned_and_keep_the_last_epoch(monkeypatch):
    monkeypatch.setattr(histograms, "KEPT", 4)
    kept = gn.Histograms()
    trainer, lists = trainer_on(), []
    for _ in range(11):
        trainer.fit((X, Y), epochs=1, batch_size=40, callbacks=kept)
        lists.append(kept.epochs)
        assert all(len(rows) == len(kept.epochs) for rows in kept.counts.values())
    assert lists[3] == [1, 2, 3, 4]
    assert lists[4:9] == [[2, 4, 5], [2, 4, 6], [2, 4, 6, 7], [2, 4, 6, 8], [4, 8, 9]]
    assert lists[-1] == [4, 8, 11]


def test_a_run_that_goes_on_from_an_earlier_epoch_replaces_what_is_later():
    whole, kept = gn.Histograms(), gn.Histograms()
    trainer_on().fit((X, Y), epochs=4, batch_size=16, callbacks=whole)
    trainer_on().fit((X, Y), epochs=3, batch_size=16, callbacks=kept)  # of which the last is lost:
    trainer = trainer_on()
    trainer.fit((X, Y), epochs=2, batch_size=16)
    trainer.fit((X, Y), epochs=2, batch_size=16, callbacks=kept)
    assert kept.epochs == whole.epochs
    for key, norms in whole.norms.items():
        np.testing.assert_array_equal(kept.norms[key], norms)
        np.testing.assert_array_equal(kept.counts[key], whole.counts[key])


def test_a_file_gives_them_back(tmp_path):
    kept = gn.Histograms(tmp_path / "h.safetensors")
    trainer_on().fit((X, Y), epochs=2, callbacks=kept)
    again = gn.Histograms.load(tmp_path / "h.safetensors")
    assert (again.epochs, again.names) == (kept.epochs, kept.names)
    for part in ("counts", "ranges", "norms"):
        assert getattr(again, part).keys() == getattr(kept, part).keys()
        for key, rows in getattr(kept, part).items():
            np.testing.assert_array_equal(getattr(again, part)[key], rows)
    assert list(tmp_path.iterdir()) == [tmp_path / "h.safetensors"]


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "h.safetensors"
    with pytest.raises(FileError, match="there is no such file"):
        gn.Histograms.load(path)
    path.write_bytes(b"not a file")
    with pytest.raises(FileError, match="damaged"):
        gn.Histograms.load(path)
    gn.save(path, gn.mlp([2, 2]).init())
    with pytest.raises(FileError, match="holds a network, expected a histograms"):
        gn.Histograms.load(path)
    kept = gn.Histograms()
    trainer_on().fit((X, Y), epochs=2, callbacks=kept)
    kept.epochs = [1, 2, 3]
    kept.save(path)
    with pytest.raises(FileError, match=r"does not describe histograms: 2 rows of linear1\.W"):
        gn.Histograms.load(path)


def test_another_network_is_refused():
    kept = gn.Histograms()
    trainer_on().fit((X, Y), epochs=1, callbacks=kept)
    with pytest.raises(OptionError, match="of another network"):
        trainer_on(sizes=(5, 3)).fit((X, Y), epochs=1, callbacks=kept)
