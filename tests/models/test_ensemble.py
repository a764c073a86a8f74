import numpy as np
import pytest

import gpunn as gn


class Says(gn.Layer):
    def __init__(self, answer):
        self.answer = answer

    def infer(self, x):
        return gn.device_of(x).asarray(self.answer)


ANSWERS = [[[0.6, 0.4, 0.0], [0.1, 0.2, 0.7]], [[0.6, 0.3, 0.1], [0.5, 0.5, 0.0]], [[0.0, 1.0, 0.0], [0.2, 0.7, 0.1]]]


def test_the_mean_or_the_votes_decide(backend):
    nets, x = [Says(np.array(answer)) for answer in ANSWERS], backend.asarray(np.zeros((2, 1)))
    mean = gn.to_host(gn.Ensemble(nets)(x))
    np.testing.assert_allclose(mean, np.mean(ANSWERS, axis=0))
    votes = gn.to_host(gn.Ensemble(nets, how="vote")(x))
    np.testing.assert_allclose(votes, [[2 / 3, 1 / 3, 0], [1 / 3, 1 / 3, 1 / 3]])
    assert mean[0].argmax() == 1
    assert votes[0].argmax() == 0


def test_networks_answer_with_their_output_functions(backend):
    nets = [gn.mlp([4, 3], output="softmax").init(seed, device=backend.device) for seed in range(3)]
    x = backend.asarray(np.ones((5, 4)), "float32")
    np.testing.assert_allclose(gn.to_host(gn.Ensemble(nets)(x)).sum(axis=1), 1.0, rtol=1e-6)


def test_what_is_no_ensemble_is_named():
    with pytest.raises(gn.OptionError, match="at least one network, got none"):
        gn.Ensemble([])
    with pytest.raises(gn.OptionError, match="how 'median' is not known; expected mean or vote"):
        gn.Ensemble([gn.Tanh()], how="median")
    with pytest.raises(gn.OptionError, match="a network must be an instance of Layer, got 3"):
        gn.Ensemble([3])
    with pytest.raises(gn.OptionError, match=r"networks must be an instance of Iterable, got Tanh\(\)"):
        gn.Ensemble(gn.Tanh())


def test_one_output_has_nothing_to_vote_for():
    with pytest.raises(gn.ShapeError, match='these networks have one output: use how="mean"'):
        gn.Ensemble([Says(np.array([[0.5], [0.3]]))], how="vote")(np.zeros((2, 1)))
