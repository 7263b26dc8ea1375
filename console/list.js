// A list of movies: rows that keep their height while they load, and slide to a new place when the order changes.

import { bar, el, show } from "./dom.js";
import { MODELS } from "./sentences.js";

const SLIDE_MS = 200;
const still = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * Rows of a list response.
 * @param {object} answer the response
 * @param {{sentence: function, link: function, selected?: string}} how what to say of an item, and where it leads
 */
export function rows(answer, { sentence, link, selected }) {
  const scores = answer.movies.filter((item) => item.source === answer.model).map((item) => item.score);
  // The ranker's scores have no zero: the last of the list stands for it, and keeps a little to be seen.
  const [most, least] = [Math.max(...scores), answer.model === "two_stage" ? Math.min(...scores) : 0];
  return answer.movies.map((item) => {
    const { movie } = item;
    const ours = item.source === answer.model;
    const share = ours && most > least ? Math.max((item.score - least) / (most - least), 0.08) : Number(ours);
    return el(
      `li.row${ours ? "" : ".filled-up"}`,
      { "data-movie": movie.movie_id, "aria-current": selected === String(movie.movie_id) && "true" },
      el("span.rank", {}, item.rank),
      el(
        "div",
        {},
        el("a.title", { href: link(movie) }, el("bdi", {}, movie.title), movie.year ? el("span.year", {}, ` ${movie.year}`) : null),
        ours ? null : el("span.by", {}, MODELS[item.source] ?? item.source),
        el("p.genres", {}, movie.genres.join(" · ")),
        el("p.sentence", {}, sentence(item)),
      ),
      ours ? bar(share) : el("span"),
    );
  });
}

/** Marks the row of a movie, and no other. */
export function select(list, id) {
  for (const row of list.children) {
    if (row.dataset.movie === id) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
  }
}

/** Rows that stand where those of a list will. */
export const ghosts = (length) =>
  Array.from({ length }, (_, place) =>
    el("li.row.ghost", { "aria-hidden": "true" }, el("span.rank", {}, place + 1),
      el("div", {}, el("span.block.narrow"), el("span.block.wide"), el("span.block"))),
  );

/** Replaces the rows of a list; those that stay slide to their new places. */
export function replaceRows(list, fresh) {
  const before = new Map([...list.children].map((row) => [row.dataset.movie, row.getBoundingClientRect().top]));
  const focused = document.activeElement?.closest?.(".row")?.dataset.movie;
  show(list, fresh);
  if (focused) list.querySelector(`[data-movie="${CSS.escape(focused)}"] a`)?.focus({ preventScroll: true });
  if (still.matches) return;
  // All places are read before anything moves: an animation that has begun makes the next reading lay out again.
  const places = [...list.children].map((row) => [row, before.get(row.dataset.movie), row.getBoundingClientRect().top]);
  for (const [row, top, now] of places) {
    const moved = top === undefined ? 0 : top - now;
    if (moved) row.animate([{ transform: `translateY(${moved}px)` }, { transform: "none" }], { duration: SLIDE_MS, easing: "ease-out" });
    else if (top === undefined && before.size) row.animate([{ opacity: 0 }, { opacity: 1 }], SLIDE_MS);
  }
}

/** Lets the arrow keys go from row to row. */
export function arrowKeys(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const row = event.target.closest?.(".row");
  if (!step || !row) return;
  const next = step > 0 ? row.nextElementSibling : row.previousElementSibling;
  const link = next?.querySelector("a");
  if (link) {
    event.preventDefault();
    link.focus();
  }
}
