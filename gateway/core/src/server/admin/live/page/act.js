// What the page does rather than shows: dialogs, and what is said of what was done.

import { h } from "./dom.js";

/** Asks before something is done. Resolves to what the fields say, or to null. */
export function ask({ title, text, warning, fields = [], yes, hurts }) {
  return new Promise((resolve) => {
    const heading = h("h2", { id: "asked" }, title);
    const confirm = h(`button.button.${hurts ? "hurts" : "main"}`, { type: "submit" }, yes);
    const cancel = h("button.button", { type: "button", click: () => dialog.close() }, "Cancel");
    const form = h("form", { method: "dialog" }, heading, text ? h("p", {}, text) : null,
      warning ? h("p.bad", {}, warning) : null, ...fields, h("footer", {}, cancel, confirm));
    const dialog = h("dialog", { "aria-labelledby": "asked" }, form);
    let answer = null;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      answer = Object.fromEntries(new FormData(form));
      dialog.close();
    });
    dialog.addEventListener("close", () => { dialog.remove(); resolve(answer); });
    document.body.append(dialog);
    dialog.showModal();
    // What hurts is not done by pressing the same key twice.
    (form.querySelector("input, select") ?? (hurts ? cancel : confirm)).focus();
  });
}

/** Says something for a while; with `undo`, offers to take it back. */
export function toast(text, { undo, bad } = {}) {
  const node = h(`div.toast${bad ? ".bad" : ""}`, {}, h("span", {}, text));
  const close = () => node.remove();
  if (undo) node.append(h("button", { type: "button", click: () => { close(); undo(); } }, "Undo"));
  else node.append(h("button", { type: "button", click: close }, "Close"));
  document.getElementById("toasts").append(node);
  let timer = setTimeout(close, bad ? 15_000 : 9_000);
  node.addEventListener("focusin", () => clearTimeout(timer));
  node.addEventListener("focusout", () => { timer = setTimeout(close, 5_000); });
  return node;
}

/** Does something, and says so if it goes wrong. True if it has gone well. */
export async function attempt(what, work) {
  try {
    await work();
    return true;
  } catch (error) {
    toast(`${what}: ${error.message}`, { bad: true });
    return false;
  }
}

export function help() {
  const keys = [["/", "Filter routes, upstreams, endpoints, failures"], ["1 … 8", "Go to a section"], ["p", "Pause, and go on"],
    ["t", "Light or dark"], ["Tab", "Go through buttons; Enter or Space presses one"], ["Esc", "Close a dialog, empty the filter"], ["?", "This help"]];
  const list = h("dl.keys", {}, ...keys.flatMap(([key, does]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, does)]));
  const close = h("button.button.main", { type: "button", click: () => dialog.close() }, "Close");
  const dialog = h("dialog", { "aria-labelledby": "helped", close: () => dialog.remove() },
    h("h2", { id: "helped" }, "Keyboard"), list,
    h("p", { class: "muted after" }, "Figures come once a second, and only while somebody looks. Percentiles are those of the last ten seconds."),
    h("footer", {}, close));
  document.body.append(dialog);
  dialog.showModal();
  close.focus();
}
