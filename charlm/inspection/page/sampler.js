// Sampling: from logits to the index of the next character, with numpy's random numbers.
//
// The same steps, in the same order and precision, as generation/sampler.py; so a seed gives the text of `charlm sample`
// unless a number falls within rounding of a border.
"use strict";

const MASK32 = 0xffffffffn, MASK64 = (1n << 64n) - 1n, MASK128 = (1n << 128n) - 1n;

// numpy.random.SeedSequence(seed).generate_state(4, uint64) (O'Neill, 2015, "Developing a seed_seq alternative").
function seedState(seed) {
  const entropy = [];
  for (let rest = seed; rest > 0n || !entropy.length; rest >>= 32n) entropy.push(rest & MASK32);
  let hashConst = 0x43b0d7e5n;
  const hash = (value) => {
    value ^= hashConst;
    hashConst = (hashConst * 0x931e8875n) & MASK32;
    value = (value * hashConst) & MASK32;
    return value ^ (value >> 16n);
  };
  const mix = (x, y) => {
    const value = (0xca01f9ddn * x - 0x4973f715n * y) & MASK32;
    return value ^ (value >> 16n);
  };
  const pool = [0, 1, 2, 3].map((i) => hash(entropy[i] ?? 0n));
  for (let from = 0; from < 4; from++) {
    for (let to = 0; to < 4; to++) if (from !== to) pool[to] = mix(pool[to], hash(pool[from]));
  }
  let outConst = 0x8b51f9ddn;
  const words = Array.from({ length: 8 }, (_, i) => {
    let value = pool[i % 4] ^ outConst;
    outConst = (outConst * 0x58f38dedn) & MASK32;
    value = (value * outConst) & MASK32;
    return value ^ (value >> 16n);
  });
  return [0, 2, 4, 6].map((i) => words[i] | (words[i + 1] << 32n));
}

// Return a function that draws uniform numbers in [0, 1): numpy's PCG64 (O'Neill, 2014, PCG XSL-RR 128/64).
function uniformStream(seed) {
  const words = seedState(seed), multiplier = 0x2360ed051fc65da44385df649fccf645n;
  const increment = ((((words[2] << 64n) | words[3]) << 1n) | 1n) & MASK128;
  let state = 0n;
  const step = () => { state = (state * multiplier + increment) & MASK128; };
  step();
  state = (state + ((words[0] << 64n) | words[1])) & MASK128;
  step();
  return () => {
    step();
    const rotation = state >> 122n, value = (state >> 64n) ^ (state & MASK64);
    const rotated = ((value >> rotation) | (value << (64n - rotation))) & MASK64;
    return Number(rotated >> 11n) / 2 ** 53;
  };
}

// Return numbers proportional to the probabilities of sampling, (V). Index 0, the unknown, gets 0.
function unnormalizedProbs(logits, { temperature, topP }) {
  const rounded = Float32Array.from(logits);
  rounded[0] = -Infinity;
  const largest = rounded.reduce((a, b) => Math.max(a, b));
  if (temperature === 0) {
    const best = rounded.indexOf(largest);
    return Float64Array.from(rounded, (_, id) => (id === best ? 1 : 0));
  }
  const divisor = Math.fround(temperature);
  const probs = Float64Array.from(rounded, (x) => Math.fround(Math.exp(Math.fround(Math.fround(x - largest) / divisor))));
  if (topP < 1) {
    const order = Array.from(probs.keys()).sort((a, b) => probs[b] - probs[a] || a - b);
    const total = order.reduce((sum, id) => sum + probs[id], 0);
    let before = 0;
    for (const id of order) {
      const prob = probs[id];
      if (!(before < topP * total)) probs[id] = 0;
      before += prob;
    }
  }
  return probs;
}

// Return the first index whose cumulative probability exceeds `uniform`.
function sampleIndex(probs, uniform) {
  const total = probs.reduce((sum, prob) => sum + prob, 0);
  let sum = 0;
  for (let id = 0; id < probs.length; id++) {
    sum += probs[id];
    if (sum > uniform * total) return id;
  }
  throw new Error("the model's logits are not finite");
}

// A line longer than the longest one of the training text ends at the next white space: generation/line_limit.py.
class LineLimit {
  // limits: length of the line from which each symbol is replaced, (V); longest: of the training text; ids: the text so far.
  constructor({ limits, longest, line_break: lineBreak }, ids) {
    Object.assign(this, { limits, lineBreak, length: Math.min(ids.length - 1 - ids.lastIndexOf(lineBreak), longest) });
  }

  // Return the sampled index, or that of the line break in its place.
  apply(index) {
    const taken = this.length >= this.limits[index] ? this.lineBreak : index;
    this.length = taken === this.lineBreak ? 0 : this.length + 1;
    return taken;
  }
}
