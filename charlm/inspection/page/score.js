// The page of a scored text.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const view = new TextView(byId("text"), byId("details"));

function show(model) {
  const symbols = ["\ufffd", ...model.symbols.map((point) => String.fromCodePoint(point))];
  const selected = view.selected;
  view.clear();
  view.append(model.rows.map(([bits, rank, ids, probs], i) => ({
    symbol: String.fromCodePoint(data.codepoints[i]),
    bits,
    rank,
    likely: ids.map((id, k) => [symbols[id], probs[k]]),
  })));
  if (selected >= 0) view.select(selected);
}

byId("title").textContent = data.title;
const n = data.models[0].totals.n_chars, nShown = data.codepoints.length;
byId("summary").textContent = n.toLocaleString("en") + ` ${data.unit}s`
  + (nShown < n ? `, the first ${nShown.toLocaleString("en")} of them below` : "");
byId("per-symbol").textContent = `bits per ${data.unit}`;
if (data.unit === "byte") byId("per-byte").remove(); // the same number
for (const { totals } of data.models) {
  const row = element("tr");
  row.append(element("td", "", totals.model));
  const bits = [totals.bits_per_char, ...(data.unit === "byte" ? [] : [totals.bits_per_byte])];
  for (const value of [...bits.map((each) => each.toFixed(4)), percent(totals.accuracy)]) {
    row.append(element("td", "number", value));
  }
  byId("totals").append(row);
  byId("model").append(new Option(totals.model));
}
byId("model-label").hidden = data.models.length === 1;
byId("model").addEventListener("change", (event) => show(data.models[event.target.selectedIndex]));
show(data.models[0]);
