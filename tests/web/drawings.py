"""Networks and drawings for the tests of the page."""

from itertools import pairwise

import numpy as np

import gpunn as gn

DIGITS = {"classes": list("0123456789"), "image_shape": [28, 28, 1], "box": 20}


def network(net=None, **about):
    net = net or gn.mlp([784, 12, 10], output="softmax")
    net.init(seed=1)
    net.about = DIGITS | about
    return net


def blot():
    """An L of ink, off the middle."""
    drawing = np.zeros((280, 280), np.uint8)
    drawing[30:120, 50:62] = drawing[110:120, 50:100] = 255
    return drawing


def line(*points, n=12):
    """n points on each straight piece of a line, as a hand would pass them."""
    found = []
    for (x0, y0), (x1, y1) in pairwise(points):
        found += [(x0 + (x1 - x0) * i / n, y0 + (y1 - y0) * i / n) for i in range(n)]
    return [*found, points[-1]]


def arc(x, y, rx, ry, start, end, n=24):
    """Points of an ellipse around (x, y) between two angles, in degrees clockwise from the right."""
    angles = np.radians(np.linspace(start, end, n))
    return [(float(x + rx * np.cos(a)), float(y + ry * np.sin(a))) for a in angles]


# Digits as one writes them, on paper of 280 x 280
STROKES = {
    "0": [arc(140, 140, 50, 80, -90, 270, 40)],
    "1": [line((110, 90), (145, 60), (145, 220))],
    "2": [[*arc(140, 105, 50, 45, 190, 390), *line((170, 145), (90, 215), (200, 215))]],
    "3": [[*arc(135, 100, 45, 40, 200, 450), *arc(135, 180, 50, 42, -90, 150)]],
    "4": [line((110, 65), (90, 150), (190, 150)), line((170, 70), (165, 225))],
    "5": [
        [*line((185, 65), (110, 65), (105, 130)), *arc(135, 170, 52, 48, -110, 140)],
    ],
    "6": [[*line((165, 60), (115, 130)), *arc(140, 175, 48, 45, 200, 560, 40)]],
    "7": [line((90, 75), (190, 75), (130, 220))],
    "8": [[*arc(140, 100, 38, 38, 90, 450, 32), *arc(140, 182, 46, 44, -90, 270, 32)]],
    "9": [[*arc(140, 105, 45, 42, 0, 360, 32), *line((185, 105), (170, 220))]],
}
