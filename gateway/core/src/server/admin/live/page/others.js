// Caches, refusals, failures, listeners and certificates.

import { h, set, keyed, table, row, emptiness, glyph, swap } from "./dom.js";
import { bytes, clock, count, percent, plural, rate, span } from "./format.js";
import { call } from "./stream.js";
import { ask, attempt, toast } from "./act.js";
import { number } from "./routes.js";

export function caches(section) {
  const [cells, none] = [h("div.cells", {}), h("div", {})];
  section.querySelector(".body").append(cells, none);
  return {
    show(sample, filter) {
      const found = sample.caches.filter((cache) => filter(`cache ${cache.name}`));
      set(section.querySelector("small"), sample.caches.length ? plural(sample.caches.length, "cache") : "");
      keyed(cells, found, (cache) => cache.name, (cache) => cacheCard(cache.name));
      swap(none, sample.caches.length, () => sample.caches.length ? [] : emptiness("No route caches anything",
        "A route keeps responses for as long as they say, or as you say:", "routes:\n  - match: { path: /products/ }\n    cache: { ttl: 10s }\n    upstream: products"));
    },
  };
}

function cacheCard(name) {
  const [ratio, of, bar, room, facts] = [h("span.big", {}), h("small", {}), h("div.meter", { "aria-hidden": "true" }), h("div.meter", { "aria-hidden": "true" }), h("dl.pairs", {})];
  const [hit, soft, rest, full] = [h("i", {}), h("i.soft", {}), h("i.none", {}), h("i", {})];
  bar.append(hit, soft, rest);
  room.append(full);
  const node = h("article.card.cell", {}, h("header", {}, h("h3", {}, name), h("button.button", { type: "button", "aria-label": `Purge ${name}`, click: () => purge(name) }, "Purge…")),
    h("div", {}, ratio, " ", of), bar, facts, room);
  return {
    node,
    update(cache) {
      set(ratio, percent(cache.hit_ratio));
      set(of, cache.hit_ratio === null ? "no request in the last 10 s" : "of requests answered from here, last 10 s");
      const { requests } = cache;
      const all = Math.max(1, Object.entries(requests).filter(([name]) => name !== "coalesced").reduce((sum, [, value]) => sum + value, 0));
      hit.style.width = `${(requests.hit * 100) / all}%`;
      soft.style.width = `${((requests.stale + requests.revalidated) * 100) / all}%`;
      full.style.width = `${(cache.bytes * 100) / cache.limit}%`;
      const told = [["Requests/s", rate(cache.requests_per_s)], ["Hits, stale, misses", `${count(requests.hit)} · ${count(requests.stale)} · ${count(requests.miss + requests.expired)}`],
        ["Passed by", count(requests.bypass)], ["Objects", count(cache.objects)], ["Evicted for want of room", count(cache.evictions)],
        ...(cache.disk ? [["On disk", `${bytes(cache.disk.bytes)} of ${bytes(cache.disk.limit)}, ${cache.disk.state}`]] : []),
        ["Memory", `${bytes(cache.bytes)} of ${bytes(cache.limit)}`]];
      swap(facts, told, () => told.flatMap(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]));
    },
  };
}

async function purge(name) {
  const kinds = [["url", "One URL, in all its variants"], ["prefix", "All URLs that begin so"], ["tags", "A tag"], ["all", "Everything"]];
  const choice = kinds.map(([kind, label], place) => h("label", {}, h("input", { type: "radio", name: "kind", value: kind, checked: place === 0 }), label));
  const text = h("input", { name: "text", type: "text", placeholder: "https://example.com/products/7", autocomplete: "off", spellcheck: "false" });
  const soft = h("label", {}, h("input", { type: "checkbox", name: "soft" }), "Only make it stale: it is still served while a newer one is fetched");
  const answer = await ask({ title: `Purge the cache ${name}`, fields: [...choice, h("label.over", {}, "URL or tag", text), soft], yes: "Purge", hurts: true });
  if (!answer) return;
  const wish = answer.kind === "all" ? { all: true } : answer.kind === "tags" ? { tags: [answer.text] } : { [answer.kind]: answer.text };
  if (answer.soft) wish.soft = true;
  let purged;
  const done = await attempt("Nothing was purged", async () => { ({ purged } = await call("POST", `v1/caches/${encodeURIComponent(name)}/purge`, wish)); });
  if (done) toast(`${plural(purged, "object")} purged from ${name}.`);
}

const REFUSALS = [
  { label: "Filter", kind: "name" }, { label: "Refused/s", kind: "n" }, { label: "Refused", kind: "n" }, { label: "Only reported", kind: "n" }, { label: "Could not decide", kind: "n" },
];
const RECENT = [
  { label: "When", kind: "mono" }, { label: "Status", kind: "n" }, { label: "Client", kind: "mono" }, { label: "Why", kind: "full" },
];

export function refusals(section) {
  const [filters, recent] = [table("Refusals by filter and rule", REFUSALS), table("Last refusals", RECENT)];
  const [clients, quiet] = [h("ul.bars", {}), h("p.muted", {}, "None.")];
  const [all, none] = [h("div.split", {}), h("div", {})];
  all.append(h("div.stack", {}, h("div.card", {}, filters.node), h("div.card.log", {}, recent.node)),
    h("article.card.cell", {}, h("h3", {}, "Most refused clients"), clients, quiet));
  section.querySelector(".body").append(all, none);
  return {
    show(sample, filter) {
      const rows = sample.filters.flatMap((one) => lines(one)).filter((one) => filter(`${one.route} ${one.name} ${one.rule}`));
      const last = sample.refusals.filter((one) => filter(`${one.route} ${one.filter} ${one.client} ${one.reason} ${one.request_id}`));
      const any = sample.filters.some((one) => one.refused + one.reported > 0);
      set(section.querySelector("small"), any ? `${rate(rows.reduce((sum, one) => sum + one.refused_per_s, 0))} a second` : "");
      all.hidden = !any;
      keyed(filters.body, rows, (one) => `${one.route} ${one.name} ${one.rule}`, refusalLine);
      keyed(recent.body, last, (one) => `${one.at_ms} ${one.request_id} ${one.client}`, recentLine);
      const most = Math.max(1, ...sample.refused_clients.map((one) => one.count));
      quiet.hidden = sample.refused_clients.length > 0;
      keyed(clients, sample.refused_clients.slice(0, 10), (one) => one.client, clientLine(most));
      swap(none, [any, sample.filters.length], () => {
        if (any) return [];
        if (!sample.filters.length) return emptiness("No filter refuses anything", "Filters such as `jwt`, `rate_limit` and `ip_access` decide who may pass:", "routes:\n  - match: { path: /api/ }\n    filters:\n      - rate_limit: { rate: 10/s, burst: 20 }\n    upstream: products");
        return emptiness("Nothing refused so far", `Watching: ${[...new Set(sample.filters.map((one) => one.name))].join(", ")}.`);
      });
    },
  };
}

/** A filter by its rules; one that has never refused is no line. */
function lines(filter) {
  return filter.rules.filter((rule) => rule.refused + rule.reported > 0).map((rule, place) => ({ ...rule, route: filter.route, name: filter.name, mode: filter.mode, failed: place === 0 ? filter.failed : 0 }));
}

function refusalLine() {
  const [name, detail, mode] = [h("b", {}), h("span.sub", {}), h("span.tag.notice", { hidden: true }, "only reports")];
  const { node, cells } = row(REFUSALS);
  cells[0].replaceChildren(name, " ", mode, detail);
  return {
    node,
    update(one) {
      set(name, one.rule ? `${one.name}: ${one.rule}` : one.name);
      set(detail, one.route === "*" ? "on every route" : `on ${one.route}`);
      mode.hidden = one.mode !== "report";
      number(cells[1], one.refused_per_s, rate);
      [one.refused, one.reported, one.failed].forEach((value, place) => number(cells[2 + place], value, count));
    },
  };
}

function recentLine(one) {
  const why = [one.rule, one.reason].filter(Boolean).join(": ");
  const { node } = row(RECENT, [clock(one.at_ms), one.reported ? `(${one.status})` : String(one.status), one.client,
    h("span", {}, h("b", {}, one.filter), ` on ${one.route}`, h("span.sub", {}, [why, one.key, one.request_id].filter(Boolean).join(" · ")))]);
  return { node, update() {} };
}

function clientLine(most) {
  return () => {
    const [name, number, bar] = [h("span.mono", {}), h("b", {}), h("i", {})];
    return { node: h("li", {}, name, number, h("div.meter", { "aria-hidden": "true" }, bar)), update(one) { set(name, one.client); set(number, count(one.count)); bar.style.width = `${(one.count * 100) / most}%`; } };
  };
}

const FAILURES = [
  { label: "When", kind: "mono" }, { label: "Status", kind: "n" }, { label: "Route", kind: "" }, { label: "Upstream", kind: "" }, { label: "Why", kind: "full" }, { label: "Request", kind: "full" },
];

export function failures(section) {
  const { node, body } = table("Recent failures", FAILURES);
  const [frame, none] = [h("div.card.log", { tabindex: 0, role: "region", "aria-label": "Recent failures" }, node), h("div", {})];
  section.querySelector(".body").append(frame, none);
  return {
    show(sample, filter) {
      const found = sample.failures.filter((one) => filter(`${one.route} ${one.upstream} ${one.endpoint} ${one.reason} ${one.request_id} ${one.status}`));
      set(section.querySelector("small"), found.length ? `the last ${found.length}` : "");
      frame.hidden = !found.length;
      keyed(body, found, (one) => `${one.at_ms} ${one.request_id} ${one.endpoint} ${one.reason}`, failureLine);
      swap(none, found.length, () => found.length ? [] : emptiness("No failure", "Replies of 5xx and tries that went wrong are shown here, with their reason."));
    },
  };
}

function failureLine(one) {
  const id = one.request_id ? h("button.quiet-button.mono", { type: "button", title: "Copy", "aria-label": `Copy the request id ${one.request_id}`, click: () => copy(one.request_id) }, one.request_id) : "";
  const { node, cells } = row(FAILURES, [clock(one.at_ms), one.status ? String(one.status) : "try", one.route ?? "",
    h("span", {}, one.upstream ?? "–", one.endpoint ? h("span.sub.mono", {}, one.endpoint) : null), sentence(one.reason), id]);
  if (one.status) cells[1].classList.add("hot");
  return { node, update() {} };
}

/** Reasons that are one word of the engine, as words. */
function sentence(reason) {
  return /^[A-Z][a-z]+(?:[A-Z][a-z]+)*$/.test(reason) ? reason.replace(/(?!^)([A-Z])/g, " $1").toLowerCase() : reason;
}

async function copy(text) {
  const done = await attempt("Not copied", () => navigator.clipboard.writeText(text));
  if (done) toast(`${text} is in the clipboard.`);
}

const DOORS = [{ label: "Listener", kind: "name" }, { label: "Connections", kind: "n" }, { label: "Certificates", kind: "full" }];

export function doors(section) {
  const { node, body } = table("Listeners and certificates", DOORS);
  section.querySelector(".body").append(h("div.card", {}, node));
  return {
    show(sample, filter) {
      const found = sample.listeners.filter((one) => filter(`${one.name} ${one.bind} ${one.certificates?.flatMap((own) => own.names).join(" ")}`));
      set(section.querySelector("small"), plural(sample.listeners.length, "listener"));
      keyed(body, found, (one) => one.name, doorLine);
    },
  };
}

function doorLine() {
  const [name, bind] = [h("b", {}), h("span.sub.mono", {})];
  const { node, cells } = row(DOORS);
  cells[0].replaceChildren(name, bind);
  return {
    node,
    update(one) {
      set(name, one.name);
      set(bind, one.bind);
      number(cells[1], one.connections, count);
      const told = one.certificates?.map(({ names, expires_in_s: left }) => [names.join(", "), Math.floor(left / 86400), Math.floor(left / 3600)]);
      swap(cells[2], told ?? null, () => certificates(one.certificates));
    },
  };
}

function certificates(all) {
  if (!all) return h("span.muted", {}, "in the clear");
  if (!all.length) return h("span.muted", {}, "TLS, and no certificate yet");
  return h("ul.certificates", {}, ...all.map((one) => h("li", {}, h("span.mono", {}, one.names.join(", ")), ending(one.expires_in_s))));
}

function ending(left) {
  const days = Math.floor(left / 86400);
  const [kind, shape] = days < 3 ? ["bad", "bad"] : days < 14 ? ["notice", "notice"] : ["ok", "ok"];
  const on = new Date(Date.now() + left * 1000).toLocaleDateString("en-GB", { dateStyle: "medium" });
  return h(`span.state.${kind}`, {}, glyph(shape), left < 0 ? `ended ${span(-left)} ago` : `${plural(days, "day")} left`, h("small", {}, on));
}
