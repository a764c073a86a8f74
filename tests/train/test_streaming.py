"""Fits on data that stay on the host beside those on data on the GPU: a stand-in for one, see fake_cupy.py."""

import itertools
import sys
import warnings
import weakref

import numpy as np
import pytest

import gpunn as gn
from gpunn.data import streamed
from gpunn.kernels.cuda import cudnn
from gpunn.train import loader
from tests.train.callbacks import StopAfter
from tests.train.greedy import Greedy

pytestmark = pytest.mark.filterwarnings("ignore:the data take")
rng = np.random.default_rng(4)
X = rng.standard_normal((76, 6)).astype("float32")
BYTES = rng.integers(0, 256, (76, 6)).astype("uint8")
LABELS = rng.integers(0, 3, 76)


@pytest.fixture
def streams(fake_gpu, monkeypatch):
    """A function that has data stay on the host, or not, from now on."""

    def streams(yes, chunk=400):  # bytes: two batches of eight rows of X
        monkeypatch.setattr(loader, "SHARE", 0.0 if yes else 0.5)
        monkeypatch.setattr(streamed, "CHUNK", chunk)

    yield streams
    assert not fake_gpu.state.copies  # no memory was given back while a copy was on its way


def made(fake_gpu, graph=True, net=None, loss=None, **options):
    net = net or gn.Sequential(gn.Linear(6, 5), gn.Tanh(), gn.Dropout(0.3), gn.Linear(5, 3))
    return gn.Trainer(net, loss, gn.Adam(0.05), device=fake_gpu.device, graph=graph, **options)


def ends(t, losses):
    losses = losses.rows if isinstance(losses, gn.History) else losses
    for row in losses:
        row.pop("seconds", None)
    return losses, t.steps, [gn.to_host(a).tolist() for a in t._kept()]


def alike(fake_gpu, streams, fit, make=made, how=True, **chunk):
    """Fit with data on the GPU, and with data that stay on the host: the same numbers, bit for bit."""
    found = []
    for yes in (False, True):
        streams(yes, **chunk)
        fake_gpu.state.replays = 0
        fake_gpu.state.pinned.clear()
        t = make(fake_gpu, how)
        found.append(ends(t, fit(t)))
        assert bool(fake_gpu.state.pinned) == yes
        assert (fake_gpu.state.replays > 2) == how
    assert found[0] == found[1]


@pytest.mark.parametrize("how", [False, True])
@pytest.mark.parametrize("chunk", [1, 400, 1 << 25])
def test_the_numbers_are_those_of_data_on_the_gpu(fake_gpu, streams, how, chunk):
    alike(fake_gpu, streams, lambda t: t.fit((X, LABELS), epochs=4, batch_size=8), how=how, chunk=chunk)


@pytest.mark.parametrize("dtype", ["bfloat16", "tf32"])
@pytest.mark.parametrize("how", [False, True])
def test_convolutions_by_cudnn_in_parts_for_want_of_memory(fake_gpu, dnn, streams, how, dtype):
    """What makes a step fast, and what lets it be done at all, go together."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    images = rng.integers(0, 256, (76, 6, 6, 1)).astype("uint8")

    def make(gpu, how):
        convolutions = gn.Conv2d(1, 4, 3), Greedy(4), gn.Conv2d(4, 2, 3), gn.BatchNorm(2), gn.ReLU()
        net = gn.Sequential(*convolutions, gn.Flatten(), gn.Linear(8, 3))
        return made(gpu, how, net, dtype=dtype)

    def fit(t):
        with pytest.warns(RuntimeWarning, match="parts of 4 rows"):
            history = t.fit((images, LABELS), valid=0.2, epochs=2, batch_size=8)
        answers = t.predict(images, batch_size=16)
        return [*history.rows, t.evaluate((images, LABELS)), {"answers": answers.tolist()}]

    alike(fake_gpu, streams, fit, make, how, chunk=700)
    assert {spec.result for (_, spec), plan in cudnn._plans.items() if plan.engine is not None} == {"x", "W", "y"}


@pytest.mark.parametrize("x", [BYTES, X.astype("float64"), X.astype("float16")], ids=lambda x: x.dtype.name)
@pytest.mark.parametrize("how", [False, True])
def test_types_of_numbers(fake_gpu, streams, how, x):
    alike(fake_gpu, streams, lambda t: t.fit((x, LABELS), epochs=1, batch_size=8), how=how)


def test_rows_that_lie_column_after_column(fake_gpu, streams):
    x = np.asfortranarray(X)
    alike(fake_gpu, streams, lambda t: t.fit((x, LABELS), epochs=1, batch_size=8), how=False)


@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": False},
        {"shuffle": lambda epoch, n: np.roll(np.arange(n), epoch)},
        {"drop_last": True},
        {"valid": (X[:30], LABELS[:30])},
        {"valid": 0.25, "restore_best": True},
        {"batch_size": 7},
    ],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("how", [False, True])
def test_options_of_a_fit(fake_gpu, streams, options, how):
    alike(fake_gpu, streams, lambda t: t.fit((X, LABELS), **{"epochs": 4, "batch_size": 8} | options), how=how)


def test_an_order_with_numbers_from_the_end(fake_gpu, streams):
    fit = {"epochs": 2, "batch_size": 8, "shuffle": lambda epoch, n: -1 - np.arange(n)}
    alike(fake_gpu, streams, lambda t: t.fit((X, LABELS), **fit), how=False)
    streams(True)
    with pytest.raises(gn.DataError, match=r"the order has shape \(70,\), expected \(76,\)"):
        made(fake_gpu).fit((X, LABELS), shuffle=lambda epoch, n: np.arange(70))


def test_rows_of_different_weight(fake_gpu, streams):
    def make(gpu, how):
        return made(gpu, how, loss=gn.losses.Weighted(gn.SoftmaxCrossEntropy()))

    weights = rng.random(76)
    alike(fake_gpu, streams, lambda t: t.fit((X, (LABELS, weights)), epochs=2, batch_size=8), make)


def test_targets_that_are_numbers(fake_gpu, streams):
    def make(gpu, how):
        return made(gpu, how, gn.mlp([6, 6], output="identity"), gn.MeanSquaredError())

    alike(fake_gpu, streams, lambda t: t.fit((X, X.astype("float64") ** 2), epochs=2, batch_size=8), make)


@pytest.mark.parametrize("x", [BYTES, X], ids=["bytes", "numbers"])
@pytest.mark.parametrize("how", [False, True])
def test_augmented_images(fake_gpu, streams, how, x):
    images, augment = x.reshape(76, 2, 3, 1), gn.data.RandomAffine(shift=1.0)

    def make(gpu, how):
        return made(gpu, how, gn.Sequential(gn.Flatten(), gn.Linear(6, 3)))

    alike(fake_gpu, streams, lambda t: t.fit((images, LABELS), epochs=2, batch_size=8, augment=augment), make, how)


@pytest.mark.parametrize("how", [False, True])
@pytest.mark.parametrize("stop", [*(pytest.param(n, marks=pytest.mark.slow) for n in (1, 23)), 14])
def test_a_fit_that_is_stopped_goes_on(fake_gpu, streams, tmp_path, how, stop):
    """In the middle of a chunk, while the next one is on its way; from a checkpoint, data on the GPU or not."""
    found = []
    for before, after in itertools.product((False, True), repeat=2):
        streams(before)
        t = made(fake_gpu, how)
        t.fit((X, LABELS), epochs=4, batch_size=8, callbacks=StopAfter(stop))
        assert t.steps == stop
        assert not fake_gpu.state.copies
        gn.save_checkpoint(tmp_path / "c", t)
        streams(after)
        other = made(fake_gpu, how)
        gn.load_checkpoint(tmp_path / "c", other)
        found.append(ends(other, other.fit((X, LABELS), epochs=3, batch_size=8)))
        streams(before)
        found.append(ends(t, t.fit((X, LABELS), epochs=3, batch_size=8)))
    assert all(one == found[0] for one in found)


def test_evaluate_and_predict(fake_gpu, streams):
    found = []
    for yes in (False, True):
        streams(yes)
        t = made(fake_gpu)
        answers = t.predict(X, batch_size=8)
        assert isinstance(answers, np.ndarray)
        found.append((t.evaluate((X, LABELS), batch_size=8), t.evaluate((BYTES, LABELS)), answers.tolist()))
        identity = gn.Trainer(gn.Sequential(gn.Linear(6, 6), gn.Identity()), gn.MeanSquaredError(), device=t.device)
        found[-1] += (identity.predict(X, batch_size=5).tolist(),)
    assert found[0] == found[1]


def test_answers_where_the_memory_does_not_suffice_for_so_many_rows(fake_gpu, streams):
    class Small(gn.Tanh):
        def infer(self, x):
            if x.shape[0] > 7:
                raise MemoryError
            return super().infer(x)

    found = []
    for yes in (False, True):
        streams(yes)
        t = made(fake_gpu, net=gn.Sequential(gn.Linear(6, 5), Small(), gn.Linear(5, 3)))
        found.append((t.predict(X, batch_size=26).tolist(), t.evaluate((X, LABELS), batch_size=26)))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-6)
    assert found[0][1] == pytest.approx(found[1][1])


def test_the_first_rows_after_others_in_pieces_of_another_size(fake_gpu, streams):
    """As the next epoch asks for them, where the memory was too small in the middle of validation data."""
    streams(True, chunk=700)
    x = gn.data.streamed.Streamed(X, fake_gpu.device, "float32")
    for first, size in ((13, 13), (0, 13), (13, 13), (26, 26), (52, 7), (59, 7), (0, 26)):
        assert np.array_equal(gn.to_host(x.rows(first, size)), X[first : first + size])


def test_answers_are_put_together_on_the_host(fake_gpu, streams, monkeypatch):
    streams(True)
    t = made(fake_gpu)

    def concat(*_, **__):
        raise MemoryError

    monkeypatch.setattr(type(fake_gpu.device.xp), "concat", concat, raising=False)
    assert t.predict(X, batch_size=8).shape == (76, 3)


def test_a_loss_that_is_not_finite_is_found_as_ever(fake_gpu, streams):
    class Jump(gn.SGD):
        def learning_rate(self, done):
            return 1e30 if done == 14 else 0.01

    found = []
    for yes, how in itertools.product((False, True), repeat=2):
        streams(yes)
        t = gn.Trainer(gn.mlp([6, 5, 3]), None, Jump(0.01), device=fake_gpu.device, graph=how)
        try:
            t.fit((X, LABELS), epochs=5, batch_size=8)
        except gn.Diverged as error:
            found.append((str(error), t.steps, t.batch))
    assert len(found) == 4
    assert all(one == found[0] for one in found)


def test_gaps_are_found_with_the_number_of_their_row(fake_gpu, streams):
    streams(True)
    x = np.concatenate([X] * 20)
    x[1403, 2] = np.nan
    data, t = (x, np.zeros(len(x), int)), made(fake_gpu)
    for use in (lambda: t.predict(x), lambda: t.evaluate(data), lambda: t.fit(data)):
        with pytest.raises(gn.DataError, match="the inputs contain NaN or infinity, first in row 1403, in float32"):
            use()
    assert t.steps == 0
    x = x.astype("float64")
    x[1402, 1] = 1e300
    with pytest.raises(gn.DataError, match="first in row 1402, in float32"):
        made(fake_gpu).predict(x)


def test_data_are_read_once_to_be_used_once(fake_gpu, streams, monkeypatch):
    streams(True)
    read, take = [], streamed.Streamed._taken

    def taken(self, first, last, *more):
        read.append((last - first) * (self.shape == X.shape))
        return take(self, first, last, *more)

    monkeypatch.setattr(streamed.Streamed, "_taken", taken)
    made(fake_gpu).predict(X, batch_size=8)
    assert sum(read) == 76
    read.clear()
    made(fake_gpu).evaluate((X, LABELS), batch_size=8)
    assert sum(read) < 2 * 76  # two chunks come with the first row, which the network is tried on


def test_too_little_memory_for_the_chunks(fake_gpu, streams, monkeypatch):
    def fails(error, size):
        def make(*args):
            if args[0] == size:
                raise error
            return np.zeros(args[0], np.uint8)

        return make

    streams(True)
    found = r"data that stay on the host pass through 0.0 MiB on the GPU, .* \(.*out of memory\): a smaller batch_size"
    x = streamed.Streamed(X, fake_gpu.device, "float32")
    with monkeypatch.context() as patched:
        patched.setattr("gpunn.kernels.cuda.module.empty", fails(MemoryError("out of memory"), (32, 6)))
        with pytest.raises(gn.OutOfMemory, match=found):
            x.begin(16)
    for error, raised in (
        (RuntimeError("cudaErrorMemoryAllocation: out of memory"), pytest.raises(gn.OutOfMemory, match=found)),
        (RuntimeError("cudaErrorLaunchFailure"), pytest.raises(RuntimeError, match="LaunchFailure")),
    ):
        with monkeypatch.context() as patched, raised:
            patched.setattr(sys.modules["cupy"].cuda, "alloc_pinned_memory", fails(error, 16 * 24))
            x.begin(16)


# --- when data are streamed


def test_what_takes_more_than_half_of_the_free_memory_stays_on_the_host(fake_gpu, streams, monkeypatch):
    x, labels = np.zeros((128, 128), "float32"), np.zeros(128, int)  # 64 KiB, and 1 KiB

    def stays(free, **options):
        fake_gpu.state.pinned.clear()
        monkeypatch.setattr(type(fake_gpu.device.native), "mem_info", (int(free * 1024), 1 << 20))
        loss = gn.losses.Weighted(gn.SoftmaxCrossEntropy()) if "y" in options else None
        t = made(fake_gpu, net=gn.Linear(128, 3), loss=loss)
        t.fit((options.pop("x", x), options.pop("y", labels)), epochs=1, batch_size=64, **options)
        return bool(fake_gpu.state.pinned)

    assert not stays(2 * 65)
    assert stays(2 * 65 - 1)
    assert not stays(4 * 65, valid=0.5)
    assert stays(4 * 65 - 1, valid=0.5)
    assert not stays(2 * 17, x=x.astype("uint8"))
    assert stays(2 * 17 - 1, x=x.astype("uint8"))
    weighted = labels.tolist(), np.ones(128)  # 1 KiB each
    assert not stays(2 * 66, y=weighted)
    assert stays(2 * 66 - 1, y=weighted)
    assert not stays(1, x=fake_gpu.device.asarray(x))  # what lies there already is used
    found = "^the data take 0.1 MiB, which is more than 50% of the 0.1 MiB that are free on cuda:0: they stay on "
    monkeypatch.setattr(type(fake_gpu.device.native), "mem_info", (100_000, 1 << 20))
    t = made(fake_gpu, net=gn.Linear(128, 3))
    with pytest.warns(RuntimeWarning, match=found) as said:
        t.fit((x, labels), valid=(x, labels), epochs=1, batch_size=64)
    assert len(said) == 1
    found = "^the data take 0.1 MiB, and once more to be split, which is more than 50% of the 0.1 MiB that are free"
    with pytest.warns(RuntimeWarning, match=found):
        made(fake_gpu, net=gn.Linear(128, 3)).fit((x, labels), valid=0.5, epochs=1, batch_size=64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        t.predict(x)


def test_data_of_the_fit_before_do_not_count(fake_gpu, streams, monkeypatch):
    """The graphs hold them: not when it is measured what fits."""
    t, given = made(fake_gpu), fake_gpu.device.asarray(X)
    t.fit((X, LABELS), epochs=3, batch_size=8)
    (held,) = {id(step.data[0]): weakref.ref(step.data[0]) for step in t._graphs._steps.values()}.values()
    fits, dead = loader.Loader._fits, []

    def look(*args, **named):
        dead.append(held() is None)
        return fits(*args, **named)

    monkeypatch.setattr(loader.Loader, "_fits", look)
    t.fit((X, LABELS), epochs=1, batch_size=8)
    assert dead == [True]
    data = given, fake_gpu.device.asarray(LABELS)  # but graphs of what the caller has there are used again
    t.fit(data, epochs=3, batch_size=8)
    steps = list(t._graphs._steps.values())
    t.fit(data, epochs=3, batch_size=8)
    assert list(t._graphs._steps.values()) == steps


def test_a_file_that_is_mapped(fake_gpu, streams, tmp_path):
    np.save(tmp_path / "x.npy", X.astype("float64"))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    alike(fake_gpu, streams, lambda t: t.fit((mapped, LABELS), valid=0.2, epochs=3, batch_size=8))


def test_chunks_are_of_a_size_that_suits_both_inputs_and_targets(fake_gpu, streams):
    """Rows of one byte, of which a chunk would be all, with targets of 512 bytes."""
    x, y = np.zeros((76, 1), "uint8"), rng.random((76, 128)).astype("float32")
    streams(True, chunk=16 * y[0].nbytes)
    made(fake_gpu, net=gn.Linear(1, 128), loss=gn.MeanSquaredError()).fit((x, y), epochs=1, batch_size=8)
    assert max(memory.nbytes for memory in fake_gpu.state.pinned) == 16 * y[0].nbytes


def test_batches_may_be_kept(fake_gpu, streams):
    streams(True)
    x, y = (gn.data.streamed.Streamed(a, fake_gpu.device, a.dtype.name) for a in (X, LABELS))
    kept = list(gn.Batches(x, y, 8, seed=3).epoch(1))
    for (x, y), (x_also, y_also) in zip(kept, gn.Batches(X, LABELS, 8, seed=3).epoch(1), strict=True):
        assert np.array_equal(gn.to_host(x), x_also)
        assert np.array_equal(gn.to_host(y), y_also)
