/** A watch: an async iterator of updates that makes its connections anew as they break. */

import { isUntrusted } from "./calls.js";
import type { Calls } from "./calls.js";
import { ClosedError, FluxError, UnreachableError } from "./errors.js";
import { decode } from "./json.js";
import { Queue } from "./queue.js";
import { AUTHENTICATION, openSocket, openStream } from "./sources.js";
import type { Source } from "./sources.js";
import { Subscription } from "./subscription.js";
import type { SubscriptionOptions } from "./subscription.js";
import type { Entity, Update } from "./types.js";
import type { Scope } from "./waiting.js";
import { now, sleep } from "./waiting.js";
import { errorOf } from "./wire.js";

export type WatchOver = "stream" | "websocket";

/** What ends a watch without an error. */
const ENDED = new ClosedError();

/**
 * What `watch` returns. `for await` reads it, and closes it at its end, whether by `break` or an
 * error.
 *
 * Nothing is read ahead of the reader: the server is held back, and merges changes or reads them
 * from its log later. Only over a WebSocket messages wait here, up to a bound; beyond it the
 * connection ends, and the watch goes on at its cursor. A snapshot of mode `event` has none before
 * its end, so it comes over a stream in any case.
 */
export class Watch<U extends Update> implements AsyncIterable<U> {
  readonly #calls: Calls;
  readonly #over: WatchOver;
  readonly #subscription: Subscription;
  readonly #scope: Scope;
  readonly #updates = new Queue<Update>();
  #source: Source | null = null;
  /** The source is there for a snapshot only: what follows comes over a WebSocket. */
  #isForSnapshot = false;
  #nextAttempt = 0;
  #isOver = false;
  /** Calls of `next` and `ready` take turns. */
  #turn: Promise<unknown> = Promise.resolve();

  /** @internal */
  constructor(
    calls: Calls,
    over: WatchOver,
    options: SubscriptionOptions,
    signal: AbortSignal | undefined,
  ) {
    this.#calls = calls;
    this.#over = over;
    this.#subscription = new Subscription(options);
    this.#scope = calls.scope(signal);
  }

  /**
   * Mode `entity`: the entities as of the last update that was handed out. It changes with the
   * next.
   */
  get entities(): ReadonlyMap<string, Entity> {
    return this.#subscription.entities;
  }

  /** A place up to which all has been handed out, for `since` of a later watch. */
  get cursor(): string | null {
    return this.#subscription.cursor;
  }

  /** Whether the server is there to tell of changes, and has told all that came so far. */
  get isCurrent(): boolean {
    return this.#subscription.isCurrent;
  }

  /** Waits until the subscription is in force. Without it, that is so with the first update. */
  async ready(): Promise<this> {
    await this.#inTurn(async () => {
      while (!this.#isOver && !this.#subscription.acknowledged) await this.#step();
    });
    return this;
  }

  /** The next update. Rejects with the reason of the signal of `watch` if that is aborted. */
  next(): Promise<IteratorResult<U, undefined>> {
    return this.#inTurn(async () => {
      for (;;) {
        if (this.#scope.signal.aborted) await this.#step();
        if (this.#isOver) return { done: true, value: undefined };
        const update = this.#updates.shift();
        if (update) return { done: false, value: update as U };
        await this.#step();
      }
    });
  }

  /** Ends the watch. Whoever waits for an update gets the end of the iteration. */
  async close(): Promise<void> {
    this.#end();
  }

  /** Called by `for await` when it is left. */
  async return(): Promise<IteratorResult<U, undefined>> {
    this.#end();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  #end(): void {
    this.#isOver = true;
    this.#updates.clear();
    this.#drop();
    this.#scope.abort(ENDED);
    this.#scope.end();
  }

  #drop(): void {
    this.#source?.close();
    this.#source = null;
  }

  /** Takes one message, or makes a connection. */
  async #step(): Promise<void> {
    const { signal } = this.#scope;
    try {
      signal.throwIfAborted();
      if (this.#source) {
        this.#receive(decode(await this.#source.next(), this.#calls.settings.exact));
      } else {
        await sleep(this.#nextAttempt - now(), signal);
        await this.#connect(signal);
      }
      const { ended, cursor } = this.#subscription;
      if (ended || (this.#isForSnapshot && cursor !== null)) this.#drop();
    } catch (error) {
      if (this.#isOver) return;
      if (signal.aborted) {
        this.#end();
        // To close the client ends its watches as closing them does.
        if (signal.reason instanceof ClosedError) return;
        throw signal.reason;
      }
      this.#broke(error);
    }
  }

  async #connect(signal: AbortSignal): Promise<void> {
    const subscription = this.#subscription;
    const [beginning, updates] = subscription.begin();
    this.#updates.pushAll(updates);
    const isSnapshot = beginning.snapshot === true && subscription.options.mode === "event";
    this.#isForSnapshot = isSnapshot && this.#over === "websocket";
    const open = isSnapshot || this.#over === "stream" ? openStream : openSocket;
    try {
      const source = await open(this.#calls, subscription.options, beginning, signal);
      if (signal.aborted) source.close();
      else this.#source = source;
    } catch (error) {
      // A stream says by its status what a WebSocket says in a message.
      if (!(error instanceof FluxError) || error.code !== "history_removed") throw error;
      this.#updates.pushAll(subscription.refused(error));
    }
  }

  #receive(message: any): void {
    if (message.id === AUTHENTICATION) {
      if (message.type === "error") throw errorOf(message);
      return;
    }
    this.#updates.pushAll(this.#subscription.receive(message));
  }

  #broke(error: unknown): void {
    this.#drop();
    try {
      if (isUntrusted(error)) {
        throw new UnreachableError("the server's certificate is not trusted", error);
      }
      const refusal = error instanceof FluxError ? error : null;
      // What no status says is final: a filter that became too costly, an access that ended.
      if (refusal && refusal.status === null) throw refusal;
      this.#nextAttempt = now() + this.#subscription.broke(refusal, error);
    } catch (fatal) {
      this.#end();
      throw fatal;
    }
  }
}

/** `await using` closes a watch, where the platform has it. */
export interface Watch<U extends Update> {
  [Symbol.asyncDispose](): Promise<void>;
}
if (Symbol.asyncDispose) {
  Watch.prototype[Symbol.asyncDispose] = function () {
    return this.close();
  };
}
