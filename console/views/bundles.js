// Two bundles: one user's list from the bundle before and from the current one, what moved and why.

import { address } from "../address.js";
import * as api from "../api.js";
import { copyCall, copyable } from "../copy.js";
import { el, show, svg } from "../dom.js";
import { moment, ordinal } from "../format.js";
import { news } from "../live.js";
import { titled, weakness, why } from "../sentences.js";
import { whose } from "./people.js";

const LENGTH = 20;
const FIRST = 10;
const ROW = 56;
/** Height of a row in pixels, as in the style sheet. */

export function bundles(user) {
  const path = `/people/${encodeURIComponent(user)}`;
  const body = el("div", {}, el("p.soft", {}, "Asking both bundles …"));
  let shown = null;
  let pending = null;

  async function load(status) {
    const [now, before] = [status.bundle.bundle_id, status.previous_bundle?.bundle_id];
    const asked = `${now} ${before}`;
    if (asked === shown) return;
    shown = asked;
    pending?.abort();
    const mine = (pending = new AbortController());
    if (!before) return show(body, alone(status, path));
    try {
      const lists = await Promise.all([before, now].map((bundle) => api.personalFrom(bundle, user, LENGTH, mine.signal)));
      if (lists.some((answer) => answer.degraded)) shown = null; // a stage that has just started may still load it
      show(body, compared(lists, path));
    } catch (error) {
      if (mine.signal.aborted) return undefined;
      shown = null;
      show(body, el("div.message.warning", { role: "alert" }, el("p", {}, error.message)));
    }
    return undefined;
  }

  const tell = ({ detail: { status, error } }) => {
    if (status !== null) load(status);
    else if (shown === null) show(body, el("div.message.warning", { role: "alert" }, el("p", {}, error.message)));
  };
  const again = () => { shown = null; };
  news.addEventListener("change", again);
  news.addEventListener("status", tell);
  if (news.latest) tell({ detail: news.latest });
  return {
    title: `User ${user}, two bundles`,
    element: el("div", {},
      el("div.head", {},
        el("div", {}, el("h1", {}, "Two bundles for user ", copyable(user, "the user")),
          el("p.lead", {}, "The same list, from the bundle before and from the one that answers now. ", el("a.whole", { href: address(path) }, "Back to the list"))),
        whose(user, "/bundles")),
      body),
    back: () => { location.hash = address(path); },
    close: () => {
      news.removeEventListener("change", again);
      news.removeEventListener("status", tell);
      pending?.abort();
    },
  };
}

/** There is nothing to compare with. */
const alone = (status, path) =>
  el("div.nothing", {},
    el("h2", {}, "There is no previous bundle"),
    el("p", {}, "Only ", copyable(status.bundle.bundle_id, "the bundle"), ` is held, which has answered since ${moment(status.serve_time)}.`),
    el("p.soft", {}, "When another one is published, this one is kept beside it, and both lists stand here."),
    el("a.button", { href: address(path) }, "To the list"));

/** Both lists, what they have in common, and what moved. */
function compared(lists, path) {
  const [before, now] = lists;
  const places = lists.map((answer) => new Map(answer.movies.map((item) => [item.movie.movie_id, item])));
  const moves = new Map([...places[0].keys(), ...places[1].keys()].map((id) => [id, moved(places[0].get(id), places[1].get(id))]));
  const both = [...moves.values()].filter((move) => move.before && move.now);
  const weak = [before, now].map((answer) => [weakness(answer), answer]).filter(([text]) => text);
  const common = before.movies.slice(0, FIRST).filter((item) => (places[1].get(item.movie.movie_id)?.rank ?? Infinity) <= FIRST).length;
  const firstStays = before.movies[0]?.movie.movie_id === now.movies[0]?.movie.movie_id;
  const shift = both.reduce((sum, move) => sum + Math.abs(move.up), 0) / both.length;
  const figure = (value, text) => el("div.figure", {}, el("b", {}, value), el("span", {}, text));
  return [
    weak.map(([text, answer]) => el("div.message.warning", {}, el("p", {}, "Bundle ", el("code", {}, answer.bundle_id), `: ${text}`))),
    el("div.figures.three", {},
      figure(`${common} of ${FIRST}`, `of the first ${FIRST} are on both lists`),
      figure(both.length ? shift.toFixed(1) : "–", "places moved, on average"),
      figure(firstStays ? "Same" : "New", "first of the list")),
    el("div.pair", {},
      side("Before", before, moves, path),
      lines(moves),
      side("Now", now, moves, path)),
    el("section", {}, el("h2", {}, "What moved, and why"), reasons(moves, path)),
  ];
}

/** How a movie moved: items of both lists, and places that it went up. */
function moved(before, now) {
  const up = before && now ? before.rank - now.rank : null;
  const kind = !before ? "new" : !now ? "gone" : up > 0 ? "up" : up < 0 ? "down" : "same";
  return { before, now, up, kind };
}

const TAGS = {
  new: () => "new",
  gone: () => "gone",
  up: (move) => `↑ ${move.up}`,
  down: (move) => `↓ ${-move.up}`,
  same: () => "=",
};
const SPOKEN = {
  new: () => "new on the list",
  gone: () => "no longer on the list",
  up: (move) => `up ${move.up}`,
  down: (move) => `down ${-move.up}`,
  same: () => "unchanged",
};

const tag = (move) => el(`span.tag.${move.kind}`, {}, el("span", { "aria-hidden": "true" }, TAGS[move.kind](move)), el("span.hidden", {}, SPOKEN[move.kind](move)));

function side(name, answer, moves, path) {
  return el("div.side", {},
    el("div.from", {}, el("h2", {}, name), el("p.small.soft", {}, copyable(answer.bundle_id, `the bundle ${name.toLowerCase()}`))),
    el("ol", { "aria-label": `${name}, bundle ${answer.bundle_id}` }, answer.movies.map((item) => {
      const move = moves.get(item.movie.movie_id);
      return el(`li.${move.kind}`, {},
        el("span.rank", {}, item.rank),
        el("a.title", { href: address(path, { movie: item.movie.movie_id }), title: titled(item.movie) }, el("bdi", {}, item.movie.title), item.movie.year ? el("span.year", {}, ` ${item.movie.year}`) : null),
        tag(move));
    })),
    copyCall(answer));
}

/** The same movie on both lists, joined. */
function lines(moves) {
  const middle = (item) => (item.rank - 0.5) * ROW;
  const joined = [...moves.values()].filter((move) => move.before && move.now);
  return svg("svg.joins", { viewBox: `0 0 100 ${LENGTH * ROW}`, preserveAspectRatio: "none", height: LENGTH * ROW, "aria-hidden": "true" },
    joined.map((move) => {
      const [from, to] = [middle(move.before), middle(move.now)];
      return svg(`path.${move.kind}`, { d: `M0 ${from}C50 ${from} 50 ${to} 100 ${to}`, "vector-effect": "non-scaling-stroke" });
    }));
}

/** In words: the farthest first. */
function reasons(moves, path) {
  const far = (move) => (move.up === null ? LENGTH + 1 - (move.now ?? move.before).rank : Math.abs(move.up));
  const told = [...moves.values()].filter((move) => move.kind !== "same").sort((one, other) => far(other) - far(one));
  if (!told.length) return el("p.soft", {}, "Nothing: both lists are the same.");
  return el("ul.moves", {}, told.map((move) => {
    const { movie } = move.now ?? move.before;
    return el("li", {}, tag(move), el("div", {},
      el("a.title", { href: address(path, { movie: movie.movie_id }) }, titled(movie)),
      el("p.small", {}, reason(move, address(path, { movie: movie.movie_id })))));
  }));
}

function reason(move, link) {
  if (move.kind === "new") return ["It was behind the list before. ", why(move.now)];
  if (move.kind === "gone") return [`It was ${ordinal(move.before.rank)}. `, el("a", { href: link }, "Why it is not on the list now")];
  const changed = strongest(move);
  const places = `From ${ordinal(move.before.rank)} to ${ordinal(move.now.rank)}. `;
  if (!changed) return [places, move.kind === "up" ? "Others moved out of its way." : "Others moved past it."];
  const [was, is] = changed.map((one) => one.phrase);
  const more = move.kind === "up" ? "more" : "less";
  return [places, was === is ? ["What changed most: ", el("em", {}, is), `, which counts for ${more} now.`] : ["What changed most: ", el("em", {}, is), `, and before, ${was}.`]];
}

/** The contribution that changed most in the direction of the move, of both bundles; null where none did. */
function strongest({ before, now, up }) {
  const then = new Map(before.explanation.map((one) => [one.feature, one]));
  const change = ([was, is]) => (is.contribution - was.contribution) * Math.sign(up);
  const pairs = now.explanation.filter((one) => then.has(one.feature)).map((one) => [then.get(one.feature), one]);
  const [first] = pairs.sort((one, other) => change(other) - change(one));
  return first && change(first) > 0 ? first : null;
}
