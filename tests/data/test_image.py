import io

import numpy as np
import pytest

import gpunn as gn
from benchmarks.drawing import redrawn
from gpunn.data.datasets import mnist
from gpunn.data.image import read_image
from gpunn.errors import FileError

Image = pytest.importorskip("PIL.Image")

MNIST = {"image_shape": (28, 28, 1), "box": 20}


def saved(folder, pixels, name="a.png"):
    Image.fromarray(np.asarray(pixels, np.uint8)).save(folder / name)
    return folder / name


def stroke(light=255, dark=0):
    """An L, 180 pixels high and 120 wide, off the middle."""
    pixels = np.full((300, 300), dark)
    pixels[30:210, 150:174] = pixels[186:210, 150:270] = light
    return pixels


# --- pictures as they are


def test_a_picture_of_the_right_size_is_taken_as_it_is(tmp_path):
    pixels = np.arange(28 * 28).reshape(28, 28) % 256
    x = read_image(saved(tmp_path, pixels), MNIST)
    np.testing.assert_allclose(x, pixels.reshape(-1) / 255)
    np.testing.assert_allclose(read_image(tmp_path / "a.png", MNIST | {"white": 16.0}), x * 16)


def test_colours_are_kept_where_the_network_takes_them(tmp_path):
    pixels = np.arange(4 * 6 * 3).reshape(4, 6, 3)
    x = read_image(saved(tmp_path, pixels), {"image_shape": (4, 6, 3)})
    np.testing.assert_allclose(x, pixels.reshape(-1) / 255)
    doubled = saved(tmp_path, pixels.repeat(2, axis=0).repeat(2, axis=1))
    np.testing.assert_allclose(read_image(doubled, {"image_shape": (4, 6, 3)}), x)


def test_height_and_width_are_not_mixed_up(tmp_path):
    pixels = np.arange(20 * 30).reshape(20, 30) % 100
    x = read_image(saved(tmp_path, pixels), {"image_shape": (10, 15, 1)})
    expected = pixels.reshape(10, 2, 15, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(x.reshape(10, 15) * 255, expected, atol=0.51)


def test_without_a_box_dark_ink_on_light_paper_is_turned_light(tmp_path):
    about = {"image_shape": (50, 50, 1)}
    dark = read_image(saved(tmp_path, stroke()), about)
    np.testing.assert_allclose(read_image(saved(tmp_path, 255 - stroke()), about), dark)


# --- drawings, brought to where MNIST has them


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_a_drawing_is_centred_in_its_box(tmp_path, turn):
    x = read_image(saved(tmp_path, np.rot90(stroke(), turn)), MNIST).reshape(28, 28)
    rows, columns = x.sum(axis=1), x.sum(axis=0)
    sides = sorted(np.ptp(np.flatnonzero(sums > 0.5)) + 1 for sums in (rows, columns))
    assert sides[1] in (20, 21)
    assert sides[0] in (13, 14, 15)  # two thirds of it
    for sums in (rows, columns):
        assert abs((sums @ np.arange(28)) / sums.sum() - 14.0) < 0.1  # where MNIST has the centre of mass
    assert x.max() == 1.0


ALIKE = {
    "dark ink on light paper": 255 - stroke(),
    "pencil on grey paper": stroke(90, 170),
    "light on grey": stroke(200, 60),
    "on grainy paper": np.where(stroke(), 255, np.random.default_rng(0).integers(0, 30, (300, 300))),
    "in colours": np.dstack([stroke(240, 20), stroke(240, 20), stroke(240, 20)]),
    "black on nothing": np.dstack([stroke(0, 0)] * 3 + [stroke()]),
    "white on nothing": np.dstack([stroke(255, 255)] * 3 + [stroke()]),
    "opaque": np.dstack([255 - stroke()] * 3 + [stroke(255, 255)]),
}
MOVED = {
    "twice as large": stroke().repeat(2, axis=0).repeat(2, axis=1),
    "a third as large": stroke()[::3, ::3],
    "elsewhere": np.roll(stroke(), (75, -145), (0, 1)),
    "cut out": stroke()[28:212, 148:272],
}


@pytest.mark.parametrize("kind", ALIKE)
def test_the_same_drawing_on_any_paper_is_the_same_input(tmp_path, kind):
    expected = read_image(saved(tmp_path, stroke()), MNIST)
    np.testing.assert_allclose(read_image(saved(tmp_path, ALIKE[kind]), MNIST), expected, atol=2 / 255)


@pytest.mark.parametrize("kind", MOVED)
def test_the_same_drawing_of_any_size_and_place_is_the_same_input(tmp_path, kind):
    expected = read_image(saved(tmp_path, stroke()), MNIST)
    np.testing.assert_allclose(read_image(saved(tmp_path, MOVED[kind]), MNIST), expected, atol=0.2)


def test_white_on_nothing_is_seen_in_a_small_picture_too(tmp_path):
    digit = stroke()[::10, ::10]
    about = {"image_shape": (30, 30, 1)}
    pixels = np.dstack([np.full_like(digit, 255)] * 3 + [digit])
    np.testing.assert_allclose(read_image(saved(tmp_path, pixels), about) * 255, digit.reshape(-1), atol=1)


def test_a_card_with_round_corners_is_on_white_paper(tmp_path):
    alpha = np.full((300, 300), 255)
    alpha[:9, :9] = alpha[-9:, -9:] = 0
    card = np.dstack([255 - stroke()] * 3 + [alpha])
    expected = read_image(saved(tmp_path, stroke()), MNIST)
    np.testing.assert_allclose(read_image(saved(tmp_path, card), MNIST), expected, atol=2 / 255)


def test_sixteen_bits_are_not_cut_off(tmp_path):
    about = {"image_shape": (300, 300, 1)}
    Image.fromarray((stroke(200, 10) * 257).astype(np.uint16)).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_image(tmp_path / "a.png", about) * 255, stroke(200, 10).reshape(-1))


def test_a_large_photograph_is_read_without_a_warning(tmp_path, monkeypatch):
    path = tmp_path / "p.png"
    Image.fromarray(np.arange(150, dtype=np.uint8).reshape(10, 15)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    read_image(path, {"image_shape": [10, 15, 1]})
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 70)
    with pytest.raises(FileError, match="cannot be read as a picture: Image size"):
        read_image(path, {"image_shape": [10, 15, 1]})


def test_a_turned_photograph_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(np.rot90(stroke()).astype(np.uint8)).save(tmp_path / "a.jpg", quality=100, exif=exif)
    expected = read_image(saved(tmp_path, stroke()), MNIST)
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg", MNIST), expected, atol=0.1)


@pytest.mark.parametrize("shape", [(4000, 1000), (3, 60_000)])  # the second in a square would fill 35 GB
def test_a_large_picture_is_read_in_little_memory(tmp_path, shape):
    pixels = np.zeros(shape)
    pixels[:, 100:-100] = 255
    assert read_image(saved(tmp_path, pixels), MNIST).shape == (784,)


# --- what is no picture, or an empty one


def encoded(pixels, kind="png"):
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    "data", [b"", b"no picture", encoded(stroke())[:-60], encoded(stroke())[:40], b"\x89PNG\r\n\x1a\n"]
)
def test_a_file_that_is_no_picture_is_named(tmp_path, data):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(FileError, match=r"a\.png: cannot be read as a picture: ") as error:
        read_image(tmp_path / "a.png", MNIST)
    assert "\n" not in str(error.value)


def test_pictures_that_cannot_be_opened_are_named(tmp_path):
    with pytest.raises(FileError, match=r"none\.png: there is no such file; a path begins"):
        read_image(tmp_path / "none.png", MNIST)


@pytest.mark.parametrize("level", [0, 100, 255])
@pytest.mark.parametrize("side", [28, 100])
def test_an_empty_picture_is_named(tmp_path, level, side):
    with pytest.raises(FileError, match=r"a\.png: there is nothing on this picture: all its pixels are the same"):
        read_image(saved(tmp_path, np.full((side, side), level)), MNIST)


def test_the_grain_of_paper_is_no_drawing(tmp_path):
    paper = 245 + np.random.default_rng(0).integers(0, 10, (100, 100))
    with pytest.raises(FileError, match="nothing on this picture: its pixels hardly differ"):
        read_image(saved(tmp_path, paper), MNIST)


def test_a_network_for_other_channels_is_named(tmp_path):
    with pytest.raises(FileError, match="expects images of 2 channels; a picture has 1 or 3"):
        read_image(saved(tmp_path, stroke()), {"image_shape": (28, 28, 2)})


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it finds odd
@pytest.mark.parametrize("kind", ["png", "dds"])
def test_a_damaged_picture_is_read_or_refused_by_a_file_error(tmp_path, kind):
    rng, data, path, refused = np.random.default_rng(0), encoded(stroke()[:60, 150:180], kind), tmp_path / "a", 0
    for _ in range(500):
        changed = bytearray(data)
        for place in rng.integers(0, min(len(data), 200), 3):
            changed[place] = rng.integers(256)
        path.unlink(missing_ok=True)
        path.write_bytes(changed)
        try:
            assert np.isfinite(read_image(path, MNIST)).all()
        except FileError:
            refused += 1
    assert refused > 50


# --- does it serve its purpose?


def test_drawings_are_told_apart_as_well_as_the_images_of_mnist(tmp_path, data_dir):
    train, test = mnist(data_dir)
    train, test = train[:6000], test[:250]
    trainer = gn.Trainer(gn.mlp([784, 64, 10], output="softmax"), optimizer=gn.Adam(3e-3), device="cpu")
    trainer.fit(train, epochs=3, batch_size=50)
    clean = trainer.evaluate(test)["accuracy"]
    assert clean > 0.88
    rng = np.random.default_rng(0)
    drawings = [redrawn(image, rng) for image in test.images[..., 0]]
    for paper in ("dark", "light"):
        pixels = drawings if paper == "dark" else [255 - drawing for drawing in drawings]
        x = np.array([read_image(saved(tmp_path, p), MNIST) for p in pixels])
        assert trainer.evaluate((x, test.y))["accuracy"] > clean - 0.015
