import numpy as np
import pytest

import gpunn as gn
from gpunn.testing import assert_close


def test_each_image_comes_as_it_is_and_shifted_four_ways(backend):
    x = np.arange(1, 25, dtype="uint8").reshape(2, 12)
    data = gn.Dataset(backend.asarray(x), backend.asarray([7, 8]), (3, 4, 1))
    more = gn.data.expand_by_shifts(data)
    images = gn.to_host(more.images)[..., 0]
    assert images.dtype == np.uint8
    assert gn.to_host(more.y).tolist() == [7, 8] * 5
    as_it_is, down, up, right, left = images.reshape(5, 2, 3, 4)
    original = x.reshape(2, 3, 4)
    np.testing.assert_array_equal(as_it_is, original)
    for moved, axis, by in ((down, 1, 1), (up, 1, -1), (right, 2, 1), (left, 2, -1)):
        expected = np.roll(original, by, axis=axis)
        np.moveaxis(expected, axis, 0)[0 if by == 1 else -1] = 0
        np.testing.assert_array_equal(moved, expected)


def test_rows_that_are_no_images_cannot_be_shifted():
    with pytest.raises(gn.DataError, match="not images"):
        gn.data.expand_by_shifts(gn.Dataset(np.ones((2, 4)), np.ones(2)))


IMAGES = np.random.default_rng(17).random((3, 9, 8, 2))
CHANGES = [gn.data.RandomAffine(2.5, 30.0, 0.2), gn.data.Elastic(8.0, 2.0), gn.data.CutOut(3)]


class Fixed:
    """A generator that gives what it is told."""

    def __init__(self, *values):
        self.values = iter(values)

    def uniform(self, low, high, shape):
        return np.broadcast_to(np.asarray(next(self.values), dtype=float), shape)

    def integers(self, high, size):
        return np.broadcast_to(next(self.values), size)


@pytest.mark.parametrize("change", CHANGES, ids=repr)
def test_every_backend_changes_images_alike_and_leaves_them_as_they_were(backend, change):
    images = backend.asarray(IMAGES)
    expected = change(IMAGES, np.random.default_rng(1))
    assert not np.allclose(expected, IMAGES)
    assert_close(change(images, np.random.default_rng(1)), expected, like=images, rtol=1e-12, atol=1e-14)
    assert_close(images, IMAGES, like=images)
    assert change(backend.asarray(IMAGES, "float32"), np.random.default_rng(1)).dtype == backend.device.dtype("float32")


def test_no_change_is_no_change(backend):
    images = backend.asarray(IMAGES)
    for change in (gn.data.RandomAffine(), gn.data.Elastic(alpha=0.0)):
        assert_close(change(images, np.random.default_rng(1)), IMAGES, like=images, rtol=1e-12, atol=1e-14)


def test_images_are_moved_by_whole_and_half_pixels():
    moved = gn.data.RandomAffine(shift=3)(IMAGES, Fixed(np.array([2.0, -1.0]).reshape(2, 1, 1, 1), 0.0, 0.0))
    expected = np.zeros_like(IMAGES)
    expected[:, 2:, :-1] = IMAGES[:, :-2, 1:]
    np.testing.assert_allclose(moved, expected, atol=1e-12)
    half = gn.data.RandomAffine(shift=3)(IMAGES, Fixed(np.array([0.0, 0.5]).reshape(2, 1, 1, 1), 0.0, 0.0))
    np.testing.assert_allclose(half[:, :, 1:], (IMAGES[:, :, 1:] + IMAGES[:, :, :-1]) / 2, atol=1e-12)


def test_images_are_turned_and_scaled_about_their_middle():
    square = IMAGES[:, :7, :7]
    turned = gn.data.RandomAffine(rotate=90)(square, Fixed(0.0, 90.0, 0.0))
    expected = [np.rot90(image, k) for image in square for k in (1, -1)]
    assert any(np.allclose(turned[0], e, atol=1e-9) for e in expected)
    twice = gn.data.RandomAffine(scale=0.99)(square, Fixed(0.0, 0.0, 1.0))  # twice the size
    np.testing.assert_allclose(twice[:, 3, 3], square[:, 3, 3], atol=1e-9)
    np.testing.assert_allclose(twice[:, 5, 1], square[:, 4, 2], atol=1e-9)
    np.testing.assert_allclose(twice[:, 4, 3], (square[:, 3, 3] + square[:, 4, 3]) / 2, atol=1e-9)


def test_rubber_is_bent_smoothly():
    """A field that is the same everywhere moves the image, by less towards the edges, beyond which there is nothing."""
    field = np.stack([np.ones((1, 41, 41)), np.zeros((1, 41, 41))])
    image = np.random.default_rng(2).random((1, 41, 41, 1))
    bent = gn.data.Elastic(alpha=2.0, sigma=3.0)(image, Fixed(field))
    np.testing.assert_allclose(bent[0, 18:22, 18:22], image[0, 20:24, 18:22], atol=0.02)  # far from the edges by alpha
    fields = np.random.default_rng(3).uniform(-1, 1, (1, 41))
    smooth = fields @ gn.data.Elastic(1.0, 4.0)._blur(41).T
    assert np.abs(np.diff(smooth)).max() < 0.2 * np.abs(np.diff(fields)).max()


def test_a_square_is_cut_out():
    cut = gn.data.CutOut(3)(np.ones((2, 6, 7, 1)), Fixed(np.array([[2], [0]]), np.array([[3], [6]])))
    assert cut[0].sum() == 42 - 9
    assert not cut[0, 1:4, 2:5].any()
    assert cut[1].sum() == 42 - 4  # what lies outside the image is not there to be cut
    assert not cut[1, :2, 5:].any()


def test_batches_are_changed_anew_and_the_same_on_every_backend(backend):
    x, y = np.random.default_rng(4).integers(0, 256, (10, 72)).astype("uint8"), np.arange(10)
    more = {"seed": 3, "augment": CHANGES, "image_shape": (9, 8, 1)}
    here = gn.Batches(x, y, 4, **more)
    there = gn.Batches(backend.asarray(x), backend.asarray(y), 4, **more)
    plain = gn.Batches(x, y, 4, seed=3)
    for epoch in (0, 1):
        for (a, _), (b, _), (p, _) in zip(here.epoch(epoch), there.epoch(epoch), plain.epoch(epoch), strict=True):
            assert a.shape == p.shape
            assert not np.allclose(a, p)
            np.testing.assert_allclose(gn.to_host(b), a, atol=1e-5)
    assert not np.allclose(next(here.epoch(0))[0].sum(), next(here.epoch(1))[0].sum())
    later = list(here.epoch(1))[2][0]
    assert np.array_equal(next(here.epoch(1, start=2))[0], later)  # a resumed epoch goes on with the same changes


def test_a_trainer_augments_what_it_trains_on_alone():
    train, test = gn.datasets.digits()
    t = gn.Trainer(gn.Sequential(gn.Linear(64, 10)), device="cpu")
    seen = []

    def look(images, rng):
        seen.append(images.shape)
        return images

    t.fit(train[:50], valid=test[:20], epochs=1, batch_size=20, augment=look)
    assert seen == [(20, 8, 8, 1), (20, 8, 8, 1), (10, 8, 8, 1)]
    images = train.images[:50]
    gn.Trainer(gn.Sequential(gn.Flatten(), gn.Linear(64, 10)), device="cpu").fit(
        (images, train.y[:50]), epochs=1, batch_size=50, augment=[look, gn.data.CutOut(2)]
    )
    assert seen[-1] == (50, 8, 8, 1)
    with pytest.raises(gn.DataError, match=r"what can be augmented are images .* inputs are of shape \(64,\)"):
        t.fit((train.x, train.y), augment=gn.data.CutOut(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gn.data.RandomAffine(shift=-1), "RandomAffine: shift must be at least 0, got -1"),
        (lambda: gn.data.RandomAffine(rotate=200), "RandomAffine: rotate must be at least 0 and at most 180, got 200"),
        (lambda: gn.data.RandomAffine(scale=1.0), "RandomAffine: scale must be at least 0 and below 1, got 1.0"),
        (lambda: gn.data.Elastic(sigma=0.0), "Elastic: sigma must be above 0, got 0.0"),
        (lambda: gn.data.CutOut(0), "CutOut: size must be a whole number, 1 or more, got 0"),
    ],
)
def test_amounts_out_of_range_are_named(make, message):
    with pytest.raises(gn.OptionError, match=message):
        make()


def test_what_is_no_augmentation_is_named():
    x, y = IMAGES, np.arange(3)
    assert len(gn.Batches(x, y, 2, augment=gn.data.CutOut(2)).augment) == 1
    assert gn.Batches(x, y, 2, augment=gn.data.RandomAffine).augment == [gn.data.RandomAffine()]
    assert gn.Batches(x, y, 2, augment=None).augment == []
    with pytest.raises(gn.OptionError, match="an augmentation must be an instance of Callable, got 'x'"):
        gn.Batches(x, y, 2, augment=["x"])
    with pytest.raises(gn.OptionError, match="an augmentation must be an instance of Callable, got True"):
        gn.Batches(x, y, 2, augment=True)
