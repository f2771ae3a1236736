// The page of an exported model: write, colour a text, look at units and at the embedding.
"use strict";

const MAX_CHARS = 20000; // of a pasted text
const N_LIKELY = 8;
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const model = new Model(data.model);
const symbols = ["\ufffd", ...data.symbols.map((point) => String.fromCodePoint(point))]; // by index
const indexOf = new Map(symbols.map((symbol, id) => [symbol, id]));
const view = new TextView(byId("text"), byId("details"));
let hiddens = []; // last layer's state before each item: what the prediction was made from
let writing = null; // the continuation in progress: {uniform, options, left}

function encode(text) {
  const lower = data.lower ? text.toLowerCase() : text;
  if (data.is_bytes) return Array.from(new TextEncoder().encode(lower), (byte) => byte + 1);
  return Array.from(lower, (symbol) => indexOf.get(symbol) ?? 0);
}

// Begin a text: read what stands before its first character.
function restart() {
  model.reset();
  model.read(data.model.bos_id);
  view.clear();
  hiddens = [];
}

// Read one character; return its item: how surprising it was and what else was likely.
function readItem(id, logits) {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const exps = logits.map((x) => Math.exp(x - largest));
  const total = exps.reduce((a, b) => a + b, 0);
  const order = Array.from(exps.keys()).sort((a, b) => exps[b] - exps[a] || a - b);
  const likely = order.filter((each) => each > 0).slice(0, N_LIKELY).map((each) => [symbols[each], exps[each] / total]);
  const item = { symbol: symbols[id], bits: -Math.log2(exps[id] / total), rank: order.indexOf(id) + 1, likely };
  hiddens.push(Float32Array.from(model.hidden));
  setUnit(item, hiddens.length - 1);
  model.read(id);
  return item;
}

function setUnit(item, index) {
  const unit = Math.min(Math.max(0, byId("unit").valueAsNumber | 0), data.model.n_hidden - 1);
  item.value = hiddens[index][unit];
}

function readText(text, className) {
  const ids = encode(text);
  view.append(ids.map((id) => readItem(id, model.logits())), className);
  const unknown = ids.filter((id) => id === 0).length;
  return unknown ? ` ${unknown} of its characters are unknown to the model.` : "";
}

function showTotals() {
  const bits = view.items.reduce((sum, item) => sum + item.bits, 0), n = view.items.length;
  const unit = data.is_bytes ? "byte" : "character";
  byId("totals").textContent = n ? `${n.toLocaleString("en")} ${unit}s, ${(bits / n).toFixed(3)} bits per ${unit}` : "";
}

function status(text) {
  byId("status").textContent = text;
}

function samplingOptions() {
  return { temperature: byId("temperature").valueAsNumber, topP: byId("top-p").valueAsNumber };
}

// Return the seed as a BigInt, or null if it is no whole number from 0 to 2^64 - 1.
function seed() {
  const text = byId("seed").value.trim();
  return /^\d{1,20}$/.test(text) && BigInt(text) < 1n << 64n ? BigInt(text) : null;
}

function write() {
  const first = seed();
  if (first === null) return status("The seed must be a whole number from 0 to 18446744073709551615.");
  const length = byId("length").valueAsNumber;
  if (!(length >= 1 && length <= MAX_CHARS)) return status(`The length must be from 1 to ${MAX_CHARS}.`);
  restart();
  const note = readText(byId("input").value.slice(0, MAX_CHARS), "prompt");
  writing = { uniform: uniformStream(first), options: samplingOptions(), left: length, length, note, began: performance.now() };
  setButtons();
  writeSome();
}

// Write for some milliseconds, then let the browser draw.
function writeSome() {
  if (!writing) return;
  const until = performance.now() + 12, items = [];
  while (writing.left > 0 && performance.now() < until) {
    const logits = model.logits();
    items.push(readItem(sampleIndex(unnormalizedProbs(logits, writing.options), writing.uniform()), logits));
    writing.left--;
  }
  view.append(items);
  byId("text").scrollTop = byId("text").scrollHeight;
  if (writing.left > 0) return void setTimeout(writeSome);
  stop();
}

function stop() {
  if (!writing) return;
  const done = writing.length - writing.left, seconds = (performance.now() - writing.began) / 1000;
  status(`${done.toLocaleString("en")} characters, ${Math.round(done / seconds).toLocaleString("en")} a second.${writing.note}`);
  writing = null;
  setButtons();
  showTotals();
}

function measure() {
  restart();
  const text = byId("input").value;
  const note = readText(text.slice(0, MAX_CHARS), "");
  const cut = text.length > MAX_CHARS ? ` Only its first ${MAX_CHARS.toLocaleString("en")} characters were read.` : "";
  status(text ? `Read.${cut}${note}` : "There is no text above.");
  showTotals();
}

function setButtons() {
  byId("write").disabled = byId("measure").disabled = writing !== null;
  byId("stop").disabled = writing === null;
}

function recolour() {
  view.items.forEach(setUnit);
  view.repaint(byId("colour").value);
  byId("unit-label").hidden = byId("colour").value !== "unit";
}

// Draw the characters at their places in the first two principal components of the embedding.
function drawEmbedding() {
  const svg = byId("embedding"), size = 640;
  const node = (tag, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    svg.append(made);
  };
  svg.setAttribute("viewBox", `0 0 ${size} ${size}`);
  const spread = Math.max(...data.embedding.flatMap(([, x, y]) => [Math.abs(x), Math.abs(y)])) || 1;
  const place = (value) => size / 2 + (value / spread) * (size / 2 - 24);
  node("path", { class: "axis", d: `M0 ${size / 2}H${size}M${size / 2} 0V${size}` });
  for (const [point, x, y] of data.embedding) {
    const symbol = String.fromCodePoint(point);
    node("text", { x: place(x), y: place(-y), "text-anchor": "middle", "dominant-baseline": "central" }, shown(symbol));
  }
}

function fillIn() {
  byId("title").textContent = data.title;
  byId("summary").textContent = data.summary;
  byId("unit").max = data.model.n_hidden - 1;
  const about = byId("about");
  for (const [name, value] of data.about) about.append(element("dt", "", name), element("dd", "", value));
  for (const id of ["temperature", "top-p"]) {
    const show = () => { byId(id + "-value").textContent = byId(id).valueAsNumber.toFixed(2); };
    byId(id).addEventListener("input", show);
    show();
  }
  byId("write").addEventListener("click", write);
  byId("stop").addEventListener("click", stop);
  byId("measure").addEventListener("click", measure);
  byId("colour").addEventListener("change", recolour);
  byId("unit").addEventListener("input", recolour);
  drawEmbedding();
  setButtons();
  recolour();
}

fillIn();
