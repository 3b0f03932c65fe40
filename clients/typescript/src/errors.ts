/** What is thrown if a call does not succeed. */

import type { Entity, NewEvent, Published } from "./types.js";

export interface ErrorDetails {
  readonly entity?: Entity | null;
  readonly index?: number | null;
  readonly retryAfter?: number | null;
  readonly cause?: unknown;
}

/** The server refused a call, or could not be reached. */
export class FluxError extends Error {
  /** That of HTTP, `null` if there was no answer. */
  readonly status: number | null;
  /** What is wrong, in a stable word. */
  readonly code: string;
  /** What a failed condition met; `null` also if there is no entity. */
  readonly entity: Entity | null;
  /** The event of an atomic batch that was refused. */
  readonly index: number | null;
  /** In seconds. */
  readonly retryAfter: number | null;
  /** If `publishMany` failed after a part of it succeeded: the results of the first events. */
  results: readonly (Published | FluxError)[] = [];
  /** All events that `publishMany` was to publish, with their ids. */
  events: readonly NewEvent[] = [];

  constructor(status: number | null, code: string, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? {} : { cause: details.cause });
    this.name = new.target.name;
    this.status = status;
    this.code = code;
    this.entity = details.entity ?? null;
    this.index = details.index ?? null;
    this.retryAfter = details.retryAfter ?? null;
  }
}

/** 409: a condition did not hold, or the event id was used for something else. */
export class ConflictError extends FluxError {}

/** No answer came for as long as the client retries. A write may or may not have happened. */
export class UnreachableError extends FluxError {
  constructor(message: string, cause?: unknown) {
    super(null, "unreachable", message, { cause });
  }
}

/** The client was closed before the call had its answer. A write may or may not have happened. */
export class ClosedError extends FluxError {
  constructor() {
    super(null, "closed", "the client is closed");
  }
}

/** The lease is no longer the holder's, or it can't know that it still is. */
export class LeaseLostError extends FluxError {
  constructor(entityId: string) {
    super(null, "lease_lost", `the lease ${entityId} is no longer held`);
  }
}

/** What an error of the platform says. That of several addresses has only a code. */
export function saying(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.message || ("code" in error ? String(error.code) : error.name);
}
