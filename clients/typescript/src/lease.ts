/**
 * A lease: an entity that its holder creates, renews before it expires, and deletes.
 *
 * There is never more than one holder by the server's order of events. The holder itself counts by
 * its own clocks from before it sent the last renewal that succeeded, so it stops before the server
 * would give the lease to another.
 */

import type { CallOptions, Calls } from "./calls.js";
import { isOutage } from "./calls.js";
import { ClosedError, ConflictError, FluxError, LeaseLostError } from "./errors.js";
import type { EventInput, Expect, NewEvent, Properties } from "./types.js";
import { RETRY_AFTER_MAX, now, setTimer, sleep } from "./waiting.js";
import { newEvent, newEventId } from "./wire.js";

/** Seconds between attempts to claim a lease that another holds, at most. */
const CLAIM_PAUSE_MAX = 1;
/** Seconds until a renewal without an answer is sent again, at most; else a quarter of `ttl`. */
const RENEWAL_TIMEOUT_MAX = 10;
/** Seconds. */
const TTL_MIN = 0.1;
const TTL_MAX = 315_360_000;
/** Seconds that giving back what a cancelled claim may have got may take, at most. */
const GIVE_BACK_TIMEOUT = 2;

/**
 * A moment by two clocks, in seconds. One is never set, but may stand still while the machine is
 * suspended; the other goes on then, but may be set. What is over by either is over.
 */
interface Moment {
  readonly steady: number;
  readonly wall: number;
}

const thisMoment = (): Moment => ({ steady: now(), wall: Date.now() / 1000 });

export interface ClaimOptions {
  /**
   * Seconds to wait for another holder, or for a server that is away. 0 tries once; `Infinity`
   * waits.
   */
  readonly wait?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What `lease` returns, not yet claimed. */
export class Lease {
  readonly entityId: string;
  /** Seconds. */
  readonly ttl: number;
  readonly #calls: Calls;
  readonly #properties: Properties;
  #holder = newEventId();
  #sequence: number | null = null;
  #heldUntil: Moment | null = null;
  /** Whether the server may have stored a claim whose answer has not come. */
  #claimIsOpen = false;
  #keeping: AbortController | null = null;
  #lost = new AbortController();
  /** Looks whether the lease that is kept is lost. */
  #look: () => void = () => undefined;
  /** Whether the claim has ended by `release`. */
  #isReleased = false;

  /** @internal */
  constructor(calls: Calls, entityId: string, ttl: number, properties: Properties) {
    // The server's bounds. Times of attempts follow from it, so it is not left to the server.
    if (!(ttl >= TTL_MIN && ttl <= TTL_MAX)) {
      throw new RangeError(`the ttl of a lease has ${TTL_MIN} to ${TTL_MAX} s, not ${ttl}`);
    }
    this.#calls = calls;
    this.entityId = entityId;
    this.ttl = ttl;
    this.#properties = properties;
  }

  /** The name of a single claim. */
  get holder(): string {
    return this.#holder;
  }

  /** The place of the claim in the order of events. It rises with each holder. */
  get sequence(): number | null {
    return this.#sequence;
  }

  /** Whether the lease is surely still this holder's. */
  get held(): boolean {
    return this.#secondsLeft > 0;
  }

  /**
   * Aborted when the lease that was claimed last is lost or its client closed. Not by `release`.
   */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Throws LeaseLostError if the lease is not surely held. */
  check(): void {
    if (!this.held) throw new LeaseLostError(this.entityId);
  }

  /** The condition that the lease is still this holder's. */
  get expect(): Expect {
    return { properties: { holder: this.#holder } };
  }

  /**
   * An event for an atomic batch, which is then refused if the lease is another's.
   *
   * Each call makes another event. Make the list once, and send the same list again after
   * UnreachableError: a batch of which only some events are known is 409 `event_id_reused`.
   */
  guard(): NewEvent {
    return newEvent(this.entityId, {}, { expect: this.expect });
  }

  /**
   * Gets the lease if nobody has it, and renews it in the background from then on. One that is held
   * is renewed. A claim that is cancelled gives back what it may have got, for which it takes 2 s
   * at most.
   */
  async claim({ wait = 0, signal }: ClaimOptions = {}): Promise<boolean> {
    if (this.held && (await this.renew({ signal }))) return true;
    this.#stop();
    const isMine = await this.#calls.run(signal, async (scope) => {
      try {
        return await this.#claimUntil(now() + wait, scope);
      } catch (error) {
        if (signal?.aborted && this.#claimIsOpen) await this.#giveBack();
        throw error;
      }
    });
    if (isMine) this.#keep();
    return isMine;
  }

  /** Makes the lease last for another `ttl` from now on. False if it is another's or gone. */
  renew(options: { readonly signal?: AbortSignal | undefined } = {}): Promise<boolean> {
    return this.#calls.run(options.signal, (signal) => this.#renew(signal));
  }

  /** Gives the lease back. False if it was no longer this holder's. */
  async release(options: { readonly signal?: AbortSignal | undefined } = {}): Promise<boolean> {
    this.#stop();
    return this.#calls.run(options.signal, (signal) => this.#release(this.ttl, signal));
  }

  /**
   * Waits for the lease, runs `work`, and gives the lease back. Rejects with LeaseLostError if it
   * was lost meanwhile. `work` gets a signal that is aborted then; an error of its own comes first.
   */
  async hold<T>(
    work: (lost: AbortSignal) => T | Promise<T>,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<T> {
    await this.claim({ wait: Number.POSITIVE_INFINITY, signal: options.signal });
    let result: T;
    try {
      result = await work(this.lost);
    } catch (error) {
      // The lease ends by itself. This error is the one to see.
      if (!this.#isReleased) await this.release().catch(() => undefined);
      throw error;
    }
    if (this.#isReleased) return result;
    let wasHeld = this.held;
    try {
      wasHeld = (await this.release()) && wasHeld;
    } catch (error) {
      if (!isOutage(error)) throw error;
    }
    if (!wasHeld) throw new LeaseLostError(this.entityId);
    return result;
  }

  get #secondsLeft(): number {
    const until = this.#heldUntil;
    if (!until) return 0;
    const { steady, wall } = thisMoment();
    return Math.max(0, Math.min(until.steady - steady, until.wall - wall));
  }

  /** The lease lasts for `ttl` from a moment before it was asked for. */
  #holdFrom({ steady, wall }: Moment): void {
    this.#heldUntil = { steady: steady + this.ttl, wall: wall + this.ttl };
  }

  async #claimUntil(end: number, signal: AbortSignal): Promise<boolean> {
    for (;;) {
      let pause = Math.random() * CLAIM_PAUSE_MAX;
      const isLast = now() + pause >= end;
      try {
        if (await this.#claimOnce(signal)) return true;
        if (isLast) return false;
      } catch (error) {
        if (isLast || !isOutage(error)) throw error;
        const retryAfter = (error instanceof FluxError && error.retryAfter) || 0;
        pause += Math.min(retryAfter, RETRY_AFTER_MAX);
        if (now() + pause >= end) throw error;
      }
      await sleep(pause, signal);
    }
  }

  async #claimOnce(signal: AbortSignal): Promise<boolean> {
    // What was sent under the lease that ended must not count under this one.
    if (this.#sequence !== null) this.#holder = newEventId();
    this.#sequence = this.#heldUntil = null;
    this.#isReleased = false;
    const properties = { ...this.#properties, holder: this.#holder };
    const event = { properties, ttl: this.ttl, expect: { absent: true } } as const;
    const before = thisMoment();
    this.#claimIsOpen = true;
    try {
      const published = await this.#publish(event, { signal, retryFor: this.ttl });
      this.#sequence = published.sequence;
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
      if (error.entity?.properties["holder"] !== this.#holder) {
        this.#claimIsOpen = false;
        return false;
      }
      // An earlier attempt, whose answer was lost, has got it.
      return this.#renew(signal);
    }
    this.#holdFrom(before);
    return this.held || this.#renew(signal);
  }

  async #renew(signal: AbortSignal): Promise<boolean> {
    const before = thisMoment();
    const retryFor = this.#secondsLeft || this.ttl;
    // One renewal whose answer is lost leaves time for others.
    const timeout = Math.min(RENEWAL_TIMEOUT_MAX, this.ttl / 4);
    const event = { ttl: this.ttl, expect: this.expect };
    try {
      const published = await this.#publish(event, { signal, retryFor, timeout });
      this.#sequence ??= published.sequence;
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
      this.#heldUntil = null;
      this.#look();
      return false;
    }
    this.#holdFrom(before);
    return true;
  }

  async #release(retryFor: number, signal: AbortSignal): Promise<boolean> {
    const event = { properties: { __deleted__: true }, expect: this.expect };
    this.#heldUntil = null;
    try {
      await this.#publish(event, { signal, retryFor });
      this.#isReleased = true;
      return true;
    } catch (error) {
      if (error instanceof ConflictError) return false;
      throw error;
    }
  }

  #publish(event: Omit<EventInput, "entityId">, options: CallOptions) {
    return this.#calls.publish({ ...event, entityId: this.entityId }, { ...options, urgent: true });
  }

  /** Releases what a cancelled claim may have got. */
  async #giveBack(): Promise<void> {
    try {
      await this.#calls.run(undefined, (signal) => this.#release(GIVE_BACK_TIMEOUT, signal));
    } catch {
      // The lease ends by itself.
    } finally {
      // A release that arrives late must not end a later lease.
      this.#holder = newEventId();
      this.#claimIsOpen = false;
    }
  }

  /** Renews the lease in the background, and says when it is lost. */
  #keep(): void {
    const keeping = new AbortController();
    const lost = new AbortController();
    this.#keeping = keeping;
    this.#lost = lost;
    const { signal } = keeping;
    const renewing = this.#calls.run(signal, async (scope) => {
      while (this.held) {
        await sleep(this.ttl / 3, scope);
        await this.#renew(scope).catch((error: unknown) => {
          // What the server refuses now it may take again. The lease ends if it does not.
          if (!(error instanceof FluxError) || error instanceof ClosedError) throw error;
        });
      }
    });
    renewing.catch((error: unknown) => {
      if (!this.#calls.isClosed) return;
      // Nobody renews it now. A timer would keep the program alive until it ends.
      keeping.abort();
      lost.abort(error);
    });
    const look = () => {
      if (signal.aborted) return;
      if (!this.held) {
        keeping.abort();
        lost.abort(new LeaseLostError(this.entityId));
        return;
      }
      const stop = setTimer(this.#secondsLeft, () => {
        signal.removeEventListener("abort", stop);
        look();
      });
      signal.addEventListener("abort", stop, { once: true });
    };
    this.#look = look;
    look();
  }

  #stop(): void {
    this.#keeping?.abort(new ClosedError());
    this.#keeping = null;
  }
}

/** `await using` gives a lease back, where the platform has it. */
export interface Lease {
  [Symbol.asyncDispose](): Promise<void>;
}
if (Symbol.asyncDispose) {
  Lease.prototype[Symbol.asyncDispose] = async function () {
    await this.release();
  };
}
