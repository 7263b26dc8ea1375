// Somebody new: a few answers, and a list that changes with each. What they rated is in the address alone.

import { address, replace } from "../address.js";
import * as api from "../api.js";
import { el, show } from "../dom.js";
import { counted } from "../format.js";
import { say } from "../live.js";
import { liveList } from "../live_list.js";
import { popularity, why } from "../sentences.js";
import { suggest } from "../suggest.js";

const LENGTH = 10;
const MOST_MISSING = 30;
const LIKED = 5;
const DISLIKED = 1;

/** Hues that are told apart, by the first genre of a movie: the golden angle keeps near numbers far apart. */
const hue = (genres) => ([...(genres[0] ?? "")].reduce((sum, letter) => sum + letter.codePointAt(0), 0) * 137.5) % 360;

function readRatings(query) {
  const pairs = (query.get("r") ?? "").split(",").map((pair) => pair.split(":").map(Number));
  return new Map(pairs.filter(([movie, stars]) => Number.isInteger(movie) && movie > 0 && stars >= 0.5 && stars <= 5).slice(0, 500));
}

export function newcomer() {
  let ratings = new Map();
  let offered = [];
  const grid = el("div.tastes");
  const known = el("p.small.soft", { role: "status" });
  const copied = el("span.small.soft", { role: "status" });
  const list = liveList({
    length: LENGTH,
    ask: (signal) => (ratings.size
      ? api.personalOf([...ratings].map(([movie_id, rating]) => ({ movie_id, rating })), {}, LENGTH, signal)
      : api.popular({}, LENGTH, signal)),
    answered: (answer) => {
      if (ratings.size) say(answer.model, answer.degraded);
      show(known, sentence(answer));
    },
    empty: () => el("p", {}, "Nothing is left to recommend."),
    how: () => ({ sentence: (item) => (ratings.size ? why(item) : popularity(item.movie)), link: (movie) => `#/movies/${movie.movie_id}` }),
  });

  function sentence(answer) {
    if (!ratings.size) return "Nothing is known yet: this is what is popular.";
    const by = `Known by ${counted(ratings.size, "rating")}.`;
    if (answer.model === "two_stage") return `${by} Stage one and ranking both use them.`;
    if (answer.model === "als_only") return `${by} Stage one uses them; ranking does not answer.`;
    if (answer.degraded) return by;
    return `${by} That is too little to go by: dislikes alone say nothing, and this is what is popular.`;
  }

  const go = () => replace(address("/new", { r: [...ratings].map((pair) => pair.join(":")).join(",") }));
  function rate(movie, stars) {
    if (ratings.get(movie.movie_id) === stars) ratings.delete(movie.movie_id);
    else ratings.set(movie.movie_id, stars);
    if (!offered.some((one) => one.movie_id === movie.movie_id)) offered = [movie, ...offered];
    go();
  }

  function card(movie) {
    const stars = ratings.get(movie.movie_id);
    const answer = (label, name, value) => el(`button.${name}`, { type: "button", "aria-pressed": String(stars === value), "aria-label": `${label} ${movie.title}`, onclick: () => rate(movie, value) }, label);
    const element = el(`div.taste${stars === LIKED ? ".liked" : stars === DISLIKED ? ".disliked" : ""}`, { "data-movie": movie.movie_id },
      el("b", {}, movie.title), el("span.small.soft", {}, [movie.year, movie.genres[0]].filter(Boolean).join(" · ")),
      el("span.answers", {}, answer("Like", "like", LIKED), answer("Dislike", "dislike", DISLIKED)));
    element.style.setProperty("--hue", hue(movie.genres));
    return element;
  }

  function draw() {
    const focus = document.activeElement;
    const [id, name] = [focus?.closest?.(".taste")?.dataset.movie, focus?.className];
    show(grid, offered.map(card));
    if (id) grid.querySelector(`[data-movie="${CSS.escape(id)}"] .${CSS.escape(name)}`)?.focus({ preventScroll: true });
  }

  async function offer() {
    try {
      offered = (await api.tastes()).movies;
      const missing = [...ratings.keys()].filter((id) => !offered.some((movie) => movie.movie_id === id));
      const found = await Promise.allSettled(missing.slice(0, MOST_MISSING).map((id) => api.movie(id)));
      offered = [...found.filter((one) => one.status === "fulfilled").map((one) => one.value.movie), ...offered];
      draw();
    } catch (error) {
      show(grid, el("p.message.warning", {}, error.message));
    }
  }

  async function copy() {
    try {
      await navigator.clipboard.writeText(location.href);
      show(copied, "Copied.");
    } catch {
      show(copied, "The address of this page is the link.");
    }
  }

  let begun = false;
  return {
    title: "Somebody new",
    element: el("div", {},
      el("h1", {}, "Somebody new"),
      el("p.lead", {}, "Say what you like, and see the list follow. Nothing is kept but in the address of this page."),
      el("div.columns", {},
        el("div.stack", {}, suggest({ label: "Another movie that you like", placeholder: "Another movie that you like", choose: (movie) => rate(movie, LIKED) }), grid),
        el("aside.aside", { "aria-label": "The list" }, el("h2", {}, "Your list"), known, list.element,
          el("p.who", {}, el("button", { type: "button", onclick: copy }, "Copy link"), el("button.plain", { type: "button", onclick: () => { ratings = new Map(); go(); } }, "Begin again"), copied)))),
    update: (query) => {
      ratings = readRatings(query);
      list.load();
      if (begun) draw();
      else offer();
      begun = true;
    },
    close: list.close,
  };
}

