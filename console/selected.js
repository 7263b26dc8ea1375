// What is selected beside a list: a movie, why it is there, and why it is not.

import * as api from "./api.js";
import { copyCall, copyable } from "./copy.js";
import { el, show } from "./dom.js";
import { comparisons, contributions, way } from "./numbers.js";
import { offered, popularity, titled, verdict, why } from "./sentences.js";
import { ordinal } from "./format.js";

/** Name, genres and ratings of a movie. */
export function about(movie) {
  return [
    el("h2", {}, titled(movie)),
    movie.genres.length ? el("ul.chips", {}, movie.genres.map((genre) => el("li.chip", {}, genre))) : null,
    el("p.small.soft", {}, popularity(movie), " ", el("span.whole", {}, "Movie ", copyable(movie.movie_id, movie.title))),
  ];
}

/** A movie of a list: its reasons in words, and behind a click as numbers. */
export function ofList(item, answer) {
  const numbers = answer.base_value !== undefined && item.explanation.length > 0;
  return el("div.stack", {},
    about(item.movie),
    el("p", {}, `${ordinal(item.rank)} on this list. `, why(item)),
    item.source === "two_stage" || item.source === "als_only" ? el("p.small.soft", {}, offered(item.candidate_sources)) : null,
    numbers ? el("details", {}, el("summary", {}, "Numbers"), contributions(item, answer.base_value)) : null,
    more(item.movie));
}

const more = (movie) => el("p", {}, el("a", { href: `#/movies/${movie.movie_id}` }, "Movies like this one"));

/** Asks why a movie is not on the list of a user, and shows the answer in `place`. */
export async function whyNot(place, question) {
  show(place, el("p.soft", {}, "Asking both stages …"));
  try {
    show(place, await reasons(question));
  } catch (error) {
    if (!question.signal.aborted) show(place, el("p.message.warning", {}, error.message));
  }
}

async function reasons({ movie, user, filter, length, signal }) {
  let answer;
  try {
    answer = await api.why(movie, user, filter, length, signal);
  } catch (error) {
    if (error.reason !== "METHOD_DISABLED") throw error;
    const { movie: only } = await api.movie(movie, signal);
    return el("div.stack", {}, about(only), el("p.soft", {}, "Why a movie is not on a list is not told here: it would reveal what people have watched."), more(only));
  }
  const compared = answer.ranking?.comparisons.length && answer.last_movie && answer.verdict !== "VERDICT_LISTED";
  return el("div.stack", {},
    about(answer.movie),
    el("p", {}, verdict(answer, length)),
    way(answer, length),
    compared ? el("details", {}, el("summary", {}, `Numbers, beside ${answer.last_movie.movie.title}`), comparisons(answer)) : null,
    more(answer.movie),
    copyCall(answer));
}
