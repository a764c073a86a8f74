"""What an optimiser is going to do, found out without an array."""

import numpy as np
import pytest

import gpunn as gn
from gpunn.kernels.common import CONSTANTS
from gpunn.kernels.cuda import constants


@pytest.fixture
def net():
    return gn.mlp([5, 4, 3]).init(0)


def test_the_updates_of_a_step_are_noted_and_not_made(net):
    before, optimizer = np.array(net.store.values), gn.AdamW(gn.schedules.Cosine(0.1, 10), weight_decay=0.2)
    for done in (0, 3):
        names, values = constants.constants_of(optimizer, net.store, done)
        eta = optimizer.lr(done)
        adam = CONSTANTS["adam"](eta=eta, beta1=0.9, beta2=0.999, epsilon=1e-8, t=done + 1)
        assert names == ["shrink", "adam"]
        assert values.tolist() == [1.0 - eta * 0.2, *[0.0] * 7, *adam, 0.0, 0.0]
    assert np.array_equal(net.store.values, before)
    assert net.store.step == 0


def test_groups_are_updates_of_their_own(net):
    optimizer = gn.SGD(0.5, groups={"linear1": {"lr_factor": 0.1, "weight_decay": 0.3}})
    names, values = constants.constants_of(optimizer, net.store, 0)
    assert names == ["l2_decay", "sgd", "sgd", "sgd", "sgd"]
    assert values.reshape(-1, 8)[:, 0].tolist() == pytest.approx([0.3, 0.05, 0.5, 0.05, 0.5])


def test_of_muon(net):
    names, values = constants.constants_of(gn.Muon(0.5, 0.9, weight_decay=0.2), net.store, 0)
    assert names == ["shrink", "muon", "adam", "shrink", "muon", "adam"]
    assert values.reshape(-1, 8)[1].tolist() == pytest.approx([0.5 * 0.2 * 5**0.5, 0.9, *[0.0] * 6])
    assert values.reshape(-1, 8)[4].tolist() == pytest.approx([0.5 * 0.2 * 4**0.5, 0.9, *[0.0] * 6])


class Raw(gn.SGD):
    def __init__(self, change):
        super().__init__(0.1)
        self.change = change

    def step(self, w, g, *kept, eta, t):
        self.change(w, g, eta)


def in_place(w, g, eta):
    w -= eta * g


def by_part(w, g, eta):
    w[:3] *= 1 - eta


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (in_place, "otherwise than by gpunn.ops"),
        (by_part, "otherwise than by gpunn.ops"),
        (lambda w, g, eta: w.__setitem__(slice(None), eta), "otherwise than by gpunn.ops"),
        (lambda w, g, eta: gn.ops.soft_threshold(w, by=eta), "the op 'soft_threshold'"),
        (lambda w, g, eta: eta if w > 0 else 0, "otherwise than by gpunn.ops"),
    ],
)
def test_what_is_no_update_is_refused(net, change, why):
    with pytest.raises(gn.CaptureError, match=why):
        constants.constants_of(Raw(change), net.store, 0)


def test_places_are_given_to_the_updates_they_are_for():
    array = np.arange(16.0)
    assert constants.place("sgd") == 0
    with constants.placed(array, ["shrink", "sgd"]):
        assert constants.place("shrink").tolist() == list(range(8))
        assert constants.place("sgd").tolist() == list(range(8, 16))
    assert constants.place("sgd") == 0
    for names, asked in ((["sgd"], ["adam"]), (["sgd"], []), ([], ["sgd"])):
        with pytest.raises(gn.CaptureError, match="the optimiser"), constants.placed(array, names):
            for name in asked:
                constants.place(name)
    assert constants.place("sgd") == 0
