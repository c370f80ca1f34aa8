// Elements, and how numbers and times are shown. What others wrote becomes text nodes only, never markup.

export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Replace what an element holds, unless it already looks like that: a reader's place and selection stay. */
export function fill(target, ...children) {
  const fresh = el("div", {}, ...children);
  if (target.innerHTML !== fresh.innerHTML || fresh.querySelector("button")) target.replaceChildren(...fresh.childNodes);
}

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const number = (value) => (value === null || value === undefined ? "–" : whole.format(value));
export const compact = (value) => (value === null || value === undefined ? "–" : value < 10000 ? whole.format(value) : short.format(value));
export const rate = (value) => (value === null ? "–" : value >= 100 ? whole.format(Math.round(value)) : value.toFixed(1));

export function bytes(value) {
  for (const [size, unit] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) if (value >= size) return `${(value / size).toFixed(1)} ${unit}`;
  return `${value} B`;
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) if (seconds >= 2 * size) return `${Math.round(seconds / size)} ${unit}`;
  return `${Math.max(0, Math.round(seconds))} s`;
}

// Times are in UTC, as the API gives them. A time without its date is of today.
const DAY = 86400;
const time = (text) => text.slice(11, 19);
const isOf = (text, other) => text.slice(0, 10) === other.slice(0, 10);

export const moment = (text) => (text ? `${text.slice(0, 10)} ${time(text)}` : "–");
export const since = (text) => (text ? (Date.now() - Date.parse(text)) / 1000 : null);

/** Return a time, and its date; a date of today is empty. */
export function parted(text) {
  return [time(text), isOf(text, new Date().toISOString()) ? "" : text.slice(0, 10)];
}

/** Return a time, with its date unless it is of today. */
export function when(text) {
  return text && !parted(text)[1] ? time(text) : moment(text);
}

/** Return the date of a time, or the time where it is of today: for where there is little room. */
export function brief(text) {
  const [at, date] = parted(text);
  return date || at;
}

/** Return two times; the second has a date where it is another than that of the first. */
export function between(first, last) {
  return `${when(first)} to ${isOf(first, last) ? time(last) : moment(last)}`;
}

/** Return a label for each time of a chart, in seconds, `step` apart: with its date where all of them take more than a day. */
export function ticks(times, step, all) {
  return times.map((at) => {
    const text = new Date(at * 1000).toISOString();
    if (step >= DAY) return text.slice(0, 10);
    return `${all > DAY ? `${text.slice(5, 10)} ` : ""}${text.slice(11, step < 60 ? 19 : 16)}`;
  });
}

/** A table of rows, each a list of cells; a cell is text, or an element. */
export function table(caption, columns, rows) {
  const head = el("tr", {}, columns.map((column) => el("th", { scope: "col" }, column)));
  const body = rows.map((cells) => el("tr", {}, cells.map((cell) => el("td", {}, cell))));
  const made = el("table", {}, el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, body));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, made);
}
