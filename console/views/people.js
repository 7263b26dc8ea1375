// People: what somebody liked, their list with its reasons, and why a movie is not on it.

import { address, replace } from "../address.js";
import * as api from "../api.js";
import { copyable } from "../copy.js";
import { el, show } from "../dom.js";
import { filterOf, filters } from "../filters.js";
import { counted, date, listed, stars } from "../format.js";
import { say } from "../live.js";
import { liveList } from "../live_list.js";
import { ofList, whyNot } from "../selected.js";
import { titled, why } from "../sentences.js";
import { suggest } from "../suggest.js";

const LENGTH = 20;

/** A field for the number of a user, which leads to their list, or to another view of them. */
export function whose(value = "", view = "") {
  const input = el("input", { type: "text", inputmode: "numeric", pattern: "[0-9]+", value, placeholder: "number", "aria-label": "Number of a user", maxlength: 19, required: true });
  return el("form.who", { onsubmit: (event) => { event.preventDefault(); location.hash = `#/people/${encodeURIComponent(input.value.trim())}${view}`; } },
    input, el("button.primary", { type: "submit" }, "Show"));
}

/** Nobody is chosen yet. */
export function people() {
  return {
    title: "People",
    element: el("div", {}, el("h1", {}, "People"),
      el("p.lead", {}, "What somebody liked, what they are recommended, and why. Users have numbers here, and no names."),
      el("div.doors", {}, el("div.door", {}, el("h2", {}, "Whose list?"), el("p", {}, "Those of MovieLens begin at 1."), whose("1")))),
  };
}

/** One user. */
export function person(user) {
  let filter = {};
  let selected = "";
  let asking = new AbortController();
  const path = `/people/${encodeURIComponent(user)}`;
  const here = (changes) => address(path, { ...filter, movie: selected, ...changes });

  const known = el("p.lead");
  const controls = filters((changed) => replace(here(changed)), { ranked: true });
  const side = el("div");
  const aside = el("aside.aside", { "aria-label": "What is selected" }, side);
  const list = liveList({
    length: LENGTH,
    ask: (signal) => api.personal(user, filter, LENGTH, signal),
    answered: (answer) => {
      say(answer.model, answer.degraded);
      if (answer.fallback_reason === "FALLBACK_REASON_UNKNOWN_USER") {
        show(stranger, el("div.message.note", {}, el("p", {}, `Nobody knows user ${user}. This is what is popular.`), el("p", {}, el("a", { href: "#/new" }, "Rate a few movies instead"))));
      } else show(stranger);
      if (selected) detail();
    },
    empty: () => [el("p", {}, "No movie matches the filter."), el("p", {}, el("a", { href: address(path, { movie: selected }) }, "Loosen it"))],
    how: () => ({ sentence: why, link: (movie) => here({ movie: movie.movie_id }), selected }),
  });
  const stranger = el("div");
  const likes = el("div.stack", {}, el("p.soft", {}, "…"));
  const columns = el("div.columns", {}, el("div.main", {}, stranger, list.element), aside);

  async function about() {
    try {
      const answer = await api.user(user);
      const genres = answer.genres.slice(0, 3).map((one) => one.genre);
      show(known, `${counted(answer.rating_count, "rating")}, ${answer.rating_mean === undefined ? "" : `${stars(answer.rating_mean)} stars on average. `}`,
        genres.length ? `Likes ${listed(genres)}.` : null);
      show(likes, el("h2", {}, "Liked last"),
        answer.likes.length ? el("ul.likes", {}, answer.likes.map(liked)) : el("p.soft", {}, "No rating of 4 stars or more."));
    } catch (error) {
      show(known);
      show(likes, el("h2", {}, "Liked last"), el("p.soft", {}, error.reason === "UNKNOWN_USER" ? "Nothing is known of this user." : error.reason === "METHOD_DISABLED" ? "What people have watched is not told here." : error.message));
    }
  }

  const liked = (one) => el("li", {},
    el("a", { href: here({ movie: one.movie.movie_id }) }, titled(one.movie)),
    el("span", {}, `${stars(one.rating)} ★`),
    el("span.soft", {}, one.movie.genres.slice(0, 3).join(" · ")),
    el("span.soft", {}, one.rate_time ? date(one.rate_time) : ""));

  const question = el("div.tight", {}, el("h3", {}, "Why is a movie not here?"),
    suggest({ label: "Why is a movie not here?", placeholder: "Title of a movie", choose: (movie) => { location.hash = here({ movie: movie.movie_id }); } }));

  function detail() {
    const item = list.item(selected);
    asking.abort();
    asking = new AbortController();
    const place = el("div");
    const open = side.querySelector("details")?.open;
    show(side, el("div.stack", {},
      el("a.button.back", { href: here({ movie: "" }) }, "‹ Back to the list"),
      el("a.close.small", { href: here({ movie: "" }) }, "Close"), place, question));
    if (item) {
      show(place, ofList(item, list.answer()));
      if (open && place.querySelector("details")) place.querySelector("details").open = true;
    } else whyNot(place, { movie: selected, user, filter, length: LENGTH, signal: asking.signal });
  }

  about();
  return {
    title: `User ${user}`,
    element: el("div", {},
      el("div.head", {}, el("div", {}, el("h1", {}, "User ", copyable(user, "the user")), known, el("p.small", {}, el("a", { href: `#${path}/bundles` }, "Beside the bundle before"))), whose(user)),
      controls.element, columns),
    update: (query) => {
      const next = filterOf(query);
      const changed = JSON.stringify(next) !== JSON.stringify(filter);
      filter = next;
      selected = query.get("movie") ?? "";
      controls.set(filter);
      columns.classList.toggle("selected", selected !== "");
      if (changed) list.load();
      else list.select(selected);
      if (!selected) show(side, el("div.stack", {}, likes, question));
      else if (!changed && list.answer() !== null) detail();
    },
    back: () => { if (selected) location.hash = here({ movie: "" }); },
    close: () => { list.close(); asking.abort(); },
  };
}
