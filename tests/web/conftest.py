"""A browser for the tests of the page, and a pen that draws in it."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import gpunn as gn

SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    """Chromium without a window. Tests that need it are skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    chromedriver = shutil.which("chromedriver")
    if not (chromium and chromedriver):
        pytest.skip("needs Chromium and chromedriver (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    yield browser
    browser.quit()


class Page:
    """The page in the browser, once it knows its network."""

    def __init__(self, driver, address):
        self.driver = driver
        driver.get_log("browser")
        driver.get(str(address))
        self.wait("return Boolean(document.querySelector('#bars li, #trouble:not([hidden])'))")

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, script, *arguments):
        from selenium.webdriver.support.wait import WebDriverWait

        return WebDriverWait(self.driver, 20, poll_frequency=0.02).until(lambda _: self.js(script, *arguments))

    def mouse(self, kind, x, y):
        """The mouse as the browser gets it from the system, at a place on the paper in pixels of the drawing."""
        left, top, scale = self.js(
            "const r = paper.getBoundingClientRect();"
            "return [r.left + paper.clientLeft, r.top + paper.clientTop, paper.clientWidth / network.size[1]]"
        )
        self.driver.execute_cdp_cmd(
            "Input.dispatchMouseEvent",
            {"type": kind, "x": left + scale * x, "y": top + scale * y, "button": "left", "buttons": 1, "clickCount": 1},
        )

    def draw(self, *strokes):
        """Draw lines with the mouse, each through points [(x, y), ...], and wait for the answer to the last."""
        for (x, y), *others in strokes:
            self.mouse("mousePressed", x, y)
            for x, y in others:
                self.mouse("mouseMoved", x, y)
            self.mouse("mouseReleased", x, y)
        self.settled()

    def settled(self):
        self.wait("return answered === version && !asking")

    def clear(self):
        self.js("document.getElementById('clear').click()")
        self.settled()

    @property
    def best(self):
        return self.js("return document.getElementById('best').textContent")

    @property
    def pixels(self):
        """The drawing as the network gets it."""
        height, width = self.js("return network.size")
        return np.array(self.js("return [...drawing()]"), np.uint8).reshape(height, width)

    def complaints(self):
        return [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture
def open_page(driver):
    return lambda address: Page(driver, address)


def line(*points, n=12):
    """n points on each straight piece of a line, as a hand would pass them."""
    pieces = [
        [(x0 + (x1 - x0) * i / n, y0 + (y1 - y0) * i / n) for i in range(n)]
        for (x0, y0), (x1, y1) in zip(points[:-1], points[1:], strict=True)
    ]
    return [*sum(pieces, []), points[-1]]


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
    "5": [[*line((185, 65), (110, 65), (105, 130)), *arc(135, 170, 52, 48, -110, 140)], ],
    "6": [[*line((165, 60), (115, 130)), *arc(140, 175, 48, 45, 200, 560, 40)]],
    "7": [line((90, 75), (190, 75), (130, 220))],
    "8": [[*arc(140, 100, 38, 38, 90, 450, 32), *arc(140, 182, 46, 44, -90, 270, 32)]],
    "9": [[*arc(140, 105, 45, 42, 0, 360, 32), *line((185, 105), (170, 220))]],
}


@pytest.fixture
def strokes():
    return STROKES
