// Upstreams, their endpoints, and what can be done with them.

import { h, set, attribute, keyed, table, row, emptiness, glyph, swap } from "./dom.js";
import { spark } from "./chart.js";
import { count, milliseconds, plural, rate, span } from "./format.js";
import { call } from "./stream.js";
import { ask, attempt, toast } from "./act.js";
import { number } from "./routes.js";
import { serves, why } from "./troubles.js";

const COLUMNS = [
  { label: "Endpoint", kind: "name" }, { label: "State", kind: "full bare" }, { label: "Requests/s", kind: "n" }, { label: "Failures/s", kind: "n" },
  { label: "p50 · p95", kind: "n" }, { label: "Active", kind: "n" }, { label: "Weight", kind: "n" }, { label: "Last check", kind: "slim" },
  { label: "", name: "Take it out or back", kind: "full bare" },
];

/** Each status: a shape, a word, a colour. */
const STATES = {
  up: ["ok", "Up", "ok"], slow_start: ["slow", "Starting slowly", "ok"], unchecked: ["idle", "Not checked yet", "idle"],
  unhealthy: ["bad", "Down", "bad"], left_out: ["bad", "Left out", "bad"], unresolved: ["bad", "Not resolved", "bad"],
  draining: ["drain", "Draining", "notice"], maintenance: ["tool", "Maintenance", "notice"],
};

export function upstreams(section, past) {
  const holder = section.querySelector(".body");
  const [stack, none] = [h("div.stack", {}), h("div", {})];
  holder.append(stack, none);
  return {
    show(sample, filter) {
      const found = sample.upstreams.map((upstream) => {
        if (filter(`${upstream.name} ${upstream.balance}`)) return upstream;
        const endpoints = upstream.endpoints.filter((one) => filter(`${upstream.name} ${one.name} ${one.address} ${one.status} ${STATES[one.status]?.[1]}`));
        return { ...upstream, shown: endpoints };
      }).filter((upstream) => !upstream.shown || upstream.shown.length);
      const all = sample.upstreams.flatMap((upstream) => upstream.endpoints);
      set(section.querySelector("small"), all.length ? `${plural(sample.upstreams.length, "upstream")}, ${all.filter(serves).length} of ${plural(all.length, "endpoint")} serve` : "");
      keyed(stack, found, (upstream) => upstream.name, (upstream) => card(upstream.name, past));
      swap(none, [sample.upstreams.length, found.length], () => {
        if (!sample.upstreams.length) return emptiness("No upstream yet", "An upstream is a group of endpoints that requests are passed to:",
          "upstreams:\n  products:\n    endpoints: [product-1:8080, product-2:8080]\n    health: { path: /healthz }\nroutes:\n  - match: { path: / }\n    upstream: products");
        return found.length ? [] : emptiness("No endpoint fits the filter", "Press Escape in the filter to see all.");
      });
    },
  };
}

function card(name, past) {
  const [tags, numbers] = [h("span", { class: "tags" }), h("span.numbers", {})];
  const { node: list, body } = table(`Endpoints of ${name}`, COLUMNS, "fold endpoints");
  const frame = h("div.wide", {}, list);
  const none = h("p", { class: "muted pad" }, "No endpoint. Add one to the configuration, or look at where endpoints are discovered.");
  const node = h("article.card.upstream", { "aria-label": `Upstream ${name}` }, h("header", {}, h("h3", {}, name), tags, numbers), frame, none);
  return {
    node,
    update(upstream) {
      swap(tags, [upstream.balance, upstream.breaker, upstream.queue, upstream.source, upstream.changed], () => labels(upstream));
      const figures = [["req/s", rate(upstream.requests_per_s)], ["5xx/s", rate(upstream.classes["5xx"])], ["p50", milliseconds(upstream.p50_ms)],
        ["p95", milliseconds(upstream.p95_ms)], ["p99", milliseconds(upstream.p99_ms)], ["in flight", count(upstream.in_flight)]];
      swap(numbers, figures, () => figures.map(([label, value]) => h("span", {}, h("b", {}, value), ` ${label}`)));
      [frame.hidden, none.hidden] = [!upstream.endpoints.length, upstream.endpoints.length > 0];
      keyed(body, upstream.shown ?? upstream.endpoints, (endpoint) => endpoint.name, () => line(upstream.name, past));
      for (const child of body.kept.values()) child.around = upstream;
    },
  };
}

function labels({ balance, breaker, queue, source, changed }) {
  const all = [h("span.tag", {}, balance.replaceAll("_", " "))];
  if (breaker && breaker.state !== "closed") all.push(h("span.tag.bad", {}, `breaker ${breaker.state.replace("_", " ")}`));
  if (queue?.waiting) all.push(h("span.tag.notice", {}, `${queue.waiting} of ${queue.size} wait`));
  if (source) all.push(h("span.tag", {}, source));
  if (changed) all.push(h("span.tag.notice", { title: "Somebody has changed it since the configuration was read" }, "changed live"));
  return all.flatMap((tag) => [tag, " "]);
}

function line(upstream, past) {
  const [name, detail, figure, drawn] = [h("b", {}), h("span.sub.mono", {}), h("span", {}), spark()];
  const weight = h("button.quiet-button", { type: "button", click: () => reweigh(upstream, latest) }, "");
  const segments = [["up", "Up"], ["drain", "Drain"], ["maintenance", "Maintenance"]].map(([state, label]) =>
    h("button", { type: "button", "data-state": state, click: () => turn(upstream, self.around, latest, state) }, label));
  const { node, cells } = row(COLUMNS, [null, null, h("div.rate", {}, drawn.node, figure)]);
  cells[0].replaceChildren(name, detail);
  cells[6].replaceChildren(weight);
  const group = h("div.segments", { role: "group" }, ...segments);
  cells[8].replaceChildren(group);
  let latest = null;
  const self = {
    node, around: null,
    update(endpoint) {
      latest = endpoint;
      set(name, endpoint.name);
      const facts = [endpoint.address !== endpoint.name ? endpoint.address : null, endpoint.backup ? "backup" : null, endpoint.origin !== "configuration" ? endpoint.origin : null];
      set(detail, facts.filter(Boolean).join(" · "));
      attribute(node, "data-status", endpoint.status);
      swap(cells[1], [endpoint.status, why(endpoint), endpoint.ease < 1 && endpoint.ease], () => state(endpoint));
      set(figure, rate(endpoint.requests_per_s));
      drawn.draw(past.of(`endpoint ${upstream} ${endpoint.name}`));
      number(cells[3], endpoint.failures_per_s, rate);
      cells[3].classList.toggle("hot", endpoint.failures_per_s > 0);
      number(cells[4], endpoint.p95_ms, () => (endpoint.p95_ms === null ? "–" : `${milliseconds(endpoint.p50_ms)} · ${milliseconds(endpoint.p95_ms)}`));
      number(cells[5], endpoint.active, String);
      set(weight, endpoint.weight);
      attribute(weight, "aria-label", `Weight of ${endpoint.name}: ${endpoint.weight}. Change it`);
      const { check } = endpoint;
      set(cells[7], check ? `${check.ok ? "ok" : "failed"}, ${milliseconds(check.took_ms)}${check.ago_s < 10 ? "" : `, ${span(check.ago_s)} ago`}` : "none");
      cells[7].classList.toggle("zero", !check);
      attribute(group, "aria-label", `What ${endpoint.name} shall do`);
      segments.forEach((button) => attribute(button, "aria-pressed", String(button.dataset.state === endpoint.state)));
    },
  };
  return self;
}

function state(endpoint) {
  const [shape, word, kind] = STATES[endpoint.status] ?? ["idle", endpoint.status, "idle"];
  const reason = why(endpoint);
  const share = endpoint.status === "slow_start" ? h("span.sub", {}, `gets ${Math.round(endpoint.ease * 100)} % of its share`) : null;
  return [h(`span.state.${kind}`, {}, glyph(shape), word), reason ? h("span.why", {}, reason) : share].filter(Boolean);
}

const path = (upstream, endpoint) => `v1/upstreams/${encodeURIComponent(upstream)}/endpoints/${encodeURIComponent(endpoint)}`;

const DONE = { up: "is up again", drain: "drains: it gets no new requests", maintenance: "is in maintenance" };

/** Takes an endpoint out or back. What takes it out is asked first, and can be taken back. */
async function turn(upstream, around, endpoint, wanted) {
  const before = endpoint.state;
  if (before === wanted) return;
  if (wanted !== "up") {
    const others = around.endpoints.filter((one) => one.name !== endpoint.name && serves(one));
    const answer = await ask({
      title: wanted === "drain" ? `Drain ${endpoint.name}?` : `Take ${endpoint.name} out for maintenance?`,
      text: wanted === "drain"
        ? `It gets no new requests. ${endpoint.active ? `The ${plural(endpoint.active, "request")} under way and sessions that stick to it go on.` : "Sessions that stick to it go on."}`
        : "It gets no request at all, and is not checked either. Requests under way end normally.",
      warning: others.length ? null : `No other endpoint of ${upstream} serves: its requests will fail.`,
      yes: wanted === "drain" ? "Drain" : "Take it out", hurts: !others.length,
    });
    if (!answer) return;
  }
  const done = await attempt(`${endpoint.name} is as it was`, () => call("PATCH", path(upstream, endpoint.name), { state: wanted }));
  if (!done) return;
  toast(`${endpoint.name} ${DONE[wanted]}.`, { undo: () => attempt("Not undone", () => call("PATCH", path(upstream, endpoint.name), { state: before })) });
}

async function reweigh(upstream, endpoint) {
  const before = endpoint.weight;
  const field = h("input", { name: "weight", type: "number", min: 1, max: 65535, value: before, required: true });
  const answer = await ask({ title: `Weight of ${endpoint.name}`, text: "Its part of the requests, beside those of the others.", fields: [h("label.over", {}, "Weight", field)], yes: "Set it" });
  const weight = Number(answer?.weight);
  if (!answer || weight === before) return;
  const done = await attempt("The weight is as it was", () => call("PATCH", path(upstream, endpoint.name), { weight }));
  if (done) toast(`${endpoint.name} has the weight ${weight}.`, { undo: () => attempt("Not undone", () => call("PATCH", path(upstream, endpoint.name), { weight: before })) });
}
