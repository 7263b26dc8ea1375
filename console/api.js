// The public REST API, and nothing else.

const SECONDS = 5;

/** Why a call has no answer. */
export class ApiError extends Error {
  /**
   * @param {number} status of HTTP; 0: the edge could not be reached
   * @param {string} reason as ErrorInfo has it
   * @param {string} message for people
   */
  constructor(status, reason, message) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

const asked = new WeakMap();

/** The call that gave an answer, for a shell. */
export const curl = (answer) => asked.get(answer);

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function written(url, body) {
  const data = body === null ? "" : ` -H 'content-type: application/json' -d ${quoted(body)}`;
  return `curl ${quoted(location.origin + url)}${data}`;
}

async function call(path, parameters = {}, body = null, signal = undefined) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") query.append(name, one);
    }
  }
  const url = query.size ? `${path}?${query}` : path;
  const signals = [AbortSignal.timeout(SECONDS * 1000), ...(signal ? [signal] : [])];
  const options = { signal: AbortSignal.any(signals), headers: { accept: "application/json" } };
  if (body !== null) {
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
    options.headers["content-type"] = "application/json";
  }
  let response;
  let answer;
  try {
    response = await fetch(url, options);
    answer = object(await response.text());
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "UNREACHABLE", "The edge does not answer.");
  }
  if (!response.ok) {
    const info = (answer?.details ?? []).find((detail) => detail.reason && detail.domain);
    throw new ApiError(response.status, info?.reason ?? "UNKNOWN", answer?.message ?? `HTTP ${response.status}`);
  }
  // Something between the page and the edge may answer in its place.
  if (answer === null) throw new ApiError(0, "UNREACHABLE", "The edge does not answer.");
  asked.set(answer, written(url, options.body ?? null));
  return answer;
}

/** The object that a text of JSON holds; null if it holds none. */
function object(text) {
  try {
    const value = JSON.parse(text);
    return value instanceof Object ? value : null;
  } catch {
    return null;
  }
}

function filterOf(filter) {
  return {
    "filter.genres": filter.genre || null,
    "filter.min_year": filter.from || null,
    "filter.max_year": filter.to || null,
  };
}

/** The shape of a filter in a body. */
function filterBody(filter) {
  const body = {};
  if (filter.genre) body.genres = [filter.genre];
  if (filter.from) body.min_year = Number(filter.from);
  if (filter.to) body.max_year = Number(filter.to);
  return body;
}

const REASONS = 12;
/** Contributions to ask for with each movie: the strongest, which people can read. */
const id = encodeURIComponent;

export const personal = (user, filter, limit, signal) =>
  call("/api/movies/personal", {
    user_id: user, limit, because_of: 2, explain_features: REASONS, diversity: filter.diversity || null, ...filterOf(filter),
  }, null, signal);
/** From a bundle, with all contributions: more than there are features. */
export const personalFrom = (bundle, user, limit, signal) =>
  call("/api/movies/personal", { user_id: user, limit, because_of: 2, explain_features: 100, bundle_id: bundle }, null, signal);
export const personalOf = (history, filter, limit, signal) =>
  call("/api/movies/personal", {}, {
    history, limit, because_of: 2, explain_features: REASONS, diversity: Number(filter.diversity || 0), filter: filterBody(filter),
  }, signal);
export const popular = (filter, limit, signal) => call("/api/movies/popular", { limit, ...filterOf(filter) }, null, signal);
export const similar = (movie, limit, signal) => call(`/api/movies/${id(movie)}/similar`, { limit }, null, signal);
export const movie = (movie, signal) => call(`/api/movies/${id(movie)}`, {}, null, signal);
export const search = (query, limit, signal) => call("/api/movies:search", { query, limit }, null, signal);
export const why = (movie, user, filter, limit, signal) =>
  call(`/api/movies/${id(movie)}/why`, { user_id: user, limit, explain_features: 6, ...filterOf(filter) }, null, signal);
export const user = (user, signal) => call(`/api/users/${id(user)}`, { limit: 12 }, null, signal);
export const status = (signal) => call("/api/status", {}, null, signal);
export const trending = (limit, signal) => call("/api/movies/popular", { limit, order: "POPULAR_ORDER_TRENDING" }, null, signal);
export const tastes = (signal) => call("/api/movies/taste", {}, null, signal);
