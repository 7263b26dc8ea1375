// A list that follows the system: it is asked for again whenever a service comes or goes, and keeps its last
// answer, greyed, while nothing answers.

import { copyCall } from "./copy.js";
import { el, show } from "./dom.js";
import { moment } from "./format.js";
import { arrowKeys, ghosts, replaceRows, rows, select } from "./list.js";
import { news } from "./live.js";
import { weakness } from "./sentences.js";

const WAIT_MS = 300;
const AGAIN_MS = 2000;

/**
 * @param {{length: number, ask: function, answered?: function, empty: function, how: function}} parts
 *   `ask(signal)` gets the response; `answered(response)` is told of it; `empty(response)` says in nodes why there
 *   is no movie; `how()` is what `rows` takes.
 */
export function liveList({ length, ask, answered = () => {}, empty, how }) {
  const message = el("div", { role: "status" });
  const list = el("ol.list", { "aria-label": "Movies", onkeydown: arrowKeys }, ghosts(length));
  const taken = el("div");
  let pending = null;
  let answer = null;
  let at = null;
  let again;
  let since = null;

  async function load() {
    pending?.abort();
    const mine = (pending = new AbortController());
    clearTimeout(again);
    const waiting = setTimeout(() => list.classList.add("waiting"), WAIT_MS);
    try {
      const fresh = await ask(mine.signal);
      answer = fresh;
      at = Date.now();
      list.classList.remove("stale");
      draw();
      answered(fresh);
      if (fresh.degraded) again = setTimeout(load, AGAIN_MS);
    } catch (error) {
      if (mine.signal.aborted) return;
      fail(error);
    } finally {
      clearTimeout(waiting);
      if (pending === mine) list.classList.remove("waiting");
    }
  }

  function draw() {
    since = answer.degraded ? (since ?? at) : null;
    const weak = answer.movies.length ? weakness(answer) : null;
    show(message,
      weak ? el(`p.message${answer.degraded ? ".warning" : ".note"}`, {}, weak, since ? el("span.soft", {}, ` Since ${moment(since)}.`) : null) : null,
      answer.movies.length ? null : el("div.message.note", {}, empty(answer)));
    replaceRows(list, rows(answer, how()));
    show(taken, copyCall(answer));
  }

  function fail(error) {
    const late = error.status === 0 || error.status >= 500 || error.status === 429;
    if (answer !== null && late) list.classList.add("stale");
    else show(list);
    const kept = answer !== null && late ? `This is the list of ${moment(at)}.` : "";
    show(message, el("div.message.warning", { role: "alert" }, el("p", {}, error.message), kept && el("p.soft", {}, kept)));
    if (late) again = setTimeout(load, AGAIN_MS);
  }

  news.addEventListener("change", load);
  return {
    element: el("div", {}, message, list, taken),
    load,
    select: (id) => select(list, id),
    item: (id) => answer?.movies.find((item) => String(item.movie.movie_id) === id) ?? null,
    answer: () => answer,
    close: () => {
      news.removeEventListener("change", load);
      clearTimeout(again);
      pending?.abort();
    },
  };
}
