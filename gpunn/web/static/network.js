// A network in a browser: the picture that it sees, and the forward pass of every layer of gpunn.
//
// An array is {shape, data}: its numbers lie one after another, the last axis the fastest, so that y[i, j] of an array
// of shape (I, J) is data[i * J + j]. There is one drawing at a time, so no axis for a batch: a layer's x (N, D) in
// gpunn is (D) here, and images are (height, width, channels).
"use strict";

const product = (numbers) => numbers.reduce((a, b) => a * b, 1);
const array = (shape, data = new Float64Array(product(shape))) => ({ shape, data });

// y_i = f(x_i): a function of each number
const elementwise = (f) => (x, layer) => array(x.shape, x.data.map((value) => f(value, layer)));

// --- functions of one number

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))); // = log(1 + e^x)
const elu = (x, alpha) => (x > 0 ? x : alpha * Math.expm1(x));
const hardSigmoid = (x) => Math.max(0, Math.min(x / 6 + 0.5, 1));
const gelu = (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

// --- the layers, each as its forward pass: (x, the layer with its arguments and weights) -> y

const layers = {
  // y = x W + b
  Linear(x, { W, b }) {
    const [D, M] = W.shape;
    const y = array([M]);
    if (b) y.data.set(b.data);
    for (let d = 0; d < D; d++) {
      for (let m = 0; m < M; m++) y.data[m] += x.data[d] * W.data[d * M + m];
    }
    return y;
  },

  // y_pqm = b_m + sum_uvc x_(ps+u-a, qs+v-a, c) W_uvcm, with stride s and padding a; outside the image x is 0
  Conv2d(x, { W, b, stride, padding }) {
    const [H, width, C] = x.shape;
    const [U, V, , M] = W.shape;
    const P = places(H + 2 * padding[0], U, stride[0]);
    const Q = places(width + 2 * padding[1], V, stride[1]);
    const y = array([P, Q, M]);
    for (let p = 0; p < P; p++) {
      for (let q = 0; q < Q; q++) {
        const out = (p * Q + q) * M;
        if (b) y.data.set(b.data, out);
        for (let u = 0; u < U; u++) {
          const row = p * stride[0] + u - padding[0];
          if (row < 0 || row >= H) continue;
          for (let v = 0; v < V; v++) {
            const column = q * stride[1] + v - padding[1];
            if (column < 0 || column >= width) continue;
            for (let c = 0; c < C; c++) {
              const value = x.data[(row * width + column) * C + c];
              const weights = ((u * V + v) * C + c) * M;
              for (let m = 0; m < M; m++) y.data[out + m] += value * W.data[weights + m];
            }
          }
        }
      }
    }
    return y;
  },

  // y_pqc = max_uv x_(ps+u, qs+v, c)
  MaxPool2d: (x, layer) => pool(x, layer, (values) => Math.max(...values)),

  // y_pqc = 1/(UV) sum_uv x_(ps+u, qs+v, c)
  AvgPool2d: (x, layer) => pool(x, layer, mean),

  // y_c = 1/(HW) sum_hw x_hwc
  GlobalAvgPool2d: (x) => array([x.shape[2]], pool(x, { window: x.shape, stride: [1, 1] }, mean).data),

  // x^ = (x - mean) / sqrt(variance + epsilon), with the mean and variance of each channel c that were seen in
  // training; y = gamma_c x^ + beta_c
  BatchNorm(x, { gamma, beta, mean, variance, epsilon }) {
    const n = gamma.data.length;
    const hat = x.data.map((value, i) => (value - mean.data[i % n]) / Math.sqrt(variance.data[i % n] + epsilon));
    return scaleShift(array(x.shape, hat), gamma, beta);
  },

  // x^ = (x - mu) / sqrt(v + epsilon), with the mean mu and variance v of the channels of each pixel;
  // y = gamma x^ + beta
  LayerNorm(x, { gamma, beta, n, epsilon }) {
    return scaleShift(normalised(x, (i) => Math.floor(i / n), epsilon), gamma, beta);
  },

  // the same, with mu and v over all pixels of n / groups neighbouring channels
  GroupNorm(x, { gamma, beta, n, groups, epsilon }) {
    return scaleShift(normalised(x, (i) => Math.floor(((i % n) * groups) / n), epsilon), gamma, beta);
  },

  // y = gamma x / sqrt(mean of x^2 + epsilon), with the mean over the channels of each pixel
  RMSNorm(x, { gamma, n, epsilon }) {
    const squares = x.data.map((value) => value * value);
    const means = groupMeans(squares, (i) => Math.floor(i / n));
    const hat = x.data.map((value, i) => value / Math.sqrt(means[Math.floor(i / n)] + epsilon));
    return scaleShift(array(x.shape, hat), gamma);
  },

  // y = (x - mean) / std for each feature
  Standardize: (x, { mean, std }) => array(x.shape, x.data.map((value, i) => (value - mean.data[i]) / std.data[i])),

  // y_c = e^x_c / sum_k e^x_k along the last axis; the largest is taken off first, so that no power overflows
  Softmax(x) {
    const n = x.shape.at(-1);
    const y = array(x.shape);
    for (let i = 0; i < x.data.length; i += n) {
      const row = x.data.subarray(i, i + n);
      const most = Math.max(...row);
      const powers = row.map((value) => Math.exp(value - most));
      const sum = powers.reduce((a, b) => a + b, 0);
      y.data.set(powers.map((power) => power / sum), i);
    }
    return y;
  },

  // y_d = max_k x_(d pieces + k): the largest of each `pieces` neighbours
  Maxout(x, { pieces }) {
    const y = array([...x.shape.slice(0, -1), x.shape.at(-1) / pieces]);
    y.data.forEach((_, d) => (y.data[d] = Math.max(...x.data.subarray(d * pieces, (d + 1) * pieces))));
    return y;
  },

  // y = x where x > 0, else a_c x, with a slope for each channel
  PReLU: (x, { a }) => array(x.shape, x.data.map((v, i) => (v > 0 ? v : a.data[i % a.data.length] * v))),

  ReLU: elementwise((x) => Math.max(x, 0)),
  LeakyReLU: elementwise((x, { alpha }) => Math.max(x, alpha * x)),
  ELU: elementwise((x, { alpha }) => elu(x, alpha)),
  SELU: elementwise((x) => 1.0507009873554804934193349852946 * elu(x, 1.6732632423543772848170429916717)),
  Sigmoid: elementwise(sigmoid),
  HardSigmoid: elementwise(hardSigmoid),
  Tanh: elementwise(Math.tanh),
  Softplus: elementwise(softplus),
  SiLU: elementwise((x) => x * sigmoid(x)),
  HardSwish: elementwise((x) => x * hardSigmoid(x)),
  Mish: elementwise((x) => x * Math.tanh(softplus(x))),
  GELU: elementwise(gelu),
  Exponential: elementwise((x) => Math.exp(Math.min(x, 87))),

  // these two disturb what passes in training alone
  Dropout: (x) => x,
  GaussianNoise: (x) => x,
  Identity: (x) => x,

  Flatten: (x) => array([x.data.length], x.data),
  Reshape: (x, { shape }) => array(shape, x.data),

  // y = f_n(... f_2(f_1(x)))
  Sequential: (x, layer) => layer.layers.reduce(forward, x),

  // y = x + f(x)
  Residual(x, layer) {
    const f = layers.Sequential(x, layer);
    return array(x.shape, x.data.map((value, i) => value + f.data[i]));
  },
};

function forward(x, layer) {
  return layers[layer.type](x, layer);
}

// --- what several layers share

// At how many places a window fits: floor((size - window) / stride) + 1
const places = (size, window, stride) => Math.floor((size - window) / stride) + 1;

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

// y_pqc = f(all x_(ps+u, qs+v, c) of the window)
function pool(x, { window: [U, V], stride }, f) {
  const [H, width, C] = x.shape;
  const [P, Q] = [places(H, U, stride[0]), places(width, V, stride[1])];
  const y = array([P, Q, C]);
  const values = new Float64Array(U * V);
  for (let p = 0; p < P; p++) {
    for (let q = 0; q < Q; q++) {
      for (let c = 0; c < C; c++) {
        for (let u = 0; u < U; u++) {
          for (let v = 0; v < V; v++) {
            values[u * V + v] = x.data[((p * stride[0] + u) * width + q * stride[1] + v) * C + c];
          }
        }
        y.data[(p * Q + q) * C + c] = f(values);
      }
    }
  }
  return y;
}

// The mean of all numbers that belong to the same group, by the number of the group
function groupMeans(numbers, groupOf) {
  const [sums, counts] = [[], []];
  numbers.forEach((value, i) => {
    const group = groupOf(i);
    sums[group] = (sums[group] ?? 0) + value;
    counts[group] = (counts[group] ?? 0) + 1;
  });
  return sums.map((sum, group) => sum / counts[group]);
}

// x^ = (x - mu) / sqrt(v + epsilon), with the mean mu and variance v of each group of numbers
function normalised(x, groupOf, epsilon) {
  const mu = groupMeans(x.data, groupOf);
  const centred = x.data.map((value, i) => value - mu[groupOf(i)]);
  const v = groupMeans(centred.map((value) => value * value), groupOf);
  return array(x.shape, centred.map((value, i) => value / Math.sqrt(v[groupOf(i)] + epsilon)));
}

// y = gamma x + beta, with one of each for every channel, the last axis
function scaleShift(x, gamma, beta) {
  const n = gamma.data.length;
  return array(x.shape, x.data.map((value, i) => gamma.data[i % n] * value + (beta ? beta.data[i % n] : 0)));
}

// --- from the drawing to the picture that the network sees (gpunn/data/image.py in JavaScript)

// The picture (h, w), from 0 to 1, of a drawing of bytes
function prepare(drawing, { size, image, box }) {
  const ink = array(size, Float64Array.from(drawing));
  const picture = box === null ? shrink(ink, size.map((n) => [0, n]), image) : centre(ink, box, image);
  return array(image, picture.data.map((value) => value / 255));
}

// As the images of MNIST were made: the ink's longer side has `box` pixels, and its centre of mass is in the middle
function centre(ink, box, size) {
  const [H, W] = ink.shape;
  const sums = [new Float64Array(H), new Float64Array(W)]; // of the rows, of the columns
  for (let i = 0; i < H; i++) {
    for (let j = 0; j < W; j++) {
      sums[0][i] += ink.data[i * W + j];
      sums[1][j] += ink.data[i * W + j];
    }
  }
  const spans = sums.map((s) => [s.findIndex((sum) => sum > 0), s.findLastIndex((sum) => sum > 0) + 1]);
  const scale = Math.max(...spans.map(([start, end]) => end - start)) / box;
  const frame = sums.map((s, axis) => {
    const [[start, end], n] = [spans[axis], size[axis]];
    const middle = box < n ? n / 2 + 0.5 : n / 2; // MNIST's lies half a pixel beyond the middle
    const total = s.reduce((a, b) => a + b, 0);
    const mass = s.reduce((a, sum, i) => a + sum * (i + 0.5), 0) / total;
    let first = mass - middle * scale;
    first = Math.min(Math.max(first, end - n * scale), start); // but all the ink stays inside
    return [first, first + n * scale];
  });
  return shrink(ink, frame, size);
}

// The means of an image over the cells of a grid laid over it, whose first and last edges are in `frame`: y = A x B^T
function shrink(image, frame, size) {
  const [[h, w], [H, W]] = [size, image.shape];
  const [A, B] = [shares(...frame[0], h, H), shares(...frame[1], w, W)];
  const y = array(size);
  for (let I = 0; I < H; I++) {
    const row = new Float64Array(w); // x B^T of one row of the image
    for (let J = 0; J < W; J++) {
      const value = image.data[I * W + J];
      if (value) for (let j = 0; j < w; j++) row[j] += value * B[j][J];
    }
    for (let i = 0; i < h; i++) {
      if (A[i][I]) for (let j = 0; j < w; j++) y.data[i * w + j] += A[i][I] * row[j];
    }
  }
  return y;
}

// What part of each of n equal cells between `first` and `last` lies on each of N pixels
function shares(first, last, n, N) {
  const cell = (last - first) / n;
  return Array.from({ length: n }, (_, i) =>
    Float64Array.from({ length: N }, (_, j) => {
      const overlap = Math.min(first + (i + 1) * cell, j + 1) - Math.max(first + i * cell, j);
      return Math.max(overlap, 0) / cell;
    }),
  );
}

// --- what the page asks for

// The network as it stands in this file, each layer with its weights
async function describe() {
  const [network, weights] = ["network", "weights"].map((id) => JSON.parse(document.getElementById(id).textContent));
  for (const name in weights) weights[name] = decode(weights[name]);
  for (const layer of [...network.steps, network.output]) attach(layer, weights);
  return network;
}

// The four bytes of each number are written as text in base 64, the lowest first
function decode({ shape, data }) {
  const text = atob(data);
  const view = new DataView(new ArrayBuffer(text.length)); // filled one by one: a list of them all would be too large
  for (let i = 0; i < text.length; i++) view.setUint8(i, text.charCodeAt(i));
  const y = array(shape);
  for (let i = 0; i < y.data.length; i++) y.data[i] = view.getFloat32(4 * i, true);
  return y;
}

// layer.W for a layer whose tensors are {W: "linear1.W"}, and the same for the layers inside it
function attach(layer, weights) {
  for (const name in layer.tensors) layer[name] = weights[layer.tensors[name]];
  for (const inner of layer.layers ?? []) attach(inner, weights);
}

// [the answer for each class, the picture that the network sees, what each of its layers makes of it]
async function read(drawing, network) {
  const picture = prepare(drawing, network);
  let x = array(network.input, picture.data.map((value) => value * network.white));
  const passed = [];
  for (const layer of network.steps) {
    x = forward(x, layer);
    if (layer.shown) passed.push(x.data);
  }
  return [forward(x, network.output).data, picture.data, ...passed];
}
