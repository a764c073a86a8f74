import numpy as np
import pytest

import gpunn as gn
from gpunn.errors import OptionError
from gpunn.plot.spread import regridded
from gpunn.plot.style import png

pytest.importorskip("matplotlib")
RNG = np.random.default_rng(0)


def kept(epochs, sizes=(4, 6, 2)):
    found = gn.Histograms()
    trainer = gn.Trainer(gn.mlp(sizes, output="softmax"), device="cpu")
    trainer.fit((RNG.standard_normal((50, 4)), RNG.integers(0, 2, 50)), epochs=epochs, callbacks=found)
    return found


@pytest.mark.parametrize("kind", ["value", "gradient"])
def test_every_parameter_has_a_panel_with_a_column_for_each_epoch(kind):
    found = kept(3)
    figure = gn.plot.histograms(found, kind)
    panels = figure.axes[:4]
    assert [axes.get_title(loc="left") for axes in panels] == found.names
    for axes, name in zip(panels, found.names, strict=True):
        edges, shares = regridded(found.counts[kind, name], found.ranges[kind, name], 1.0 if kind == "value" else 0.8)
        (mesh,) = axes.collections
        np.testing.assert_array_equal(mesh.get_array(), shares.T)
        corners = mesh.get_coordinates()
        np.testing.assert_allclose(corners[0, :, 0], [0.5, 1.5, 2.5, 3.5])
        np.testing.assert_array_equal(corners[:, 0, 1], edges)
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "weight" if kind == "value" else "gradient")
    png(figure)


def test_on_a_common_grid_numbers_stay_where_they_are():
    counts = np.array([[0, 10, 0, 0], [5, 0, 0, 5]])
    ends = np.array([[0.0, 4.0], [-8.0, 8.0]])
    edges, shares = regridded(counts, ends)
    middle = (edges[1:] + edges[:-1]) / 2
    assert shares[0][(middle > 1) & (middle < 2)].sum() == pytest.approx(1, abs=0.3)
    assert shares[0][(middle < 0.7) | (middle > 2.3)].sum() == 0
    assert shares[1][middle < -3.7].sum() == pytest.approx(0.5, abs=0.02)
    assert shares[1][(middle > -3.7) & (middle < 3.7)].sum() == 0
    narrow, _ = regridded(counts, ends, of_epochs=0.0)
    assert narrow[0] > edges[0]
    assert narrow[-1] < edges[-1]


def test_one_epoch_is_a_histogram_with_bars():
    found = kept(1)
    axes = gn.plot.histograms(found).axes[0]
    np.testing.assert_array_equal([bar.get_height() for bar in axes.patches], found.counts["value", "linear1.W"][0])
    assert axes.patches[0].get_x() == pytest.approx(found.ranges["value", "linear1.W"][0, 0])


def test_a_parameter_that_stays_the_same_can_be_drawn():
    found = kept(2)
    for key in found.counts:
        found.counts[key][:] = 0
        found.counts[key][:, 0] = 8
        found.ranges[key][:] = 0.0, 1e-12
    for kind in ("value", "gradient"):
        png(gn.plot.histograms(found, kind))


def test_norms_are_lines():
    found = kept(3)
    values, gradients = gn.plot.norms(found).axes
    for axes, kind in ((values, "value"), (gradients, "gradient")):
        assert [line.get_label() for line in axes.lines] == found.names
        for line in axes.lines:
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
            np.testing.assert_array_equal(line.get_ydata(), found.norms[kind, line.get_label()])
    png(gn.plot.norms(kept(1)))


def test_names_can_be_chosen_and_of_many_the_biases_are_left_out():
    found = kept(2)
    assert len(gn.plot.histograms(found, names=["linear2.W"]).axes) == 2
    assert [line.get_label() for line in gn.plot.norms(found, names=["linear1.b"]).axes[0].lines] == ["linear1.b"]
    deep = kept(2, (4, *[3] * 15, 2))
    assert [line.get_label() for line in gn.plot.norms(deep).axes[0].lines] == [f"linear{i}.W" for i in range(1, 13)]


def test_what_is_not_known_is_named():
    found = kept(1)
    with pytest.raises(OptionError, match=r"parameter 'linear9\.W' is not known; expected some of linear1\.W, "):
        gn.plot.histograms(found, names=["linear9.W"])
    with pytest.raises(OptionError, match="kind must be 'value' or 'gradient', got 'grad'"):
        gn.plot.histograms(found, "grad")
    with pytest.raises(OptionError, match="no epoch was kept yet"):
        gn.plot.norms(gn.Histograms())
