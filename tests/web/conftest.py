"""A browser for the tests of the page, and a pen that draws in it."""

import shutil

import numpy as np
import pytest

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


def chromium(folder):
    """Chromium without a window, whose profile is in the folder; None where there is none."""
    from selenium import webdriver

    browser = next(filter(None, map(shutil.which, NAMES)), None)
    chromedriver = shutil.which("chromedriver")
    if not (browser and chromedriver):
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for switch in (*SWITCHES, f"--user-data-dir={folder}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(chromedriver))


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    pytest.importorskip("selenium")
    driver = chromium(tmp_path_factory.mktemp("chromium"))
    if driver is None:
        pytest.skip("needs Chromium and chromedriver (apt-get install chromium chromium-driver)")
    yield driver
    driver.quit()


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
            "return [r.left + paper.clientLeft, r.top + paper.clientTop, paper.clientWidth / (network?.size[1] ?? 280)]"
        )
        self.driver.execute_cdp_cmd(
            "Input.dispatchMouseEvent",
            {
                "type": kind,
                "x": left + scale * x,
                "y": top + scale * y,
                "button": "left",
                "buttons": 1,
                "clickCount": 1,
            },
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
