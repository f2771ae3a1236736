// Run in the page of a model: the contrast of each kind of character with its background, and of the names of curves.
() => {
  const rgba = (text) => {
    const numbers = text.match(/\d[\d.e-]*/g).map(Number);
    return [...numbers.slice(0, 3).map((x) => (text.startsWith("color(") ? x : x / 255)), numbers[3] ?? 1];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const linear = (x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  const luminance = (colour) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => sum + weight * linear(colour[i]), 0);
  const ratio = (a, b) => (Math.max(luminance(a), luminance(b)) + 0.05) / (Math.min(luminance(a), luminance(b)) + 0.05);
  const panel = rgba(getComputedStyle(byId("text")).backgroundColor), found = {};
  const levels = ["", ..."12345678"].map((k) => (k ? "s" + k : "")).concat(["p1", "p2", "p3", "p4", "n1", "n2", "n3", "n4"]);
  for (const shape of ["", "break", "code"]) {
    for (const level of levels) {
      const span = element("span", `${shape} ${level}`, "x");
      byId("text").append(span);
      const style = getComputedStyle(span), mark = getComputedStyle(span, shape === "break" ? "::before" : null);
      found[`${shape} ${level}`] = ratio(rgba(mark.color), over(rgba(style.backgroundColor), panel));
    }
  }
  for (let k = 0; k < 6; k++) {
    const name = svgElement("text", { class: `name c${k}` }, "x");
    byId("embedding").append(name);
    found[`c${k}`] = ratio(rgba(getComputedStyle(name).fill), panel);
  }
  return found;
}
