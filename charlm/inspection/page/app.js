// The page of an exported model: write, colour a text, look at units and at the embedding.
"use strict";

const MAX_READ = 20000; // characters that are read or written at once
const MAX_TEXT = 60000; // of the whole text
const SLICE_MS = 24; // of work between two drawings
const N_LIKELY = 8;
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const model = data.model && new Model(data.model); // null where a server computes
const remote = model ? null : new Remote(data.title, data.is_bytes);
const symbols = ["\ufffd", ...data.symbols.map((point) => String.fromCodePoint(point))]; // by index
const indexOf = new Map(symbols.map((symbol, id) => [symbol, id]));
const view = new TextView(byId("text"), byId("details"));
const channel = new MessageChannel(); // wakes `work`; a timer would wait for 4 ms each time
let hiddens = []; // last layer's state before each item: the prediction's input
let unit = 0;
let sampling = null; // of the text that is being written: {uniform, limit}; null for a text that was only read
let isScheduled = false; // a message that calls `work` is pending
let job = null; // in progress: {items, note, began, n}

function encode(text) {
  const lower = data.lower ? text.toLowerCase() : text;
  if (data.is_bytes) return Array.from(new TextEncoder().encode(lower), (byte) => byte + 1);
  return Array.from(lower, (symbol) => indexOf.get(symbol) ?? 0);
}

// Begin a text: clear the view and read the line break that precedes the first character.
function restart() {
  model?.reset();
  model?.read(data.model.bos_id);
  view.clear();
  hiddens = [];
  sampling = null;
}

// Read one character; return its item: bits, rank and the likeliest characters.
function readItem(id, logits, kind) {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const exps = logits.map((x) => Math.exp(x - largest));
  const total = exps.reduce((a, b) => a + b, 0);
  const rank = 1 + exps.reduce((n, x, other) => n + (x > exps[id] || (x === exps[id] && other < id)), 0);
  const likely = largestIndices(exps, N_LIKELY).map((each) => [symbols[each], exps[each] / total]);
  const item = { id, kind, symbol: symbols[id], bits: (largest - logits[id] + Math.log(total)) / Math.LN2, rank, likely };
  hiddens.push(new Float32Array(model.hidden));
  setUnit(item, hiddens.length - 1);
  model.read(id);
  return item;
}

// Return the indices of the n largest numbers, without index 0, the unknown.
function largestIndices(numbers, n) {
  const found = [];
  for (let id = 1; id < numbers.length; id++) {
    if (found.length === n && !(numbers[id] > numbers[found[n - 1]])) continue;
    const place = found.findIndex((other) => numbers[id] > numbers[other]);
    found.splice(place < 0 ? found.length : place, 0, id);
    found.length = Math.min(found.length, n);
  }
  return found;
}

function setUnit(item, index) {
  item.value = item.activation = view.colour === "unit" ? hiddens[index][unit] : undefined;
}

function* reading(ids, kind) {
  for (const id of ids) yield readItem(id, model.logits(), kind);
}

function* writing(n, options) {
  for (let i = 0; i < n; i++) {
    const logits = model.logits();
    const id = sampleIndex(unnormalizedProbs(logits, options), sampling.uniform());
    yield readItem(sampling.limit ? sampling.limit.apply(id) : id, logits, "");
  }
}

function* readingThenWriting(ids, n, options) {
  yield* reading(ids, "prompt");
  yield* writing(n, options);
}

function status(text) {
  byId("status").textContent = text;
}

// Return the seed as a BigInt, or null if it is no whole number from 0 to 2^64 - 1.
function seed() {
  const text = byId("seed").value.trim();
  return /^\d{1,20}$/.test(text) && BigInt(text) < 1n << 64n ? BigInt(text) : null;
}

// Return the options of sampling, {seed, n, temperature, topP}; undefined after a message if one is invalid.
function options() {
  const n = byId("length").valueAsNumber, given = seed();
  if (given === null) return void status("The seed must be a whole number from 0 to 18446744073709551615.");
  if (!(Number.isInteger(n) && n >= 1 && n <= MAX_READ)) return void status(`The number of characters must be a whole number from 1 to ${MAX_READ}.`);
  return { seed: given, n, temperature: byId("temperature").valueAsNumber, topP: byId("top-p").valueAsNumber };
}

// Start the stream of random numbers of a seed, and the limit of line length after the text with these indices.
function startSampling(seed, ids) {
  sampling = { uniform: uniformStream(seed), limit: data.line_limit && new LineLimit(data.line_limit, ids) };
}

function write() {
  const chosen = options();
  if (!chosen) return;
  const { text, ids, note } = input();
  restart();
  if (remote) return start(remote.writing(text, ids.length, chosen), note);
  startSampling(chosen.seed, ids);
  start(readingThenWriting(ids, chosen.n, chosen), note);
}

// Continue the text with the same stream of random numbers, as one longer sample would.
function continueText() {
  const chosen = options();
  if (!chosen || job) return;
  if (view.items.length + chosen.n > MAX_TEXT) return status("The text is as long as this page shows; Write begins anew.");
  if (remote) return start(remote.continuing(chosen), "");
  if (!sampling) startSampling(chosen.seed, view.items.map((item) => item.id));
  start(writing(chosen.n, chosen), "");
}

function measure() {
  const { text, ids, note } = input();
  restart();
  start(remote ? remote.reading(text) : reading(ids, ""), ids.length ? note : " There is no text above.");
}

// Return the text that was typed, its indices, at most MAX_READ, and a note about it.
function input() {
  const typed = byId("input").value, all = encode(typed), ids = all.slice(0, MAX_READ);
  const text = ids.length < all.length ? Array.from(typed).slice(0, MAX_READ).join("") : typed;
  const unknown = ids.filter((id) => id === 0).length;
  const cut = ids.length < all.length ? ` Only the first ${MAX_READ.toLocaleString("en")} ${data.unit}s were read.` : "";
  return { text, ids, note: cut + (unknown ? ` ${unknown} ${data.unit}s are unknown to the model.` : "") };
}

function start(items, note) {
  remote?.stop();
  job = { items, note, began: performance.now(), n: 0 };
  byId("text").setAttribute("aria-busy", "true");
  status("…");
  setButtons();
  if (remote) follow(job);
  else if (!isScheduled) work();
}

// Show what a server sends, until it ends or the job is stopped.
async function follow(followed) {
  try {
    for await (const items of followed.items) {
      if (job !== followed) return;
      followed.n += items.length;
      view.append(items);
      byId("text").scrollTop = byId("text").scrollHeight;
    }
  } catch (error) {
    followed.note = ` ${error.message}`;
  }
  if (job === followed) stop();
}

// Work for some milliseconds, then let the browser draw.
function work() {
  if (!job) return;
  const until = performance.now() + SLICE_MS, items = [];
  let next;
  while (performance.now() < until && !(next = job.items.next()).done) items.push(next.value);
  job.n += items.length;
  view.append(items);
  byId("text").scrollTop = byId("text").scrollHeight;
  if (next.done) return stop();
  isScheduled = true;
  channel.port2.postMessage(null);
}

function stop() {
  if (!job) return;
  remote?.stop();
  const rate = Math.round((1000 * job.n) / (performance.now() - job.began));
  status((job.n ? `${rate.toLocaleString("en")} ${data.unit}s a second.` : "") + job.note);
  job = null;
  byId("text").setAttribute("aria-busy", "false");
  if (document.activeElement === byId("stop")) byId("continue").focus();
  setButtons();
  const n = view.items.length, bits = view.items.reduce((sum, item) => sum + item.bits, 0);
  byId("totals").textContent = n ? `${n.toLocaleString("en")} ${data.unit}s, ${(bits / n).toFixed(3)} bits per ${data.unit}` : "";
}

function setButtons() {
  byId("stop").disabled = !job;
  byId("continue").disabled = !job && !view.items.length;
}

function recolour() {
  if (model) unit = Math.min(Math.max(0, byId("unit").valueAsNumber | 0), data.model.n_hidden - 1);
  const colour = byId("colour").value;
  view.colour = colour;
  view.items.forEach(setUnit);
  view.repaint(colour);
  byId("unit-label").hidden = byId("unit-legend").hidden = colour !== "unit";
  byId("legend").hidden = colour !== "surprise";
}

function fillIn() {
  byId("title").textContent = data.title;
  byId("summary").textContent = data.summary;
  if (data.models.length > 1) byId("summary").after(modelMenu(data.models, data.title));
  if (remote) {
    byId("colour").querySelector("[value=unit]").remove();
    byId("characters").remove();
    byId("place").textContent = "The server runs the model; the text is sent to no other place.";
  } else {
    byId("unit").max = data.model.n_hidden - 1;
    drawEmbedding(byId("embedding"), data.embedding);
  }
  const about = byId("about");
  for (const [name, value] of data.about) about.append(element("dt", "", name), element("dd", "", value));
  for (const id of ["temperature", "top-p"]) {
    const show = () => { byId(id + "-value").textContent = byId(id).valueAsNumber.toFixed(2); };
    byId(id).addEventListener("input", show);
    show();
  }
  channel.port1.onmessage = () => {
    isScheduled = false;
    work();
  };
  byId("write").addEventListener("click", write);
  byId("continue").addEventListener("click", continueText);
  byId("stop").addEventListener("click", stop);
  byId("measure").addEventListener("click", measure);
  byId("colour").addEventListener("change", recolour);
  byId("unit").addEventListener("input", recolour);
  setButtons();
  recolour();
}

fillIn();
