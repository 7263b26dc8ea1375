// Movies: what is popular, and what is like a movie.

import * as api from "../api.js";
import { el, show } from "../dom.js";
import { filterOf, filters } from "../filters.js";
import { address, replace } from "../address.js";
import { liveList } from "../live_list.js";
import { about } from "../selected.js";
import { alike, popularity, titled } from "../sentences.js";

const link = (movie) => `#/movies/${movie.movie_id}`;

/** The whole catalogue, by popularity. */
export function movies() {
  let filter = null;
  const controls = filters((changed) => replace(address("/movies", changed)), { ranked: false });
  const list = liveList({
    length: 20,
    ask: (signal) => api.popular(filter, 20, signal),
    empty: () => [el("p", {}, "No movie matches the filter."), el("p", {}, el("a", { href: "#/movies" }, "Loosen it"))],
    how: () => ({ sentence: (item) => popularity(item.movie), link }),
  });
  return {
    title: "Movies",
    element: el("div", {}, el("h1", {}, "Movies"), el("p.lead", {}, "The catalogue, the most popular first. Choose one to see what is like it."), controls.element, el("div.reading", {}, list.element)),
    update: (query) => {
      filter = filterOf(query);
      controls.set(filter);
      list.load();
    },
    close: list.close,
  };
}

/** One movie. */
export function movie(id) {
  let subject = null;
  const head = el("div.stack", {}, el("h1", {}, "…"));
  const list = liveList({
    length: 12,
    ask: async (signal) => {
      subject ??= (await api.movie(id, signal)).movie;
      title();
      return api.similar(id, 12, signal);
    },
    empty: () => el("p", {}, "No movie is like this one: too few people have rated it, and it has no genre."),
    how: () => ({ sentence: (item) => alike(item, subject), link }),
  });
  function title() {
    const [heading, ...more] = about(subject).filter(Boolean);
    show(head, el("h1", {}, heading.textContent), more);
    document.title = `${titled(subject)} · movierec`;
  }
  return {
    title: "A movie",
    element: el("div", {}, head, el("section.reading", {}, el("h2", {}, "Like this one"), list.element)),
    update: () => list.load(),
    close: list.close,
  };
}
