// What the page is made of. Text only ever becomes text nodes: nothing that the gateway tells is read as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `h("td.n", { title: "…" }, "text", node, …)`. Functions in the attributes listen. */
export function h(what, attributes, ...children) {
  const [tag, ...classes] = what.split(".");
  const node = document.createElement(tag || "div");
  if (classes.length) node.className = classes.join(" ");
  put(node, attributes);
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** The same for what is drawn. */
export function s(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  put(node, attributes);
  node.append(...children);
  return node;
}

function put(node, attributes) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
}

/** Sets a text, and touches nothing if it is so already. */
export function set(node, text) {
  const value = String(text);
  if (node.textContent !== value) node.textContent = value;
}

export function attribute(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Swaps all children, if what they are made of has changed since. */
export function swap(node, facts, make) {
  const now = JSON.stringify(facts);
  if (node.made === now) return;
  node.made = now;
  const made = make();
  node.replaceChildren(...(Array.isArray(made) ? made : [made]));
}

/**
 * Keeps one child for each item: `make(item)` gives `{ node, update(item) }`. A child stays the same as long as its
 * key is there, and so do the focus and what is selected in it.
 */
export function keyed(parent, items, key, make) {
  parent.kept ??= new Map();
  const kept = parent.kept;
  const focused = document.activeElement;
  const names = new Set();
  let place = parent.firstChild;
  for (const item of items) {
    let name = String(key(item));
    while (names.has(name)) name += "\u0000";
    names.add(name);
    let child = kept.get(name);
    if (!child) kept.set(name, (child = make(item)));
    child.update(item);
    if (child.node === place) place = place.nextSibling;
    else parent.insertBefore(child.node, place);
  }
  for (const [name, child] of kept) {
    if (names.has(name)) continue;
    child.node.remove();
    kept.delete(name);
  }
  if (focused && focused !== document.activeElement && parent.contains(focused)) focused.focus({ preventScroll: true });
}

const GLYPHS = {
  ok: "M3 8.5l3.2 3.2L13 4.8", notice: "M8 2.2 14.4 13.5H1.6zM8 6.4v3.4M8 11.6v.1", bad: "M4 4l8 8M12 4l-8 8",
  drain: "M8 2.5v9M4.2 8 8 11.8 11.8 8M3 14h10", pause: "M5.5 3.5v9M10.5 3.5v9", play: "M5 3.2 12.5 8 5 12.8z",
  idle: "M8 3a5 5 0 1 0 .01 0z", slow: "M8 3a5 5 0 1 0 .01 0zM8 5.4V8l2 1.6", sun: "M8 5.2a2.8 2.8 0 1 0 .01 0zM8 1v1.4M8 13.6V15M1 8h1.4M13.6 8H15M3 3l1 1M12 12l1 1M3 13l1-1M12 4l1-1",
  moon: "M13 9.6A5.6 5.6 0 0 1 6.4 3 5.6 5.6 0 1 0 13 9.6z", tool: "M10.6 2.6a3 3 0 0 0-3.4 4L2.6 11.2l2.2 2.2 4.6-4.6a3 3 0 0 0 4-3.4L11.4 7 9 4.6z",
};

export function glyph(name) {
  return s("svg", { class: "glyph", viewBox: "0 0 16 16", "aria-hidden": "true" }, s("path", { d: GLYPHS[name] }));
}

/** A table of columns `{ label, kind, sort }`, and where its rows go. `sorted(column)` is told of a click on a head. */
export function table(label, columns, classes = "fold") {
  const body = h("tbody", { role: "rowgroup" });
  const heads = columns.map((column) => {
    const head = h("th", { scope: "col", role: "columnheader", class: column.kind });
    head.append(column.sort ? h("button", { type: "button" }, column.label) : column.label || h("span.hidden", {}, column.name ?? ""));
    return head;
  });
  const node = h("table", { role: "table", "aria-label": label, class: classes },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...heads)), body);
  return { node, body, heads };
}

/** A row of a table, with cells that carry what they are called for when the row is folded. */
export function row(columns, contents) {
  const cells = columns.map((column, place) =>
    h("td", { role: "cell", class: column.kind, "data-label": column.label }, contents?.[place] ?? ""));
  return { node: h("tr", { role: "row" }, ...cells), cells };
}

export function emptiness(title, text, example) {
  return h("div.empty", {}, h("b", {}, title), text, example ? h("pre", {}, example) : null);
}
