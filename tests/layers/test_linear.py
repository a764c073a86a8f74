import numpy as np
import pytest

import gpunn as gn


def test_weights_are_stored_inputs_by_outputs():
    net = gn.Linear(784, 100).init()
    assert {name: a.shape for name, a in net.state_dict().items()} == {"W": (784, 100), "b": (100,)}


def test_bias_can_be_left_out(backend):
    net = gn.Linear(3, 2, bias=False).init(device=backend.device)
    assert list(net.params()) == ["W"]
    zero = backend.device.to_host(net(backend.asarray(np.zeros((1, 3)), "float32")))
    assert (zero == 0).all()


def test_an_input_of_another_shape_names_both(backend):
    net = gn.Linear(784, 10).init(device=backend.device)
    with pytest.raises(gn.ShapeError, match=r"expects inputs of shape \(N, 784\), got \(5, 100\)"):
        net.forward(backend.asarray(np.zeros((5, 100)), "float32"))
    with pytest.raises(gn.ShapeError, match=r"got \(5, 28, 28\); put gn.Flatten\(\) before it"):
        net.forward(backend.asarray(np.zeros((5, 28, 28)), "float32"))
    with pytest.raises(gn.ShapeError, match=r"got \(5, 28, 29\)$"):
        net.forward(backend.asarray(np.zeros((5, 28, 29)), "float32"))
    with pytest.raises(gn.ShapeError, match=r"got \(784,\)"):
        net.forward(backend.asarray(np.zeros(784), "float32"))


def test_an_input_of_another_data_type_names_both(backend):
    net = gn.Linear(3, 2).init(device=backend.device)
    with pytest.raises(gn.DtypeError, match=r"computes in .*float32 and was given .*float64: convert the input"):
        net.forward(backend.asarray(np.zeros((5, 3))))
    with pytest.raises(gn.DtypeError, match="uint8"):
        net.forward(backend.asarray(np.zeros((5, 3)), "uint8"))


def test_an_input_on_another_device_names_both(backend):
    net = gn.Linear(3, 2).init(device="cpu" if backend.device.name != "cpu" else "strict:device1")
    there = net.store.device.name
    with pytest.raises(gn.DeviceMismatch, match=rf"weights on {there} and was given an array on {backend.device.name}"):
        net.forward(backend.asarray(np.zeros((5, 3)), "float32"))


def test_what_is_no_array_is_named():
    with pytest.raises(gn.DtypeError, match="expected an array, got list"):
        gn.Linear(3, 2).init().forward([[1.0, 2.0, 3.0]])


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (3, -1), (2.5, 1)])
def test_sizes_must_be_whole_and_positive(sizes):
    with pytest.raises(gn.OptionError, match="must be a whole number, 1 or more, got"):
        gn.Linear(*sizes)


def test_a_batch_of_no_rows_passes(backend):
    net = gn.Linear(3, 2).init(device=backend.device)
    assert net(backend.asarray(np.zeros((0, 3)), "float32")).shape == (0, 2)
