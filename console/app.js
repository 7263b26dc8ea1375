// The way from an address to a view. Addresses stand behind #: servers and their logs never see them.

import { el, show } from "./dom.js";
import { follow } from "./live.js";
import { suggest } from "./suggest.js";
import { bundles } from "./views/bundles.js";
import { health } from "./views/health.js";
import { home } from "./views/home.js";
import { movie, movies } from "./views/movies.js";
import { newcomer } from "./views/newcomer.js";
import { people, person } from "./views/people.js";

// Each makes a view: {title, element, update(query), close()}.
const VIEWS = [
  [/^\/$/, home, null],
  [/^\/people$/, people, "people"],
  [/^\/people\/([^/]+)$/, person, "people"],
  [/^\/people\/([^/]+)\/bundles$/, bundles, "people"],
  [/^\/new$/, newcomer, "new"],
  [/^\/movies$/, movies, "movies"],
  [/^\/movies\/([^/]+)$/, movie, "movies"],
  [/^\/health$/, health, "health"],
];

const main = document.getElementById("main");
let current = null;
let currentPath = null;

function render() {
  const [path, query = ""] = (location.hash.slice(1) || "/").split("?");
  const parameters = new URLSearchParams(query);
  if (path !== currentPath) {
    current?.close?.();
    const [match, make, tab] = found(path);
    current = make(...match.slice(1).map(decoded));
    currentPath = path;
    show(main, current.element);
    for (const link of document.querySelectorAll("[data-tab]")) {
      if (link.dataset.tab === tab) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    scrollTo(0, 0);
  }
  current.update?.(parameters);
  document.title = current.title ? `${current.title} · movierec` : "movierec";
}

function found(path) {
  for (const [pattern, make, tab] of VIEWS) {
    const match = path.match(pattern);
    if (match) return [match, make, tab];
  }
  return [[path], () => ({ title: "No such page", element: el("div", {}, el("h1", {}, "No such page"), el("p.lead", {}, el("a", { href: "#/" }, "Back to the beginning"))) }), null];
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

document.getElementById("search").append(
  suggest({ id: "find", label: "Find a movie", placeholder: "Find a movie", choose: (movie) => { location.hash = `#/movies/${movie.movie_id}`; } }),
);
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    document.getElementById("find").focus();
  }
  if (event.key === "Escape" && !typing) current?.back?.();
});
addEventListener("hashchange", render);
render();
follow();
