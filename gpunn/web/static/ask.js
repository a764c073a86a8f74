// How the page that `gpunn draw` serves has a drawing read: by the network in the server.
// (In a page that `gpunn export` wrote, network.js stands in the place of this file.)
"use strict";

async function describe() {
  return (await asked("network")).json();
}

// [the answer for each class, the picture that the network sees, what each of its layers makes of it]
async function read(drawing, network) {
  const answer = await asked("read", { method: "POST", body: drawing });
  const numbers = new Float32Array(await answer.arrayBuffer());
  const shapes = [[network.classes.length], network.image, ...network.layers.map((layer) => layer.shape)];
  let start = 0;
  return shapes.map((shape) => {
    const size = shape.reduce((a, b) => a * b, 1);
    start += size;
    return numbers.subarray(start - size, start);
  });
}

async function asked(path, request) {
  let answer;
  try {
    answer = await fetch(path, request);
  } catch {
    throw new Error("The server does not answer: has it ended? Start gpunn draw again, and reload this page.");
  }
  if (!answer.ok) throw new Error(`The server answers: ${await answer.text()}`);
  return answer;
}
