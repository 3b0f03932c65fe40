// Values, times and numbers as text.

/** A number whose digits a double would lose: `22.50`, or one of twenty digits. */
export class Exact {
  /** @param {string} digits */
  constructor(digits) {
    this.digits = digits;
  }
}

/**
 * Parses JSON and keeps the digits of its numbers, as far as the browser shows them.
 * @param {string} text
 * @returns {any}
 */
export function parse(text) {
  /** @type {(key: string, value: any, context?: { source?: string }) => any} */
  const keep = (_key, value, context) => {
    const source = context?.source;
    return typeof value === "number" && source !== undefined && source !== String(value) ? new Exact(source) : value;
  };
  return JSON.parse(text, keep);
}

/**
 * A value as JSON text.
 * @param {any} value
 * @returns {string}
 */
export function json(value) {
  if (value instanceof Exact) return value.digits;
  if (value instanceof Omitted) return `(${bytes(value.size)}, too large for a live update)`;
  if (Array.isArray(value)) return `[${value.map(json).join(", ")}]`;
  if (value !== null && typeof value === "object") {
    const members = Object.entries(value).map(([name, member]) => `${JSON.stringify(name)}: ${json(member)}`);
    return members.length === 0 ? "{}" : `{${members.join(", ")}}`;
  }
  return JSON.stringify(value) ?? "";
}

/** What stands in the place of a value that was too large to be sent. */
export class Omitted {
  /** @param {number} size bytes of its JSON */
  constructor(size) {
    this.size = size;
  }
}

/** Characters of a value that are shown: to lay out a megabyte would take the page seconds. */
const SHOWN = 20_000;

/**
 * A value as the page of its entity shows it: as JSON.
 * @param {any} value
 */
export function whole(value) {
  const text = json(value);
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}… (${text.length - SHOWN} more characters)` : text;
}

/**
 * A value as a row of a table shows it: text without its quotes.
 * @param {any} value
 */
export function brief(value) {
  const text = typeof value === "string" ? value : json(value);
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}

/**
 * The properties that a change has set; those that were too large for it too.
 * @param {any} message
 * @returns {[string, any][]}
 */
export function setBy(message) {
  const omitted = Object.entries(message.omitted ?? {}).map(([name, size]) => /** @type {[string, any]} */ ([name, new Omitted(size)]));
  return [...Object.entries(message.properties ?? {}), ...omitted];
}

/**
 * The number that a value is, if it is one.
 * @param {any} value
 * @returns {number | undefined}
 */
export function numeric(value) {
  const number = value instanceof Exact ? Number(value.digits) : value;
  return typeof number === "number" && Number.isFinite(number) ? number : undefined;
}

/** @param {Date} date */
const clock = (date) =>
  [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");

/**
 * A time of the server in the reader's time zone, with its date: it stays on the page when the day
 * changes.
 * @param {string | number | null | undefined} time
 */
export function time(time) {
  if (time === null || time === undefined) return "–";
  const date = new Date(time);
  const day = [date.getFullYear(), date.getMonth() + 1, date.getDate()];
  return `${day.map((part) => String(part).padStart(2, "0")).join("-")} ${clock(date)}`;
}

/**
 * The same with milliseconds, to tell events of one second apart.
 * @param {string} at
 */
export function moment(at) {
  return `${time(at)}.${String(new Date(at).getMilliseconds()).padStart(3, "0")}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds === 0) return "0";
  if (seconds < 1e-3) return `${round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${round(seconds * 1e3)} ms`;
  if (seconds < 120) return `${round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

/** @param {number} number three digits that count */
function round(number) {
  return number >= 100 ? String(Math.round(number)) : String(Number(number.toPrecision(3)));
}

/** @param {number} count */
export function count(count) {
  if (!Number.isFinite(count)) return "–";
  if (Math.abs(count) < 10_000) return Number.isInteger(count) ? String(count) : round(count);
  for (const [size, unit] of /** @type {const} */ ([[1e9, "G"], [1e6, "M"], [1e3, "k"]])) {
    if (Math.abs(count) >= size) return `${round(count / size)} ${unit}`;
  }
  return String(count);
}

/** @param {number} bytes */
export function bytes(bytes) {
  if (!Number.isFinite(bytes)) return "–";
  for (const [power, unit] of /** @type {const} */ ([[4, "TiB"], [3, "GiB"], [2, "MiB"], [1, "KiB"]])) {
    if (bytes >= 1024 ** power) return `${round(bytes / 1024 ** power)} ${unit}`;
  }
  return `${bytes} B`;
}

/**
 * Orders ids as the server does, by their bytes: by code points, which is the same order.
 * @param {string} a
 * @param {string} b
 */
export function compareIds(a, b) {
  const len = Math.min(a.length, b.length);
  for (let at = 0; at < len; at++) {
    const [x, y] = [a.charCodeAt(at), b.charCodeAt(at)];
    if (x === y) continue;
    // A surrogate stands for a code point beyond all others.
    const [xHigh, yHigh] = [x >= 0xd800 && x < 0xe000, y >= 0xd800 && y < 0xe000];
    return xHigh === yHigh ? x - y : xHigh ? 1 : -1;
  }
  return a.length - b.length;
}
