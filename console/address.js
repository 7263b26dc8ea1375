// Addresses of views.

/** "#/people/1?genre=War": a path and what is set of its parameters. */
export function address(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "" && value !== "0") query.set(name, value);
  }
  return query.size ? `#${path}?${query}` : `#${path}`;
}

/** Goes to an address without a step back to where one was: for what changes by the letter. */
export function replace(hash) {
  history.replaceState(null, "", hash);
  dispatchEvent(new HashChangeEvent("hashchange"));
}
