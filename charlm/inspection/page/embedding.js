// A map of the embedding: the characters at their places in its first two principal components.
"use strict";

function svgElement(tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

const N_NAMED = 10; // characters at each end of an axis that the description names

// Return the characters at the ends of both axes in words, for screen readers.
function describeMap(characters) {
  const named = (k) => {
    const order = [...characters].sort((a, b) => a[k] - b[k]).map(([point]) => String.fromCodePoint(point));
    const names = (symbols) => symbols.map((symbol) => NAMES[symbol] ?? shown(symbol)).join(" ");
    return [names(order.slice(0, N_NAMED)), names(order.slice(-N_NAMED).reverse())];
  };
  const [[left, right], [bottom, top]] = [named(1), named(2)];
  return `${characters.length} characters. From the left: ${left}. From the right: ${right}. From the top: ${top}. From the bottom: ${bottom}.`;
}

// characters: [[code point, x, y], ...].
function drawEmbedding(svg, characters) {
  const size = 640;
  svg.setAttribute("viewBox", `0 0 ${size} ${size}`);
  svg.setAttribute("aria-label", `Map of the embedding: ${describeMap(characters)}`);
  const spread = Math.max(...characters.flatMap(([, x, y]) => [Math.abs(x), Math.abs(y)])) || 1;
  const place = (value) => size / 2 + (value / spread) * (size / 2 - 24);
  svg.append(svgElement("path", { class: "axis", d: `M0 ${size / 2}H${size}M${size / 2} 0V${size}` }));
  for (const [point, x, y] of characters) {
    const attributes = { x: place(x), y: place(-y), "text-anchor": "middle", "dominant-baseline": "central" };
    svg.append(svgElement("text", attributes, shown(String.fromCodePoint(point))));
  }
}
