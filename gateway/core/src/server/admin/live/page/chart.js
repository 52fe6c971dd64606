// Small drawings of the last two minutes.

import { h, s, set } from "./dom.js";

/** How many points are kept. */
export const POINTS = 120;

/** The past of many figures, each under a name, for as long as they are told. */
export class Past {
  #series = new Map();
  #turn = 0;

  begin() { this.#turn += 1; }

  add(name, value) {
    let kept = this.#series.get(name);
    if (!kept) this.#series.set(name, (kept = { values: [], turn: 0 }));
    kept.turn = this.#turn;
    kept.values.push(value ?? null);
    if (kept.values.length > POINTS) kept.values.shift();
    return kept.values;
  }

  of(name) { return this.#series.get(name)?.values ?? []; }

  /** Forgets what was not told this time. */
  end() {
    for (const [name, kept] of this.#series) if (kept.turn !== this.#turn) this.#series.delete(name);
  }
}

/** A line in a cell. */
export function spark(points = 60) {
  const [line, fill] = [s("path", { class: "line" }), s("path", { class: "fill" })];
  const node = s("svg", { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" }, fill, line);
  return {
    node,
    draw(values) {
      const shown = values.slice(-points);
      const most = Math.max(...shown, 1e-9);
      const at = (value, place) => `${(100 - ((shown.length - 1 - place) * 100) / (points - 1)).toFixed(1)} ${(22.5 - (value / most) * 20).toFixed(1)}`;
      const path = shown.map(at).join("L");
      line.setAttribute("d", path ? `M${path}` : "");
      const from = 100 - ((shown.length - 1) * 100) / (points - 1);
      fill.setAttribute("d", path ? `M${from.toFixed(1)} 24L${path}L100 24z` : "");
    },
  };
}

/**
 * A chart with an axis: `series` are `{ name, label, colour }`, `stacked` or as lines. Pointing at it shows the figures
 * of that moment.
 */
export function chart({ title, series, stacked, shown, least }) {
  const values = series.map((one) => h("b", {}, "–"));
  const legend = h("p.legend", {}, ...series.map((one, place) => {
    const entry = h("span", {}, `${one.label} `, values[place]);
    entry.style.setProperty("--mark", `var(${one.colour})`);
    return entry;
  }));
  const grid = s("g", {});
  const drawn = s("g", {});
  const cursor = s("line", { class: "cursor", y1: 6, y2: 148, visibility: "hidden" });
  const when = s("text", { x: 0, y: 164 }, "");
  const svg = s("svg", { role: "img", "aria-label": title }, grid, drawn, cursor, when);
  const node = h("div.card.chart", {}, h("header", {}, h("h3", {}, title), legend), svg);
  let latest = [];
  let pointed = null;

  const paths = [...series].map((one) => {
    const path = s("path", stacked ? { "fill-opacity": ".85" } : { class: "line" });
    path.style.setProperty(stacked ? "fill" : "stroke", `var(${one.colour})`);
    return path;
  });
  drawn.append(...paths);

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    pointed = Math.min(1, Math.max(0, (event.clientX - box.left - LEFT) / (box.width - LEFT)));
    draw();
  });
  svg.addEventListener("pointerleave", () => { pointed = null; draw(); });

  const LEFT = 46;
  function draw() {
    const width = Math.max(svg.clientWidth, 200);
    const length = latest[0]?.length ?? 0;
    const x = (place) => LEFT + ((POINTS - length + place) * (width - LEFT)) / (POINTS - 1);
    const sums = latest.map((line, level) => line.map((value, place) =>
      stacked ? latest.slice(0, level + 1).reduce((sum, other) => sum + other[place], 0) : value));
    const most = ceiling(Math.max(least, ...sums.flat().filter((value) => value !== null)));
    const y = (value) => 148 - (value / most) * 140;
    rule(grid, width, most, y, shown);
    paths.forEach((path, level) => {
      const top = (sums[level] ?? []).map((value, place) => `${x(place).toFixed(1)} ${y(value).toFixed(1)}`);
      if (!top.length) return path.setAttribute("d", "");
      if (!stacked) return path.setAttribute("d", broken(sums[level], top));
      const below = level === 0 ? sums[0].map(() => 0) : sums[level - 1];
      const bottom = below.map((value, place) => `${x(place).toFixed(1)} ${y(value).toFixed(1)}`).reverse();
      path.setAttribute("d", `M${top.join("L")}L${bottom.join("L")}z`);
    });
    let place = length - 1;
    if (pointed !== null && length) place = Math.max(0, Math.min(length - 1, Math.round(pointed * (POINTS - 1)) - (POINTS - length)));
    cursor.setAttribute("visibility", pointed !== null && length ? "visible" : "hidden");
    cursor.setAttribute("x1", x(place)); cursor.setAttribute("x2", x(place));
    when.setAttribute("x", LEFT);
    const back = length - 1 - place;
    set(when, pointed === null || !length ? "2 minutes ago" : back === 0 ? "now" : `${back} s ago`);
    values.forEach((value, level) => set(value, length ? shown(latest[level][place]) : "–"));
  }
  return { node, update(lines) { latest = lines; draw(); } };
}

/** A line that is not drawn where nothing is known. */
function broken(values, points) {
  let open = false;
  return points.map((point, place) => {
    const step = values[place] === null ? "" : `${open ? "L" : "M"}${point}`;
    open = values[place] !== null;
    return step;
  }).join("");
}

/** The lines behind a chart: at nothing, the half and the whole. */
function rule(grid, width, most, y, shown) {
  const now = `${width}/${most}`;
  if (grid.made === now) return;
  grid.made = now;
  const end = s("text", { x: width, y: 164, "text-anchor": "end" }, "now");
  grid.replaceChildren(end, ...[0, most / 2, most].flatMap((value) => [
    s("line", { class: "grid", x1: 46, x2: width, y1: y(value), y2: y(value) }),
    s("text", { x: 40, y: y(value) + 4, "text-anchor": "end" }, shown(value)),
  ]));
}

/** The next number that reads well. */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 10].find((step) => step * power >= value) * power;
}
