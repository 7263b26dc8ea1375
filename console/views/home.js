// Where it begins.

import * as api from "../api.js";
import { el } from "../dom.js";
import { liveList } from "../live_list.js";
import { popularity } from "../sentences.js";
import { whose } from "./people.js";

/** The three ways in, and what is popular. */
export function home() {
  const popular = liveList({
    length: 10,
    ask: (signal) => api.popular({}, 10, signal),
    empty: () => el("p", {}, "The catalogue is empty."),
    how: () => ({ sentence: (item) => popularity(item.movie), link: (movie) => `#/movies/${movie.movie_id}` }),
  });
  const trending = liveList({
    length: 10,
    ask: (signal) => api.trending(10, signal),
    empty: () => el("p", {}, "The catalogue is empty."),
    how: () => ({ sentence: (item) => popularity(item.movie), link: (movie) => `#/movies/${movie.movie_id}` }),
  });
  return {
    title: "",
    element: el("div", {},
      el("h1", {}, "Movies for somebody, and why"),
      el("p.lead", {}, "What the recommender knows of people and movies, and how it decides. It asks the public API, and nothing else."),
      el("div.doors", {},
        el("div.door", {}, el("h2", {}, "A user"), el("p", {}, "Their list, with the reasons for every movie, and for those that are not on it."), whose("1")),
        el("div.door", {}, el("h2", {}, "Somebody new"), el("p", {}, "Rate a few movies, and see the list change with every answer."), el("a.button", { href: "#/new" }, "Rate movies")),
        el("div.door", {}, el("h2", {}, "The system"), el("p", {}, "Which models answer, which services serve, and how good the bundle is."), el("a.button", { href: "#/health" }, "See its health"))),
      el("div.shelf", {},
        el("section", {}, el("h2", {}, "Trending"), trending.element),
        el("section", {}, el("h2", {}, "Popular of all time"), popular.element))),
    update: () => { popular.load(); trending.load(); },
    close: () => { popular.close(); trending.close(); },
  };
}
