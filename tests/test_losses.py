import numpy as np
import pytest

import gpunn as gn
from gpunn.losses import pair
from gpunn.testing import assert_close, loss_cases

Z = np.random.default_rng(10).standard_normal((6, 4))
LABELS = np.array([0, 3, 1, 1, 2, 0])
ON_CLASSES = [
    *(gn.SoftmaxCrossEntropy(), gn.SoftmaxCrossEntropy(0.2), gn.FocalLoss(), gn.KLDivergence()),
    *(gn.SigmoidCrossEntropy(), gn.Quadratic(), gn.Hinge(), gn.Hinge(squared=True)),
]
ON_NUMBERS = [gn.MeanSquaredError(), gn.MeanAbsoluteError(), gn.Huber(0.5)]
ON_NUMBERS_OR_COUNTS = [*ON_NUMBERS, gn.PoissonLoss()]


@pytest.mark.parametrize("loss", ON_CLASSES, ids=repr)
def test_class_numbers_are_rows_of_0_and_1(backend, loss):
    z = backend.asarray(Z)
    by_number, cache = loss.forward(z, backend.asarray(LABELS))
    by_row, row_cache = loss.forward(z, backend.asarray(np.eye(4)[LABELS]))
    assert float(by_number) == pytest.approx(float(by_row), rel=1e-14, abs=0.0)
    assert_close(loss.backward(cache), backend.device.to_host(loss.backward(row_cache)), like=z)
    assert float(loss(z, backend.asarray(LABELS))) == float(by_number)


@pytest.mark.parametrize("loss", [*ON_CLASSES, *ON_NUMBERS_OR_COUNTS], ids=repr)
def test_both_passes_in_one(backend, loss):
    z = backend.asarray(Z)
    for y in (np.eye(4)[LABELS], *([LABELS] if loss.classifies else [])):
        y = backend.asarray(y)
        value, cache = loss.forward(z, y)
        both, dz = loss.both(z, y)
        assert float(both) == float(value)
        assert_close(dz, backend.device.to_host(loss.backward(cache)), like=z)


def test_a_loss_that_is_derived_from_another_is_itself_in_both_passes(backend):
    class Half(gn.SoftmaxCrossEntropy):
        def backward(self, cache):
            return 0.5 * super().backward(cache)

    z, y = backend.asarray(Z), backend.asarray(LABELS)
    whole = backend.device.to_host(gn.SoftmaxCrossEntropy().both(z, y)[1])
    assert_close(Half().both(z, y)[1], 0.5 * whole, like=z)


@pytest.mark.parametrize("n", [2, 3])
def test_few_classes_are_classes_too(backend, n):
    loss, z, labels = gn.SoftmaxCrossEntropy(), backend.asarray(Z[:, :n]), LABELS % n
    expected = gn.ops.softmax_cross_entropy(Z[:, :n], np.eye(n)[labels])[0]
    moved = loss.targets(labels, n, backend.device, "float64")
    assert moved.shape == (6,)
    assert float(loss.forward(z, moved)[0]) == pytest.approx(float(expected), rel=1e-14)
    rows = loss.targets(np.eye(n)[labels], n, backend.device, "float64")
    assert float(loss.forward(z, rows)[0]) == pytest.approx(float(expected), rel=1e-14)


def test_label_smoothing_mixes_in_equal_shares(backend):
    mixed = 0.8 * np.eye(4)[LABELS] + 0.2 / 4
    smooth = gn.SoftmaxCrossEntropy(label_smoothing=0.2)(backend.asarray(Z), backend.asarray(LABELS))
    by_hand = gn.SoftmaxCrossEntropy()(backend.asarray(Z), backend.asarray(mixed))
    assert float(smooth) == pytest.approx(float(by_hand), rel=1e-14)


def test_one_output_takes_answers_of_0_and_1(backend):
    z, y = backend.asarray(Z[:, :1]), np.array([0, 1, 1, 0, 1, 0])
    loss = gn.SigmoidCrossEntropy()
    expected = np.mean(np.log1p(np.exp(-np.where(y == 1, 1, -1) * Z[:, 0])))
    assert float(loss(z, backend.asarray(y))) == pytest.approx(expected, rel=1e-14)
    moved = loss.targets(y, 1, backend.device, "float64")
    assert_close(moved, y[:, None], like=z)
    assert float(loss(z, moved)) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("loss", ON_NUMBERS_OR_COUNTS, ids=repr)
def test_shapes_that_would_broadcast_are_refused(backend, loss):
    with pytest.raises(gn.ShapeError, match=r"network gives \(6, 1\) and the targets are \(6,\)"):
        loss.forward(backend.asarray(Z[:, :1]), backend.asarray(Z[:, 0]))
    with pytest.raises(gn.ShapeError, match="must have one shape"):
        loss.forward(backend.asarray(Z), backend.asarray(Z[:, :1]))


@pytest.mark.parametrize("loss", ON_CLASSES, ids=repr)
def test_labels_out_of_range_are_named_with_their_row(backend, loss):
    for bad in (4, -1):
        labels = LABELS.copy()
        labels[3] = bad
        with pytest.raises(
            gn.DataError, match=f"label {bad} in row 3 is out of range.* 4 outputs, so labels go from 0 to 3"
        ):
            loss.targets(backend.asarray(labels), 4, backend.device, "float32")
        with pytest.raises(gn.DataError, match=f"label {bad} in row 3"):
            loss.targets(labels.tolist(), 4, backend.device, "float32")


def test_targets_come_in_the_form_forward_wants(backend):
    device = backend.device
    labels = gn.SoftmaxCrossEntropy().targets(backend.asarray(LABELS, "uint8"), 4, device, "float32")
    assert labels.dtype == device.dtype("int64")
    assert device.holds(labels)
    numbers = gn.MeanSquaredError().targets([1, 2, 3], 1, device, "float32")
    assert_close(numbers, [[1.0], [2.0], [3.0]], like=device.zeros(1, "float32"))


@pytest.mark.parametrize(
    ("loss", "y", "n_out", "error", "message"),
    [
        (
            gn.SoftmaxCrossEntropy(),
            [[0.5, 0.6]],
            2,
            gn.DataError,
            "rows of probabilities that sum to 1; row 0 sums to 1.1",
        ),
        (gn.SoftmaxCrossEntropy(), [[1.0, 0.0], [0.0, 0.0]], 2, gn.DataError, "row 1 sums to 0"),
        (gn.SoftmaxCrossEntropy(), [[1.5, -0.5]], 2, gn.DataError, "targets from 0 to 1, got -0.5 to 1.5"),
        (gn.SigmoidCrossEntropy(), [[0.5, 1.1]], 2, gn.DataError, "targets from 0 to 1, got 0.5 to 1.1"),
        (gn.SigmoidCrossEntropy(), [0, 2], 1, gn.DataError, "targets from 0 to 1, got 0 to 2"),
        (gn.KLDivergence(), [[0.5, 0.6]], 2, gn.DataError, "KLDivergence expects rows of probabilities"),
        (gn.FocalLoss(), [[0.5, 0.6]], 2, gn.DataError, "FocalLoss expects rows of probabilities"),
        (gn.Hinge(), [[0, 1], [-1, 1]], 2, gn.DataError, r"targets of 0 and 1, got -1 in row 1.* give \(y \+ 1\) / 2"),
        (gn.Hinge(), [[0.0, 0.5]], 2, gn.DataError, "targets of 0 and 1, got 0.5 in row 0"),
        (gn.Hinge(), [[0.0, np.nan]], 2, gn.DataError, "targets contain NaN"),
        (gn.PoissonLoss(), [2.0, -3.0], 1, gn.DataError, "PoissonLoss expects counts, from 0, as targets, got -3"),
        (gn.PoissonLoss(), [np.inf], 1, gn.DataError, "targets contain NaN or infinity"),
        (gn.MeanSquaredError(), [[1.0, np.nan]], 2, gn.DataError, "targets contain NaN or infinity"),
        (gn.Huber(), [[np.inf]], 1, gn.DataError, "targets contain NaN or infinity"),
        (gn.SoftmaxCrossEntropy(), [0.5, 1.0], 2, gn.ShapeError, r"targets of shape \(N, 2\), or class numbers 0 to 1"),
        (
            gn.MeanSquaredError(),
            [1.0, 2.0],
            3,
            gn.ShapeError,
            r"targets of shape \(N, 3\); got float64 of shape \(2,\)",
        ),
        (gn.SoftmaxCrossEntropy(), ["cat", "dog"], 2, gn.DtypeError, "where real numbers are expected"),
    ],
)
def test_targets_that_do_not_fit_are_named(loss, y, n_out, error, message):
    with pytest.raises(error, match=message):
        loss.targets(y, n_out, gn.device("cpu"), "float32")


def test_probabilities_given_as_logits_are_noticed(backend):
    p = gn.ops.softmax(backend.asarray(Z))
    with pytest.raises(gn.LossMismatch, match=r"given probabilities .* would apply the softmax twice"):
        gn.SoftmaxCrossEntropy()(p, backend.asarray(LABELS))


def test_logits_that_only_look_a_little_like_probabilities_are_fine(backend):
    for z in ([[0.5, 0.7], [0.5, 0.5]], [[1.5, -0.5], [0.5, 0.5]]):
        gn.SoftmaxCrossEntropy()(backend.asarray(z), backend.asarray([0, 1]))


# --- which network goes with which loss


@pytest.mark.parametrize("loss", ON_CLASSES, ids=repr)
def test_a_network_may_name_the_output_of_its_loss_or_none(loss):
    assert pair(gn.mlp([4, 3]), loss) is loss
    assert pair(gn.mlp([4, 3], output=loss.output), loss) is loss


@pytest.mark.parametrize(
    "wrap", [lambda *layers: gn.Sequential(*layers), lambda *layers: gn.Sequential(gn.Sequential(*layers))]
)
def test_softmax_twice_is_refused(wrap):
    net = wrap(gn.Linear(4, 3), gn.Softmax())
    with pytest.raises(
        gn.LossMismatch, match=r"ends in a Softmax layer.*apply the softmax twice: leave out .*output='softmax'"
    ):
        gn.Trainer(net, gn.SoftmaxCrossEntropy(), device="cpu")


def test_the_exponential_twice_is_refused():
    with pytest.raises(
        gn.LossMismatch, match=r"the exponential twice: leave out the Exponential\(\) layer.*such answers"
    ):
        gn.Trainer(gn.Sequential(gn.Linear(4, 3), gn.Exponential()), gn.PoissonLoss(), device="cpu")
    loss = gn.PoissonLoss()
    assert pair(gn.mlp([4, 3]), loss) is pair(gn.mlp([4, 3], output="exponential"), loss) is loss
    with pytest.raises(gn.LossMismatch, match=r"PoissonLoss goes with output='exponential'.*output='softplus'"):
        pair(gn.mlp([4, 3], output="softplus"), loss)


def test_the_hinge_goes_by_scores():
    for layer in (gn.Softmax(), gn.Sigmoid()):
        with pytest.raises(gn.LossMismatch, match="Hinge goes by the numbers before it: leave out the"):
            pair(gn.Sequential(gn.Linear(4, 3), layer), gn.Hinge())
    with pytest.raises(gn.LossMismatch, match=r"Hinge goes with output='identity'.*output='softmax'"):
        pair(gn.mlp([4, 3], output="softmax"), gn.Hinge())


def test_the_hinge_of_one_output_counts_signs(backend):
    loss, z = gn.Hinge(), backend.asarray([[2.0], [-0.7], [0.5]])
    y = loss.targets([1, 0, 0], 1, backend.device, "float64")
    assert float(loss(z, y)) == pytest.approx((0 + 0.3 + 1.5) / 3)
    assert float(loss.correct(z, y)) == 2


def test_a_count_is_the_exponential_of_what_the_network_gives():
    """Of a constant input the best rate is the mean of the counts."""
    y = np.array([0.0, 1.0, 4.0, 3.0])
    net = gn.Sequential(gn.Linear(1, 1, init="zeros"))
    trainer = gn.Trainer(net, gn.PoissonLoss(), gn.SGD(0.2), device="cpu", dtype="float64")
    trainer.fit((np.ones((4, 1)), y), epochs=100, batch_size=4)
    np.testing.assert_allclose(trainer.predict(np.ones((1, 1))), [[2.0]], rtol=1e-8)


@pytest.mark.parametrize("loss", [gn.SigmoidCrossEntropy(), gn.Quadratic()], ids=repr)
def test_sigmoid_twice_is_refused(loss):
    with pytest.raises(gn.LossMismatch, match="the sigmoid twice"):
        gn.Trainer(gn.Sequential(gn.Linear(4, 3), gn.Sigmoid()), loss, device="cpu")


def test_another_output_than_the_losss_is_refused():
    with pytest.raises(gn.LossMismatch, match=r"SigmoidCrossEntropy goes with output='sigmoid'.*output='softmax'"):
        pair(gn.mlp([4, 3], output="softmax"), gn.SigmoidCrossEntropy())
    with pytest.raises(gn.LossMismatch, match="would apply a softmax to its output"):
        pair(gn.Sequential(gn.Linear(4, 3), gn.Sigmoid()), gn.SoftmaxCrossEntropy())


@pytest.mark.parametrize("loss", ON_NUMBERS, ids=repr)
@pytest.mark.parametrize("output", ["tanh", "sigmoid", "softmax", "softplus"])
def test_losses_on_numbers_are_taken_of_any_output(backend, loss, output):
    net = gn.mlp([4, 3], output=output).init(device=backend.device, dtype="float64")
    x, y = backend.asarray(Z), backend.asarray(np.abs(Z[:, :3]))
    taken = pair(net, loss)
    assert float(taken(net.infer(x), y)) == pytest.approx(float(loss(net(x), y)), rel=1e-14)
    assert gn.gradcheck(taken, net.infer(x), y)["z"] < 1e-7


def test_answers_that_are_right_are_counted(backend):
    z = backend.asarray([[2.0, 1.0], [-3.0, -1.0], [0.0, 5.0]])
    assert float(gn.SoftmaxCrossEntropy().correct(z, backend.asarray([0, 1, 0]))) == 2
    assert float(gn.SoftmaxCrossEntropy().correct(z, backend.asarray([[0.9, 0.1], [0.6, 0.4], [0.0, 1.0]]))) == 2
    assert float(gn.SigmoidCrossEntropy().correct(z, backend.asarray([0, 1, 0]))) == 2
    yes_or_no = backend.asarray([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert float(gn.SigmoidCrossEntropy().correct(z, yes_or_no)) == pytest.approx(1 + 0.5 + 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gn.SoftmaxCrossEntropy(1.0), "label_smoothing must be at least 0 and below 1, got 1.0"),
        (lambda: gn.SoftmaxCrossEntropy(-0.1), "label_smoothing"),
        (lambda: gn.FocalLoss(-1.0), "FocalLoss: gamma must be at least 0, got -1.0"),
        (lambda: gn.Huber(0.0), "delta must be above 0, got 0.0"),
    ],
)
def test_constants_out_of_range_are_named(make, message):
    with pytest.raises(gn.OptionError, match=message):
        make()


@pytest.mark.parametrize("loss", ON_CLASSES, ids=repr)
def test_a_label_out_of_range_given_by_hand_is_named(backend, loss):
    for wrong in (-1, 4):
        labels = LABELS.copy()
        labels[2] = wrong
        with pytest.raises(gn.DataError, match=f"label {wrong} in row 2 is out of range"):
            gn.losses.on_host(backend.asarray(Z)) or pytest.skip("nothing waits for a GPU to look at labels")
            loss.forward(backend.asarray(Z), backend.asarray(labels))


@pytest.mark.parametrize("loss", [*ON_CLASSES, *ON_NUMBERS_OR_COUNTS], ids=repr)
def test_targets_on_another_device_are_named(loss):
    pytest.importorskip("array_api_strict")
    elsewhere = gn.device("strict:device1").asarray(LABELS if loss.classifies else Z)
    with pytest.raises(gn.DeviceMismatch, match="network's numbers are on cpu and the targets on strict:device1: move"):
        loss.forward(Z, elsewhere)


def test_rows_of_one_1_are_classes_so_that_an_answer_is_right_as_a_whole(backend):
    z = backend.asarray([[-3.0, -1.0, -2.0], [1.0, 3.0, 2.0]])  # class 1, by its largest z, not by signs
    for loss in (gn.SoftmaxCrossEntropy(), gn.SigmoidCrossEntropy(), gn.Quadratic()):
        for rows in (np.eye(3)[[1, 1]], np.eye(3, dtype="uint8")[[1, 1]], np.eye(3, dtype=bool)[[1, 1]]):
            y = loss.targets(backend.asarray(rows), 3, backend.device, "float64")
            assert gn.to_host(y).tolist() == [1, 1]
            assert float(loss.correct(z, y)) == 2
    several = np.array([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    assert gn.SigmoidCrossEntropy().targets(backend.asarray(several), 3, backend.device, "float64").shape == (2, 3)


@pytest.mark.parametrize("kind", [gn.SoftmaxCrossEntropy, gn.FocalLoss, gn.KLDivergence])
def test_a_softmax_over_one_output_is_refused(backend, kind):
    with pytest.raises(
        gn.LossMismatch, match=f"{kind.__name__} .*the network has one in all, whose softmax is always 1: use Sigmoid"
    ):
        kind().targets(LABELS > 1, 1, backend.device, "float32")


def test_only_what_comes_out_is_the_output():
    loss = gn.SoftmaxCrossEntropy()
    inside = gn.Sequential(gn.Linear(4, 4), gn.Residual(gn.Linear(4, 4), gn.Softmax()))
    assert pair(inside, loss) is loss
    hidden = gn.Sequential(gn.Linear(4, 4), gn.Sequential(gn.Softmax(), gn.Identity()), gn.Flatten())
    with pytest.raises(gn.LossMismatch, match="ends in a Softmax layer"):
        pair(hidden, loss)

    class Probabilities(gn.Softmax):
        pass

    with pytest.raises(gn.LossMismatch, match="ends in a Probabilities layer"):
        pair(gn.Sequential(gn.Linear(4, 4), Probabilities()), loss)
    assert pair(gn.mlp([4, 3], output=Probabilities()), loss) is loss
    assert pair(gn.Sequential(), loss) is loss


@pytest.mark.parametrize("loss", [*ON_CLASSES, *ON_NUMBERS], ids=repr)
def test_gradients_keep_the_data_type_of_z(backend, loss):
    z = backend.asarray(Z, "float32")
    for y in (np.eye(4)[LABELS], np.eye(4, dtype="int64")[LABELS]):
        value, cache = loss.forward(z, backend.asarray(y))
        assert value.dtype == loss.backward(cache).dtype == z.dtype


def test_constants_of_numpy_do_not_change_the_data_type():
    z = Z.astype("float32")
    for loss in (gn.SoftmaxCrossEntropy(np.float64(0.1)), gn.Huber(np.float64(1.0))):
        y = LABELS if loss.classifies else z + 1
        assert loss.backward(loss.forward(z, y)[1]).dtype == np.float32


@pytest.mark.parametrize(
    ("loss", "z", "y", "error", "message"),
    [
        (
            gn.SigmoidCrossEntropy(),
            Z[0],
            LABELS,
            gn.ShapeError,
            r"expects the network's numbers as \(N, C\), got \(4,\)",
        ),
        (gn.MeanSquaredError(), Z[0], Z[0], gn.ShapeError, r"numbers as \(N, C\), got \(4,\)"),
        (gn.SoftmaxCrossEntropy(), Z, LABELS.tolist(), gn.DtypeError, "expected an array, got list"),
        (
            gn.SoftmaxCrossEntropy(),
            Z,
            LABELS > 1,
            gn.DtypeError,
            r"expects class numbers, got bool: use y.astype\(int\)",
        ),
        (gn.Quadratic(), Z, LABELS + 0.5, gn.DtypeError, "expects class numbers, got float64"),
    ],
)
def test_by_hand_what_does_not_fit_is_named(loss, z, y, error, message):
    for ask in (loss.forward, loss.both):
        with pytest.raises(error, match=message):
            ask(z, y)


def test_devices_of_one_library_are_told_apart():
    pytest.importorskip("array_api_strict")
    here, there = (gn.device(f"strict:{name}") for name in ("cpu", "device1"))
    with pytest.raises(gn.DeviceMismatch, match="on strict:cpu and the targets on strict:device1"):
        gn.MeanSquaredError().forward(here.asarray(Z), there.asarray(Z))
    with pytest.raises(gn.DeviceMismatch, match="weights on strict:cpu and was given an array on strict:device1"):
        gn.Linear(4, 2).init(device=here, dtype="float64")(there.asarray(Z))


def test_shares_of_classes_count_by_their_largest(backend):
    z = backend.asarray([[0.1, 0.9, 0.2], [0.9, 0.1, 0.2], [0.3, 0.1, 0.2]])
    y = backend.asarray([[0.4, 0.6, 0.0], [0.4, 0.6, 0.0], [0.5, 0.3, 0.2]])
    assert float(gn.SoftmaxCrossEntropy().correct(z, y)) == 2
    one = backend.asarray([[3.0], [3.0], [-3.0]])
    assert float(gn.SigmoidCrossEntropy().correct(one, backend.asarray([1.0, 1.0, 0.0]))) == 3


def test_a_single_row_may_look_like_probabilities():
    assert np.isfinite(gn.SoftmaxCrossEntropy()(np.array([[0.25, 0.75]]), np.array([1])))
    with pytest.raises(gn.LossMismatch, match="was given probabilities"):
        gn.SoftmaxCrossEntropy()(np.array([[0.25, 0.75]] * 2), np.array([1, 1]))


def test_a_loss_of_an_output_asks_the_loss_for_its_targets():
    class Positive(gn.MeanSquaredError):
        def _check_values(self, y):
            if (y <= 0).any():
                raise gn.DataError("not positive")

    loss = pair(gn.mlp([4, 2], output="tanh"), Positive())
    with pytest.raises(gn.DataError, match="not positive"):
        loss.targets(-np.ones((3, 2)), 2, gn.device("cpu"), "float32")
    with pytest.raises(gn.ShapeError, match=r"^Positive expects targets of shape \(N, 2\)"):
        loss.targets(np.ones((3, 1)), 2, gn.device("cpu"), "float32")


def test_targets_beyond_the_data_type_are_named():
    y = np.array([[1.0], [1e300]])
    with pytest.raises(gn.DataError, match="targets contain numbers beyond float32: rescale them, or use float64"):
        gn.MeanSquaredError().targets(y, 1, gn.device("cpu"), "float32")
    assert gn.MeanSquaredError().targets(y, 1, gn.device("cpu"), "float64").max() == 1e300


# --- rows that count for more than others

WEIGHTS = np.array([2.0, 0.0, 1.0, 3.0, 0.5, 1.5])


@pytest.mark.parametrize("name", loss_cases())
def test_the_loss_is_the_mean_of_the_losses_of_its_rows(backend, name):
    loss, z, y = loss_cases()[name]
    z, y = backend.asarray(z), backend.asarray(y)
    each = loss.each(z, y)
    alone = [float(loss.forward(z[n : n + 1, ...], y[n : n + 1, ...])[0]) for n in range(6)]
    assert_close(each, alone, like=z, rtol=1e-13, atol=1e-14)
    assert_close(gn.Loss.each(loss, z, y), alone, like=z, rtol=1e-15)  # what a loss of one's own has
    assert float(backend.xp.mean(each)) == pytest.approx(float(loss.forward(z, y)[0]), rel=1e-13)


@pytest.mark.parametrize("name", loss_cases())
def test_the_gradient_of_a_weighted_loss_is_exact(backend, name):
    loss, z, y = loss_cases()[name]
    weighted = gn.losses.Weighted(loss)
    pair = (backend.asarray(y), backend.asarray(WEIGHTS))
    assert gn.gradcheck(weighted, backend.asarray(z), pair)["z"] < 1e-7
    z = backend.asarray(z)
    t = weighted.targets(pair, 4, backend.device, "float64")
    value, cache = weighted.forward(z, t)
    expected = np.average(gn.to_host(loss.each(z, pair[0])), weights=WEIGHTS)
    assert float(value) == pytest.approx(expected, rel=1e-13)
    assert float(backend.xp.mean(weighted.each(z, t))) == pytest.approx(expected, rel=1e-13)
    assert gn.to_host(weighted.backward(cache))[1].tolist() == [0.0] * 4  # the row of weight 0


@pytest.mark.parametrize("loss", [*ON_CLASSES, *ON_NUMBERS], ids=repr)
def test_a_weight_of_2_is_the_row_twice(backend, loss):
    times = np.array([2, 0, 1, 3, 1, 2])
    y = LABELS if loss.classifies else np.abs(Z[::-1])
    again = np.repeat(np.arange(6), times)
    weighted = gn.losses.Weighted(loss)
    z, t = backend.asarray(Z), weighted.targets((y, times), 4, backend.device, "float64")
    value, cache = weighted.forward(z, t)
    repeated, its_cache = loss.forward(backend.asarray(Z[again]), backend.asarray(y[again]))
    assert float(value) == pytest.approx(float(repeated), rel=1e-13)
    dz = np.zeros_like(Z)
    np.add.at(dz, again, gn.to_host(loss.backward(its_cache)))
    assert_close(weighted.backward(cache), dz, like=z, rtol=1e-13, atol=1e-16)
    if loss.classifies:
        assert float(weighted.correct(z, t)) == pytest.approx(
            float(loss.correct(backend.asarray(Z[again]), backend.asarray(y[again]))) * 6 / 9
        )


def test_weights_of_one_output_and_of_any_output_of_a_network(backend):
    z, y = backend.asarray(Z[:, :1]), np.array([0, 1, 1, 0, 1, 0])
    loss = gn.losses.Weighted(gn.SigmoidCrossEntropy)
    t = loss.targets((y, WEIGHTS), 1, backend.device, "float64")
    terms = np.log1p(np.exp(-np.where(y == 1, 1, -1) * Z[:, 0]))
    assert float(loss.forward(z, t)[0]) == pytest.approx(np.average(terms, weights=WEIGHTS), rel=1e-13)
    net = gn.mlp([4, 3], output="tanh").init(device=backend.device, dtype="float64")
    taken = pair(net, gn.losses.Weighted(gn.MeanSquaredError()))
    z, t = net.infer(backend.asarray(Z)), taken.targets((Z[:, :3], WEIGHTS), 3, backend.device, "float64")
    assert gn.gradcheck(taken, z, (Z[:, :3], WEIGHTS))["z"] < 1e-7
    assert float(backend.xp.mean(taken.each(z, t))) == pytest.approx(float(taken.forward(z, t)[0]), rel=1e-13)


def test_a_trainer_takes_weights(backend):
    loss = gn.losses.Weighted(gn.SoftmaxCrossEntropy())
    assert (loss.output, loss.classifies) == ("softmax", True)
    net = gn.mlp([4, 8, 4], output="softmax")
    trainer = gn.Trainer(net, loss, gn.Adam(0.05), device=backend.device, dtype="float64")
    history = trainer.fit((Z, (LABELS, WEIGHTS)), valid=(Z, (LABELS, WEIGHTS)), epochs=60, batch_size=4)
    assert history[-1]["valid_loss"] < 0.1
    assert history[-1]["valid_accuracy"] == 1.0
    right = trainer.predict(Z).argmax(axis=1) == LABELS
    assert right[WEIGHTS > 0].all()


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (LABELS, gn.DataError, r"expects targets as a pair \(y, weights\), got ndarray"),
        ((LABELS, WEIGHTS[:5]), gn.ShapeError, r"a weight for each of 6 rows, got shape \(5,\)"),
        ((LABELS, -WEIGHTS), gn.DataError, "finite numbers, 0 or more, and not all zero"),
        ((LABELS, np.zeros(6)), gn.DataError, "not all zero"),
        ((LABELS, WEIGHTS + np.nan), gn.DataError, "finite numbers"),
        ((LABELS + 4, WEIGHTS), gn.DataError, "label 4 in row 0 is out of range"),
    ],
)
def test_weights_that_do_not_fit_are_named(y, error, message):
    with pytest.raises(error, match=message):
        gn.losses.Weighted(gn.SoftmaxCrossEntropy()).targets(y, 4, gn.device("cpu"), "float32")
