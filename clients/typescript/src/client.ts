/** The client: what is common to Node and browsers. */

import { Calls } from "./calls.js";
import type { FluxError } from "./errors.js";
import { Lease } from "./lease.js";
import type { Platform } from "./transport.js";
import type { Entity, EntityUpdate, Event, EventInput, EventUpdate, Expect } from "./types.js";
import type { Members, Numeric, Properties, Published, Time, Update } from "./types.js";
import { fieldsText, timeText } from "./wire.js";
import { Watch } from "./watch.js";
import type { WatchOver } from "./watch.js";

export interface FluxOptions {
  readonly token?: string | undefined;
  /** Of events that name none. By default the program and the host, or the host of the page. */
  readonly source?: string | undefined;
  /** Of events that name none: `events` by default. */
  readonly stream?: string | undefined;
  /** `exact`: integers come as `bigint`, other numbers as `Digits`, digit for digit. */
  readonly numbers?: "number" | "exact" | undefined;
  /** Seconds for which a call that got no answer is made again: 30 by default. */
  readonly retryFor?: number | undefined;
  /** Node: a file with the certificates of the authorities to trust, in PEM. */
  readonly caFile?: string | undefined;
  /**
   * How watches are connected: by default `websocket` in a browser, else `stream`. The snapshot of
   * mode `event` comes over a stream in any case.
   */
  readonly watchOver?: WatchOver | undefined;
}

/** A call is cancelled by its signal; it then rejects with the signal's reason. */
export interface Cancellable {
  readonly signal?: AbortSignal | undefined;
}

export interface GetOptions extends Cancellable {
  /** Only these properties. */
  readonly fields?: readonly string[] | undefined;
}

export interface ListOptions extends GetOptions {
  readonly prefix?: string | undefined;
  readonly namespace?: string | undefined;
  /** As in `eq(status,"open")`. */
  readonly filter?: string | undefined;
  readonly at?: Time | undefined;
}

export interface HistoryOptions extends Cancellable {
  readonly namespace?: string | undefined;
  readonly since?: Time | undefined;
  readonly until?: Time | undefined;
  /** All by default. */
  readonly limit?: number | undefined;
}

export interface PublishOptions extends Members, Cancellable {}

export interface WriteOptions extends Cancellable {
  readonly eventId?: string | undefined;
}

export interface DeleteOptions extends WriteOptions {
  readonly expect?: Expect | undefined;
}

interface AnyWatchOptions extends Cancellable {
  /** Only changes to these. */
  readonly properties?: readonly string[] | undefined;
  /** Seconds of an outage after which the watch fails. Without it it goes on trying. */
  readonly giveUpAfter?: number | undefined;
  /** The pattern is an id, also if it ends in `*`. */
  readonly exact?: boolean | undefined;
}

export interface EntityWatchOptions extends AnyWatchOptions {
  readonly mode?: "entity" | undefined;
  readonly filter?: string | undefined;
  /** At most so many updates a second for each entity. */
  readonly maxHz?: number | undefined;
}

export interface EventWatchOptions extends AnyWatchOptions {
  readonly mode: "event";
  /** A cursor: the events after it. By default those from now on. */
  readonly since?: string | undefined;
  /** Begin with the current state. */
  readonly snapshot?: boolean | undefined;
}

export interface LeaseOptions {
  /** Seconds: 10 by default. */
  readonly ttl?: number | undefined;
  readonly properties?: Properties | undefined;
}

function settingsOf(platform: Platform, url: string | undefined, options: FluxOptions) {
  const { environment } = platform;
  const text = (url || environment["FLUX_URL"] || "http://localhost:3000").replace(/\/+$/, "");
  // The message shows no password that somebody may have put there.
  const wrong = new TypeError("the URL of a server is one of http or https, and has no user or query");
  if (!/^https?:\/\/[^/@?#\s]+(\/[^?#\s]*)?$/.test(text) || !URL.canParse(text)) throw wrong;
  const isTls = text.startsWith("https:");
  const token = options.token || environment["FLUX_TOKEN"] || undefined;
  if (token !== undefined && !/^[\x21-\x7e]+$/.test(token)) {
    throw new TypeError("the token holds characters that no token has");
  }
  const { stream = "events", source = platform.source, numbers, retryFor = 30 } = options;
  const caFile = options.caFile || environment["FLUX_CA_FILE"] || undefined;
  const transport = platform.transport({ caFile, isTls });
  const exact = numbers === "exact";
  return { settings: { url: text, token, stream, source, exact, retryFor }, transport };
}

/**
 * A Flux server. The URL and the token default to FLUX_URL and FLUX_TOKEN, where there is an
 * environment.
 *
 * A call that gets no answer, or 429 or 503 with `Retry-After`, is made again for `retryFor`
 * seconds; no write counts twice for that. Calls reject with FluxError: ConflictError for a
 * condition that does not hold, UnreachableError if there was no answer.
 */
export class FluxClient {
  readonly #calls: Calls;
  readonly #watchOver: WatchOver | undefined;
  readonly #platform: Platform;

  /** @internal */
  constructor(platform: Platform, url: string | undefined, options: FluxOptions) {
    const { settings, transport } = settingsOf(platform, url, options);
    this.#calls = new Calls(settings, transport, platform.callsAtOnce);
    this.#watchOver = options.watchOver;
    this.#platform = platform;
  }

  /**
   * Ends the client: its watches end, its calls reject with ClosedError, its leases are renewed no
   * longer.
   */
  async close(): Promise<void> {
    this.#calls.close();
  }

  /** The entity, or `null` if there is none. */
  get(entityId: string, { fields, signal }: GetOptions = {}): Promise<Entity | null> {
    return this.#calls.run(signal, (signal) =>
      this.#calls.get(entityId, fields, undefined, { signal }),
    );
  }

  /** The entity as it was at a time, or `null`. */
  at(entityId: string, when: Time, { fields, signal }: GetOptions = {}): Promise<Entity | null> {
    return this.#calls.run(signal, (signal) => this.#calls.get(entityId, fields, when, { signal }));
  }

  /**
   * The entities by id; pages are fetched as they are asked for. They are no single moment, unless
   * `at` names one.
   */
  list(options: ListOptions = {}): AsyncGenerator<Entity, void, undefined> {
    const { prefix, namespace, filter, fields, at, signal } = options;
    const time = at === undefined ? undefined : timeText(at);
    const params = { prefix, namespace, filter, fields: fieldsText(fields), at: time };
    return this.#calls.list(params, signal);
  }

  /**
   * The stored events of an entity or a namespace, newest first; pages are fetched as they are
   * asked for. Rejects with 410 `history_removed` where retention has removed what comes next.
   */
  history(entityId: string, options?: HistoryOptions): AsyncGenerator<Event, void, undefined>;
  history(
    options: HistoryOptions & { readonly namespace: string },
  ): AsyncGenerator<Event, void, undefined>;
  history(
    first: string | HistoryOptions,
    second: HistoryOptions = {},
  ): AsyncGenerator<Event, void, undefined> {
    const [entity, options] = typeof first === "string" ? [first, second] : [undefined, first];
    const { namespace, since, until, limit = Number.POSITIVE_INFINITY, signal } = options;
    const params = {
      entity,
      namespace,
      since: since === undefined ? undefined : timeText(since),
      until: until === undefined ? undefined : timeText(until),
    };
    return this.#calls.history(params, limit, signal);
  }

  /**
   * Stores an event: `publish("shop/1", { status: "paid" }, { expect: { properties: { status:
   * "open" } } })`, or one that `newEvent` made.
   */
  publish(event: EventInput, options?: Cancellable): Promise<Published>;
  publish(entityId: string, properties?: Properties, options?: PublishOptions): Promise<Published>;
  async publish(
    first: EventInput | string,
    second?: Properties | Cancellable,
    third: PublishOptions = {},
  ): Promise<Published> {
    const [event, signal] = eventArguments(first, second, third);
    return this.#calls.run(signal, (signal) => this.#calls.publish(event, { signal }));
  }

  /**
   * Stores events in their order, in as many requests as it takes.
   *
   * Each is decided by itself: a result is the answer, or the error of that event, which is not
   * published again (`rate_limited` too). If a request fails, the error has `results` and `events`.
   * With `atomic` all are stored or none is, in one request: at most 1,000, of one namespace.
   */
  publishMany(
    events: Iterable<EventInput>,
    options: Cancellable & { readonly atomic: true },
  ): Promise<Published[]>;
  publishMany(
    events: Iterable<EventInput>,
    options?: Cancellable & { readonly atomic?: boolean | undefined },
  ): Promise<(Published | FluxError)[]>;
  async publishMany(
    events: Iterable<EventInput>,
    { atomic = false, signal }: Cancellable & { readonly atomic?: boolean | undefined } = {},
  ): Promise<(Published | FluxError)[]> {
    const list = [...events];
    return this.#calls.run<(Published | FluxError)[]>(signal, (signal) =>
      atomic
        ? this.#calls.publishAtomic(list, { signal })
        : this.#calls.publishMany(list, { signal }),
    );
  }

  /**
   * Adds to a number, exactly, and returns the sum. An absent property counts as 0. Returns `null`,
   * with the number counted, if the token may not read the namespace.
   */
  async increment<N extends Numeric = number>(
    entityId: string,
    name: string,
    by: Numeric = 1,
    { eventId, signal }: WriteOptions = {},
  ): Promise<N | null> {
    const event = { entityId, eventId, increment: { [name]: by } };
    const published = await this.#calls.run(signal, (signal) =>
      this.#calls.publish(event, { signal }),
    );
    return published.properties[name] ?? null;
  }

  /**
   * Deletes the entity, or returns `null` if there is none. Rejects with ConflictError if `expect`
   * is given and does not hold.
   */
  delete(entityId: string, options: DeleteOptions = {}): Promise<Published | null> {
    const { expect, eventId, signal } = options;
    return this.#calls.run(signal, (signal) =>
      this.#calls.delete(entityId, expect, eventId, { signal }),
    );
  }

  /**
   * Follows an entity, the ids that begin alike (`shop/*`) or everything (`*`).
   *
   * Mode `entity` yields a snapshot, then each change and deletion; `Watch.entities` is the state.
   * Changes of an entity are merged if they come faster than they are read. Mode `event` yields
   * every event once, in order.
   *
   * A connection that breaks is made again, with pauses of up to 10 s, and goes on where it was. If
   * the server can't tell what was missed, a reset and a new snapshot come.
   */
  watch(pattern?: string, options?: EntityWatchOptions): Watch<EntityUpdate>;
  watch(pattern: string, options: EventWatchOptions): Watch<EventUpdate>;
  watch<U extends Update>(
    pattern = "*",
    options: EntityWatchOptions | EventWatchOptions = {},
  ): Watch<U> {
    const { mode = "entity", properties, giveUpAfter, exact = false, signal } = options;
    // Messages of other modes would be passed over.
    if (mode !== "entity" && mode !== "event") {
      throw new TypeError(`${String(mode)} is no mode of a watch: it is "entity" or "event"`);
    }
    // Values that the type does not allow for the mode are told to the server, which refuses them.
    const { filter, maxHz } = options as EntityWatchOptions;
    const { since, snapshot = false } = options as EventWatchOptions;
    if (properties) fieldsText(properties);
    if (Number(since !== undefined) + Number(snapshot) > Number(mode === "event")) {
      const rule = "a watch begins with `since` or a snapshot";
      throw new TypeError(`${rule}, and one of mode "entity" always with a snapshot`);
    }
    const both = { pattern, exact, mode, properties, giveUpAfter };
    const what = { ...both, filter, maxHz, since, snapshot };
    return new Watch<U>(this.#calls, this.#watchOver ?? this.#platform.watchOver, what, signal);
  }

  /**
   * A lease on an id, not yet claimed: an entity with the property `holder` that expires after
   * `ttl` seconds and is renewed in the background. What must not happen without the lease goes
   * into `const batch = [lease.guard(), …]` and `publishMany(batch, { atomic: true })`.
   */
  lease(entityId: string, { ttl = 10, properties = {} }: LeaseOptions = {}): Lease {
    return new Lease(this.#calls, entityId, ttl, properties);
  }
}

function eventArguments(
  first: EventInput | string,
  second: Properties | Cancellable | undefined,
  third: PublishOptions,
): [EventInput, AbortSignal | undefined] {
  if (typeof first !== "string") return [first, (second as Cancellable | undefined)?.signal];
  const { signal, ...members } = third;
  return [{ ...members, entityId: first, properties: second }, signal];
}

/** `await using` closes a client, where the platform has it. */
export interface FluxClient {
  [Symbol.asyncDispose](): Promise<void>;
}
if (Symbol.asyncDispose) {
  FluxClient.prototype[Symbol.asyncDispose] = function () {
    return this.close();
  };
}
