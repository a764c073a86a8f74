import numpy as np
import pytest

from gpunn.data import Dataset
from gpunn.train.scores import _of_classes, _of_quantities


def test_classes_one_by_one_beside_the_most_frequent():
    train = Dataset(np.ones((5, 1)), np.array([0, 1, 2, 2, 2]), classes=("a", "b", "c"))
    test = Dataset(np.ones((6, 1)), np.array([0, 0, 1, 1, 1, 2]), classes=train.classes)
    answers = np.eye(3)[[0, 1, 1, 1, 2, 2]]
    found, lines = _of_classes(answers, train, test)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["baseline"] == {"answer": "c", "accuracy": pytest.approx(1 / 6)}
    assert found["confusion"] == [[1, 1, 0], [0, 2, 1], [0, 0, 1]]
    assert found["classes"][2] == {"name": "c", "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "rows": 1}
    assert lines == [
        "class  precision  recall     F1  rows",
        "a         100.0%   50.0%  66.7%     2",
        "b          66.7%   66.7%  66.7%     3",
        "c          50.0%  100.0%  66.7%     1",
        "",
        "taken for  a  b  c",
        "a          1  1  0",
        "b          0  2  1",
        "c          0  0  1",
        "",
        "always answering c is right in 16.67%",
    ]


def test_a_network_that_learned_nothing_is_told_so():
    train = Dataset(np.ones((4, 1)), np.array([0, 1, 1, 1]), classes=("a", "b"))
    _, lines = _of_classes(np.eye(2)[[1, 1, 1, 1]], train, train)
    assert lines[-1] == "always answering b is right in 75.00%: the network has learned no more than that"
    train = Dataset(np.ones((2, 1)), np.array([1.0, 3.0]))
    _, lines = _of_quantities(np.array([[2.0], [2.0]]), train, train)
    assert lines[-1] == "the network has learned no more than the mean"


def test_long_names_are_cut_in_the_tables_alone():
    name = "a name that would make of a table three lines"
    data = Dataset(np.ones((2, 1)), np.array([0, 1]), classes=(name, "b"))
    found, lines = _of_classes(np.eye(2), data, data)
    assert found["classes"][0]["name"] == name
    assert max(map(len, lines[:-1])) < 60
    assert lines[1].startswith("a name that would mak...  ")
    assert lines[4] == "taken for                 a name that would mak...  b"


def test_many_classes_are_not_told_one_by_one():
    names = tuple(map(str, range(40)))
    data = Dataset(np.ones((40, 1)), np.arange(40), classes=names)
    found, lines = _of_classes(np.eye(40), data, data)
    assert len(found["classes"]) == 40
    assert lines[1:] == ["always answering 0 is right in 2.50%"]


def test_quantities_beside_the_mean():
    train = Dataset(np.ones((2, 1)), np.array([0.0, 30_000.0]))
    test = Dataset(np.ones((2, 1)), np.array([10_000.0, 30_000.0]))
    found, lines = _of_quantities(np.array([[11_000.0], [27_000.0]]), train, test)
    assert found["network"] == {"mae": 2000, "rmse": pytest.approx(np.sqrt(5e6)), "r2": pytest.approx(0.95)}
    assert found["baseline"]["mae"] == 10_000
    assert [line.split()[-3:] for line in lines[1:]] == [["2000", "2236.1", "0.95"], ["10,000", "11,180", "-0.25"]]


def test_r2_of_equal_targets_is_not_there():
    data = Dataset(np.ones((2, 1)), np.array([1.0, 1.0]))
    assert _of_quantities(np.array([[1.0], [2.0]]), data, data)[0]["network"]["r2"] is None
