// Health: what answers, how well, and what the bundle is worth.

import { copyCall, copyable } from "../copy.js";
import { el, show, svg } from "../dom.js";
import { count, duration, listed, moment, percent } from "../format.js";
import { news } from "../live.js";
import { MODELS, stageName } from "../sentences.js";

const WEAK = new Set(["als_only", "genre_jaccard", "not_available"]);
const NAMES = {
  popularity: "Popularity", svd: "SVD", item_knn: "item-kNN", ease: "EASE", als: "ALS", candidates: "Candidates, merged", two_stage: "Two-stage",
};
const PROTOCOLS = { user: "the last ratings of each user", time: "everything after a moment" };
const BREAKER = {
  FALLBACK_REASON_DEPENDENCY_UNAVAILABLE: "it does not answer", FALLBACK_REASON_DEPENDENCY_TIMEOUT: "it is too slow",
  FALLBACK_REASON_DEPENDENCY_OVERLOADED: "it is overloaded", FALLBACK_REASON_MODEL_UNAVAILABLE: "it has no model",
  FALLBACK_REASON_INVALID_RESPONSE: "its answers are unusable",
};

export function health() {
  const parts = [
    part("div", downs, summary),
    part("div", figures, (all) => el("div.figures", {}, all.map(figure))),
    part("section", (status) => status.stages, (stages) => [el("h2", {}, "Services"), el("div.cards", {}, stages.map(card))]),
    part("section", (status) => status.models, (models) => [el("h2", {}, "Models of the latest lists"), mix(models)]),
    part("section", (status) => status.bundle, (bundle) => [el("h2", {}, "Quality of the bundle"), quality(bundle)]),
  ];
  const all = parts.map((one) => one.element);
  all[0].setAttribute("role", "status");
  const body = el("div", {}, el("p.lead", {}, "Asking …"));
  const tell = ({ detail: { status, error } }) => {
    if (status === null) return show(body, unreachable(error));
    parts.forEach((one) => one.tell(status));
    if (!all[0].isConnected) show(body, all, copyCall(status));
    return undefined;
  };
  const element = el("div", {}, el("h1", {}, "Health"), body);
  news.addEventListener("status", tell);
  if (news.latest) tell({ detail: news.latest });
  return { title: "Health", element, close: () => news.removeEventListener("status", tell) };
}

/** A part of the page, drawn again only when what it shows has changed: focus and selection stay where they are. */
function part(tag, select, draw) {
  const element = el(tag);
  let shown = null;
  return {
    element,
    tell: (status) => {
      const selected = select(status);
      const now = JSON.stringify(selected);
      if (now !== shown) show(element, draw(selected));
      shown = now;
    },
  };
}

const unreachable = (error) =>
  el("div.message.warning", { role: "alert" }, el("p", {}, error.status === 0 ? "The edge does not answer. This page asks again every 3 seconds." : error.message));

/** Names of the services that do not serve. */
const downs = (status) => status.stages.filter((stage) => !stage.serving || stage.breaker_open).map((stage) => stageName(stage.stage));

const summary = (down) =>
  (down.length
    ? el("p.message.warning", {}, `${listed(down)} ${down.length > 1 ? "do" : "does"} not serve. Lists step down to weaker models, and say so.`)
    : el("p.lead", {}, "Everything serves."));

/** What stands in large type: [value, text, whether it is a warning] each. */
function figures(status) {
  const lists = status.models.reduce((total, one) => total + one.count, 0);
  const minutes = Math.max(status.window_seconds / 60, 1);
  const span = status.window_seconds > 60 ? `over the last ${Math.ceil(status.window_seconds / 60)} min` : "over the last minute";
  return [
    [count(Math.round(lists / minutes)), `lists a minute, ${span}`],
    [lists ? percent(status.degraded_count / lists) : "–", `degraded by a fault, ${span}`, status.degraded_count > 0],
    [status.personal_p95_seconds === undefined ? "–" : duration(status.personal_p95_seconds), `are enough for 95 % of personal lists, ${span}`],
    [moment(status.serve_time), "when this bundle began to answer"],
  ];
}

const figure = ([value, text, warning]) => el(`div.figure${warning ? ".warning" : ""}`, {}, el("b", {}, value), el("span", {}, text));

function card(stage) {
  const well = stage.serving && !stage.breaker_open;
  const state = !stage.serving ? "Does not answer" : stage.breaker_open ? "Left alone" : "Serves";
  return el(`div.card${well ? "" : ".down"}`, { "data-stage": stage.stage },
    el("h3", {}, stageName(stage.stage)),
    el("p.state", {}, state),
    el("p.small.soft", {}, stage.breaker_open ? `The breaker is open: ${BREAKER[stage.breaker_reason] ?? "it keeps failing"}.` : "The breaker is closed."),
    el("p.small.soft", {}, stage.bundle_id ? ["Last answer from ", copyable(stage.bundle_id, `the bundle of ${stageName(stage.stage).toLowerCase()}`)] : "No answer yet."));
}

function mix(models) {
  const total = models.reduce((sum, one) => sum + one.count, 0);
  if (!total) return el("p.soft", {}, "No list was asked for yet.");
  let tone = 0;
  const kinds = models.map((one) => (WEAK.has(one.model) ? "weak" : `tone${Math.min(tone++, 3)}`));
  const piece = (one, place) => {
    const element = el(`i.${kinds[place]}`);
    element.style.setProperty("--share", one.count / total);
    return element;
  };
  return [
    el("div.mix", { "aria-hidden": "true" }, models.map(piece)),
    el("ul.legend", {}, models.map((one, place) => el(`li.${kinds[place]}`, {}, `${MODELS[one.model] ?? one.model}: ${percent(one.count / total)}, ${count(one.count)}`))),
  ];
}

function quality(bundle) {
  const facts = el("p.soft", {}, "Bundle ", copyable(bundle.bundle_id, "the bundle"), el("br"), "Trained on ", el("code", {}, bundle.dataset_tag), ". ",
    bundle.protocol ? `Judged on ${PROTOCOLS[bundle.protocol] ?? bundle.protocol}` : "",
    bundle.judged_users === undefined ? ". " : ` of ${count(bundle.judged_users)} users. `);
  const warnings = bundle.warnings.map((text) => el("p.message.warning", {}, text));
  if (!bundle.models.length) return [facts, el("p.soft", {}, "Nothing was measured when it was trained.")];
  return [facts, warnings, chart(bundle.models), table(bundle.models)];
}

const ROW = 40;
/** Height of a row of the chart in pixels, as in the style sheet. */
const named = (one) => NAMES[one.model] ?? one.model;

/** nDCG@10 of each model as a bar, with its interval as a line: the picture of the table below it. */
function chart(models) {
  const most = Math.max(...models.map((one) => one.ndcg_at_10_high ?? one.ndcg_at_10), 0.01);
  const step = stepOf(most);
  const top = step * Math.ceil(most / step);
  const height = models.length * ROW;
  const ticks = Array.from({ length: Math.round(top / step) + 1 }, (_, place) => place * step);
  const x = (value) => (100 * value) / top;
  const line = (kind, x1, y1, x2, y2) => svg(`line.${kind}`, { x1, y1, x2, y2, "vector-effect": "non-scaling-stroke" });
  const drawn = (one, place) => {
    const middle = (place + 0.5) * ROW;
    const [low, high] = [one.ndcg_at_10_low, one.ndcg_at_10_high].map((value) => value !== undefined && x(value));
    return svg(`g${one.model === "two_stage" ? ".ours" : ""}`, {},
      svg("rect", { x: 0, y: middle - 8, width: x(one.ndcg_at_10), height: 16 }),
      low === false ? null : [line("whisker", low, middle, high, middle), line("whisker", low, middle - 5, low, middle + 5), line("whisker", high, middle - 5, high, middle + 5)]);
  };
  const tick = (value) => {
    const element = el("span", {}, value.toFixed(step < 0.01 ? 3 : 2));
    element.style.setProperty("--at", value / top);
    return element;
  };
  return el("figure.chart", {},
    el("figcaption.small.soft", {}, "nDCG@10: how well the first ten of a list are ordered. A bar is what was measured, the line on it its 95 % interval."),
    el("div.plot", { "aria-hidden": "true" },
      el("ul", {}, models.map((one) => el(`li${one.model === "two_stage" ? ".ours" : ""}`, {}, named(one)))),
      svg("svg", { viewBox: `0 0 100 ${height}`, preserveAspectRatio: "none", height },
        ticks.map((value) => line("tick", x(value), 0, x(value), height)), models.map(drawn)),
      el("div.axis", {}, ticks.map(tick))));
}

/** Between ticks of an axis that ends at `most`: 1, 2 or 5 times a power of ten, for 3 to 7 of them. */
function stepOf(most) {
  const power = 10 ** Math.floor(Math.log10(most / 3));
  return power * [5, 2, 1].find((times) => most / (times * power) >= 3 || times === 1);
}

const table = (models) =>
  el("div.scroll", { tabindex: 0, role: "region", "aria-label": "Quality by model" }, el("table", {},
    el("thead", {}, el("tr", {}, ["Model", "nDCG@10", "95 % interval", "Recall@10", "Coverage"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, models.map((one) =>
      el(`tr${one.model === "two_stage" ? ".ours" : ""}`, {},
        el("th", { scope: "row" }, named(one)), el("td", {}, one.ndcg_at_10.toFixed(3)),
        el("td", {}, one.ndcg_at_10_low === undefined ? "–" : `${one.ndcg_at_10_low.toFixed(3)} to ${one.ndcg_at_10_high.toFixed(3)}`),
        el("td", {}, one.recall_at_10.toFixed(3)), el("td", {}, percent(one.coverage_at_10)))))));
