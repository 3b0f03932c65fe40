/**
 * A watch without I/O: what to subscribe to, and what each message leads to.
 *
 * `Subscription` outlives its connections. For each it says how to begin (`begin`), then takes the
 * messages one by one (`receive`), and says how long to wait when the connection broke (`broke`).
 * It keeps a cursor of what the server has sent completely, and what it has to know to recognise
 * what comes twice after that.
 */

import { FluxError, UnreachableError, saying } from "./errors.js";
import type { Change, Entity, Event, Properties, Update } from "./types.js";
import { RETRY_AFTER_MAX, jitteredPause, now } from "./waiting.js";
import { entityOf, errorOf, eventOf } from "./wire.js";

/** The connection is of no more use; another one may be. */
export class Again extends Error {}

export interface SubscriptionOptions {
  readonly pattern: string;
  readonly mode: "entity" | "event";
  readonly properties: readonly string[] | undefined;
  readonly filter: string | undefined;
  readonly maxHz: number | undefined;
  readonly since: string | undefined;
  readonly snapshot: boolean;
  readonly giveUpAfter: number | undefined;
  /** The pattern is an id. */
  readonly exact: boolean;
}

/** What the server is asked for. It takes any `*` at the end for one of a pattern. */
export function sentPattern({ pattern, exact }: SubscriptionOptions): string {
  return exact && pattern.endsWith("*") ? `${pattern}*` : pattern;
}

/** How a connection begins. */
export interface Beginning {
  readonly since?: string;
  readonly snapshot?: true;
}

/** Whether all that a pattern matches has one order of events. */
function hasOneOrder(pattern: string): boolean {
  return !pattern.endsWith("*") || pattern.includes("/");
}

/** What has one order of events: a namespace, with its slash, or an id that has none. */
function namespaceOf(entityId: string): string {
  const slash = entityId.indexOf("/");
  return slash < 0 ? entityId : entityId.slice(0, slash + 1);
}

function without<T>(
  object: { readonly [name: string]: T },
  names: readonly string[],
): { [name: string]: T } {
  const dropped = new Set(names);
  return Object.fromEntries(Object.entries(object).filter(([name]) => !dropped.has(name)));
}

/** Whether two JSON values are the same, whatever the order of members. */
function isSame(a: any, b: any): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  const names = Object.keys(a);
  if (Array.isArray(a) !== Array.isArray(b) || names.length !== Object.keys(b).length) return false;
  return names.every((name) => Object.hasOwn(b, name) && isSame(a[name], b[name]));
}

/** One watch, over any number of connections. */
export class Subscription {
  readonly options: SubscriptionOptions;
  /** All up to this place has been received. `null`: a snapshot is needed, or nothing came yet. */
  cursor: string | null;
  entities = new Map<string, Entity>();
  /** Whether all that the server has to tell so far has come, on a connection that stands. */
  isCurrent = false;
  acknowledged = false;
  /** The server ended the subscription: it is to be made anew, on another connection. */
  ended = false;
  #wantsSnapshot: boolean;
  /** Mode `entity`: the pages of a snapshot until it is whole. */
  #pages: Map<string, Entity> | null = null;
  /** Mode `entity`: what came after a break, until all of it is there. */
  #missed: Update[] = [];
  /** Mode `event`: a snapshot is under way; something has been handed out since it began. */
  #awaitsSnapshotEnd = false;
  #isMidSnapshot = false;
  /** Mode `event`: namespace -> its last event that was handed out, since `cursor`. */
  readonly #handedOut = new Map<string, number>();
  /**
   * Mode `event`, if there is one order: the cursor of the last event, from which a connection goes
   * on. It may be far after `cursor`, while the server tells a long history.
   */
  #lastEvent: string | null = null;
  #failures = 0;
  #brokenSince = now();

  constructor(options: SubscriptionOptions) {
    this.options = options;
    this.cursor = options.since ?? null;
    this.#wantsSnapshot = options.mode === "entity" || options.snapshot;
  }

  /** How a new connection begins, and what to hand out before its messages. */
  begin(): [Beginning, Update[]] {
    const { mode } = this.options;
    const wasMidSnapshot = this.#isMidSnapshot;
    this.#pages = null;
    this.#awaitsSnapshotEnd = this.ended = this.#isMidSnapshot = false;
    if (this.cursor !== null) return [{ since: this.#lastEvent ?? this.cursor }, []];
    if (!this.#wantsSnapshot) return [{}, []];
    this.#pages = mode === "entity" ? new Map() : null;
    this.#awaitsSnapshotEnd = mode === "event";
    return [{ snapshot: true }, wasMidSnapshot ? [{ type: "reset", reason: "interrupted" }] : []];
  }

  /**
   * The connection broke, or could not be made. Returns the seconds until the next attempt.
   *
   * `refusal` is what the server said to it, if anything. Throws if another attempt would be
   * refused too, or if it took too long already.
   */
  broke(refusal: FluxError | null, cause?: unknown): number {
    let wait = 0;
    if (refusal?.status) {
      // Unlike a call, a watch has no one who would make it again.
      const { status } = refusal;
      if (status !== 408 && status !== 429 && status < 500) throw refusal;
      wait = Math.min(refusal.retryAfter ?? 0, RETRY_AFTER_MAX);
    }
    if (this.isCurrent || this.#failures === 0) this.#brokenSince = now();
    this.isCurrent = false;
    this.#failures += 1;
    wait += jitteredPause(this.#failures);
    const { giveUpAfter } = this.options;
    if (giveUpAfter === undefined) return wait;
    const left = this.#brokenSince + giveUpAfter - now();
    if (left <= 0) {
      const why = refusal ?? cause;
      throw new UnreachableError(`the server could not be reached: ${saying(why)}`, why);
    }
    return Math.min(wait, left);
  }

  /** What a message leads to. Throws `Again` to reconnect, FluxError if that can't help. */
  receive(message: any): Update[] {
    switch (message.type) {
      case "entity":
        return this.#change(message);
      case "entity_deleted":
        return this.#forget(message, "deleted");
      case "event":
        return this.#event(message);
      case "snapshot":
        return this.#page(message);
      case "snapshot_end":
        return this.#snapshotEnd(message);
      case "ack":
        this.acknowledged = true;
        // With a snapshot or `since`, what lies before this place is still to come.
        if (this.cursor === null && !this.#wantsSnapshot) this.#reached(message.cursor);
        return [];
      case "caught_up":
      case "cursor":
        this.#reached(message.cursor);
        return this.#missed.splice(0);
      case "resync":
        this.cursor = null;
        this.#pages = new Map();
        this.#missed = [];
        this.isCurrent = false;
        return [{ type: "reset", reason: message.reason }];
      case "error":
        return this.refused(errorOf(message));
      default:
        return [];
    }
  }

  #reached(cursor: string): void {
    this.cursor = cursor;
    this.isCurrent = true;
    this.#failures = 0;
    // What is sent again after a break lies behind the cursor.
    this.#handedOut.clear();
    this.#lastEvent = null;
  }

  /** The subscription was refused, or ended by the server. */
  refused(error: FluxError): Update[] {
    if (["overloaded", "not_ready", "shutting_down", "slow_reader"].includes(error.code)) {
      throw new Again(error.message);
    }
    if (error.code !== "history_removed" || this.options.mode !== "event") throw error;
    // The next connection begins with a snapshot. That the log lost events is said here, once.
    this.cursor = null;
    this.#wantsSnapshot = true;
    this.#isMidSnapshot = false;
    this.#handedOut.clear();
    this.#lastEvent = null;
    this.ended = true;
    return [{ type: "reset", reason: error.code }];
  }

  /** Whether what came for `sentPattern` is what was asked for. */
  #matches(entityId: string): boolean {
    return !this.options.exact || entityId === this.options.pattern;
  }

  #page(message: any): Update[] {
    const all: Entity[] = message.entities.map((row: any) => entityOf(row));
    const rows = all.filter(({ id }) => this.#matches(id));
    if (this.#pages) {
      for (const entity of rows) this.#pages.set(entity.id, entity);
      return [];
    }
    this.#isMidSnapshot = true;
    const entities = new Map(rows.map((entity) => [entity.id, entity]));
    return [{ type: "snapshot", entities, more: true }];
  }

  #snapshotEnd(message: any): Update[] {
    this.#isMidSnapshot = this.#awaitsSnapshotEnd = false;
    const pages = this.#pages;
    this.#pages = null;
    this.#reached(message.cursor);
    if (!pages) return [{ type: "snapshot", entities: new Map(), more: false }];
    this.entities = pages;
    return [{ type: "snapshot", entities: new Map(pages), more: false }];
  }

  #change(message: any): Update[] {
    if (!this.#matches(message.entity_id)) return [];
    if (message.matches === false) return this.#forget(message, "unmatched");
    const entities = this.#pages ?? this.entities;
    const known = entities.get(message.entity_id);
    const whole = message.whole === true;
    const entity = changed(whole ? undefined : known, message);
    // What came after the cursor comes again after a break, whole.
    if (whole && isSame(entity, known)) return [];
    entities.set(entity.id, entity);
    if (this.#pages) return [];
    const { properties, removed } = message;
    const sequence = Number(message.sequence);
    const change: Change = { type: "change", entity, properties, removed, whole, sequence };
    return this.#told(change);
  }

  /** What was missed comes in no order: on the way through it the copy is as nothing ever was. */
  #told(update: Update): Update[] {
    if (this.isCurrent) return [update];
    this.#missed.push(update);
    return [];
  }

  #forget(message: any, reason: "deleted" | "unmatched"): Update[] {
    const entityId: string = message.entity_id;
    const wasKnown = (this.#pages ?? this.entities).delete(entityId);
    if (!wasKnown || this.#pages) return [];
    return this.#told({ type: "deleted", entityId, sequence: Number(message.sequence ?? 0), reason });
  }

  #event(message: any): Update[] {
    const event: Event = eventOf(message);
    if (!this.#matches(event.entityId)) return [];
    const namespace = namespaceOf(event.entityId);
    if (event.sequence <= (this.#handedOut.get(namespace) ?? -1)) return [];
    this.#handedOut.set(namespace, event.sequence);
    this.#isMidSnapshot = this.#awaitsSnapshotEnd;
    if (hasOneOrder(sentPattern(this.options))) this.#lastEvent = event.cursor;
    return [event];
  }
}

/** The entity after a change of what was known of it. */
function changed(old: Entity | undefined, message: any): Entity {
  const set: Properties = message.properties;
  const removed: string[] = message.removed;
  const tooLarge: { [name: string]: number } = Object.fromEntries(
    Object.entries(message.omitted ?? {}).map(([name, bytes]) => [name, Number(bytes)]),
  );
  const kept = without(old?.properties ?? {}, [...removed, ...Object.keys(tooLarge)]);
  const omitted = {
    ...without(old?.omitted ?? {}, [...removed, ...Object.keys(set)]),
    ...tooLarge,
  };
  const expiresAt = "expiresAt" in message ? message.expiresAt : (old?.expiresAt ?? null);
  return {
    id: message.entity_id,
    properties: { ...kept, ...set },
    version: Number(message.version),
    lastUpdated: message.timestamp,
    expiresAt,
    ...(Object.keys(omitted).length > 0 ? { omitted } : {}),
  };
}
