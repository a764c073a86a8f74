import numpy as np
import pytest

from gpunn.data import read_folder
from gpunn.data.image import read_image
from gpunn.errors import DataError, FileError

Image = pytest.importorskip("PIL.Image")
RNG = np.random.default_rng(0)


def draw(path, *shape):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, shape).astype("uint8")
    Image.fromarray(pixels).save(path)
    return pixels


def test_pictures_of_one_size_stay_as_they_are(tmp_path):
    b, a = draw(tmp_path / "b/1.png", 6, 5, 3), draw(tmp_path / "a/1.PNG", 6, 5, 3)
    draw(tmp_path / "a/.hidden.png", 9, 9)
    (tmp_path / "a/notes.txt").write_text("no picture")
    (tmp_path / ".git").mkdir()
    data = read_folder(tmp_path)["all"]
    assert (data.classes, data.image_shape, data.note, data.x.dtype) == (("a", "b"), (6, 5, 3), "", np.uint8)
    np.testing.assert_array_equal(data.images, [a, b])
    np.testing.assert_array_equal(data.y, [0, 1])


def test_pictures_without_colour_have_one_channel(tmp_path):
    a = draw(tmp_path / "a/1.png", 4, 4)
    Image.fromarray(np.stack([a] * 3, axis=-1)).save(tmp_path / "a/2.png")  # grey, though saved as RGB
    data = read_folder(tmp_path)["all"]
    assert data.image_shape == (4, 4, 1)
    np.testing.assert_array_equal(data.images[1, ..., 0], a)
    draw(tmp_path / "a/3.png", 4, 4, 3)
    assert read_folder(tmp_path)["all"].image_shape == (4, 4, 3)


@pytest.mark.parametrize("shapes", [[(6, 5), (9, 4)], [(65, 20)] * 2])
def test_pictures_of_other_sizes_are_brought_to_one(tmp_path, shapes):
    for i, shape in enumerate(shapes):
        draw(tmp_path / f"a/{i}.png", *shape)
    data = read_folder(tmp_path)["all"]
    of = " to ".join(dict.fromkeys(f"{height}x{width}" for height, width in shapes))
    assert (data.image_shape, data.note) == ((32, 32, 1), f"pictures of {of} (height x width) brought to 32x32")
    assert read_folder(tmp_path, [8, 9])["all"].image_shape == (8, 9, 1)


def test_a_picture_is_read_again_as_it_was_trained_on(tmp_path):
    for colour in ((), (3,)):
        for i in range(3):
            draw(tmp_path / f"a/{i}.png", 40 + i, 50, *colour)
        data = read_folder(tmp_path)["all"]
        about = {"image_shape": data.image_shape, "white": 255.0, "ink": False}
        np.testing.assert_allclose(read_image(tmp_path / "a/1.png", about), data.x[1], rtol=1e-12)
    Image.new("L", (9, 9), 255).save(tmp_path / "white.png")
    assert (read_image(tmp_path / "white.png", about | {"white": 1.0}) == 1.0).all()  # neither ink nor paper


def test_folders_of_train_and_test_stay_apart(tmp_path):
    for part, n in (("train", 3), ("test", 2)):
        for kind in "xy":
            for i in range(n):
                draw(tmp_path / part / kind / f"{i}.png", 4, 4)
    found = read_folder(tmp_path)
    assert {part: len(data) for part, data in found.items()} == {"train": 6, "test": 4}
    draw(tmp_path / "test/z/1.png", 4, 4)
    with pytest.raises(DataError, match=r"test.z: no class of that name is in .*train, which has x, y; move it"):
        read_folder(tmp_path)


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    with pytest.raises(DataError, match="there are no folders in it; put the pictures of each class in a folder"):
        read_folder(tmp_path)
    draw(tmp_path / "a/1.png", 4, 4)
    (tmp_path / "b").mkdir()
    with pytest.raises(
        DataError, match=r"b: there are no pictures in it \(\.png, .*put some there, or remove the folder"
    ):
        read_folder(tmp_path)
    whole = (tmp_path / "a/1.png").read_bytes()
    (tmp_path / "b/x.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError, match=r"b.x\.png: cannot be read as a picture: .*; use another copy"):
        read_folder(tmp_path)
    (tmp_path / "b/x.png").write_bytes(b"")
    with pytest.raises(FileError, match=r"b.x\.png: cannot be read as a picture"):
        read_folder(tmp_path)
    with pytest.raises(FileError, match="cannot be read: No such file"):
        read_folder(tmp_path / "nowhere")
