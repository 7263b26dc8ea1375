// What one sees, to take along: the call of the API that gave it.

import { curl } from "./api.js";
import { el, show } from "./dom.js";

const SAID_MS = 2000;

/** A button that copies the call which gave an answer; nothing where the browser has no clipboard: over plain HTTP. */
export function copyCall(answer) {
  if (!navigator.clipboard) return null;
  const text = el("span", { "aria-live": "polite" }, "Copy as curl");
  const copy = async () => {
    const done = await navigator.clipboard.writeText(curl(answer)).then(() => true, () => false);
    show(text, done ? "Copied" : "The browser does not allow it");
    setTimeout(() => show(text, "Copy as curl"), SAID_MS);
  };
  return el("p.copy", {}, el("button.plain.small", { type: "button", onclick: copy }, text));
}
