// The first thing seen: is all well, and how much is going on.

import { h, set, swap, glyph, emptiness } from "./dom.js";
import { chart, spark } from "./chart.js";
import { bytes, count, milliseconds, percent, plural, rate } from "./format.js";
import { troubles } from "./troubles.js";

const $ = (id) => document.getElementById(id);

export function overview(past) {
  const tiles = {
    requests: tile("Requests per second"), errors: tile("Server errors (5xx)"), latency: trio(),
    flight: tile("In flight"), connections: tile("Connections"), traffic: tile("Sent"),
  };
  tiles.errors.line.node.classList.add("bad");
  $("tiles").append(...Object.values(tiles).map((one) => one.node));
  const classes = [["2xx", "2xx", "--c2"], ["3xx", "1xx, 3xx", "--c3"], ["4xx", "4xx", "--c4"], ["5xx", "5xx", "--c5"]];
  const requests = chart({ title: "Requests per second by status", stacked: true, shown: rate, least: 1,
    series: classes.map(([name, label, colour]) => ({ name, label, colour })) });
  const latency = chart({ title: "Latency", stacked: false, shown: milliseconds, least: 1,
    series: ["p50", "p95", "p99"].map((name) => ({ name, label: name, colour: `--${name}` })) });
  $("charts").append(requests.node, latency.node);

  return {
    note({ total }) {
      const { classes: by } = total;
      past.add("2xx", by["2xx"]); past.add("3xx", by["3xx"] + by["1xx"]); past.add("4xx", by["4xx"]); past.add("5xx", by["5xx"]);
      for (const name of ["p50", "p95", "p99"]) past.add(name, total[`${name}_ms`]);
      past.add("rps", total.requests_per_s); past.add("flight", total.in_flight);
      past.add("connections", total.connections); past.add("sent", total.sent_bytes_per_s);
    },
    show(sample) {
      const { total } = sample;
      tiles.requests.show(rate(total.requests_per_s), `${count(total.requests)} in all`, past.of("rps"));
      const failing = total.requests_per_s ? total.classes["5xx"] / total.requests_per_s : 0;
      tiles.errors.show(rate(total.classes["5xx"]), `/s, ${percent(failing)}`, past.of("5xx"));
      tiles.errors.node.classList.toggle("failing", failing > 0);
      tiles.latency.show([total.p50_ms, total.p95_ms, total.p99_ms]);
      tiles.flight.show(count(total.in_flight), "requests", past.of("flight"));
      tiles.connections.show(count(total.connections), "open", past.of("connections"));
      tiles.traffic.show(`${bytes(total.sent_bytes_per_s)}/s`, `${bytes(total.received_bytes_per_s)}/s in`, past.of("sent"));
      requests.update(classes.map(([name]) => past.of(name)));
      latency.update(["p50", "p95", "p99"].map((name) => past.of(name)));
      attention(sample);
      quiet(sample);
    },
  };
}

function tile(label) {
  const [value, beside, line] = [h("span", {}, "–"), h("small", {}), spark()];
  const node = h("div.card.tile", {}, h("dl", {}, h("dt", {}, label), h("dd", {}, value, beside)), line.node);
  return { node, line, show(figure, more, values) { set(value, figure); set(beside, more); line.draw(values); } };
}

function trio() {
  const values = ["p50", "p95", "p99"].map((name) => {
    const [term, figure] = [h("dt", {}, name), h("dd", {}, "–")];
    term.style.setProperty("--mark", `var(--${name})`);
    return { entry: h("div", {}, term, figure), figure };
  });
  const node = h("div.card.tile.trio", {}, h("p", { class: "muted label" }, "Latency, last 10 s"), h("dl", {}, ...values.map((value) => value.entry)));
  return { node, show: (figures) => figures.forEach((figure, place) => set(values[place].figure, milliseconds(figure))) };
}

/** What an operator should look at now. */
function attention(sample) {
  const all = troubles(sample);
  swap($("attention"), all, () => {
    if (!all.length) return h("p.well", {}, h("span.state.ok", {}, glyph("ok"), "All is well"), sample.upstreams.length
      ? `${plural(sample.upstreams.flatMap((one) => one.endpoints).length, "endpoint")} of ${plural(sample.upstreams.length, "upstream")} serve` : "");
    const mild = all.every((one) => one.kind !== "bad");
    return h(`ul${mild ? ".mild" : ""}`, { "aria-label": "Needs attention" }, ...all.slice(0, 8).map((one) =>
      h("li", {}, h(`span.state.${one.kind}`, {}, glyph(one.kind), one.word), h("a", { href: one.to }, one.what), one.why ? h("span.muted", {}, one.why) : null)),
      all.length > 8 ? h("li.muted", {}, `and ${all.length - 8} more`) : null);
  });
}

/** Before the first request, what to type. */
function quiet({ total, listeners }) {
  $("quiet").hidden = total.requests > 0;
  $("overview").classList.toggle("warm", total.requests === 0);
  if (total.requests > 0) return;
  const open = listeners.find((one) => !one.tcp) ?? listeners[0];
  swap($("quiet"), open?.bind, () => {
    if (!open) return emptiness("No listener yet", "Write where clients connect:", "listeners:\n  http: { bind: \"0.0.0.0:8080\" }");
    const scheme = open.certificates ? "https" : "http";
    const unix = open.bind.startsWith("unix:");
    const address = open.bind.replace(/^0\.0\.0\.0/, "127.0.0.1").replace(/^\[::\]/, "[::1]");
    const typed = unix ? `curl --unix-socket ${open.bind.slice(5)} http://localhost/` : `curl -i ${open.certificates ? "-k " : ""}${scheme}://${address}/`;
    return [h("b", {}, "No traffic yet"), "Figures move with the first request. Send one:", h("pre", {}, typed)];
  });
}
