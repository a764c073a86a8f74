// The page: a pen, the paper it draws on, and pictures of what the network makes of it.
//
// Two functions come from the script before this one: describe(), what there is to know of the network, and
// read(drawing, network), which promises its answer to a drawing.
"use strict";

const $ = (id) => document.getElementById(id);
const paper = $("paper");
const canvas = paper.getContext("2d"); // what people see, in the screen's own pixels and colours
let ink; // what the network gets: one number for each of 280 x 280 pixels
let network;

// --- strokes: {width, points: [[x, y], ...]}, in pixels of the drawing

let strokes = [];
let cleared = []; // what "Clear" took away, for "Undo" to bring back
let stroke = null; // the one that is being drawn
let version = 0; // counts the changes of the drawing

function begin(x, y) {
  stroke = { width: Number($("width").value), points: [] };
  strokes.push(stroke);
  cleared = [];
  goOn([[x, y]]);
}

function goOn(points) {
  stroke.points.push(...points);
  changed();
}

function end() {
  stroke = null;
}

function undo() {
  end();
  if (strokes.length) strokes.pop();
  else [strokes, cleared] = [cleared, []];
  changed();
}

function clear() {
  end();
  if (strokes.length) [strokes, cleared] = [[], strokes];
  changed();
}

function redraw() {
  for (const context of [canvas, ink]) {
    const [height, width] = network.size;
    context.clearRect(0, 0, width, height);
    for (const { width, points } of strokes) {
      context.lineWidth = width;
      context.beginPath();
      context.moveTo(...points[0]);
      for (const [x, y] of points) context.lineTo(x + 0.01, y); // a line of no length would leave no dot
      context.stroke();
    }
  }
}

// The paper in as many pixels as the screen has for it, and the ink in the colour of the page
function fit() {
  const [height, width] = network.size;
  const scale = (paper.clientWidth * devicePixelRatio) / width;
  [paper.width, paper.height] = [width * scale, height * scale];
  canvas.scale(scale, scale);
  for (const context of [canvas, ink]) {
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = colour("--text");
  }
  redraw();
  movePen();
}

// How much ink lies on each pixel, from 0 to 255: its opacity, whatever its colour
function drawing() {
  const [height, width] = network.size;
  const { data } = ink.getImageData(0, 0, width, height); // red, green, blue and opacity of each
  const opacity = new Uint8Array(height * width);
  for (let i = 0; i < opacity.length; i++) opacity[i] = data[4 * i + 3];
  return opacity;
}

// --- mouse and touch

function place(event) {
  const { left, top } = paper.getBoundingClientRect();
  const scale = network.size[1] / paper.clientWidth;
  return [(event.clientX - left - paper.clientLeft) * scale, (event.clientY - top - paper.clientTop) * scale];
}

paper.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary || event.button !== 0) return;
  paper.setPointerCapture(event.pointerId); // the line goes on when it leaves the paper and comes back
  $("pen").hidden = true;
  begin(...place(event));
});
// Some browsers tell of a move at once, others with the next frame of the screen, up to 17 ms later
const MOVED = "onpointerrawupdate" in window ? "pointerrawupdate" : "pointermove";
paper.addEventListener(MOVED, (event) => {
  if (!stroke || !event.isPrimary || !event.buttons) return;
  const all = event.getCoalescedEvents(); // more than one where the mouse is quicker than the screen
  goOn((all.length ? all : [event]).map(place));
});
for (const name of ["pointerup", "pointercancel"]) paper.addEventListener(name, (event) => event.isPrimary && end());

// --- keyboard

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const held = new Set(); // arrow keys that are down
let pen = null; // where the keyboard's pen is

paper.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in ARROWS) {
    held.add(event.key);
    step(event.shiftKey ? 2 : 8);
  } else if (event.key === " ") {
    if (!event.repeat) putDownOrLift();
  } else if (["Escape", "Delete", "Backspace"].includes(event.key)) {
    clear();
    say("The paper is empty.");
  } else return;
  event.preventDefault();
});
paper.addEventListener("keyup", (event) => held.delete(event.key));
paper.addEventListener("blur", () => {
  held.clear();
  end();
  $("pen").hidden = true;
});
paper.addEventListener("focus", () => {
  if (paper.matches(":focus-visible")) showPen();
});

function step(length) {
  showPen();
  const [height, width] = network.size;
  for (const key of held) {
    pen[0] = Math.min(Math.max(pen[0] + length * ARROWS[key][0], 0), width);
    pen[1] = Math.min(Math.max(pen[1] + length * ARROWS[key][1], 0), height);
  }
  movePen();
  if (stroke) goOn([[...pen]]);
}

function putDownOrLift() {
  showPen();
  if (stroke) end();
  else begin(...pen);
  movePen();
  say(stroke ? "The pen is down." : "The pen is up.");
}

function showPen() {
  pen ??= [network.size[1] / 2, network.size[0] / 4];
  $("pen").hidden = false;
  movePen();
}

function movePen() {
  if (!pen) return;
  const scale = paper.clientWidth / network.size[1];
  const { style, classList } = $("pen");
  [style.left, style.top] = pen.map((at) => `${at * scale}px`);
  style.width = style.height = `${Number($("width").value) * scale}px`;
  classList.toggle("down", Boolean(stroke));
}

$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", clear);
$("width").addEventListener("input", movePen);
document.addEventListener("keydown", (event) => {
  if (network && (event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z") {
    event.preventDefault();
    undo();
  }
});

// --- asking: the drawing as it is now, and no sooner again than the answer is there

let answered = 0; // the version that the last answer is about
let asking = false;
let last = null; // the last answer, to be painted again in other colours

async function changed() {
  redraw();
  version += 1;
  $("undo").disabled = !strokes.length && !cleared.length;
  $("clear").disabled = !strokes.length;
  $("here").hidden = strokes.length > 0;
  if (asking) return;
  asking = true;
  try {
    while (answered !== version) {
      const [now, pixels] = [version, drawing()];
      last = pixels.some((value) => value > 0) ? await read(pixels, network) : null;
      answered = now;
      show();
    }
    $("trouble").hidden = true;
  } catch (error) {
    trouble(error);
  } finally {
    asking = false;
  }
}

function trouble(error) {
  $("trouble").textContent = error.message;
  $("trouble").hidden = false;
}

// --- the answer

function show() {
  const answers = last ? [...last[0]] : network.classes.map(() => 0);
  const first = last ? answers.indexOf(Math.max(...answers)) : -1;
  // a full bar: certainty; of scores, which have no bounds, the strongest either way, and none below 0 has a bar
  const full = network.scores ? Math.max(...answers.map(Math.abs)) || 1 : 1;
  [...$("bars").children].forEach((bar, i) => {
    bar.classList.toggle("first", i === first);
    bar.querySelector(".fill").style.transform = `translateX(${(100 * Math.max(answers[i], 0)) / full - 100}%)`;
    bar.querySelector(".amount").textContent = amount(answers[i]);
  });
  $("best").textContent = last ? network.classes[first] : "–";
  $("best").classList.toggle("none", !last);
  const sure = last && (network.scores ? `score ${amount(answers[first])}` : `${amount(answers[first])} sure`);
  $("sure").textContent = sure ?? "nothing yet";
  if (last) say(`It reads ${network.classes[first]}, ${sure}.`);
  paint();
}

function amount(answer) {
  if (network.scores) return answer.toFixed(2);
  return `${(100 * answer).toFixed(answer > 0.99 && answer < 0.9995 ? 1 : 0)}%`;
}

// Spoken by screen readers, once the drawing has come to rest
let silence;
function say(text) {
  clearTimeout(silence);
  silence = setTimeout(() => ($("spoken").textContent = text), 600);
}

// --- pictures: one pixel of a canvas for each number, enlarged by the style sheet

let colours; // [red, green, blue] of each that pictures are painted in

function paint() {
  const { ground, text, above, below } = colours;
  const [, picture, ...layers] = last ?? [];
  paintMaps($("picture"), picture, [...network.image, 1], ground, text, text);
  const canvases = document.querySelectorAll("#layers canvas");
  network.layers.forEach(({ shape }, i) => paintMaps(canvases[i], layers[i], asMaps(shape), ground, above, below));
}

// An array that is no image is shown as maps of one pixel each
function asMaps(shape) {
  return shape.length === 3 ? shape : [1, 1, shape.reduce((a, b) => a * b, 1)];
}

// How c maps of h x w pixels are laid out: in rows that are all full, where c has such a divisor
function layout([h, w, c]) {
  const gap = h * w > 1 ? 1 : 0;
  const most = gap ? Math.max(1, Math.min(16, Math.floor(256 / w))) : 50; // in a row
  let columns = Math.min(c, most);
  while (c % columns && columns > most / 2) columns -= 1;
  if (c % columns) columns = Math.ceil(c / Math.ceil(c / most));
  return { gap, columns, width: columns * (w + gap) - gap, height: Math.ceil(c / columns) * (h + gap) - gap };
}

// numbers[(row * w + column) * c + map], from `below` over `ground` at 0 to `above`
function paintMaps(target, numbers, [h, w, c], ground, above, below) {
  const { gap, columns, width, height } = layout([h, w, c]);
  const image = new ImageData(width, height);
  const strongest = numbers ? numbers.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1 : 1;
  for (let k = 0; k < c; k++) {
    const [top, left] = [Math.floor(k / columns) * (h + gap), (k % columns) * (w + gap)];
    for (let i = 0; i < h; i++) {
      for (let j = 0; j < w; j++) {
        const share = numbers ? numbers[(i * w + j) * c + k] / strongest : 0;
        const [strength, end] = [Math.abs(share), share > 0 ? above : below];
        const at = 4 * ((top + i) * width + left + j);
        for (let n = 0; n < 3; n++) image.data[at + n] = ground[n] + strength * (end[n] - ground[n]);
        image.data[at + 3] = 255;
      }
    }
  }
  target.getContext("2d").putImageData(image, 0, 0);
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function rgb(name) {
  const text = colour(name); // such as #0b5cad
  return [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
}

// --- the page for this network

function make(tag, text = "", className = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = className;
  return element;
}

function build() {
  const { classes, image, layers, parameters } = network;
  const digits = classes.every((name) => /^[0-9]$/.test(name));
  const names = classes.join(", ");
  const what = names.length < 80 ? names : `${classes.length} classes`;
  $("title").textContent = digits ? "Draw a digit" : `Draw one of ${what}`;
  $("about").textContent = `A neural network of ${parameters.toLocaleString("en")} parameters reads it while you draw.`;
  document.title = `${$("title").textContent} · gpunn`;
  $("seen").textContent = `What it sees: ${image.join(" × ")}`;
  $("best").classList.toggle("word", classes.some((name) => name.length > 2));
  [$("picture").height, $("picture").width] = image;
  $("width").value = Math.max(24, (0.9 * network.size[0]) / image[0]); // about a pixel of the picture, or it turns pale
  for (const name of classes) {
    const track = make("span", "", "track");
    track.append(make("span", "", "fill"));
    const bar = make("li");
    bar.append(make("span", name), track, make("span", "", "amount"));
    $("bars").append(bar);
  }
  layers.forEach(({ name, shape }, i) => {
    const [h, w, c] = asMaps(shape);
    const { width, height } = layout([h, w, c]);
    const caption = make("figcaption");
    caption.id = `layer${i}`;
    caption.append(make("b", name), h * w > 1 ? ` ${c} maps of ${h} × ${w}` : ` ${c} numbers`);
    const picture = make("canvas");
    picture.setAttribute("role", "img");
    picture.setAttribute("aria-labelledby", caption.id);
    [picture.width, picture.height] = [width, height];
    picture.style.width = `min(100%, ${width * (h * w > 1 ? 7 : 24)}px)`;
    const figure = make("figure");
    figure.append(caption, picture);
    $("layers").append(figure);
  });
}

function recolour() {
  colours = { ground: rgb("--card"), text: rgb("--text"), above: rgb("--above"), below: rgb("--below") };
  fit();
  paint();
}

async function start() {
  try {
    network = await describe();
  } catch (error) {
    trouble(error);
    return;
  }
  const [height, width] = network.size;
  ink = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d", {
    willReadFrequently: true,
  });
  build();
  $("keyboard").open = matchMedia("(min-width: 48rem)").matches; // where it pushes nothing away
  paper.style.aspectRatio = `${width} / ${height}`;
  recolour();
  show();
  document.querySelector("main").inert = false; // from here on there is something to draw for
  new ResizeObserver(fit).observe(paper);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
}

start();
