// Line charts as SVG.
"use strict";

const WIDTH = 640, HEIGHT = 300, LEFT = 58, RIGHT = 142, TOP = 14, BOTTOM = 44;

// Round numbers in a range: on a log axis powers of ten or of two, if there are some; else about five.
function ticksOf(low, high, log) {
  if (log) {
    const base = Math.log10(high / low) > 2.5 ? 10 : 2, ticks = [];
    for (let k = Math.ceil(Math.log(low) / Math.log(base) - 1e-9); base ** k <= high * (1 + 1e-9); k++) ticks.push(base ** k);
    if (ticks.length > 2) return ticks;
  }
  const rough = (high - low) / 4 || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999), ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) ticks.push(k * step);
  return ticks;
}

function tickText(value) {
  if (value === 0) return "0";
  if (Math.abs(value) >= 1e6) return +(value / 1e6).toPrecision(3) + "M";
  if (Math.abs(value) >= 1e4) return +(value / 1e3).toPrecision(3) + "k";
  return Math.abs(value) < 1e-3 ? value.toExponential(0).replace("-", "\u2212") : String(+value.toPrecision(3));
}

// lines: [{name, points: [[x, y], ...]}]; labels: {x, y}; options: {logX, logY, fromZero}.
function drawLines(svg, lines, labels, options = {}) {
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  const positive = ([x, y]) => (!options.logX || x > 0) && (!options.logY || y > 0);
  const kept = lines.map((line) => ({ ...line, points: line.points.filter(positive) })).filter((line) => line.points.length);
  const all = kept.flatMap((line) => line.points);
  if (!all.length) return;
  const scale = (k, log, from, to, fromZero) => {
    const values = all.map((point) => point[k]);
    let low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
    if (fromZero) low = Math.min(low, 0);
    if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - 1, high + 1];
    const on = log ? Math.log : (x) => x;
    return { ticks: ticksOf(low, high, log), at: (x) => from + ((on(x) - on(low)) / (on(high) - on(low))) * (to - from) };
  };
  const x = scale(0, options.logX, LEFT, WIDTH - RIGHT), y = scale(1, options.logY, HEIGHT - BOTTOM, TOP, options.fromZero);
  for (const tick of y.ticks) {
    svg.append(svgElement("path", { class: "axis", d: `M${LEFT} ${y.at(tick)}H${WIDTH - RIGHT}` }));
    svg.append(svgElement("text", { class: "label", x: LEFT - 8, y: y.at(tick) + 4, "text-anchor": "end" }, tickText(tick)));
  }
  for (const tick of x.ticks) {
    svg.append(svgElement("text", { class: "label", x: x.at(tick), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, tickText(tick)));
  }
  svg.append(svgElement("text", { class: "label", x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, labels.x));
  svg.append(svgElement("text", { class: "label", x: 14, y: (HEIGHT - BOTTOM + TOP) / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${(HEIGHT - BOTTOM + TOP) / 2})` }, labels.y));
  const ends = kept.map((line, k) => {
    const path = line.points.map((point, i) => `${i ? "L" : "M"}${x.at(point[0]).toFixed(1)} ${y.at(point[1]).toFixed(1)}`).join("");
    const isDot = line.points.length === 1; // a line of length 0, of which the round ends are drawn
    svg.append(svgElement("path", { class: `line c${k % 6}${isDot ? " dot" : ""}`, d: isDot ? `${path}h0` : path }));
    return { k, name: line.name, y: y.at(line.points.at(-1)[1]), x: x.at(line.points.at(-1)[0]) };
  });
  ends.sort((a, b) => a.y - b.y).forEach((end, i) => {
    const above = i ? ends[i - 1].placed + 15 : -Infinity; // names do not cover one another
    end.placed = Math.max(end.y + 4, above);
    svg.append(svgElement("text", { class: `name c${end.k % 6}`, x: WIDTH - RIGHT + 8, y: end.placed }, end.name));
  });
}
