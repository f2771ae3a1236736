// The page of a model's report: one function a section.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const symbolOf = (point) => String.fromCodePoint(point);
const TITLES = { curves: "training curves", gradient_flow: "gradient flow", head: "output biases", experts: "n-gram experts" };

function option(select, text, value) {
  select.append(new Option(text, value));
}

function row(table, cells) {
  const made = element("tr");
  cells.forEach(([text, isNumber]) => made.append(element("td", isNumber ? "number" : "", text)));
  table.append(made);
  return made;
}

function showList(list, entries) {
  list.append(...entries.flatMap(([name, value]) => [element("dt", "", name), element("dd", "", value)]));
}

const SECTIONS = {
  curves({ train, valid }) {
    const lines = [{ name: "training", points: train }, { name: "validation", points: valid }];
    drawLines(byId("curves-chart"), lines, { x: "characters predicted", y: "bits per character" });
  },

  embedding({ codepoints, coordinates, variance_shares, axis_ends, neighbours }) {
    drawEmbedding(byId("map"), codepoints.map((point, i) => [point, ...coordinates[i]]));
    const ends = (points) => points.map((point) => shown(symbolOf(point))).join(" ");
    showList(byId("axes"), axis_ends.flatMap(({ low, high }, k) => [
      [k ? "vertical" : "horizontal", `${percent(variance_shares[k])} of the variance`],
      [k ? "bottom" : "left", ends(low)],
      [k ? "top" : "right", ends(high)],
    ]));
    const select = byId("neighbour");
    codepoints.forEach((point, i) => option(select, NAMES[symbolOf(point)] ?? shown(symbolOf(point)), i));
    const show = () => {
      byId("neighbours").replaceChildren(...neighbours[select.selectedIndex].map(([point, cosine]) => {
        const item = element("li"), bar = element("span", "bar");
        bar.style.width = 100 * Math.max(0, cosine) + "%";
        item.append(element("span", "symbol", shown(symbolOf(point))), bar, element("span", "number", cosine.toFixed(2)));
        return item;
      }));
    };
    select.selectedIndex = Math.max(0, codepoints.indexOf(97)); // a
    select.addEventListener("change", show);
    show();
  },

  head({ biases }) {
    const text = (entries) => entries.map(([point, bias]) => `${shown(symbolOf(point))} ${bias.toFixed(1)}`).join(" \u00a0 ");
    showList(byId("biases"), [["highest", text(biases.slice(0, 10))], ["lowest", text(biases.slice(-10).reverse())]]);
  },

  units({ properties, codepoints, activations }) {
    const select = byId("unit"), view = new TextView(byId("units-text"), byId("units-details"));
    for (const score of properties) {
      row(byId("units-table"), [[score.name], [score.unit, true], [score.sign > 0 ? "+" : "\u2212"], [score.auc.toFixed(3), true],
        [score.control.toFixed(3), true], [percent(score.share), true]]);
    }
    const names = Map.groupBy ? Map.groupBy(properties, (score) => score.unit) : new Map(properties.map((score) => [score.unit, [score]]));
    for (const [unit, scores] of names) option(select, `unit ${unit}: ${scores.map((score) => score.name).join(", ")}`, unit);
    view.append(codepoints.map((point) => ({ symbol: symbolOf(point) })));
    const show = () => {
      const values = activations[select.value] ?? [], largest = values.reduce((a, b) => Math.max(a, Math.abs(b)), 0) || 1;
      values.forEach((value, i) => Object.assign(view.items[i], { activation: value, value: value / largest }));
      view.repaint("unit");
      if (view.selected >= 0) view.describe(view.items[view.selected]);
    };
    select.addEventListener("change", show);
    show();
  },

  saliency({ n_context, codepoints, places, by_lag, note, rank_correlation, complete_places }) {
    const select = byId("measure"), names = { left_out: "left out", integrated: "integrated gradients" };
    for (const name of Object.keys(by_lag)) option(select, names[name], name);
    const view = new TextView(byId("saliency-text"), byId("saliency-details"), (index) => show(index));
    const show = (index) => {
      const place = places[index - n_context], values = place ? place[select.value] : [];
      const largest = Math.max(...values.map(Math.abs)) || 1;
      view.items.forEach((item, i) => {
        const lag = index - i;
        item.value = lag >= 1 && lag <= values.length ? values[lag - 1] / largest : undefined;
      });
      view.repaint("unit");
      if (!place) {
        byId("saliency-details").replaceChildren(element("p", "faint", "This character was only read; choose one after it."));
        return;
      }
      const unit = select.value === "left_out" ? "bits" : "of the logit";
      const order = values.map((_, k) => k).sort((a, b) => Math.abs(values[b]) - Math.abs(values[a])).slice(0, 6);
      const rows = order.map((k) => [`${shown(symbolOf(codepoints[index - k - 1]))}, ${k + 1} before`, values[k].toFixed(2)]);
      const list = element("dl");
      showList(list, rows);
      const predicted = symbolOf(place.predicted);
      const title = `most probable here: ${NAMES[predicted] ?? shown(predicted)}`;
      byId("saliency-details").replaceChildren(element("strong", "", title), element("p", "faint", `${unit}, the largest`), list);
    };
    view.append(codepoints.map((point, i) => ({ symbol: symbolOf(point), kind: i < n_context ? "" : "prompt" })));
    select.addEventListener("change", () => view.selected >= 0 && show(view.selected));
    view.select(codepoints.length - 1);
    const agree = rank_correlation === undefined ? "" : `The two measures have a rank correlation of ${rank_correlation.toFixed(2)} here (median). `
      + `Integrated gradients add up to the logit (within 1 %) for ${complete_places} of ${places.length} predictions. `;
    byId("saliency-note").textContent = agree + (note ?? "");
    const lines = Object.entries(by_lag).map(([name, shares]) => ({ name: names[name], points: shares.map((share, k) => [k + 1, share]) }));
    drawLines(byId("lag-chart"), lines, { x: "characters before the prediction", y: "share" }, { fromZero: true });
  },

  gradient_flow({ lags, norms }) {
    const lines = norms[0].map((_, layer) => ({
      name: norms[0].length > 1 ? `layer ${layer + 1}` : "hidden state",
      points: lags.map((lag, k) => [lag, norms[k][layer]]),
    }));
    drawLines(byId("flow-chart"), lines, { x: "characters earlier", y: "gradient norm" }, { logX: true, logY: true });
  },

  experts({ names, codepoints, means, weights }) {
    const select = byId("expert"), view = new TextView(byId("experts-text"), byId("experts-details"));
    names.forEach((name, k) => option(select, `${name} (mean ${means[k].toFixed(2)})`, k));
    const all = weights.flat(), least = Math.min(...all), range = Math.max(...all) - least || 1;
    view.append(codepoints.map((point) => ({ symbol: symbolOf(point) })));
    const show = () => {
      view.items.forEach((item, i) => { item.value = (weights[select.selectedIndex][i] - least) / range; });
      view.repaint("unit");
      if (view.selected >= 0) view.select(view.selected);
    };
    view.onSelect = (index) => {
      const list = element("dl");
      showList(list, names.map((name, k) => [name, weights[k][index].toFixed(2)]));
      byId("experts-details").replaceChildren(element("strong", "", "after " + shown(view.items[index].symbol)), list);
    };
    select.addEventListener("change", show);
    show();
  },
};

byId("title").textContent = data.title;
byId("summary").textContent = data.summary;
for (const [name, section] of Object.entries(data.sections)) {
  if (section.omitted) {
    byId(name).hidden = true;
    showList(byId("reasons"), [[TITLES[name] ?? name, section.omitted]]);
  } else {
    SECTIONS[name](section);
  }
}
byId("omitted").hidden = !byId("reasons").children.length;
