// Recurrent models in plain JavaScript: from characters to logits, one step a character.
//
// The same layers as generation/numpy_recurrent.py, in double precision. Matrices are stored (n_out, n_in), so that a
// product is one dot product for each output.
"use strict";

// Decode little-endian float16 or float32 numbers from base64.
function decodeFloats(base64, isHalf) {
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  if (!isHalf) return new Float32Array(bytes.buffer);
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
    table[bits] = bits & 32768 ? -size : size;
  }
  return Float32Array.from(new Uint16Array(bytes.buffer), (bits) => table[bits]);
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const relu = (x) => (x > 0 ? x : 0);

// Return W x + b. weight: Float32Array, (n_out, n_in); input: Float64Array, (n_in); bias: (n_out).
// Always the same types of arrays: the compiled loop is then a third faster.
function affine(weight, input, bias) {
  const nIn = input.length, nOut = bias.length, output = new Float64Array(nOut);
  let j = 0;
  for (; j + 3 < nOut; j += 4) { // four rows at once share the loads of the input
    const r0 = j * nIn, r1 = r0 + nIn, r2 = r1 + nIn, r3 = r2 + nIn;
    let s0 = bias[j], s1 = bias[j + 1], s2 = bias[j + 2], s3 = bias[j + 3];
    for (let k = 0; k < nIn; k++) {
      const x = input[k];
      s0 += weight[r0 + k] * x;
      s1 += weight[r1 + k] * x;
      s2 += weight[r2 + k] * x;
      s3 += weight[r3 + k] * x;
    }
    output[j] = s0;
    output[j + 1] = s1;
    output[j + 2] = s2;
    output[j + 3] = s3;
  }
  for (; j < nOut; j++) {
    let sum = bias[j];
    for (let k = 0; k < nIn; k++) sum += weight[j * nIn + k] * input[k];
    output[j] = sum;
  }
  return output;
}

const add = (a, b) => a.map((x, i) => x + b[i]);

// One step of each recurrence: cells/*.py has the formulas. A state is a list of vectors; the first one is h_t.
const CELLS = {
  rnn(gatesIn, [hidden], [weight, bias], nonlinearity) {
    const before = add(affine(weight, hidden, bias), gatesIn);
    return [before.map(nonlinearity === "relu" ? relu : Math.tanh)];
  },
  gru(gatesIn, [hidden], [weight, bias]) {
    const n = hidden.length, gates = affine(weight, hidden, bias);
    const next = new Float64Array(n);
    for (let i = 0; i < n; i++) {
      const reset = sigmoid(gatesIn[i] + gates[i]), update = sigmoid(gatesIn[n + i] + gates[n + i]);
      const candidate = Math.tanh(gatesIn[2 * n + i] + reset * gates[2 * n + i]);
      next[i] = candidate + update * (hidden[i] - candidate);
    }
    return [next];
  },
  lstm(gatesIn, [hidden, cell], [weight, bias]) {
    const n = hidden.length, gates = add(affine(weight, hidden, bias), gatesIn);
    const nextHidden = new Float64Array(n), nextCell = new Float64Array(n);
    for (let i = 0; i < n; i++) {
      nextCell[i] = sigmoid(gates[n + i]) * cell[i] + sigmoid(gates[i]) * Math.tanh(gates[2 * n + i]);
      nextHidden[i] = sigmoid(gates[3 * n + i]) * Math.tanh(nextCell[i]);
    }
    return [nextHidden, nextCell];
  },
  loop: (gatesIn, [hidden], [weight, bias]) => [affine(weight, add(hidden, gatesIn), bias).map(Math.tanh)],
  concat(gatesIn, [hidden], [weightIn, weightOut, bias]) {
    return [affine(weightOut, affine(weightIn, hidden, gatesIn).map(relu), bias).map(Math.tanh)];
  },
};

// A model that reads characters and keeps its state. spec: see `page.model_spec` in Python.
class Model {
  constructor(spec) {
    const floats = decodeFloats(spec.weights, spec.is_half);
    const take = ([start, size]) => floats.subarray(start, start + size);
    this.spec = spec;
    this.cell = CELLS[spec.cell];
    this.cellWeights = spec.cell_weights.map((layer) => layer.map(take));
    this.upper = spec.upper.map((layer) => layer.map(take));
    this.head = spec.head.map((layer) => layer.map(take));
    const [embed, weight, bias] = spec.inputs.map(take);
    const nEmbed = embed.length / spec.vocab_size, vectors = new Float64Array(embed);
    this.table = Array.from({ length: spec.vocab_size }, (_, id) => { // input of the first layer for each character
      const gatesIn = affine(weight, vectors.subarray(id * nEmbed, (id + 1) * nEmbed), bias);
      return spec.input_relu ? gatesIn.map(relu) : gatesIn;
    });
    this.reset();
  }

  reset() {
    const zeros = () => Array.from({ length: this.spec.n_states }, () => new Float64Array(this.spec.n_hidden));
    this.states = this.cellWeights.map(zeros);
    this.window = Array(this.spec.n_context || 0).fill(this.spec.bos_id);
  }

  // Read one character; afterwards `hidden` is the last layer's state. A model with a window reads the window again.
  read(id) {
    if (!this.spec.n_context) return this.step(id);
    const window = [...this.window.slice(1), id];
    this.reset();
    this.window = window;
    window.forEach((each) => this.step(each));
  }

  step(id) {
    this.advance(0, this.table[id]);
    this.upper.forEach(([weight, bias], i) => this.advance(i + 1, affine(weight, this.hidden, bias)));
  }

  advance(i, gatesIn) {
    this.states[i] = this.cell(gatesIn, this.states[i], this.cellWeights[i], this.spec.nonlinearity);
    this.hidden = this.states[i][0];
  }

  // Return the logits of the next character, (V).
  logits() {
    return this.head.reduce((input, [weight, bias]) => affine(weight, input, bias), this.hidden);
  }
}
