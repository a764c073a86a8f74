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
    ],
)
def test_constants_out_of_range_are_named(make):
    with pytest.raises(gn.OptionError, match=r"must be (at least|a whole number, [01] or more).*, got "):
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
