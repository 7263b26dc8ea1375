// Health: what answers, how well, and what the bundle is worth.

import { copyCall } from "../copy.js";
import { el, show } from "../dom.js";
import { count, moment, percent } from "../format.js";
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
  const body = el("div", {}, el("p.lead", {}, "Asking …"));
  const tell = ({ detail: { status, error } }) => show(body, status === null ? unreachable(error) : all(status));
  news.addEventListener("status", tell);
  if (news.latest) tell({ detail: news.latest });
  return {
    title: "Health",
    element: el("div", {}, el("h1", {}, "Health"), body),
    close: () => news.removeEventListener("status", tell),
  };
}

const unreachable = (error) =>
  el("div.message.warning", { role: "alert" }, el("p", {}, error.status === 0 ? "The edge does not answer. This page asks again every 3 seconds." : error.message));

function all(status) {
  return [
    el("p.lead", {}, summary(status)),
    figures(status),
    el("section", {}, el("h2", {}, "Services"), el("div.cards", {}, status.stages.map(card))),
    el("section", {}, el("h2", {}, "Models of the latest lists"), mix(status)),
    el("section", {}, el("h2", {}, "Quality of the bundle"), quality(status.bundle)),
    copyCall(status),
  ];
}

function summary(status) {
  const down = status.stages.filter((stage) => !stage.serving || stage.breaker_open).map((stage) => stageName(stage.stage));
  return down.length ? `${down.join(", ")} ${down.length > 1 ? "do" : "does"} not serve. Lists step down to weaker models, and say so.` : "Everything serves.";
}

function figures(status) {
  const lists = status.models.reduce((total, one) => total + one.count, 0);
  const minutes = Math.max(status.window_seconds / 60, 1);
  const serving = status.stages.filter((stage) => stage.serving).length;
  const figure = (value, text, warning = false) => el(`div.figure${warning ? ".warning" : ""}`, {}, el("b", {}, value), el("span", {}, text));
  const span = `of the last ${Math.ceil(status.window_seconds / 60) || 1} min`;
  return el("div.figures", {},
    figure(count(Math.round(lists / minutes)), `lists a minute, ${span}`),
    figure(lists ? percent(status.degraded_count / lists) : "–", `degraded by a fault, ${span}`, status.degraded_count > 0),
    figure(`${serving} of ${status.stages.length}`, "services serve", serving < status.stages.length),
    figure(moment(status.serve_time), "when this bundle began to answer"));
}

function card(stage) {
  const well = stage.serving && !stage.breaker_open;
  const state = !stage.serving ? "Does not answer" : stage.breaker_open ? "Left alone" : "Serves";
  return el(`div.card${well ? "" : ".down"}`, { "data-stage": stage.stage },
    el("h3", {}, stageName(stage.stage)),
    el("p.state", {}, state),
    el("p.small.soft", {}, stage.breaker_open ? `The breaker is open: ${BREAKER[stage.breaker_reason] ?? "it keeps failing"}.` : "The breaker is closed."),
    el("p.small.soft", {}, stage.bundle_id ? ["Last answer from ", el("code", {}, stage.bundle_id)] : "No answer yet."));
}

function mix(status) {
  const total = status.models.reduce((sum, one) => sum + one.count, 0);
  if (!total) return el("p.soft", {}, "No list was asked for yet.");
  let tone = 0;
  const kinds = status.models.map((one) => (WEAK.has(one.model) ? "weak" : `tone${tone++}`));
  const part = (one, place) => {
    const piece = el(`i.${kinds[place]}`);
    piece.style.setProperty("--share", one.count / total);
    return piece;
  };
  return [
    el("div.mix", { "aria-hidden": "true" }, status.models.map(part)),
    el("ul.legend", {}, status.models.map((one, place) => el(`li.${kinds[place]}`, {}, `${MODELS[one.model] ?? one.model}: ${percent(one.count / total)}, ${count(one.count)}`))),
  ];
}

function quality(bundle) {
  const facts = el("p.soft", {}, "Bundle ", el("code", {}, bundle.bundle_id), ", trained on ", el("code", {}, bundle.dataset_tag), ". ",
    bundle.protocol ? `Judged on ${PROTOCOLS[bundle.protocol] ?? bundle.protocol}` : "",
    bundle.judged_users === undefined ? ". " : ` of ${count(bundle.judged_users)} users. `);
  const warnings = bundle.warnings.map((text) => el("p.message.warning", {}, text));
  if (!bundle.models.length) return [facts, el("p.soft", {}, "Nothing was measured when it was trained.")];
  const top = 1.1 * Math.max(...bundle.models.map((one) => one.ndcg_at_10_high ?? one.ndcg_at_10), 0.001);
  return [facts, warnings,
    el("div.scroll", { tabindex: 0, role: "region", "aria-label": "Quality by model" }, el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Model"), el("th", { scope: "col" }, "nDCG@10"), el("th.start", { scope: "col" }, "with its 95 % interval"), el("th", { scope: "col" }, "Recall@10"), el("th", { scope: "col" }, "Coverage"))),
      el("tbody", {}, bundle.models.map((one) =>
        el(`tr${one.model === "two_stage" ? ".ours" : ""}`, {},
          el("th", { scope: "row" }, NAMES[one.model] ?? one.model), el("td", {}, one.ndcg_at_10.toFixed(3)), el("td.start", {}, range(one, top)),
          el("td", {}, one.recall_at_10.toFixed(3)), el("td", {}, percent(one.coverage_at_10))))))),
  ];
}

function range(one, top) {
  const at = el("b");
  at.style.setProperty("--at", one.ndcg_at_10 / top);
  const span = el("i");
  span.style.setProperty("--low", (one.ndcg_at_10_low ?? one.ndcg_at_10) / top);
  span.style.setProperty("--high", (one.ndcg_at_10_high ?? one.ndcg_at_10) / top);
  const text = one.ndcg_at_10_low === undefined ? "" : `${one.ndcg_at_10_low.toFixed(3)} to ${one.ndcg_at_10_high.toFixed(3)}`;
  return el("span.range", { title: text }, el("span.hidden", {}, text), span, at);
}
