// Puts the page together: the stream on one side, the sections on the other.

import { h, set, swap, glyph, attribute } from "./dom.js";
import { Past } from "./chart.js";
import { span } from "./format.js";
import { Stream, token } from "./stream.js";
import { help } from "./act.js";
import { overview } from "./overview.js";
import { routes } from "./routes.js";
import { upstreams } from "./upstreams.js";
import { caches, doors, failures, refusals } from "./others.js";
import { configuration } from "./configuration.js";
import { troubles } from "./troubles.js";

const $ = (id) => document.getElementById(id);
const past = new Past();
const top = overview(past);
const sections = [routes($("routes"), past), upstreams($("upstreams"), past), caches($("caches")), refusals($("refusals")),
  failures($("failures")), doors($("certificates")), configuration($("configuration"))];
let latest = null;
let gone = null;

const stream = new Stream({
  sample(sample) {
    latest = sample;
    back();
    note(sample);
    show();
  },
  lost(reason, seconds) {
    clearInterval(gone);
    document.body.classList.add("stale");
    status("bad", "bad", "Connection lost");
    $("lost").hidden = false;
    let left = seconds;
    const tell = () => {
      $("lost").replaceChildren(`The figures have stopped: ${reason}. `, left > 0 ? `Trying again in ${left} s.` : "Trying again …", " ",
        h("button.button", { type: "button", click: () => { stream.close(); stream.look(); } }, "Try now"));
      left -= 1;
    };
    tell();
    gone = setInterval(tell, 1000);
  },
  locked: ask,
});

function back() {
  clearInterval(gone);
  $("lost").hidden = true;
  document.body.classList.remove("early", "stale", "locked");
  $("gate")?.remove();
}

function note(sample) {
  past.begin();
  top.note(sample);
  for (const route of sample.routes) past.add(`route ${route.name}`, route.requests_per_s);
  for (const upstream of sample.upstreams)
    for (const endpoint of upstream.endpoints) past.add(`endpoint ${upstream.name} ${endpoint.name}`, endpoint.requests_per_s);
  past.end();
}

function show() {
  if (!latest) return;
  const words = $("filter").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (text) => words.every((word) => text.toLowerCase().includes(word));
  top.show(latest);
  for (const section of sections) section.show(latest, fits);
  const wrong = troubles(latest).filter((one) => one.kind === "bad").length;
  mark("#upstreams", latest.upstreams.flatMap((one) => one.endpoints).filter((one) => ["unhealthy", "left_out", "unresolved"].includes(one.status)).length, "down");
  document.title = wrong ? `(${wrong}) Edgeway` : "Edgeway";
  if (stream.paused) status("notice", "pause", "Paused");
  else if (latest.serving === "draining") status("notice", "drain", "Draining");
  else if (latest.serving === "stopping") status("notice", "drain", "Stopping");
  else if (latest.maintenance.all.on) status("notice", "tool", "Maintenance");
  else status("ok", "ok", "Serving");
  const { process } = latest;
  const facts = [["up", span(process.uptime_s)], ["version", process.version], ["revision", latest.configuration.revision], ["CPU", `${Math.round(process.cpu * 100)} %`], ["memory", `${Math.round(process.rss_bytes / 2 ** 20)} MiB`]];
  swap($("facts"), facts, () => facts.map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, String(value)))));
}

function status(kind, shape, word) {
  swap($("state"), [kind, shape, word], () => [glyph(shape), word]);
  $("state").className = `pill ${kind}`;
}

function mark(to, number, word) {
  const link = document.querySelector(`.tabs a[href="${to}"]`);
  const held = link.querySelector(".mark");
  if (!number) return held?.remove();
  const node = held ?? link.appendChild(h("span.mark", {}));
  set(node, number);
  attribute(node, "aria-label", `${number} ${word}`);
}

/** Asks for the token of the admin listener. */
function ask(wrong) {
  token.forget();
  document.body.classList.add("locked");
  status("notice", "notice", "Locked");
  $("gate")?.remove();
  const field = h("input", { type: "password", name: "token", autocomplete: "current-password", required: true, id: "token" });
  const form = h("form.card.gate", { id: "gate", submit: (event) => {
    event.preventDefault();
    token.put(field.value);
    stream.look();
  } }, h("h1", { class: "big" }, "Who is there?"), h("p.muted", {}, "This admin listener wants its token. It is kept for as long as this tab is open."),
  wrong ? h("p.state.bad", { role: "alert" }, glyph("bad"), "That was not the token.") : null,
  h("label", { for: "token" }, "Token"), field, h("button.button.main", { type: "submit" }, "Open"));
  $("main").before(form);
  field.focus();
}

// Light, dark, or as the system has it.
const preferred = matchMedia("(prefers-color-scheme: dark)");
function theme(chosen) {
  if (chosen) localStorage.setItem("edgeway-theme", chosen);
  const now = localStorage.getItem("edgeway-theme") ?? (preferred.matches ? "dark" : "light");
  document.documentElement.dataset.theme = now;
  const other = now === "dark" ? "light" : "dark";
  $("theme").replaceChildren(glyph(other === "dark" ? "moon" : "sun"));
  attribute($("theme"), "aria-label", `Show it ${other}`);
  attribute($("theme"), "title", `Show it ${other} (t)`);
}
preferred.addEventListener("change", () => theme());
$("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));

function pause(paused) {
  stream.paused = paused;
  $("pause").replaceChildren(glyph(paused ? "play" : "pause"));
  attribute($("pause"), "aria-pressed", String(paused));
  attribute($("pause"), "aria-label", paused ? "Go on" : "Pause");
  attribute($("pause"), "title", paused ? "Go on (p)" : "Pause (p)");
  stream.look();
  show();
}
$("pause").addEventListener("click", () => pause(!stream.paused));
$("help").addEventListener("click", help);
$("filter").addEventListener("input", show);

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "Escape" && event.target === $("filter")) {
    $("filter").value = "";
    $("filter").blur();
    return show();
  }
  if (typing) return;
  const links = document.querySelectorAll(".tabs a");
  const keys = { "/": () => $("filter").focus(), "?": help, t: () => $("theme").click(), p: () => pause(!stream.paused) };
  const does = keys[event.key] ?? (links[Number(event.key) - 1] && (() => links[Number(event.key) - 1].click()));
  if (!does) return;
  event.preventDefault();
  does();
});

// Which section is being read.
const watched = new IntersectionObserver((entries) => {
  for (const entry of entries) entry.target.seen = entry.isIntersecting;
  const first = [...document.querySelectorAll("main section")].find((section) => section.seen);
  for (const link of document.querySelectorAll(".tabs a")) attribute(link, "aria-current", first && link.hash === `#${first.id}` ? "true" : null);
}, { rootMargin: "-110px 0px -45% 0px" });
document.querySelectorAll("main section").forEach((section) => watched.observe(section));

theme();
pause(false);
status("idle", "slow", "Connecting");
