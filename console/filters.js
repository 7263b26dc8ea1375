// The filter of a list, as controls that write to the address.

import * as api from "./api.js";
import { el } from "./dom.js";

const GENRES_FROM = 100;
let known = null;

/** The genres of the most popular movies, asked for once. */
async function genres() {
  known ??= api.popular({}, GENRES_FROM).then((answer) => [...new Set(answer.movies.flatMap((item) => item.movie.genres))].sort());
  return known.catch(() => { known = null; return []; });
}

const NAMES = ["genre", "from", "to", "diversity"];

/** What an address says of a filter. */
export const filterOf = (query) => Object.fromEntries(NAMES.map((name) => [name, query.get(name) ?? ""]));

/**
 * Controls for a filter.
 * @param {function} change called with the filter whenever one of them changes
 * @param {{ranked: boolean}} list whether it is of the ranker, which alone knows diversity
 * @returns {{element: Node, set: function}} `set` shows a filter in them
 */
export function filters(change, { ranked }) {
  const genre = el("select", { onchange: tell }, el("option", { value: "" }, "All genres"));
  const year = (label, placeholder) => el("input", { type: "number", min: 1870, max: 2200, placeholder, onchange: tell, "aria-label": label });
  const from = year("From year", "any");
  const to = year("To year", "any");
  const diversity = el("input", { type: "range", min: 0, max: 1, step: 0.1, value: 0, oninput: tell });
  const fields = { genre, from, to, diversity };
  genres().then((names) => {
    genre.append(...names.filter((name) => name !== genre.value).map((name) => el("option", { value: name }, name)));
  });
  function tell() {
    change(Object.fromEntries(NAMES.map((name) => [name, fields[name].value])));
  }
  return {
    element: el("div.controls", {},
      el("label", {}, el("span", {}, "Genre"), genre),
      el("label", {}, el("span", {}, "From"), from),
      el("label", {}, el("span", {}, "To"), to),
      ranked ? el("label.wide", {}, el("span", {}, "Diversity"), diversity) : null),
    set: (filter) => {
      if (filter.genre && ![...genre.options].some((option) => option.value === filter.genre)) {
        genre.append(el("option", { value: filter.genre }, filter.genre));
      }
      for (const name of NAMES) {
        const value = filter[name] || (name === "diversity" ? "0" : "");
        if (fields[name] !== document.activeElement || name === "genre") fields[name].value = value;
      }
    },
  };
}
