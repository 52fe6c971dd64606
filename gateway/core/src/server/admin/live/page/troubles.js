// What is not as it should be, the worst first.

import { plural, span } from "./format.js";

const DOWN = { unhealthy: "Down", left_out: "Left out", unresolved: "Not resolved" };
const OUT = ["unhealthy", "left_out", "unresolved", "draining", "maintenance"];

export function serves(endpoint) {
  return !OUT.includes(endpoint.status);
}

export function troubles(sample) {
  const all = [...sample.upstreams.flatMap(ofUpstream), ...sample.listeners.flatMap(ofListener), ...ofProcess(sample)];
  const order = ["bad", "notice"];
  return all.sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind));
}

function ofUpstream(upstream) {
  const to = "#upstreams";
  const all = [];
  if (upstream.endpoints.length && !upstream.endpoints.some(serves)) {
    all.push({ kind: "bad", word: "Nobody serves", what: upstream.name, to, why: "its requests fail, unless an endpoint is better than it seems" });
  } else if (!upstream.endpoints.length) {
    all.push({ kind: "bad", word: "No endpoint", what: upstream.name, to, why: upstream.source ? `nothing was found by ${upstream.source}` : "" });
  }
  if (upstream.breaker?.state === "open") all.push({ kind: "bad", word: "Breaker open", what: upstream.name, to, why: "requests are refused at once" });
  for (const endpoint of upstream.endpoints) {
    if (DOWN[endpoint.status]) all.push({ kind: "bad", word: DOWN[endpoint.status], what: `${upstream.name} / ${endpoint.name}`, to, why: why(endpoint) });
    else if (endpoint.status === "draining" || endpoint.status === "maintenance") {
      all.push({ kind: "notice", word: endpoint.status === "draining" ? "Draining" : "Maintenance", what: `${upstream.name} / ${endpoint.name}`, to,
        why: endpoint.active ? `${plural(endpoint.active, "request")} still under way` : "nothing is sent there" });
    }
  }
  return all;
}

/** Why an endpoint does not serve. */
export function why(endpoint) {
  if (endpoint.status === "left_out") return `its requests have failed${endpoint.left_out_s ? `; tried again in ${span(endpoint.left_out_s)}` : ""}`;
  if (endpoint.status === "unresolved") return endpoint.check?.reason ?? "its name is not known to the name servers";
  return endpoint.check && !endpoint.check.ok ? endpoint.check.reason : "";
}

function ofListener(listener) {
  return (listener.certificates ?? []).filter((one) => one.expires_in_s < 14 * 86400).map((one) => ({
    kind: one.expires_in_s < 3 * 86400 ? "bad" : "notice", word: one.expires_in_s < 0 ? "Certificate ended" : "Certificate ends",
    what: one.names.join(", "), to: "#certificates", why: one.expires_in_s < 0 ? `${span(-one.expires_in_s)} ago` : `in ${span(one.expires_in_s)}`,
  }));
}

function ofProcess({ maintenance, configuration, serving }) {
  const to = "#configuration";
  const all = [];
  if (serving !== "serving") all.push({ kind: "notice", word: serving === "draining" ? "Draining" : "Stopping", what: "This gateway", to, why: "balancers in front are told to go elsewhere" });
  if (maintenance.all.on) all.push({ kind: "notice", word: "Maintenance", what: "Everything is closed", to, why: "" });
  for (const route of maintenance.routes) if (route.on) all.push({ kind: "notice", word: "Maintenance", what: `Route ${route.route} is closed`, to, why: "" });
  const last = configuration.attempts[0];
  if (last && !last.ok) all.push({ kind: "notice", word: "Reload refused", what: "The configuration on disk has errors", to, why: "the one before is still in force" });
  return all;
}
