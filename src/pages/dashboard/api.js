// Calls of the server. The token goes in the `Authorization` header and nowhere else.

import { parse } from "./format.js";

const TOKEN = "flux-token";
/** Milliseconds after which an answer is not waited for any more. */
const PATIENCE_MS = 30_000;

/** What the server refused, or why it was not reached (`status` 0). */
export class Refused extends Error {
  /**
   * @param {number} status
   * @param {string} code
   * @param {string} message
   */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** The token of this tab, or nothing. */
export function token() {
  return sessionStorage.getItem(TOKEN) ?? "";
}

/** @param {string} value empty: forgets it */
export function setToken(value) {
  if (value === "") sessionStorage.removeItem(TOKEN);
  else sessionStorage.setItem(TOKEN, value);
}

/**
 * Asks the server.
 * @param {string} path
 * @param {{ method?: string, signal?: AbortSignal | undefined, bearer?: string }} [options] the
 *   token that is sent is that of this tab if no other is given
 * @returns {Promise<{ body: string, headers: Headers }>}
 */
export async function ask(path, { method = "GET", signal, bearer = token() } = {}) {
  /** @type {Record<string, string>} */
  const headers = { Accept: path === "/metrics" ? "text/plain" : "application/json" };
  if (bearer !== "") headers["Authorization"] = `Bearer ${bearer}`;
  const patience = AbortSignal.timeout(PATIENCE_MS);
  /** @type {RequestInit} */
  const request = { method, headers, cache: "no-store", redirect: "error", signal: signal ? AbortSignal.any([signal, patience]) : patience };
  let answer;
  let body;
  try {
    answer = await fetch(path, request);
    body = await answer.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, "unreachable", "the server can't be reached");
  }
  if (answer.ok) return { body, headers: answer.headers };
  let why = { error: `the server answered ${answer.status}`, code: "" };
  try {
    why = { ...why, ...JSON.parse(body) };
  } catch {
    // Something between answered; its page says nothing that could be shown.
  }
  throw new Refused(answer.status, why.code, why.error);
}

/**
 * Asks the server for JSON.
 * @param {string} path
 * @param {{ method?: string, signal?: AbortSignal | undefined }} [options]
 * @returns {Promise<{ value: any, headers: Headers }>}
 */
export async function get(path, options) {
  const { body, headers } = await ask(path, options);
  return { value: parse(body), headers };
}

/**
 * A path with its query; parameters that are empty are left out.
 * @param {string} path
 * @param {Record<string, string | number | undefined>} parameters
 */
export function target(path, parameters) {
  // Not by URLSearchParams, which writes a space as a plus sign: to the server that is a plus sign.
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== "");
  const query = given.map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`).join("&");
  return query === "" ? path : `${path}?${query}`;
}

/**
 * The parameters of a path or an address, as `target` writes them.
 * @param {string} path
 * @returns {Map<string, string>}
 */
export function parameters(path) {
  const query = path.split("?")[1] ?? "";
  /** @type {Map<string, string>} */
  const found = new Map();
  for (const part of query.split("&")) {
    const [name = "", value = ""] = part.split("=");
    try {
      found.set(name, decodeURIComponent(value));
    } catch {
      // Typed by hand, and no escape: what it says is meant.
      found.set(name, value);
    }
  }
  return found;
}

/**
 * The path of the next page, if there is one.
 * @param {Headers} headers
 */
export function nextPage(headers) {
  return /^<([^>]*)>; rel="next"/.exec(headers.get("Link") ?? "")?.[1];
}

/**
 * What was shown may not be read any more: the token is gone, or it is not for this one's eyes.
 * @param {unknown} error
 */
export function isForbidden(error) {
  return error instanceof Refused && (error.status === 401 || error.status === 403);
}

/**
 * What went wrong, for the reader, with what to do about it.
 * @param {unknown} error
 */
export function explain(error) {
  if (!(error instanceof Refused)) return error instanceof Error ? error.message : String(error);
  const text = error.message.charAt(0).toUpperCase() + error.message.slice(1);
  switch (error.status) {
    case 401:
      return token() === "" ? `${text}. Enter a token above.` : `${text}. Enter another token above, or forget this one.`;
    case 403:
      return `${text}. The token in use may not do this.`;
    default:
      return `${text}.`;
  }
}
