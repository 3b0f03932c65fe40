/// <reference lib="esnext.disposable" preserve="true" />

/** What goes to the server and what comes from it, as types. */

import type { Digits } from "./json.js";

/** Any JSON value by name. With `numbers: "exact"` numbers are `bigint` and `Digits`. */
export type Properties = { readonly [name: string]: any };

/** A number to write, digit for digit if it is a `bigint` or `Digits`. */
export type Numeric = number | bigint | Digits;

/** A `Date`, Unix milliseconds, or RFC 3339 text, which keeps microseconds. */
export type Time = Date | number | string;

/** Conditions of a write. All must hold when its turn comes, else it is refused with 409. */
export interface Expect {
  readonly version?: number | undefined;
  readonly etag?: string | undefined;
  readonly absent?: true | undefined;
  readonly present?: true | undefined;
  /** The entity has each of these properties, equal by value. */
  readonly properties?: Properties | undefined;
  /** The entity has none of these properties. */
  readonly absentProperties?: readonly string[] | undefined;
  readonly filter?: string | undefined;
}

/** The optional members of an event. */
export interface Members {
  /**
   * The same id counts once. `newEvent` makes one; an event without it gets one from the call that
   * publishes it.
   */
  readonly eventId?: string | undefined;
  /** Default to those of the client. They are part of what an `eventId` stands for. */
  readonly stream?: string | undefined;
  readonly source?: string | undefined;
  /** The producer's time in Unix milliseconds. */
  readonly timestamp?: number | undefined;
  readonly key?: string | undefined;
  readonly schema?: string | undefined;
  readonly traceparent?: string | undefined;
  readonly expect?: Expect | undefined;
  /** Seconds until the entity is deleted. `null`: it no longer expires. Absent: as it was. */
  readonly ttl?: Numeric | null | undefined;
  readonly increment?: { readonly [name: string]: Numeric } | undefined;
  readonly min?: { readonly [name: string]: Numeric } | undefined;
  readonly max?: { readonly [name: string]: Numeric } | undefined;
  readonly append?: { readonly [name: string]: readonly any[] } | undefined;
  readonly unset?: readonly string[] | undefined;
}

/** An event to publish. */
export interface EventInput extends Members {
  readonly entityId: string;
  readonly properties?: Properties | undefined;
}

/** An event to publish that has its id: sent twice, it counts once. */
export interface NewEvent extends EventInput {
  readonly eventId: string;
}

/** The answer to a stored event. */
export interface Published {
  readonly eventId: string;
  readonly stream: string;
  /** `null` if there is no entity after the event. */
  readonly version: number | null;
  readonly sequence: number;
  readonly cursor: string;
  /** The event had been stored before, and this is the answer of that time. */
  readonly duplicate: boolean;
  /** The results of operations. Empty for a token that may not read the namespace. */
  readonly properties: Properties;
}

/** An entity at one moment. Times are RFC 3339 text with microseconds, as the server sends them. */
export interface Entity {
  readonly id: string;
  readonly properties: Properties;
  readonly version: number;
  readonly lastUpdated: string;
  readonly expiresAt: string | null;
  /**
   * What was too large for a message of a watch, by name with its bytes; `""` is all. `get` reads
   * it.
   */
  readonly omitted?: { readonly [name: string]: number };
  /** Of an entity that `get` read. */
  readonly etag?: string;
  readonly cursor?: string;
}

/** A stored event. */
export interface Event {
  readonly type: "event";
  readonly eventId: string;
  readonly entityId: string;
  readonly stream: string;
  readonly source: string;
  /** As it was sent. Holds `entity_id` alone if it was too large for a message of a watch. */
  readonly payload: Properties;
  readonly sequence: number;
  readonly acceptedAt: string;
  readonly cursor: string;
  readonly timestamp?: number;
  readonly key?: string;
  readonly schema?: string;
  readonly traceparent?: string;
  /** The size of a payload that was too large for a message of a watch. */
  readonly omittedBytes?: number;
}

/** The current entities. In mode `event` they come in pages, of which the last has no `more`. */
export interface Snapshot {
  readonly type: "snapshot";
  readonly entities: ReadonlyMap<string, Entity>;
  readonly more: boolean;
}

/** An entity was created or changed. */
export interface Change {
  readonly type: "change";
  /** All of the entity, as it is now. */
  readonly entity: Entity;
  /** What the change set, and the names that it took away. */
  readonly properties: Properties;
  readonly removed: readonly string[];
  /** The entity came whole: what of it is new is not known. */
  readonly whole: boolean;
  readonly sequence: number;
}

/** An entity is gone, or no longer matches the filter of the watch. */
export interface Deleted {
  readonly type: "deleted";
  readonly entityId: string;
  readonly sequence: number;
  readonly reason: "deleted" | "unmatched";
}

/**
 * Changes are missing between what came before and the snapshot that follows.
 *
 * `history_removed`: retention removed them, or an older copy of the data was restored. `too_far`:
 * a snapshot is less work. `interrupted` (mode `event`): a snapshot was cut off.
 */
export interface Reset {
  readonly type: "reset";
  readonly reason: string;
}

export type EntityUpdate = Snapshot | Change | Deleted | Reset;
export type EventUpdate = Snapshot | Event | Reset;
export type Update = EntityUpdate | EventUpdate;
