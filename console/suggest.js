// A field that finds movies by title while one types.

import * as api from "./api.js";
import { el, show } from "./dom.js";
import { titled } from "./sentences.js";

const PAUSE_MS = 30;
/** Letters typed within it share a call. */
let made = 0;

/**
 * @param {{label: string, placeholder: string, choose: function, id?: string}} how what it is called, and what to do
 *   with the movie that was chosen
 */
export function suggest({ label, placeholder, choose, id = `suggest-${(made += 1)}` }) {
  const options = el("ul.options", { id: `${id}-options`, role: "listbox", "aria-label": label, hidden: true });
  let found = [];
  let at = -1;
  let timer;
  let pending = new AbortController();

  const close = () => {
    options.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    at = -1;
  };
  const pick = (movie) => {
    input.value = "";
    close();
    choose(movie);
  };
  const mark = (place) => {
    at = place;
    [...options.children].forEach((option, one) => option.setAttribute("aria-selected", one === at));
    if (at >= 0) input.setAttribute("aria-activedescendant", `${id}-${at}`);
    options.children[at]?.scrollIntoView({ block: "nearest" });
  };
  const look = async () => {
    const query = input.value.trim();
    pending.abort();
    const mine = (pending = new AbortController());
    if (!query) return close();
    try {
      found = (await api.search(query.slice(0, 100), 8, mine.signal)).movies;
    } catch (error) {
      if (mine.signal.aborted) return undefined;
      found = [];
      show(options, el("li.none", {}, error.message));
    }
    if (found.length) {
      show(options, found.map((movie, place) =>
        el("li", { id: `${id}-${place}`, role: "option", onmousedown: (event) => { event.preventDefault(); pick(movie); } }, titled(movie))));
      mark(0);
    } else if (!options.querySelector(".none") || options.children.length !== 1) {
      show(options, el("li.none", {}, `No title is like “${query}”.`));
    }
    options.hidden = false;
    input.setAttribute("aria-expanded", "true");
    return undefined;
  };
  const input = el("input", {
    type: "search", id, placeholder, autocomplete: "off", spellcheck: "false", maxlength: 100,
    role: "combobox", "aria-label": label, "aria-expanded": "false", "aria-autocomplete": "list", "aria-controls": `${id}-options`,
    oninput: () => { clearTimeout(timer); timer = setTimeout(look, PAUSE_MS); },
    onblur: close,
    onkeydown: (event) => {
      if (event.key === "Escape") return close();
      if (options.hidden || !found.length) return undefined;
      if (event.key === "ArrowDown") mark((at + 1) % found.length);
      else if (event.key === "ArrowUp") mark((at - 1 + found.length) % found.length);
      else if (event.key === "Enter" && at >= 0) pick(found[at]);
      else return undefined;
      return event.preventDefault();
    },
  });
  return el("div.suggest", {}, input, options);
}
