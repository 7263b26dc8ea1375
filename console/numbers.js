// Contributions to a score as bars, and the way of a movie through both stages.

import { el } from "./dom.js";
import { short, signed } from "./format.js";

/** All that makes up the score of a movie: base value, the strongest contributions, and the others together. */
export function contributions(item, base) {
  const shown = item.explanation;
  const sum = shown.reduce((total, one) => total + one.contribution, 0);
  const rest = item.score - base - sum;
  const widest = Math.max(...shown.map((one) => Math.abs(one.contribution)), Math.abs(rest), 0.01);
  return el("ul.contributions", {},
    line("Every candidate begins with", null, base, null),
    shown.map((one) => line(one.phrase, named(one), one.contribution, widest)),
    line("All other features together", null, rest, widest),
    el("li.sum", {}, el("span", {}, "The score"), el("span"), el("span", {}, signed(item.score))));
}

/** What tells a movie from the last one on the page: a pair of lines for each feature. */
export function comparisons(answer) {
  const all = answer.ranking.comparisons;
  const widest = Math.max(...all.map((one) => Math.abs(one.contribution - one.last_contribution)), 0.01);
  return el("ul.contributions", {}, all.map((one) =>
    line([one.phrase, el("span.soft", {}, ` — the last one: ${one.last_phrase}`)], null, one.contribution - one.last_contribution, widest)));
}

const named = (one) => (one.value === undefined ? `${one.feature} is missing` : `${one.feature} ${short(one.value)}`);

function line(text, code, value, widest) {
  return el("li", {},
    el("span", {}, text, code ? el("code", {}, code) : null),
    widest === null ? el("span") : swing(value / widest),
    el("span", {}, signed(value)));
}

function swing(share) {
  const filled = el(share < 0 ? "i.down" : "i.up");
  filled.style.setProperty("--share", Math.min(Math.abs(share), 1));
  return el("span.swing", { "aria-hidden": "true" }, filled);
}

const OUT_AT = {
  VERDICT_FILTERED_OUT: 0, VERDICT_EXCLUDED: 0, VERDICT_SEEN: 0, VERDICT_COLD_MOVIE: 1, VERDICT_NOT_RETRIEVED: 1,
  VERDICT_RETRIEVAL_FAILED: 1, VERDICT_UNKNOWN_USER: 1, VERDICT_SHORT_HISTORY: 1, VERDICT_NOT_RANKED: 2,
  VERDICT_RANKED_BELOW: 3, VERDICT_LISTED: 4,
};

/** The stations on the way to the page, and the one at which a movie fell out. */
export function way(answer, pageLength) {
  const out = OUT_AT[answer.verdict] ?? 0;
  const { retrieval, ranking } = answer;
  const stations = [
    ["May be shown", answer.seen ? "rated already" : answer.filtered_out ? "not by this filter" : "yes"],
    ["Stage one", retrieval ? `number ${retrieval.rank} by ALS` : "unknown"],
    ["Ranking", ranking ? `number ${ranking.rank}` : "not ranked"],
    ["On the page", answer.rank ? `number ${answer.rank}` : `ends at ${pageLength}`],
  ];
  return el("ol.way", {}, stations.map(([name, text], place) =>
    el(`li${place < out ? ".passed" : place === out ? ".out" : ""}`, {}, el("b", {}, name), text)));
}
