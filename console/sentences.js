// What answers of the API mean, in whole sentences.

import { el } from "./dom.js";
import { counted, listed, ordinal, percent, stars } from "./format.js";

/** Models, as a reader names them. */
export const MODELS = {
  two_stage: "two-stage",
  als_only: "stage one alone",
  popularity_fallback: "popular",
  trending: "trending",
  als_cosine: "by taste",
  genre_jaccard: "by genre",
  not_available: "no list",
};

const SERVICES = { candidate: "Stage one", ranking: "Ranking", similarity: "The similarity index" };
const SOURCES = { als: "ALS", transitions: "what is rated next", popularity: "popularity" };

export const stageName = (stage) => SERVICES[stage] ?? stage;

/** "Heat (1995)". */
export const titled = (movie) => (movie.year ? `${movie.title} (${movie.year})` : movie.title);

/** Why a movie stands in a personal list: the strongest liked movie, and the strongest phrase that names one. */
export function why(item) {
  const liked = item.because_of[0];
  const positive = item.explanation.filter((one) => one.contribution > 0);
  const phrase = (positive.find((one) => one.movie_id && one.movie_id !== liked?.movie_id) ?? (liked ? null : positive[0]))?.phrase;
  if (liked && phrase) return ["Because you liked ", el("em", {}, liked.title), `; ${phrase}.`];
  if (liked) return ["Because you liked ", el("em", {}, liked.title), "."];
  if (phrase) return [`${phrase[0].toUpperCase()}${phrase.slice(1)}.`];
  return [popularity(item.movie)];
}

/** How much and how well a movie is rated. */
export const popularity = (movie) =>
  movie.rating_count
    ? `${counted(movie.rating_count, "rating")}, ${stars(movie.rating_mean)} stars on average.`
    : "Nobody has rated it yet.";

/** How alike a movie is to another. */
export function alike(item, movie) {
  const shared = item.movie.genres.filter((genre) => movie.genres.includes(genre));
  const genres = shared.length ? `shares ${listed(shared)}` : "shares no genre";
  if (item.source === "als_cosine") return [`Liked by the same people, ${percent(item.score)} alike; ${genres}.`];
  return [`${genres[0].toUpperCase()}${genres.slice(1)}.`];
}

/** What offered a movie as a candidate. */
export const offered = (sources) =>
  sources.length ? `Offered by ${listed(sources.map((source) => SOURCES[source] ?? source))}.` : "It only fills the list up.";

const EXPECTED = {
  FALLBACK_REASON_SHORT_HISTORY: "So few ratings are known that what is popular serves better.",
  FALLBACK_REASON_NO_CANDIDATES: "Too few movies are left to recommend: popular ones fill the list up.",
  FALLBACK_REASON_FILTERED_OUT: "The filter leaves too few candidates: popular ones that match fill the list up.",
};
const FAULTS = {
  FALLBACK_REASON_DEPENDENCY_TIMEOUT: "does not answer in time",
  FALLBACK_REASON_DEPENDENCY_OVERLOADED: "is overloaded",
  FALLBACK_REASON_MODEL_UNAVAILABLE: "holds no model",
  FALLBACK_REASON_BUNDLE_MISMATCH: "holds another bundle",
  FALLBACK_REASON_INVALID_RESPONSE: "answers something unusable",
};
const STEPS = {
  als_only: ["Ranking", "This list is ordered by stage one alone."],
  popularity_fallback: ["Stage one", "This is what is popular."],
  genre_jaccard: ["The similarity index", "These movies share genres."],
};

/** What made a list weaker than asked for; null when nothing did. */
export function weakness(answer) {
  if (answer.degraded) {
    const [service, instead] = STEPS[answer.model] ?? ["A service", ""];
    return `${service} ${FAULTS[answer.fallback_reason] ?? "does not answer"}. ${instead}`;
  }
  return EXPECTED[answer.fallback_reason] ?? null;
}

/** The verdict of WhyMovie in a sentence or two. */
export function verdict(answer, pageLength) {
  const { movie, last_movie: last, retrieval, ranking } = answer;
  const it = el("em", {}, movie.title);
  const place = ranking ? ` It would be ${ordinal(ranking.rank)} of the candidates.` : "";
  switch (answer.verdict) {
    case "VERDICT_LISTED":
      return [it, ` is ${ordinal(answer.rank)} on the page.`];
    case "VERDICT_FILTERED_OUT":
      return [it, ` does not match the filter.${place}`];
    case "VERDICT_EXCLUDED":
      return [it, ` was excluded.${place}`];
    case "VERDICT_SEEN":
      return [it, ` has been rated already, and what was seen is left out.${place}`];
    case "VERDICT_RETRIEVAL_FAILED":
      return ["Stage one does not answer: the list is what is popular, and other movies are more so than ", it, "."];
    case "VERDICT_UNKNOWN_USER":
      return ["Nothing is known of this user: the list is what is popular, and other movies are more so than ", it, "."];
    case "VERDICT_SHORT_HISTORY":
      return ["So few ratings are known that the list is what is popular, and other movies are more so than ", it, "."];
    case "VERDICT_COLD_MOVIE":
      return [it, " has too few ratings for the model to know who likes it. It can only fill up a short list."];
    case "VERDICT_NOT_RETRIEVED":
      return [it, retrieval ? ` is ${ordinal(retrieval.rank)} by ALS; better ones go on to ranking.` : " is no candidate."];
    case "VERDICT_NOT_RANKED":
      return [it, " is a candidate that the ranker could not score."];
    default:
      return below(it, answer, last, ranking, pageLength);
  }
}

function below(it, answer, last, ranking, pageLength) {
  const placed = ranking ? `was ranked ${ordinal(ranking.rank)}; the page ends at ${pageLength}.` : "is behind the page.";
  if (!last || answer.score_gap === undefined) return [it, ` ${placed}`];
  const most = ranking?.comparisons.find((one) => one.last_contribution > one.contribution);
  const from = most ? `, most of it for “${most.last_phrase}”` : "";
  return [it, ` ${placed} `, el("em", {}, last.movie.title), `, the last on it, is ahead by ${Math.abs(answer.score_gap).toFixed(2)}${from}.`];
}
