// A text with one span a character: colours, a selected character, and what was likely in its place.
//
// An item is {symbol, bits, rank, likely: [[symbol, probability], ...], value}; only the symbol must be there. `value`
// is the activation of a unit, from -1 to 1. Texts are set as text nodes, so that markup in them has no effect.
"use strict";

const NAMES = { " ": "space", "\n": "line break", "\t": "tab" };
const SHOWN = { " ": "␣", "\n": "↵", "\t": "⇥" };
const isControl = (symbol) => /^[\p{C}\u2028\u2029]$/u.test(symbol) && !(symbol in SHOWN);
const codeOf = (symbol) => "U+" + symbol.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
const shown = (symbol) => SHOWN[symbol] ?? (isControl(symbol) ? codeOf(symbol) : symbol);
const percent = (prob) => (100 * prob).toFixed(prob < 0.0995 ? 1 : 0) + " %";

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

class TextView {
  // text: element of the text; details: element for the selected character; onSelect: called with an index.
  constructor(text, details) {
    this.text = text;
    this.details = details;
    this.items = [];
    this.selected = -1;
    this.colour = "surprise";
    text.addEventListener("click", (event) => {
      const index = this.spans.indexOf(event.target);
      if (index >= 0) this.select(index);
    });
    text.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -40, ArrowDown: 40, Home: -Infinity, End: Infinity };
      if (!(event.key in steps) || !this.items.length) return;
      event.preventDefault();
      this.select(Math.min(Math.max(this.selected + steps[event.key], 0), this.items.length - 1));
    });
    this.clear();
  }

  clear() {
    this.items = [];
    this.spans = [];
    this.selected = -1;
    this.text.replaceChildren();
    this.details.replaceChildren(element("p", "faint", "Choose a character of the text, with the mouse or the arrow keys."));
  }

  append(items, className = "") {
    const added = document.createDocumentFragment();
    for (const item of items) {
      const { symbol } = item;
      const span = element("span", "", isControl(symbol) ? codeOf(symbol) : symbol);
      span.dataset.kind = [className, isControl(symbol) ? "code" : ""].join(" ").trim();
      this.items.push(item);
      this.spans.push(span);
      this.paint(this.items.length - 1);
      added.append(span);
    }
    this.text.append(added);
  }

  // Set the class of a span: kind, colour, selection.
  paint(index) {
    const item = this.items[index], span = this.spans[index];
    let colour = "";
    if (this.colour === "surprise" && item.bits !== undefined) colour = "s" + Math.min(8, Math.round(item.bits));
    if (this.colour === "unit" && item.value !== undefined) {
      const level = Math.min(4, Math.round(4 * Math.abs(item.value)));
      colour = (item.value < 0 ? "n" : "p") + level;
    }
    span.className = [span.dataset.kind, colour, index === this.selected ? "selected" : ""].join(" ").trim();
  }

  repaint(colour) {
    this.colour = colour;
    this.items.forEach((_, index) => this.paint(index));
  }

  select(index) {
    const before = this.selected;
    this.selected = index;
    if (before >= 0) this.paint(before);
    this.paint(index);
    this.spans[index].scrollIntoView({ block: "nearest" });
    this.describe(this.items[index]);
  }

  describe(item) {
    const named = NAMES[item.symbol] ?? shown(item.symbol);
    const lines = [element("strong", "", named)];
    if (item.bits !== undefined) {
      lines.push(element("p", "faint", `${item.bits.toFixed(2)} bits; rank ${item.rank}`));
    }
    if (item.value !== undefined) lines.push(element("p", "faint", `activation ${item.value.toFixed(2)}`));
    if (item.likely) {
      const list = element("ol", "likely");
      list.setAttribute("aria-label", "The most probable characters in this place");
      for (const [symbol, prob] of item.likely) {
        const row = element("li", symbol === item.symbol ? "came" : "");
        const bar = element("span", "bar");
        bar.style.width = 100 * prob + "%";
        row.append(element("span", "symbol", shown(symbol)), bar, element("span", "number", percent(prob)));
        list.append(row);
      }
      lines.push(list);
    }
    this.details.replaceChildren(...lines);
  }
}
