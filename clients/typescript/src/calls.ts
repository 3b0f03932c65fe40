/**
 * The calls of HTTP: what is sent, when it is sent again, what the answer means.
 *
 * All calls are safe to repeat: reads anyway, and a write because its event id is made before the
 * first attempt, so the server counts it once. A deletion is therefore published as a tombstone
 * with an id.
 */

import { ClosedError, ConflictError, FluxError, UnreachableError, saying } from "./errors.js";
import { decode, encode } from "./json.js";
import type { Response, Transport } from "./transport.js";
import type { Entity, Event, EventInput, Expect, NewEvent, Published, Time } from "./types.js";
import { Limiter, Scope, jitteredPause, now, sleep, within } from "./waiting.js";
import { entityOf, errorOf, eventJson, eventOf, publishedOf, replyError } from "./wire.js";
import { fieldsText, timeText, withId } from "./wire.js";

/** Events and bytes of a request of `publishMany`; the server's bounds are 150,000 and 10 MiB. */
const BATCH_EVENTS_MAX = 1000;
const BATCH_BYTES_MAX = 4 * 1024 * 1024;
/** Entities of a page of `list`, events of a page of `history`. */
const LIST_PAGE = 1000;
const HISTORY_PAGE = 500;
/** What no answer of a server reaches: pages have 8 MiB, results of a batch twice that. */
const BODY_BYTES_MAX = 64 * 1024 * 1024;
/** Seconds that an attempt may take as a whole. */
const CALL_TIMEOUT = 10;
const BATCH_TIMEOUT = 30;

const encoder = new TextEncoder();

export interface Settings {
  readonly url: string;
  readonly token: string | undefined;
  readonly stream: string;
  readonly source: string;
  readonly exact: boolean;
  /** Seconds. */
  readonly retryFor: number;
}

interface Attempt {
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  readonly body?: string;
  /** Seconds. */
  readonly timeout?: number;
}

/** How one call differs from others. */
export interface CallOptions {
  readonly signal: AbortSignal;
  /** If given, the last attempt too ends within it. */
  readonly retryFor?: number;
  /** Goes before calls that wait for their turn. */
  readonly urgent?: boolean;
  readonly timeout?: number;
}

interface Reply {
  readonly status: number;
  readonly text: string;
  header(name: string): string | null;
}

/** Whether waiting can help: the server says so, or a proxy can't reach it. */
function mayRetry(error: FluxError): boolean {
  const { status, retryAfter } = error;
  if (status === 429 || status === 503) return retryAfter !== null;
  return status === 502 || status === 504;
}

/** Whether the server can't be had for now, which says nothing of the call itself. */
export function isOutage(error: unknown): boolean {
  return error instanceof UnreachableError || (error instanceof FluxError && mayRetry(error));
}

/** Whether the server's certificate is not trusted, which no waiting changes. */
export function isUntrusted(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return /^(ERR_TLS_CERT|CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_(GET_ISSUER|VERIFY))/.test(code);
}

/** Path and query. A space is `%20`: to Flux a plus sign is a plus sign. */
export function targetOf(path: string, params: { readonly [name: string]: string | undefined }): string {
  const pairs = Object.entries(params)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${encodeURIComponent(value ?? "")}`);
  return pairs.length > 0 ? `${path}?${pairs.join("&")}` : path;
}

export async function readText(response: Response): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for await (const chunk of response.body) {
    bytes += chunk.byteLength;
    if (bytes > BODY_BYTES_MAX) throw new Error("the answer is larger than any of a Flux server");
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

/** The query of the next page, from a `Link` field with one link. */
function nextQuery(link: string | null): string | null {
  const found = /^<[^>?]*(\?[^>]*)>; *rel="next"/.exec(link ?? "");
  return found?.[1] ?? null;
}

function chunks(texts: readonly string[]): string[][] {
  const made: string[][] = [];
  let size = 0;
  for (const text of texts) {
    const bytes = encoder.encode(text).byteLength;
    const last = made.at(-1);
    if (!last || last.length >= BATCH_EVENTS_MAX || size + bytes > BATCH_BYTES_MAX) {
      made.push([text]);
      size = bytes;
    } else {
      last.push(text);
      size += bytes;
    }
  }
  return made;
}

/** The calls of one client. */
export class Calls {
  readonly settings: Settings;
  readonly transport: Transport;
  readonly #limiter: Limiter;
  readonly #scopes = new Set<Scope>();
  #isClosed = false;

  constructor(settings: Settings, transport: Transport, callsAtOnce: number) {
    this.settings = settings;
    this.transport = transport;
    this.#limiter = new Limiter(callsAtOnce);
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  get headers(): { [name: string]: string } {
    const { token } = this.settings;
    return token === undefined ? {} : { authorization: `Bearer ${token}` };
  }

  close(): void {
    this.#isClosed = true;
    for (const scope of this.#scopes) scope.abort(new ClosedError());
    this.transport.close();
  }

  /** What ends with the client, or earlier by a signal. */
  scope(signal: AbortSignal | undefined): Scope {
    const scope = new Scope(this.#scopes, signal);
    if (this.#isClosed) scope.abort(new ClosedError());
    return scope;
  }

  async run<T>(signal: AbortSignal | undefined, call: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const scope = this.scope(signal);
    try {
      return await call(scope.signal);
    } finally {
      scope.end();
    }
  }

  /** The first reply that is no reason to try again. Errors that waiting can't help are thrown. */
  async #exchange(attempt: Attempt, options: CallOptions): Promise<Reply> {
    const { signal, urgent = false } = options;
    const retryFor = options.retryFor ?? this.settings.retryFor;
    let timeout = options.timeout ?? attempt.timeout ?? CALL_TIMEOUT;
    if (options.retryFor !== undefined) timeout = Math.min(timeout, retryFor);
    let end = Number.NaN;
    for (let failures = 1; ; failures += 1) {
      const error = await this.#limiter.run(urgent, signal, () => {
        // Waiting for its turn is no part of an outage.
        if (failures === 1) end = now() + retryFor;
        return this.#answer(attempt, timeout, signal);
      });
      if (!(error instanceof FluxError)) return error;
      if (isUntrusted(error.cause) || !isOutage(error)) throw error;
      const pause = jitteredPause(failures) + (error.retryAfter ?? 0);
      const left = end - now() - pause;
      if (!(left > 0)) throw error;
      if (options.retryFor !== undefined) timeout = Math.min(timeout, left);
      await sleep(pause, signal);
    }
  }

  /** The reply to one attempt, or the error that it says or that came in its place. */
  async #answer(attempt: Attempt, timeout: number, signal: AbortSignal): Promise<Reply | FluxError> {
    const { method, target, body } = attempt;
    const json = body === undefined ? {} : { "content-type": "application/json" };
    const request = {
      method,
      url: this.settings.url + target,
      headers: { ...this.headers, ...json },
      ...(body === undefined ? {} : { body }),
    };
    const late = `no whole answer came within ${timeout} s`;
    try {
      return await within(timeout, signal, late, async (signal) => {
        const response = await this.transport.send({ ...request, signal });
        const text = await readText(response);
        const { status } = response;
        if (status < 300) return { status, text, header: (name) => response.header(name) };
        return replyError(status, text, response.header("retry-after"), this.settings.exact);
      });
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      return new UnreachableError(`no answer came: ${saying(error)}`, error);
    }
  }

  /**
   * The value of the body: an object with this member, or an array. What answers 200 with something
   * else is no Flux server, but perhaps a proxy.
   */
  #json(reply: Reply, member?: string): any {
    let value: any;
    try {
      value = decode(reply.text, this.settings.exact);
    } catch (cause) {
      throw new FluxError(reply.status, "unknown", "the answer is no JSON", { cause });
    }
    if (member === undefined ? Array.isArray(value) : value?.[member] !== undefined) return value;
    throw new FluxError(reply.status, "unknown", "the answer is none of a Flux server");
  }

  #encode(event: NewEvent): string {
    return encode(eventJson(event, this.settings.stream, this.settings.source));
  }

  async get(
    id: string,
    fields: readonly string[] | undefined,
    at: Time | undefined,
    options: CallOptions,
  ): Promise<Entity | null> {
    const params = { id, fields: fieldsText(fields), at: at === undefined ? at : timeText(at) };
    const target = targetOf("/api/state/entity", params);
    try {
      const reply = await this.#exchange({ method: "GET", target }, options);
      return entityOf(this.#json(reply, "id"), reply.header("etag"), reply.header("flux-cursor"));
    } catch (error) {
      if (error instanceof FluxError && error.code === "entity_not_found") return null;
      throw error;
    }
  }

  /** The rows of all pages. `signal` is the caller's. */
  async *#pages(path: string, target: string, signal?: AbortSignal): AsyncGenerator<any[]> {
    let next: string | null = target;
    while (next !== null) {
      const attempt: Attempt = { method: "GET", target: next };
      const reply = await this.run(signal, (signal) => this.#exchange(attempt, { signal }));
      yield this.#json(reply);
      const query = nextQuery(reply.header("link"));
      next = query === null ? null : path + query;
    }
  }

  async *list(
    params: { readonly [name: string]: string | undefined },
    signal?: AbortSignal,
  ): AsyncGenerator<Entity, void, undefined> {
    const path = "/api/state/entities";
    const target = targetOf(path, { ...params, limit: String(LIST_PAGE) });
    for await (const rows of this.#pages(path, target, signal)) {
      for (const row of rows) yield entityOf(row);
    }
  }

  async *history(
    params: { readonly [name: string]: string | undefined },
    limit: number,
    signal?: AbortSignal,
  ): AsyncGenerator<Event, void, undefined> {
    let left = limit;
    if (!(left > 0)) return;
    const path = "/api/events";
    const size = String(Math.min(Math.ceil(limit), HISTORY_PAGE));
    const target = targetOf(path, { ...params, limit: size });
    for await (const rows of this.#pages(path, target, signal)) {
      for (const row of rows) {
        yield eventOf(row);
        left -= 1;
        if (left <= 0) return;
      }
    }
  }

  async publish(event: EventInput, options: CallOptions): Promise<Published> {
    const body = this.#encode(withId(event));
    const reply = await this.#exchange({ method: "POST", target: "/api/events", body }, options);
    return publishedOf(this.#json(reply, "eventId"));
  }

  async publishAtomic(events: readonly EventInput[], options: CallOptions): Promise<Published[]> {
    const ready = events.map(withId);
    const texts = ready.map((event) => this.#encode(event));
    try {
      return (await this.#batch(texts, ',"atomic":true', options)).map(publishedOf);
    } catch (error) {
      if (error instanceof FluxError) error.events = ready;
      throw error;
    }
  }

  /** One request after the other, so that the order holds. */
  async publishMany(
    inputs: readonly EventInput[],
    options: CallOptions,
  ): Promise<(Published | FluxError)[]> {
    const events = inputs.map(withId);
    const results: (Published | FluxError)[] = [];
    for (const texts of chunks(events.map((event) => this.#encode(event)))) {
      try {
        const answers = await this.#batch(texts, "", options);
        results.push(...answers.map((row) => ("error" in row ? errorOf(row) : publishedOf(row))));
      } catch (error) {
        if (error instanceof FluxError) Object.assign(error, { results, events });
        throw error;
      }
    }
    return results;
  }

  async #batch(texts: readonly string[], more: string, options: CallOptions): Promise<any[]> {
    if (texts.length === 0) return [];
    const body = `{"events":[${texts.join(",")}]${more}}`;
    const target = "/api/events/batch";
    const attempt = { method: "POST", target, body, timeout: BATCH_TIMEOUT };
    return this.#json(await this.#exchange(attempt, options), "results").results;
  }

  async delete(
    entityId: string,
    expect: Expect | undefined,
    eventId: string | undefined,
    options: CallOptions,
  ): Promise<Published | null> {
    const properties = { __deleted__: true };
    const condition: Expect = { present: true, ...expect };
    try {
      return await this.publish({ entityId, properties, eventId, expect: condition }, options);
    } catch (error) {
      const isNone = error instanceof ConflictError && error.code === "precondition_failed";
      if (isNone && expect === undefined && error.entity === null) return null;
      throw error;
    }
  }
}
