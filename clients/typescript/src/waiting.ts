/** Pauses, cancellation, and how many requests are under way at once. */

/** A timer that is set for longer fires at once. */
const TIMER_MS_MAX = 2 ** 31 - 1;
const PAUSE_MIN = 0.1;
const PAUSE_MAX = 10;
/**
 * Seconds that a watch or a claim waits at most because `Retry-After` says so. A call gives up
 * instead of waiting long; these may have nobody who would make them again.
 */
export const RETRY_AFTER_MAX = 300;

/** Seconds of a clock that is never set. */
export function now(): number {
  return performance.now() / 1000;
}

/**
 * A pause in seconds after so many failures in a row, from 1: full jitter under a cap that doubles.
 */
export function jitteredPause(failures: number): number {
  return Math.random() * Math.min(PAUSE_MAX, PAUSE_MIN * 2 ** Math.min(failures - 1, 10));
}

export function setTimer(seconds: number, then: () => void): () => void {
  const timer = setTimeout(then, Math.min(Math.max(0, seconds * 1000), TIMER_MS_MAX));
  return () => clearTimeout(timer);
}

/** Rejects with the reason of the signal if it is aborted first. */
export async function sleep(seconds: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  if (!(seconds > 0)) return;
  await new Promise<void>((resolve, reject) => {
    const end = () => {
      stop();
      reject(signal.reason);
    };
    const stop = setTimer(seconds, () => {
      signal.removeEventListener("abort", end);
      resolve();
    });
    signal.addEventListener("abort", end, { once: true });
  });
}

/**
 * What may be cancelled: by a caller's signal, by its own `abort`, or with all others of its owner.
 */
export class Scope {
  readonly #controller = new AbortController();
  readonly #end: () => void;

  constructor(siblings: Set<Scope>, signal: AbortSignal | undefined) {
    const abort = () => this.abort(signal?.reason);
    this.#end = () => {
      signal?.removeEventListener("abort", abort);
      siblings.delete(this);
    };
    signal?.addEventListener("abort", abort, { once: true });
    siblings.add(this);
    if (signal?.aborted) abort();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  abort(reason: unknown): void {
    this.#controller.abort(reason);
    this.#end();
  }

  /** To be called when the work is over, so that nothing is kept for it. */
  end(): void {
    this.#end();
  }
}

/** Runs work with a signal of its own, which is aborted after so many seconds or with `signal`. */
export async function within<T>(
  seconds: number,
  signal: AbortSignal,
  message: string,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const abort = () => controller.abort(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort, { once: true });
  const stop = setTimer(seconds, () => controller.abort(new Error(message)));
  try {
    return await work(controller.signal);
  } catch (error) {
    throw controller.signal.aborted ? controller.signal.reason : error;
  } finally {
    stop();
    signal.removeEventListener("abort", abort);
  }
}

/** Lets at most so many pieces of work go on at once; the others wait in their order. */
export class Limiter {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(atOnce: number) {
    this.#free = atOnce;
  }

  /** `urgent` work goes before all that waits. */
  async run<T>(urgent: boolean, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    await this.#enter(urgent, signal);
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free += 1;
    }
  }

  async #enter(urgent: boolean, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#free > 0) {
      this.#free -= 1;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const enter = () => {
        signal.removeEventListener("abort", leave);
        resolve();
      };
      const leave = () => {
        this.#waiting.splice(this.#waiting.indexOf(enter), 1);
        reject(signal.reason);
      };
      signal.addEventListener("abort", leave, { once: true });
      if (urgent) this.#waiting.unshift(enter);
      else this.#waiting.push(enter);
    });
  }
}
