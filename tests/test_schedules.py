import math
import pickle

import pytest

import gpunn as gn
from gpunn import schedules as s


@pytest.mark.parametrize(
    ("schedule", "course"),
    [
        (s.Constant(0.1), {0: 0.1, 999: 0.1}),
        (s.Step(1.0, every=10, factor=0.5), {0: 1.0, 9: 1.0, 10: 0.5, 25: 0.25}),
        (s.Exponential(1.0, steps=100, factor=0.01), {0: 1.0, 50: 0.1, 100: 0.01, 200: 1e-4}),
        (s.InverseTime(1.0, half=10), {0: 1.0, 10: 0.5, 20: 1 / 3, 90: 0.1}),
        (
            s.Cosine(1.0, steps=100, low=0.2),
            {0: 1.0, 50: 0.6, 25: 0.2 + 0.4 * (1 + math.sqrt(0.5)), 100: 0.2, 500: 0.2},
        ),
        (s.CosineRestarts(1.0, 4), {0: 1.0, 2: 0.5, 4: 1.0, 6: 0.5, 400: 1.0, 402: 0.5}),
        (s.CosineRestarts(1.0, 4, 2, low=0.2), {0: 1.0, 2: 0.6, 4: 1.0, 8: 0.6, 12: 1.0, 20: 0.6, 28: 1.0}),
        (s.Polynomial(1.0, 10, end=0.5), {0: 1.0, 4: 0.8, 10: 0.5, 99: 0.5}),
        (s.Polynomial(0.5, 10, end=0.9), {0: 0.5, 5: 0.7, 10: 0.9, 99: 0.9}),
        (s.Polynomial(1.0, 10, power=2.0), {0: 1.0, 5: 0.25, 10: 0.0}),
        (
            s.OneCycle(1.0, 100, rise=0.21, start=10.0, end=100.0),
            {0: 0.1, 10: 0.55, 20: 1.0, 99: 1e-3, 500: 1e-3},
        ),
        (s.OneCycle(1.0, 1), {0: 1.0, 9: 4e-6}),
        (s.OneCycle(1.0, 11, rise=0.0), {0: 1.0, 5: 0.500002, 10: 4e-6}),
        (s.OneCycle(1.0, 11, rise=1.0), {0: 0.04, 5: 0.52, 10: 1.0, 11: 4e-6}),
        (s.Warmup(4, 1.0), {0: 0.25, 1: 0.5, 3: 1.0, 4: 1.0, 100: 1.0}),
        (s.Warmup(4, s.Step(1.0, every=2, factor=0.5)), {0: 0.25, 2: 0.375, 4: 0.25}),
        (s.Warmup(0, 1.0), {0: 1.0}),
    ],
)
def test_the_course_of_each_schedule(schedule, course):
    assert {t: schedule(t) for t in course} == pytest.approx(course)
    assert pickle.loads(pickle.dumps(schedule)) == schedule


def test_an_optimiser_follows_its_schedule():
    net = gn.Linear(1, 1, bias=False, init="zeros")
    trainer = gn.Trainer(net, gn.MeanAbsoluteError(), gn.SGD(s.Step(1.0, every=2, factor=0.5)), device="cpu")
    where = []
    for _ in range(4):
        trainer.step([[1.0]], [[100.0]])  # the gradient is -1
        where.append(float(net.state_dict()["W"][0, 0]))
    assert where == [1.0, 2.0, 2.5, 3.0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: s.Constant(-1.0),
        lambda: s.Constant(math.nan),
        lambda: s.Step(0.1, every=0),
        lambda: s.Step(0.1, every=5, factor=1.5),
        lambda: s.Exponential(0.1, steps=0),
        lambda: s.InverseTime(0.1, half=0),
        lambda: s.Cosine(0.1, steps=10, low=0.2),
        lambda: s.Warmup(-1, 0.1),
        lambda: s.Warmup(10, -0.1),
        lambda: gn.SGD(math.inf),
        lambda: s.CosineRestarts(-0.1, steps=5),
        lambda: s.CosineRestarts(0.1, steps=0),
        lambda: s.CosineRestarts(0.1, steps=5, factor=0),
        lambda: s.CosineRestarts(0.1, steps=5, factor=1.5),
        lambda: s.CosineRestarts(0.1, steps=5, low=0.2),
        lambda: s.Polynomial(0.1, steps=0),
        lambda: s.Polynomial(0.1, steps=5, end=-0.1),
        lambda: s.Polynomial(0.1, steps=5, power=0.0),
        lambda: s.OneCycle(0.1, steps=0),
        lambda: s.OneCycle(0.1, steps=5, rise=1.1),
        lambda: s.OneCycle(0.1, steps=5, start=0.5),
        lambda: s.OneCycle(0.1, steps=5, end=0.5),
    ],
)
def test_constants_out_of_range_are_named(make):
    with pytest.raises(gn.OptionError, match=r"must be (at least|above 0|a whole number, [01] or more).*, got "):
        make()


def test_constants_at_the_edge_of_their_range_are_fine():
    edges = [
        s.Constant(0.0),
        s.Step(0.0, every=1, factor=1.0),
        s.Step(0.5, every=1, factor=0.0),
        s.Exponential(0.0, steps=1, factor=1.0),
        s.InverseTime(0.0, half=1),
        s.Cosine(0.0, steps=1),
        s.Cosine(0.5, steps=1, low=0.5),
    ]
    assert [schedule(0) for schedule in edges] == [0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.5]


def test_the_usual_constants():
    assert repr(s.Step(0.1, 5)) == "Step(eta0=0.1, every=5, factor=0.1)"
    assert repr(s.Exponential(0.1, 5)) == "Exponential(eta0=0.1, steps=5, factor=0.1)"
    assert repr(s.Cosine(0.1, 5)) == "Cosine(eta0=0.1, steps=5, low=0.0)"
    assert repr(s.CosineRestarts(0.1, 5)) == "CosineRestarts(eta0=0.1, steps=5, factor=1, low=0.0)"
    assert repr(s.Polynomial(0.1, 5)) == "Polynomial(eta0=0.1, steps=5, power=1.0, end=0.0)"
    assert repr(s.OneCycle(0.1, 5)) == "OneCycle(peak=0.1, steps=5, rise=0.3, start=25.0, end=10000.0)"


@pytest.mark.parametrize(
    ("schedule", "theirs"),
    [
        (s.OneCycle(0.5, 40), lambda lr, o: lr.OneCycleLR(o, 0.5, total_steps=40)),
        (
            s.OneCycle(0.5, 40, rise=0.25, start=10.0, end=50.0),
            lambda lr, o: lr.OneCycleLR(o, 0.5, total_steps=40, pct_start=0.25, div_factor=10.0, final_div_factor=50.0),
        ),
        (s.CosineRestarts(0.5, 6), lambda lr, o: lr.CosineAnnealingWarmRestarts(o, 6)),
        (
            s.CosineRestarts(0.5, 4, 3, low=0.1),
            lambda lr, o: lr.CosineAnnealingWarmRestarts(o, 4, T_mult=3, eta_min=0.1),
        ),
        (s.Polynomial(0.5, 30, power=1.5), lambda lr, o: lr.PolynomialLR(o, 30, power=1.5)),
    ],
)
def test_the_course_is_pytorchs(schedule, theirs):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = theirs(torch.optim.lr_scheduler, optimizer)
    for t in range(40):
        assert schedule(t) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-15)
        optimizer.step()
        if t < 39:
            scheduler.step()
