// Elements from plain values. Text only ever becomes a text node: no title, genre or query can be markup.

/**
 * Makes an element.
 * @param {string} tag name, with classes behind dots: "p.soft.small"
 * @param {object} [attributes] properties that begin with "on" are listeners; null and false leave one out
 * @param {...(Node|string|number|null|false|Array)} children
 */
export function el(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  return fill(document.createElement(name), classes, attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), classes, attributes, children);
}

function fill(element, classes, attributes, children) {
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value") element.value = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Replaces what an element holds. */
export function show(element, ...children) {
  element.replaceChildren(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
}

/** A bar of which a share, 0 to 1, is filled. */
export function bar(share, kind = "") {
  const filled = el("span.filled");
  filled.style.setProperty("--share", Math.max(0, Math.min(1, share)));
  return el(`span.meter${kind && `.${kind}`}`, { "aria-hidden": "true" }, filled);
}
