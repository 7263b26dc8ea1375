// What one sees, to take along: the call of the API that gave it, and the ids of movies, users and bundles.

import { curl } from "./api.js";
import { el, show, svg } from "./dom.js";

const SAID_MS = 2000;

/** A button that copies the call which gave an answer; nothing where the browser has no clipboard: over plain HTTP. */
export function copyCall(answer) {
  if (!navigator.clipboard) return null;
  const text = el("span", { "aria-live": "polite" }, "Copy as curl");
  const copy = async () => {
    show(text, (await copied(curl(answer))) ? "Copied" : REFUSED);
    setTimeout(() => show(text, "Copy as curl"), SAID_MS);
  };
  return el("p.copy", {}, el("button.plain.small", { type: "button", onclick: copy }, text));
}

/**
 * An id, with a button that copies it where the browser has a clipboard.
 * @param {string|number} id
 * @param {string} name what it is the id of, for a screen reader: "the bundle"
 */
export function copyable(id, name) {
  const code = el("code", {}, id);
  if (!navigator.clipboard) return code;
  const said = el("span.hidden", { role: "status" });
  const button = el("button.icon", { type: "button", title: "Copy", "aria-label": `Copy the id of ${name}`, onclick: async () => {
    const done = await copied(String(id));
    show(said, done ? "Copied" : REFUSED);
    show(button, icon(done ? DONE : FAILED));
    setTimeout(() => { show(said); show(button, icon(SHEETS)); }, SAID_MS);
  } }, icon(SHEETS));
  return el("span.id", {}, code, button, said);
}

const REFUSED = "The browser does not allow it";
const copied = (text) => navigator.clipboard.writeText(text).then(() => true, () => false);

// Paths in a square of 16: two sheets, a tick, a cross.
const SHEETS = "M5.5 5.5V2.5h8v8h-3M2.5 5.5h8v8h-8z";
const DONE = "M3 8.5 6.5 12 13 4.5";
const FAILED = "M4 4l8 8M12 4l-8 8";
const icon = (path) => svg("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" }, svg("path", { d: path }));
