// The table of routes.

import { h, set, attribute, keyed, table, row, emptiness, swap } from "./dom.js";
import { spark } from "./chart.js";
import { bytes, count, milliseconds, plural, rate } from "./format.js";

const COLUMNS = [
  { label: "Route", kind: "name", sort: (route) => route.name },
  { label: "Requests/s", kind: "n", sort: (route) => -route.requests_per_s },
  { label: "4xx/s", kind: "n", sort: (route) => -route.classes["4xx"] },
  { label: "5xx/s", kind: "n", sort: (route) => -route.classes["5xx"] },
  { label: "p50", kind: "n slim", sort: (route) => -(route.p50_ms ?? -1) },
  { label: "p95", kind: "n", sort: (route) => -(route.p95_ms ?? -1) },
  { label: "p99", kind: "n", sort: (route) => -(route.p99_ms ?? -1) },
  { label: "In flight", kind: "n slim", sort: (route) => -route.in_flight },
  { label: "Sent/s", kind: "n slim", sort: (route) => -route.sent_bytes_per_s },
];

/** How many are shown at first. */
const FEW = 100;

export function routes(section, past) {
  const { node, body, heads } = table("Routes", COLUMNS);
  const holder = section.querySelector(".body");
  const more = h("button.button", { type: "button", click: () => { all = true; show(latest, wanted); } }, "");
  const frame = h("div.card", {}, node);
  holder.append(frame, more);
  const none = h("div", {});
  holder.append(none);
  let sorted = null;
  let backwards = false;
  let frozen = null;
  let all = false;
  let latest = null;
  let wanted = () => true;

  heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => {
    // Once by what is most, then the other way round, then as in the file again.
    if (sorted !== place) [sorted, backwards] = [place, false];
    else if (!backwards) backwards = true;
    else sorted = null;
    frozen = null;
    show(latest, wanted);
  }));

  /** Rows don't move under a pointer or a focus. */
  const held = () => body.matches(":hover") || body.contains(document.activeElement);

  function ordered(list) {
    if (sorted === null) return list;
    if (frozen && held()) {
      const place = new Map(frozen.map((name, at) => [name, at]));
      return [...list].sort((a, b) => (place.get(a.name) ?? 1e9) - (place.get(b.name) ?? 1e9));
    }
    const by = COLUMNS[sorted].sort;
    const result = [...list].sort((a, b) => (by(a) < by(b) ? -1 : by(a) > by(b) ? 1 : 0));
    if (backwards) result.reverse();
    frozen = result.map((route) => route.name);
    return result;
  }

  function show(sample, filter) {
    [latest, wanted] = [sample, filter];
    const found = sample.routes.filter((route) => filter(`${route.name} ${route.match} ${route.target}`));
    heads.forEach((head, place) => attribute(head, "aria-sort", sorted !== place ? null : (place === 0) !== backwards ? "ascending" : "descending"));
    set(section.querySelector("small"), found.length === sample.routes.length ? plural(found.length, "route") : `${found.length} of ${sample.routes.length}`);
    const shown = ordered(found).slice(0, all ? undefined : FEW);
    frame.hidden = !shown.length;
    more.hidden = shown.length === found.length;
    set(more, `Show all ${found.length}`);
    keyed(body, shown, (route) => route.name, () => line(past));
    swap(none, [sample.routes.length, found.length], () => {
      if (!sample.routes.length) return emptiness("No route yet", "Every request is answered with 404. Write what goes where:", "routes:\n  - match: { path: / }\n    upstream: products");
      return found.length ? [] : emptiness("No route fits the filter", "Press Escape in the filter to see all.");
    });
  }
  return { show };
}

function line(past) {
  const [name, detail, closed, figure, drawn] = [h("b", {}), h("span.sub.mono", {}), h("span.tag.notice", { hidden: true }, "closed for maintenance"), h("span", {}), spark()];
  const { node, cells } = row(COLUMNS, [null, h("div.rate", {}, drawn.node, figure)]);
  cells[0].replaceChildren(name, " ", closed, detail);
  return {
    node,
    update(route) {
      set(name, route.name);
      const told = route.name === route.match ? "" : `${route.match}  →  `;
      set(detail, `${told}${route.name === route.match ? "→  " : ""}${route.target}`);
      closed.hidden = !route.closed;
      set(figure, rate(route.requests_per_s));
      drawn.draw(past.of(`route ${route.name}`));
      const { classes } = route;
      number(cells[2], classes["4xx"], rate);
      number(cells[3], classes["5xx"], rate);
      cells[3].classList.toggle("hot", classes["5xx"] > 0);
      ["p50_ms", "p95_ms", "p99_ms"].forEach((key, place) => number(cells[4 + place], route[key], milliseconds));
      number(cells[7], route.in_flight, count);
      number(cells[8], route.sent_bytes_per_s, (value) => (value ? bytes(value) : "0"));
    },
  };
}

export function number(cell, value, shown) {
  set(cell, shown(value));
  cell.classList.toggle("zero", !value);
}
