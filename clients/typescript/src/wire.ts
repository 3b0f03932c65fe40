/** Between the server's JSON and the types of this package. */

import { ConflictError, FluxError } from "./errors.js";
import { decode } from "./json.js";
import type { Entity, Event, EventInput, Expect, Members, NewEvent, Properties } from "./types.js";
import type { Published, Time } from "./types.js";

/** A member of an answer that may be missing, as an optional property. */
function optional<Name extends string, T>(
  name: Name,
  value: T | null | undefined,
): { readonly [K in Name]?: T } {
  return value === undefined || value === null ? {} : ({ [name]: value } as { [K in Name]: T });
}

const numberOrNone = (value: unknown): number | undefined =>
  value === undefined || value === null ? undefined : Number(value);

/** The names of a query: the server takes none for all, and a comma for the end of one. */
export function fieldsText(names: readonly string[] | undefined): string | undefined {
  if (names === undefined) return undefined;
  if (!Array.isArray(names) || names.length === 0 || names.some((name) => name.includes(","))) {
    throw new TypeError("a list of names is needed, of at least one and none with a comma");
  }
  return names.join(",");
}

export function entityOf(row: any, etag?: string | null, cursor?: string | null): Entity {
  return {
    id: row.id,
    properties: row.properties ?? {},
    version: Number(row.version),
    lastUpdated: row.lastUpdated,
    expiresAt: row.expiresAt ?? null,
    ...(row.value_omitted ? { omitted: { "": Number(row.bytes) } } : {}),
    ...optional("etag", etag),
    ...optional("cursor", cursor),
  };
}

export function eventOf(row: any): Event {
  const isOmitted = row.payload_omitted === true;
  const payload: Properties = isOmitted ? { entity_id: row.entity_id } : row.payload;
  return {
    type: "event",
    eventId: row.eventId,
    entityId: payload["entity_id"],
    stream: row.stream,
    source: row.source,
    payload,
    sequence: Number(row.sequence),
    acceptedAt: row.acceptedAt,
    cursor: row.cursor,
    ...optional("timestamp", numberOrNone(row.timestamp)),
    ...optional("key", row.key as string | undefined),
    ...optional("schema", row.schema as string | undefined),
    ...optional("traceparent", row.traceparent as string | undefined),
    ...(isOmitted ? { omittedBytes: Number(row.bytes) } : {}),
  };
}

export function publishedOf(body: any): Published {
  return {
    eventId: body.eventId,
    stream: body.stream,
    version: numberOrNone(body.version) ?? null,
    sequence: Number(body.sequence),
    cursor: body.cursor,
    duplicate: body.duplicate === true,
    properties: body.properties ?? {},
  };
}

/**
 * The statuses that the codes of refused batch items and messages have over HTTP. What is not here
 * is 400: it says what is wrong with what was sent.
 */
const STATUS: { readonly [code: string]: number } = {
  precondition_failed: 409,
  event_id_reused: 409,
  history_removed: 410,
  rate_limited: 429,
  record_too_large: 413,
  token_missing: 401,
  token_malformed: 401,
  token_unknown: 401,
  ticket_unknown: 401,
  reserved_namespace: 403,
  not_namespace_owner: 403,
  scope_missing: 403,
  outside_prefix: 403,
  not_readable: 403,
  access_ended: 403,
  overloaded: 503,
  storage_full: 503,
  storage_fault: 503,
  storage_read_only: 503,
  storage_unavailable: 503,
  state_damaged: 503,
  history_unreadable: 503,
  not_ready: 503,
  shutting_down: 503,
};

/** The error that a body, an item of a batch or a message names. */
export function errorOf(body: any, status?: number, retryAfter?: number | null): FluxError {
  const code = String(body.code ?? "unknown");
  const known = status ?? STATUS[code] ?? 400;
  return new (known === 409 ? ConflictError : FluxError)(
    known,
    code,
    String(body.error ?? "the server said no more"),
    {
      entity: body.entity ? entityOf(body.entity) : null,
      index: numberOrNone(body.index) ?? null,
      retryAfter: retryAfter ?? null,
    },
  );
}

/** The error in an answer, which may be that of a proxy and no JSON. */
export function replyError(
  status: number,
  text: string,
  retryAfter: string | null,
  exact: boolean,
): FluxError {
  let body: unknown;
  try {
    body = decode(text, exact);
  } catch {
    body = null;
  }
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    body = { error: `the answer has status ${status}`, code: "unknown" };
  }
  return errorOf(body, status, retryAfterSeconds(retryAfter));
}

/** Seconds. What `Retry-After` asks for beyond a day counts as a day. */
const DAY = 86_400;

/** A date as HTTP writes it; `Date.parse` takes much that is none. */
const HTTP_DATE = /^[A-Z][a-z]+, \d\d[ -][A-Z][a-z]{2}[ -]\d{2,4} \d\d:\d\d:\d\d GMT$/;

/**
 * `Retry-After`: seconds, or a date from a proxy. What is neither says no time, but still that
 * waiting helps: 0. `null` if there is no such field.
 */
export function retryAfterSeconds(text: string | null): number | null {
  if (text === null || text === "") return null;
  // Whole numbers of any length: what is beyond a number is Infinity.
  if (/^\d+$/.test(text)) return Math.min(Number(text), DAY);
  const time = HTTP_DATE.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(time) ? 0 : Math.min(Math.max(0, (time - Date.now()) / 1000), DAY);
}

/** An event id that nobody else makes. */
export function newEventId(): string {
  // `crypto.randomUUID` is missing in pages that came over plain HTTP from another host.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/**
 * An event with an id of its own. The same object published twice counts once, also if the first
 * call got no answer.
 */
export function newEvent(entityId: string, properties?: Properties, members?: Members): NewEvent {
  const eventId = members?.eventId || newEventId();
  return Object.freeze({ ...members, entityId, properties, eventId });
}

/** The event with an id, which it keeps over all attempts. */
export function withId(event: EventInput): NewEvent {
  return newEvent(event.entityId, event.properties, event);
}

function expectJson(expect: Expect): object {
  const { absentProperties, ...others } = expect;
  return { ...others, absent_properties: absentProperties };
}

/** The event as the server takes it. */
export function eventJson(event: NewEvent, stream: string, source: string): object {
  const { increment, min, max, append, unset, ttl } = event;
  return {
    eventId: event.eventId,
    stream: event.stream ?? stream,
    source: event.source ?? source,
    timestamp: event.timestamp,
    key: event.key,
    schema: event.schema,
    traceparent: event.traceparent,
    expect: event.expect === undefined ? undefined : expectJson(event.expect),
    payload: {
      entity_id: event.entityId,
      properties: event.properties ?? {},
      ...{ ttl, increment, min, max, append, unset },
    },
  };
}

export function timeText(time: Time): string {
  return time instanceof Date ? time.toISOString() : String(time);
}
