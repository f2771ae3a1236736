// A map of the embedding: the characters at their places in its first two principal components.
"use strict";

function svgElement(tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// characters: [[code point, x, y], ...].
function drawEmbedding(svg, characters) {
  const size = 640;
  svg.setAttribute("viewBox", `0 0 ${size} ${size}`);
  const spread = Math.max(...characters.flatMap(([, x, y]) => [Math.abs(x), Math.abs(y)])) || 1;
  const place = (value) => size / 2 + (value / spread) * (size / 2 - 24);
  svg.append(svgElement("path", { class: "axis", d: `M0 ${size / 2}H${size}M${size / 2} 0V${size}` }));
  for (const [point, x, y] of characters) {
    const attributes = { x: place(x), y: place(-y), "text-anchor": "middle", "dominant-baseline": "central" };
    svg.append(svgElement("text", attributes, shown(String.fromCodePoint(point))));
  }
}
