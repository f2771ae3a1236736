// A text with one span a character: colours, a selected character, and what was likely in its place.
//
// An item is {symbol, kind, bits, rank, likely: [[symbol, probability], ...], activation, value}; only the symbol must be
// there. `kind` is a class for the style, `activation` that of a unit, `value` the strength of its colour, from -1 to 1.
// Texts are set as text nodes, so that markup in them has no effect.
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
  // text: element of the text; details: element for the selected character.
  constructor(text, details, onSelect = () => {}) {
    this.onSelect = onSelect;
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
      const last = this.items.length - 1, at = this.selected;
      const targets = {
        ArrowLeft: () => at - 1,
        ArrowRight: () => at + 1,
        ArrowUp: () => this.inOtherRow(-1),
        ArrowDown: () => this.inOtherRow(1),
        Home: () => 0,
        End: () => last,
      };
      if (!(event.key in targets) || last < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      this.select(Math.min(Math.max(targets[event.key](), 0), last));
    });
    text.addEventListener("copy", (event) => { // else each line break would be copied twice: it and the end of its block
      event.clipboardData.setData("text/plain", getSelection().getRangeAt(0).cloneContents().textContent);
      event.preventDefault();
    });
    this.clear();
  }

  clear() {
    this.items = [];
    this.spans = [];
    this.selected = -1;
    this.line = null; // block of the last line, so that a browser need not lay out and paint the whole text each time
    this.text.replaceChildren();
    this.details.replaceChildren(element("p", "faint hint", "Choose a character of the text, with the mouse or the arrow keys."));
  }

  // Return the index of the character above (-1) or below (1) the selected one.
  inOtherRow(direction) {
    const start = this.position(Math.max(0, this.selected)), isSame = (a, b) => Math.abs(a.middle - b.middle) < 5;
    let best = this.selected, distance = Infinity, row = null;
    for (let i = this.selected + direction; i >= 0 && i < this.spans.length; i += direction) {
      const here = this.position(i);
      if (!row && isSame(here, start)) continue;
      row ??= here;
      if (!isSame(here, row)) break;
      if (Math.abs(here.left - start.left) < distance) [best, distance] = [i, Math.abs(here.left - start.left)];
    }
    return best;
  }

  // Return the position of a character, in pixels. A line break has no box: its position is the end of the one before.
  position(index) {
    const span = this.spans[index], before = span.previousSibling;
    const boxed = span.getBoundingClientRect().height ? span : before ?? span.parentNode;
    const { left, right, top, bottom } = boxed.getBoundingClientRect();
    return { left: boxed === before ? right : left, middle: (top + bottom) / 2 };
  }

  append(items) {
    for (const item of items) {
      const { symbol } = item;
      const span = element("span", "", isControl(symbol) ? codeOf(symbol) : symbol);
      const shape = isControl(symbol) ? "code" : symbol === "\n" ? "break" : "";
      span.dataset.kind = [item.kind, shape].filter(Boolean).join(" ");
      this.items.push(item);
      this.spans.push(span);
      this.paint(this.items.length - 1);
      if (!this.line) this.text.append(this.line = element("div"));
      this.line.append(span);
      if (symbol === "\n") this.line = null;
    }
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
    span.className = [span.dataset.kind, colour, index === this.selected ? "selected" : ""].filter(Boolean).join(" ");
  }

  repaint(colour) {
    this.colour = colour;
    this.items.forEach((_, index) => this.paint(index));
    if (this.selected >= 0) this.describe(this.items[this.selected]);
  }

  select(index) {
    const before = this.selected;
    this.selected = index;
    if (before >= 0) this.paint(before);
    this.paint(index);
    this.spans[index].scrollIntoView({ block: "nearest" });
    this.describe(this.items[index]);
    this.onSelect(index);
  }

  describe(item) {
    const named = NAMES[item.symbol] ?? shown(item.symbol);
    const lines = [element("strong", "", named)];
    if (item.bits !== undefined) {
      lines.push(element("p", "faint", `${item.bits.toFixed(2)} bits; rank ${item.rank}`));
    }
    if (item.activation !== undefined) lines.push(element("p", "faint", `activation ${item.activation.toFixed(2)}`));
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
