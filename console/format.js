// Numbers, dates and names as a person writes them.

const whole = new Intl.NumberFormat("en-GB");
const dates = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const moments = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hour12: false });

/** 1234 as "1,234". */
export const count = (value) => whole.format(value);

/** "1 rating", "2 ratings". */
export const counted = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

/** 4.18 as "4.2". */
export const stars = (value) => value.toFixed(1);

/** A share, 0 to 1, as "4 %"; what is above 0 and below half a percent as "< 1 %". */
export function percent(share) {
  if (share > 0 && share < 0.005) return "< 1 %";
  return `${Math.round(share * 100)} %`;
}

/** 0.0421 as "42 ms", 1.25 as "1.3 s". */
export const duration = (seconds) => (seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`);

/** A contribution, with its sign: "+0.31". The minus is a true one. */
export const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;

/** A number of three digits or so: 278.704 as "279", 0.2604 as "0.26". */
export function short(value) {
  const size = Math.abs(value);
  const text = size >= 100 ? whole.format(Math.round(size)) : size >= 10 ? size.toFixed(1) : size.toFixed(2);
  return (value < 0 ? "−" : "") + text.replace(/\.0+$/, "");
}

/** "8 Aug 2000". */
export const date = (timestamp) => dates.format(new Date(timestamp));

/** "29 Nov, 00:55". */
export const moment = (timestamp) => moments.format(new Date(timestamp));

/** 3 as "3rd". */
export function ordinal(value) {
  const endings = { one: "st", two: "nd", few: "rd", other: "th" };
  return count(value) + endings[new Intl.PluralRules("en", { type: "ordinal" }).select(value)];
}

/** "Heat, Alien and Big". */
export const listed = (names) => new Intl.ListFormat("en-GB").format(names);
