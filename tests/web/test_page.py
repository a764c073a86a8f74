"""The page as people use it, in a real browser."""

import re
import subprocess
import sys
import time

import numpy as np
import pytest

import gpunn as gn
from gpunn.web import to_html
from gpunn.web.reader import Reader
from tests.web.drawings import STROKES, network


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def digits(folder):
    """The file of a network that reads the digits that come with gpunn."""
    train, _ = gn.datasets.digits()
    net = gn.mlp([64, 64, 10], output="softmax")
    gn.Trainer(net, optimizer=gn.Adam(3e-3), device="cpu").fit(train, epochs=20, batch_size=32, verbose=False)
    net.about = {"classes": list("0123456789"), "image_shape": [8, 8, 1], "box": 8}
    gn.save(folder / "digits.safetensors", net)
    return folder / "digits.safetensors"


@pytest.fixture(scope="module")
def served(driver, digits):
    """The address of `gpunn draw`."""
    pytest.importorskip("uvicorn")
    command = [sys.executable, "-m", "gpunn", "draw", str(digits), "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield re.search(r"http://\S+", process.stdout.readline())[0]
        process.terminate()


@pytest.fixture(scope="module")
def exported(driver, folder, digits):
    to_html(gn.load(digits), folder / "digits.html")
    return (folder / "digits.html").as_uri()


@pytest.fixture(params=["served", "exported"])
def page(request, open_page):
    """The page, with a server behind it or without."""
    page = open_page(request.getfixturevalue(request.param))
    yield page
    assert page.complaints() == []


INJECT = """
const [image, left, top, side] = arguments; // each pixel becomes a dot of as much ink as it has
strokes = image.flatMap((row, i) => row.map((value, j) => ({
  width: side * Math.sqrt(value * 4 / Math.PI), points: [[left + (j + 0.5) * side, top + (i + 0.5) * side]]
}))).filter((stroke) => stroke.width > 0);
changed();
"""


def test_held_out_digits_are_read(page, digits):
    """Each is drawn as dots, at a size and place of its own."""
    rng = np.random.default_rng(0)
    test = gn.datasets.digits()[1][:60]
    net, right = gn.load(digits), 0
    clean = (net(test.x).argmax(axis=1) == test.y).sum()
    for image, label in zip(test.images[..., 0], test.y, strict=True):
        side = rng.uniform(12, 30)
        page.js(INJECT, image.tolist(), *rng.uniform(0, 280 - 8 * side, 2), side)
        page.settled()
        right += page.best == str(label)
    assert clean >= 54
    assert right >= clean - 4


def test_what_the_page_shows_is_what_the_network_says(page, digits):
    page.draw(*STROKES["3"])
    reader = Reader(gn.load(digits))
    shares, picture, *layers = reader.read(page.pixels)
    assert page.best == str(shares.argmax())
    shown = page.js("return [...document.querySelectorAll('.amount')].map((e) => parseFloat(e.textContent))")
    np.testing.assert_allclose(shown, 100 * shares, atol=0.51)
    found = page.js("return last.map((array) => [...array])")
    for here, there in zip(found, [shares, picture, *layers], strict=True):
        np.testing.assert_allclose(here, there.reshape(-1), rtol=1e-5, atol=1e-5)
    canvas = "document.getElementById('picture')"
    pixels = page.js(f"return [...{canvas}.getContext('2d').getImageData(0, 0, 8, 8).data]")
    grey = np.reshape(pixels, (8, 8, 4))[..., 0]  # dark ink, from 255 down to 28
    np.testing.assert_allclose(grey, 255 - picture / picture.max() * (255 - 28), atol=1.5)


def test_the_answer_changes_while_one_draws(page):
    page.js(
        "window.seen = []; new MutationObserver(() => seen.push(document.getElementById('bars').textContent))"
        ".observe(document.getElementById('bars'), {subtree: true, childList: true, characterData: true})"
    )
    points = STROKES["3"][0]
    page.mouse("mousePressed", *points[0])
    for point in points[1:]:
        page.mouse("mouseMoved", *point)
    page.settled()  # the button is still down
    assert page.best != "–"
    assert len(set(page.js("return seen"))) > 5
    page.mouse("mouseReleased", *points[-1])


def test_undo_and_clear(page):
    first, second = STROKES["4"]
    page.draw(first)
    alone = page.pixels
    page.draw(second)
    both = page.pixels
    assert (both >= alone).all()
    assert both.sum() > alone.sum()
    press = "document.getElementById(arguments[0]).click()"
    page.js(press, "undo")
    np.testing.assert_array_equal(page.pixels, alone)
    page.js(press, "clear")
    page.settled()
    assert not page.pixels.any()
    assert page.best == "–"
    assert page.js("return document.getElementById('clear').disabled")
    page.js(press, "undo")
    np.testing.assert_array_equal(page.pixels, alone)
    page.js(press, "undo")
    page.settled()
    assert page.js("return document.getElementById('undo').disabled")


def test_the_pen_has_a_width(page):
    ink = []
    for width in (10, 40):
        page.js("document.getElementById('width').value = arguments[0]", width)
        page.draw([(100, 140), (200, 140)])
        ink.append(np.ptp(np.flatnonzero(page.pixels[:, 150])) + 1)
        page.clear()
    assert ink == [10, 40]


def test_a_finger_draws(page):
    assert page.js("return getComputedStyle(paper).touchAction") == "none"  # or the page would scroll
    touch = page.driver.execute_cdp_cmd
    touch("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        x, y, scale = page.js(
            "const r = paper.getBoundingClientRect(); return [r.left, r.top, r.width / network.size[1]]"
        )
        for kind, points in (("touchStart", [(80, 60)]), ("touchMove", [(140, 140)]), ("touchEnd", [])):
            places = [{"x": x + scale * a, "y": y + scale * b} for a, b in points]
            touch("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})
        page.settled()
        assert page.pixels[100, 110] == 255
        assert page.js("return strokes.length") == 1
    finally:
        touch("Emulation.setTouchEmulationEnabled", {"enabled": False})


def keys(page, *pressed):
    from selenium.webdriver.common.action_chains import ActionChains

    actions = ActionChains(page.driver, duration=0)
    for key in pressed:
        actions.send_keys(key)
    actions.perform()
    page.settled()


def test_the_keyboard_draws_undoes_and_clears(page):
    pytest.importorskip("selenium")
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    keys(page, Keys.TAB)
    assert page.js("return document.activeElement === paper")  # the first that the keyboard comes to
    assert page.js("return getComputedStyle(paper).outlineStyle") == "solid"
    keys(page, *[Keys.ARROW_LEFT] * 3)
    assert not page.pixels.any()  # the pen is up
    keys(page, " ", *[Keys.ARROW_RIGHT] * 6, *[Keys.ARROW_DOWN] * 12, " ")
    drawn = page.pixels
    assert drawn[70, 118] == drawn[70, 160] == drawn[160, 164] == 255
    assert page.best != "–"
    keys(page, *[Keys.ARROW_LEFT] * 9)  # up again: leaves nothing
    np.testing.assert_array_equal(page.pixels, drawn)
    keys(page, " ", Keys.ARROW_UP, " ")
    assert page.pixels.sum() > drawn.sum()
    ActionChains(page.driver).key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL).perform()
    np.testing.assert_array_equal(page.pixels, drawn)
    page.wait("return document.getElementById('spoken').textContent.includes('sure')")
    keys(page, Keys.ESCAPE)
    assert not page.pixels.any()
    page.wait("return document.getElementById('spoken').textContent === 'The paper is empty.'")


# --- who cannot see, or not all colours, or uses no mouse


CONTRAST = """
const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const colour = numbers(getComputedStyle(e).backgroundColor);
    if (colour.length === 3 || colour[3] > 0) return colour;
  }
};
const contrast = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
const found = [];
for (const element of document.querySelectorAll("body *")) {
  const said = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!said || !element.checkVisibility() || element.tagName === "SCRIPT") continue;
  const style = getComputedStyle(element);
  const needed = parseFloat(style.fontSize) >= 24 ? 3 : 4.5; // WCAG 2.2, 1.4.3
  const what = element.tagName + " " + element.textContent.trim();
  found.push([what, contrast(numbers(style.color), ground(element)), needed]);
}
for (const element of document.querySelectorAll("button:enabled, #paper, .first .fill")) { // 1.4.11
  const style = getComputedStyle(element);
  const edge = numbers(element.className === "fill" ? style.backgroundColor : style.borderTopColor);
  found.push([element.id || element.className, contrast(edge, ground(element.parentElement)), 3]);
}
return found;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_told_from_its_ground(page, scheme):
    page.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    try:
        page.js("document.getElementById('keyboard').open = true")
        for strokes in ([], STROKES["3"]):
            page.draw(*strokes)
            found = page.js(CONTRAST)
            assert len(found) > 30
            assert [(what, ratio) for what, ratio, needed in found if ratio < needed] == []
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_ink_changes_its_colour_with_the_scheme(page):
    page.draw([(40, 140), (240, 140)])
    colour = "const [w, h] = [paper.width, paper.height]; return canvas.getImageData(w / 2, h / 2, 1, 1).data[0]"
    found = {}
    for scheme in ("light", "dark", "light"):
        page.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        page.wait(f"return matchMedia('(prefers-color-scheme: {scheme})').matches")
        time.sleep(0.1)
        found.setdefault(scheme, page.js(colour))
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert found["light"] < 64 < 192 < found["dark"]
    page.complaints()  # that this test reads from a canvas that is not made for it


def test_everything_has_a_name_and_the_keyboard_reaches_all_that_can_be_operated(page):
    from selenium.webdriver.common.keys import Keys

    page.js("begin(100, 100); goOn([[150, 200]]); end()")
    page.settled()
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    told = {"button", "slider", "image", "application", "DisclosureTriangle", "heading", "RootWebArea"}
    nodes = [node for node in tree if not node["ignored"] and node["role"]["value"] in told]
    assert [node["role"]["value"] for node in nodes if not node["name"]["value"].strip()] == []
    names = {node["name"]["value"] for node in nodes}
    assert {"Undo", "Clear", "Pen", "Paper to draw on", "What it sees: 8 × 8", "linear1 64 numbers"} <= names
    assert page.js("return document.documentElement.lang") == "en"
    assert page.js("return document.getElementById('spoken').getAttribute('role')") == "status"
    described = page.js("return document.getElementById(paper.getAttribute('aria-describedby')).textContent")
    assert "Space" in described
    reached = []
    for _ in range(5):
        keys(page, Keys.TAB)
        reached.append(page.js("return document.activeElement.id || document.activeElement.tagName"))
        assert page.js("return getComputedStyle(document.activeElement).outlineWidth") == "3px"
    assert reached == ["paper", "undo", "clear", "width", "SUMMARY"]


def test_a_narrow_screen_shows_all_without_scrolling_aside(page):
    page.draw(*STROKES["3"])
    for width in (320, 390, 768):
        page.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": True},
        )
        assert page.js("return document.documentElement.scrollWidth") <= width
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_who_wants_no_motion_sees_none(page):
    duration = "return getComputedStyle(document.querySelector('.fill')).transitionDuration"
    assert page.js(duration) == "0.09s"
    page.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    )
    assert page.js(duration) == "0s"
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


# --- MNIST


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dense", "convolutional"])
def test_digits_drawn_with_the_mouse_are_read(open_page, folder, data_dir, kind):
    net = gn.mlp([784, 64, 10], output="softmax") if kind == "dense" else gn.models.cnn(width=8)
    train, _ = gn.datasets.mnist(data_dir)
    trainer = gn.Trainer(net, optimizer=gn.Adam(3e-3), device="cpu")
    trainer.fit(train[: 20_000 if kind == "dense" else 10_000], epochs=2, batch_size=50, verbose=False)
    net.about = {"classes": list("0123456789"), "image_shape": [28, 28, 1], "box": 20}
    to_html(net, folder / "mnist.html")
    page = open_page((folder / "mnist.html").as_uri())
    read = {}
    for digit, strokes in STROKES.items():
        page.draw(*strokes)
        read[digit] = page.best
        page.clear()
    assert sum(digit == found for digit, found in read.items()) >= 9, read
    assert page.complaints() == []


# --- when something is wrong


def test_a_server_that_has_ended_is_told_of(driver, open_page, digits):
    pytest.importorskip("uvicorn")
    command = [sys.executable, "-m", "gpunn", "draw", str(digits), "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        page = open_page(re.search(r"http://\S+", process.stdout.readline())[0])
        process.terminate()
        process.wait()
    page.mouse("mousePressed", 100, 100)
    page.wait("return !document.getElementById('trouble').hidden")
    told = page.js("return document.getElementById('trouble').textContent")
    assert told.startswith("The server does not answer: has it ended? Start gpunn draw again")


def test_a_page_that_knows_no_network_takes_no_drawing(open_page, folder):
    to_html(network(), folder / "broken.html")
    text = (folder / "broken.html").read_text(encoding="utf-8")
    (folder / "broken.html").write_text(text.replace('id="weights">{', 'id="weights">{{'), encoding="utf-8")
    page = open_page((folder / "broken.html").as_uri())
    page.mouse("mousePressed", 100, 100)
    page.js("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'z', ctrlKey: true}))")
    assert "JSON" in page.js("return document.getElementById('trouble').textContent")
    assert page.complaints() == []


def test_scores_are_shown_as_scores(open_page, folder):
    net = network(gn.mlp([784, 10], output="identity"))
    bias = np.arange(10) - 6.0
    net.load_state_dict({"linear1.W": np.zeros((784, 10)), "linear1.b": bias})
    to_html(net, folder / "scores.html")
    page = open_page((folder / "scores.html").as_uri())
    page.draw(*STROKES["3"])
    assert page.best == "9"
    assert page.js("return document.getElementById('sure').textContent") == "score 3.00"
    shown = page.js("return [...document.querySelectorAll('.amount')].map((e) => e.textContent)")
    assert shown == [f"{score:.2f}" for score in bias]
    moved = page.js("return [...document.querySelectorAll('.fill')].map((e) => e.style.transform)")
    lengths = [100 + float(re.search(r"\((.*)%\)", text)[1]) for text in moved]
    np.testing.assert_allclose(lengths, np.maximum(bias, 0) / 6 * 100, atol=0.01)
    assert page.complaints() == []


def test_a_hundred_classes_leave_room_for_the_rest(open_page, folder):
    net = network(gn.mlp([784, 100], output="softmax"), classes=[f"class {i}" for i in range(100)])
    to_html(net, folder / "hundred.html")
    page = open_page((folder / "hundred.html").as_uri())
    assert page.js("return document.getElementById('title').textContent") == "Draw one of 100 classes"
    assert page.js("return document.documentElement.scrollHeight") < 2000
    assert page.js("return document.getElementById('bars').scrollHeight") > 2000
    assert page.complaints() == []


def test_classes_of_any_name_are_shown_as_text(open_page, folder):
    names = ["cat", "<b>dog</b>", "a name that is rather long", *"3456789"]
    to_html(network(classes=names), folder / "names.html")
    page = open_page((folder / "names.html").as_uri())
    shown = page.js("return [...document.querySelectorAll('#bars li > :first-child')].map((e) => e.textContent)")
    assert shown == names
    assert page.js("return document.getElementById('title').textContent").startswith("Draw one of cat, <b>dog</b>")
    tracks = "return [...document.querySelectorAll('.track')].map((e) => e.getBoundingClientRect().left)"
    assert len(set(page.js(tracks))) == 1  # so that bars can be compared
    assert page.complaints() == []
