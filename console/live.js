// What answers now: the word at the right of the bar, and news of it for the views.

import * as api from "./api.js";
import { show } from "./dom.js";

const POLL_MS = 3000;
const WORDS = { two_stage: "two-stage", als_only: "stage one alone", popularity_fallback: "popularity only" };

/** Has "change" when a service came or went, and "status" with each state; the last one is its `latest`. */
export const news = new EventTarget();

let signature = null;

/** Shows the model of a personal list. */
export function say(model, degraded) {
  word(WORDS[model] ?? model, degraded ? "weak" : "good");
}

function word(text, kind) {
  const live = document.getElementById("live");
  show(live, text);
  live.className = `live ${kind}`;
}

/** Asks for the state, now and every few seconds while the page is seen. */
export async function follow() {
  if (!document.hidden) await look();
  setTimeout(follow, POLL_MS);
}

async function look() {
  let status = null;
  let error = null;
  try {
    status = await api.status();
  } catch (failure) {
    error = failure;
  }
  const next = status === null ? "none" : JSON.stringify([status.bundle.bundle_id, status.stages.map((stage) => stage.serving && !stage.breaker_open)]);
  if (status === null) word("no answer", "weak");
  news.latest = { status, error };
  news.dispatchEvent(new CustomEvent("status", { detail: { status, error } }));
  if (signature !== null && next !== signature) news.dispatchEvent(new Event("change"));
  if (status !== null && (signature === null || signature !== next)) {
    const [candidate, ranking] = status.stages.map((stage) => stage.serving && !stage.breaker_open);
    say(!candidate ? "popularity_fallback" : ranking ? "two_stage" : "als_only", !candidate || !ranking);
  }
  signature = next;
}
