import dataclasses
import tomllib

import pytest

from gpunn.errors import FileError, OptionError
from gpunn.train.config import Config

STRINGS = [
    "plain.csv",
    "with space, 'single' and \"double\" quotes.csv",
    r"C:\data\new\table.csv",
    "straße/数据/😀.csv",
    "tab\tnew line\nreturn\r zero\0 delete\x7f next line\x85.csv",
    "# = [not] {toml}.csv",
]


@pytest.mark.parametrize("name", STRINGS)
def test_strings_come_back_from_toml(tmp_path, name):
    config = Config.of({"data": name, "target": name[:-4], "data_dir": name})
    (tmp_path / "config.toml").write_bytes(config.to_toml().encode())
    # TOML reads a new line of Windows inside of a file as "\n": none may be left unescaped
    assert Config.read(tmp_path / "config.toml") == config


def test_every_option_comes_back_from_toml(tmp_path):
    config = Config(
        data="digits",
        data_dir="d",
        drop=[],
        missing="mean",
        image_size=[],
        task="classification",
        model="mlp",
        hidden=[3, 20],
        activation="tanh",
        dropout=0.25,
        loss="sigmoid",
        optimizer="sgd",
        lr=1e-07,
        momentum=0.1,
        weight_decay=1e22,
        schedule="step",
        warmup=5,
        clip_norm=1 / 3,
        batch_size=7,
        epochs=9,
        patience=2,
        valid=0.0,
        seed=2**63 - 1,
        device="cpu",
        dtype="float64",
    )
    (tmp_path / "config.toml").write_text(config.to_toml())
    assert Config.read(tmp_path / "config.toml") == config
    assert list(tomllib.loads(config.to_toml())) == [f.name for f in dataclasses.fields(Config)]


@pytest.mark.parametrize(
    "options", [{"data": "a.csv", "drop": ['a "b"', "c,d"], "missing": "drop"}, {"data": "d", "image_size": [8, 9]}]
)
def test_options_of_data_of_ones_own_come_back_from_toml(tmp_path, options):
    config = Config.of(options)
    (tmp_path / "config.toml").write_bytes(config.to_toml().encode())
    assert Config.read(tmp_path / "config.toml") == config


def test_no_hidden_layers_come_back_from_toml(tmp_path):
    (tmp_path / "config.toml").write_text(Config.of({"hidden": []}).to_toml())
    assert Config.read(tmp_path / "config.toml").hidden == []


@pytest.mark.parametrize(
    ("data", "hidden", "batch_size"), [("digits", [256], 16), ("mnist", [256, 128], 128), ("x.csv", [64, 64], 32)]
)
def test_defaults_suit_the_data(data, hidden, batch_size):
    config = Config.of({"data": data})
    assert (config.hidden, config.batch_size) == (hidden, batch_size)


@pytest.mark.parametrize(("model", "dropout"), [("cnn", 0.3), ("lenet", 0.0)])
def test_defaults_suit_the_model(model, dropout):
    config = Config.of({"data": "mnist", "model": model})
    assert (config.hidden, config.dropout, config.batch_size) == ([], dropout, 128)
    assert Config.of({"model": model, "dropout": 0.1}).dropout == 0.1


def test_configs_share_no_list():
    Config.of({"data": "x.csv"}).hidden.append(1)
    Config.of({"data": "digits"}).hidden.append(1)
    assert Config.of({"data": "x.csv"}).hidden == [64, 64]
    assert Config.of({"data": "digits"}).hidden == [256]


def test_options_come_before_the_file_and_the_file_before_defaults(tmp_path):
    (tmp_path / "c.toml").write_text('data = "mnist"\nlr = 1\nseed = 4\n')
    config = Config.read(tmp_path / "c.toml", {"seed": 5})
    assert (config.data, config.lr, config.seed, config.batch_size) == ("mnist", 1.0, 5, 128)
    assert type(config.lr) is float


def test_a_mark_at_the_beginning_as_editors_write_it_is_no_option(tmp_path):
    (tmp_path / "c.toml").write_text("seed = 4\n", encoding="utf-8-sig")
    assert Config.read(tmp_path / "c.toml").seed == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.1}, "option 'learning_rate' is not known; the options are data, .*, lr, "),
        ({"optimiser": "sgd"}, "'optimiser' is not known; did you mean 'optimizer'?"),
        ({"batchsize": 3}, "did you mean 'batch_size'?"),
        ({"train": {"lr": 1}}, "option 'train' is not known"),
        ({"lr": "0.1"}, "lr must be a number, got '0.1'"),
        ({"lr": True}, "lr must be a number, got True"),
        ({"epochs": 2.0}, "epochs must be a whole number, got 2.0"),
        ({"epochs": True}, "epochs must be a whole number, got True"),
        ({"seed": None}, "seed must be a whole number, got None"),
        ({"data": 3}, "data must be a text, got 3"),
        ({"hidden": 64}, "hidden must be a list of whole numbers, got 64"),
        ({"hidden": "64,32"}, "hidden must be a list of whole numbers, got '64,32'"),
        ({"hidden": [64, 32.0]}, "hidden must be a list of whole numbers"),
        ({"hidden": [True]}, "hidden must be a list of whole numbers"),
        ({"hidden": [64, 0]}, "hidden sizes must be from 1 to 16,777,216, got \\[64, 0\\]"),
        ({"hidden": [10**9]}, "hidden sizes must be from 1"),
        ({"lr": -1e-9}, "lr must be at least 0, got -1e-09"),
        ({"lr": float("nan")}, "lr must be finite, got nan"),
        ({"weight_decay": float("inf")}, "weight_decay must be finite, got inf"),
        ({"clip_norm": 10**400}, "clip_norm must be finite, got inf"),
        ({"momentum": 1.0, "optimizer": "sgd"}, "momentum must be below 1, got 1.0"),
        ({"valid": 1.0}, "valid must be below 1, got 1.0"),
        ({"valid": -0.1}, "valid must be at least 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"epochs": -1}, "epochs must be at least 0, got -1"),
        ({"seed": 2**63}, "seed must be below 9223372036854775808"),
        ({"optimizer": "SGD"}, "optimizer 'SGD' is not known; expected sgd, adam, adamw, nadam, adamax, rmsprop"),
        ({"dtype": "float16"}, "dtype 'float16' is not known; expected float32, bfloat16, tf32, float64"),
        ({"loss": "kl"}, "loss 'kl' is not known; expected softmax"),
        ({"data": "a\udcff.csv"}, "data must be text in Unicode"),
        ({"momentum": 0.9}, "momentum goes with optimizer sgd, and optimizer is adam"),
        ({"model": "vgg"}, "model 'vgg' is not known; expected mlp, cnn, lenet"),
        ({"model": "cnn", "hidden": [5]}, "hidden, activation and init go with model mlp, and cnn has its own"),
        ({"model": "cnn", "activation": "tanh"}, "activation and init go with model mlp"),
        ({"model": "lenet", "init": "he"}, "and lenet has its own: leave it out"),
        ({"dropout": 1.0}, "dropout must be below 1, got 1.0"),
        ({"target": "y"}, "target names a column of a .csv file, and data is 'digits'"),
        ({"drop": "y"}, "drop must be a list of texts, got 'y'"),
        ({"data": "x.csv", "drop": ["a\udcff"]}, "drop must be text in Unicode"),
        ({"drop": ["y"]}, "drop names a column of a .csv file, and data is 'digits'"),
        ({"missing": "refuse"}, "missing refuse is for a .csv file, and data is 'digits'"),
        ({"data": "x.csv", "missing": "zero"}, "missing 'zero' is not known; expected mean, drop, refuse"),
        ({"data": "x.npz", "image_size": [8, 8]}, "image_size is for pictures in folders, and data is 'x.npz'"),
        ({"data": "x", "image_size": [8]}, r"image_size must be a height and a width from 1 to 4096, got \[8\]"),
        ({"task": "regression"}, "task regression goes with a file of your own: digits has classes"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(OptionError, match=message):
        Config.of(options)


def test_a_wrong_option_in_a_file_is_named_with_the_file(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("epoch = 3\n")
    with pytest.raises(OptionError, match=r"c\.toml: option 'epoch' is not known; did you mean 'epochs'"):
        Config.read(path)


@pytest.mark.parametrize(
    "content",
    [b"lr = \n", b"lr = 1\nlr = 2\n", b"\xff\xfe", b"\0", b"lr = " + b"9" * 5000, b"x = " + b"[" * 100_000],
    ids=["syntax", "twice", "not UTF-8", "binary", "a number too long", "too deep"],
)
def test_a_file_that_is_not_toml_is_named(tmp_path, content):
    (tmp_path / "c.toml").write_bytes(content)
    with pytest.raises(FileError, match=r"c\.toml: not a TOML file: "):
        Config.read(tmp_path / "c.toml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileError, match=r"no\.toml: cannot be read: No such file"):
        Config.read(tmp_path / "no.toml")
    with pytest.raises(FileError, match="cannot be read: Is a directory"):
        Config.read(tmp_path)
