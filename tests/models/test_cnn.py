import numpy as np
import pytest

import gpunn as gn

rng = np.random.default_rng(15)


def test_lenet_has_the_published_sizes():
    net = gn.models.lenet().init()
    assert net.store.size == 61_706  # LeCun's own sparse second convolution has fewer
    assert net.params()["conv2d2.W"].shape == (5, 5, 6, 16)
    assert [p.shape for name, p in net.params().items() if name.startswith("linear") and name.endswith("W")] == [
        (400, 120),
        (120, 84),
        (84, 10),
    ]


@pytest.mark.parametrize("make", [gn.models.lenet, gn.models.cnn])
def test_rows_and_images_of_any_size_are_taken(make):
    for image, n_classes in (((28, 28, 1), 10), ((13, 17, 3), 4)):
        net = make(image, n_classes).init()
        images = rng.random((2, *image), dtype="float32")
        p = net(images)
        assert p.shape == (2, n_classes)
        np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-5)
        np.testing.assert_array_equal(net(images.reshape(2, -1)), p)


@pytest.mark.parametrize("make", [gn.models.lenet, gn.models.cnn])
def test_they_learn(make):
    images = rng.normal(0.0, 0.3, (96, 12, 12, 1)).astype("float32")
    labels = np.arange(96) % 3
    images[labels == 1, 3:6] += 1.0  # a bar across, one down, or none
    images[labels == 2, :, 3:6] += 1.0
    t = gn.Trainer(make((12, 12, 1), 3), optimizer=gn.Adam(5e-3), device="cpu")
    t.fit((images, labels), epochs=15, batch_size=16)
    assert t.evaluate((images, labels))["accuracy"] == 1.0


def test_an_image_that_is_too_small_is_named():
    with pytest.raises(gn.ShapeError, match=r"does not fit on images of \(2, 2\)"):
        gn.models.lenet((4, 4, 1))


@pytest.mark.parametrize("make", [gn.models.lenet, gn.models.cnn])
def test_an_image_has_three_sizes(make):
    with pytest.raises(gn.OptionError, match=r"image must be \(height, width, channels\), such as .* got \(28, 28\)"):
        make((28, 28))
