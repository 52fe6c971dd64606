// The configuration in force, reload, and maintenance.

import { h, set, attribute, keyed, glyph, swap } from "./dom.js";
import { ago, date, plural } from "./format.js";
import { call, Refused } from "./stream.js";
import { ask, attempt, toast } from "./act.js";

const BY = { start: "at the start", signal: "by SIGHUP", call: "by a call", watch: "as its files have changed" };

export function configuration(section) {
  const [facts, changes, outcome, past] = [h("dl.pairs", {}), h("div", {}), h("div", { "aria-live": "polite" }), h("ul.rows", {})];
  const reload = h("button.button.main", { type: "button" }, "Reload");
  reload.addEventListener("click", () => reloaded(reload, outcome));
  const shut = maintenance();
  section.querySelector(".body").append(h("div.halves", {},
    h("div.stack", {}, h("article.card.cell", {}, h("header", {}, h("h3", {}, "In force"), reload), facts, outcome), shut.node),
    h("div.stack", {}, h("article.card.cell", {}, h("h3", {}, "What the last reload has changed"), changes),
      h("article.card.cell", {}, h("h3", {}, "Attempts to reload"), past))));
  return {
    show(sample) {
      const { configuration: held } = sample;
      set(section.querySelector("small"), `revision ${held.revision}`);
      const told = [["Revision", `${held.revision}  (${held.hash})`], ["In force since", `${date(held.loaded_at_ms)} (${ago(held.loaded_at_ms, sample.at_ms)})`],
        ["Loaded", BY[held.by]], ["File", held.file ?? ""]];
      swap(facts, told, () => told.filter(([, value]) => value).flatMap(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]));
      swap(changes, [held.revision, held.changes], () => diff(held));
      swap(past, [held.attempts, Math.floor(sample.at_ms / 10_000)], () => held.attempts.map((one) => attemptLine(one, sample.at_ms)));
      shut.show(sample);
    },
  };
}

function diff({ revision, changes, changes_left_out: more }) {
  if (revision === 1) return h("p.muted", {}, "It is the configuration that the gateway was started with.");
  if (!changes.length) return h("p.muted", {}, "Nothing that was written differently.");
  return h("ul.diff", {}, ...changes.map((one) => h(`li.${one.kind}`, {}, sentence(one))), more ? h("li", {}, `and ${more} more: edgeway diff shows them`) : null);
}

function sentence({ kind, path, before, after }) {
  const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  if (kind === "added") return `+ ${path}${after === null || after === undefined ? "" : `: ${text(after)}`}`;
  if (kind === "removed") return `− ${path}${before === null || before === undefined ? "" : `: ${text(before)}`}`;
  if (kind === "moved") return `↕ ${path} stands elsewhere`;
  return `~ ${path}: ${text(before ?? "nothing")} → ${text(after ?? "nothing")}`;
}

function attemptLine(one, now) {
  const word = one.ok ? h("span.state.ok", {}, glyph("ok"), `Revision ${one.revision}`) : h("span.state.bad", {}, glyph("bad"), "Refused");
  const detail = !one.ok ? one.reason : one.by === "start" ? "" : plural(one.changes, "change");
  return h("li", {}, word, h("span.muted", {}, [BY[one.by] ?? one.by, detail].filter(Boolean).join(", ")), h("span.muted.end", { title: date(one.at_ms) }, ago(one.at_ms, now)));
}

async function reloaded(button, outcome) {
  button.disabled = true;
  set(button, "Reloading …");
  try {
    const done = await call("POST", "v1/reload");
    const told = done.warnings.map((one) => `${one.file ?? ""}:${one.line ?? ""} ${one.message}`);
    if (done.next_start.length) told.push(`From the next start on: ${done.next_start.join(", ")}`);
    outcome.replaceChildren(...(told.length ? [h("pre.report", {}, told.join("\n"))] : []));
    toast(`Revision ${done.revision} is in force: ${plural(done.changes.length, "change")}.`);
  } catch (error) {
    const detail = (error instanceof Refused && error.body?.report) || error.message;
    outcome.replaceChildren(h("p.state.bad", {}, glyph("bad"), "Refused: the configuration before is still in force"), h("pre.report.bad", { tabindex: 0 }, detail));
  } finally {
    button.disabled = false;
    set(button, "Reload");
  }
}

function maintenance() {
  const list = h("ul.rows", {});
  const more = h("button.button", { type: "button", click: () => closeRoute(latest) }, "Close a route …");
  const node = h("article.card.cell", {}, h("header", {}, h("h3", {}, "Maintenance"), more), list);
  let latest = null;
  return {
    node,
    show(sample) {
      latest = sample;
      more.hidden = !sample.routes.length;
      keyed(list, [sample.maintenance.all, ...sample.maintenance.routes], (one) => one.route, switchLine);
    },
  };
}

function switchLine() {
  const [name, by] = [h("b", {}), h("span.muted", {})];
  const flip = h("button.switch.end", { type: "button", role: "switch", click: () => switched(latest, !latest.on) });
  let latest = null;
  return {
    node: h("li", {}, name, by, flip),
    update(one) {
      latest = one;
      set(name, title(one.route));
      set(by, `${one.on ? "closed" : "open"}${one.said_by === "call" ? ", by a call" : one.said_by === "configuration" ? ", as configured" : ""}${one.refused ? `, ${plural(one.refused, "request")} refused` : ""}`);
      attribute(flip, "aria-checked", String(one.on));
      attribute(flip, "aria-label", `Maintenance of ${title(one.route)}`);
    },
  };
}

const title = (route) => (route === "*" ? "Everything" : route);
const path = (route) => (route === "*" ? "v1/maintenance" : `v1/maintenance/${encodeURIComponent(route)}`);

async function switched({ route }, on) {
  if (on) {
    const answer = await ask({ title: route === "*" ? "Close everything for maintenance?" : `Close ${route} for maintenance?`,
      text: "Its requests are answered with 503 until it is opened again, but for clients that the configuration lets in.", yes: "Close", hurts: true });
    if (!answer) return;
  }
  const done = await attempt("Nothing was changed", () => call("PUT", path(route), { on }));
  if (done) toast(`${title(route)} is ${on ? "closed" : "open"}.`, { undo: () => attempt("Not undone", () => call("PUT", path(route), { on: !on })) });
}

async function closeRoute({ routes }) {
  const choice = h("select", { name: "route", "aria-label": "Route" }, ...routes.map((route) => h("option", { value: route.name }, route.name)));
  const answer = await ask({ title: "Close a route for maintenance", text: "Its requests are answered with 503 until it is opened again.", fields: [choice], yes: "Close", hurts: true });
  if (!answer) return;
  const done = await attempt("Nothing was changed", () => call("PUT", path(answer.route), { on: true }));
  if (done) toast(`${answer.route} is closed.`, { undo: () => attempt("Not undone", () => call("DELETE", path(answer.route))) });
}
