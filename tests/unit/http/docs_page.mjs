// Runs the script of the page at /docs on a document of its own, and prints what a reader would see and what was asked.
// Given on standard input: {"script", "description", "steps": [{"open": id} | {"set": id, "to": text} | {"submit": id}]}.
import { readFileSync } from "node:fs";

const given = JSON.parse(readFileSync(0, "utf8"));

class Element {
  constructor(name) { Object.assign(this, { name, childNodes: [], attributes: {}, listeners: {}, own: "", typed: null, open: false }); }
  set textContent(text) { this.own = String(text); this.childNodes = []; }
  get textContent() { return this.own + this.childNodes.map((child) => (child instanceof Element ? child.textContent : child)).join(" "); }
  set innerHTML(_) { throw new Error("markup is never set"); }
  get value() { return this.typed ?? (this.name === "select" ? this.childNodes[0].textContent : ""); }
  set value(text) { this.typed = text; }
  get id() { return this.attributes.id; }
  get hidden() { return "hidden" in this.attributes; }
  set hidden(is) { if (is) this.attributes.hidden = ""; else delete this.attributes.hidden; }
  set className(name) { this.attributes.class = name; }
  setAttribute(name, value) { this.attributes[name] = String(value); }
  append(...children) { this.childNodes.push(...children); }
  replaceChildren(...children) { this.own = ""; this.childNodes = children; }
  addEventListener(name, listener) { this.listeners[name] = listener; }
  *all() { yield this; for (const child of this.childNodes) if (child instanceof Element) yield* child.all(); }
  matches(selector) {
    if (selector === "details.route:not([hidden])") return this.matches("details.route") && !this.hidden;
    const [name, kind] = selector.split(".");
    return this.name === name && (!kind || this.attributes.class === kind);
  }
  querySelectorAll(selector) { return [...this.all()].filter((one) => one.matches(selector)); }
  querySelector(selector) { return this.querySelectorAll(selector)[0]; }
}

const root = new Element("body");
for (const [name, id] of [["h1", "title"], ["input", "token"], ["input", "find"], ["main", "routes"], ["p", "about"]]) {
  const element = new Element(name);
  element.setAttribute("id", id);
  root.append(element);
}
const byId = (id) => [...root.all()].find((one) => one.id === id);
const asked = [];
globalThis.document = {
  createElement: (name) => new Element(name), getElementById: byId, querySelectorAll: (selector) => root.querySelectorAll(selector),
};
globalThis.fetch = async (address, options = {}) => {
  asked.push({ address, method: options.method ?? "GET", headers: Object.fromEntries(options.headers ?? []), body: options.body ?? null,
    credentials: options.credentials, redirect: options.redirect });
  if (given.unreachable) throw new TypeError("fetch failed");
  if (address === "openapi.json") return new Response(JSON.stringify(given.description), { headers: { "content-type": "application/json" } });
  return new Response('{"rows":[{"id":9007199254740993}],"empty":[]}', { status: 200, headers: { "content-type": "application/json" } });
};
const settled = () => new Promise((resolve) => setImmediate(resolve));

(0, eval)(given.script);
for (let turn = 0; turn < 20; turn += 1) await settled();
for (const step of given.steps ?? []) {
  if (step.open) { const one = byId(step.open); one.open = true; one.listeners.toggle(); }
  if (step.set) { byId(step.set).value = step.to; byId(step.set).listeners.input?.(); }
  if (step.submit) byId(step.submit).querySelector("form").listeners.submit({ preventDefault() {} });
  for (let turn = 0; turn < 20; turn += 1) await settled();
}
const shown = [...root.all()].filter((one) => one.matches("details.route:not([hidden])")).map((one) => one.id);
console.log(JSON.stringify({ text: root.textContent, shown, asked, busy: byId("routes").attributes["aria-busy"] }));
