/**
 * Where the messages of a watch come from: a stream of server-sent events, or a WebSocket.
 *
 * A stream needs only HTTP: its token goes in the head, and what the reader does not take holds the
 * server back. A browser opens six connections to a server over HTTP/1.1, whatever the number of
 * tabs, and a stream takes one of them for good; there a WebSocket is the better way.
 */

import { readText, targetOf } from "./calls.js";
import type { Calls } from "./calls.js";
import { FluxError, UnreachableError } from "./errors.js";
import { encode } from "./json.js";
import { Queue } from "./queue.js";
import { Again, sentPattern } from "./subscription.js";
import type { Beginning, SubscriptionOptions } from "./subscription.js";
import { setTimer, within } from "./waiting.js";
import { fieldsText, replyError } from "./wire.js";

/** Seconds. The server says something every 15 s. */
const OPEN_TIMEOUT = 10;
const SILENCE_MAX = 45;
/** Seconds between pings over a WebSocket, which a page can't see if the server sends them. */
const PING_INTERVAL = 10;
/** Characters of a message, which has at most 1 MiB. */
const MESSAGE_CHARS_MAX = 4 * 1024 * 1024;
/** Characters of messages of a WebSocket that wait for the reader. */
const WAITING_CHARS_MAX = 8 * 1024 * 1024;

/** The messages of one connection, one by one. */
export interface Source {
  /** Rejects if the connection breaks, or if the signal with which it was opened is aborted. */
  next(): Promise<string>;
  close(): void;
}

/** The names of the messages' identifiers over a WebSocket. */
const SUBSCRIPTION = "watch";
export const AUTHENTICATION = "auth";

export async function openStream(
  calls: Calls,
  options: SubscriptionOptions,
  beginning: Beginning,
  signal: AbortSignal,
): Promise<Source> {
  const target = targetOf("/api/stream", {
    entity_id: sentPattern(options),
    mode: options.mode,
    properties: fieldsText(options.properties),
    filter: options.filter,
    max_hz: options.maxHz?.toString(),
    since: beginning.since,
    snapshot: beginning.snapshot && "true",
  });
  const controller = new AbortController();
  const request = {
    method: "GET",
    url: calls.settings.url + target,
    headers: { ...calls.headers, accept: "text/event-stream" },
    signal: controller.signal,
  };
  const abort = () => controller.abort(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  const close = () => {
    signal.removeEventListener("abort", abort);
    controller.abort(new Error("closed"));
  };
  try {
    return await within(OPEN_TIMEOUT, signal, "the stream did not begin", async (deadline) => {
      deadline.addEventListener("abort", () => controller.abort(deadline.reason), { once: true });
      const response = await calls.transport.send(request);
      const { status } = response;
      const type = response.header("content-type") ?? "";
      if (status === 200 && type.startsWith("text/event-stream")) {
        return new StreamSource(response.body, controller, close);
      }
      const text = await readText(response);
      if (status === 200) throw new FluxError(status, "unknown", "the answer is no event stream");
      const retryAfter = response.header("retry-after");
      throw replyError(status, text, retryAfter, calls.settings.exact);
    });
  } catch (error) {
    close();
    throw error;
  }
}

class StreamSource implements Source {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #controller: AbortController;
  readonly #close: () => void;
  readonly #decoder = new TextDecoder();
  /** Messages of the last chunk, in reverse order. */
  #ready: string[] = [];
  /** The line that is not whole yet, and the data of the message that is not. */
  #line = "";
  #data: string[] = [];

  constructor(
    body: AsyncIterable<Uint8Array>,
    controller: AbortController,
    close: () => void,
  ) {
    this.#chunks = body[Symbol.asyncIterator]();
    this.#controller = controller;
    this.#close = close;
  }

  async next(): Promise<string> {
    for (;;) {
      const message = this.#ready.pop();
      if (message !== undefined) return message;
      const chunk = await this.#read();
      if (chunk.done) throw new Again("the stream ended");
      this.#take(this.#decoder.decode(chunk.value, { stream: true }));
    }
  }

  async #read(): Promise<IteratorResult<Uint8Array>> {
    const silent = `nothing came for ${SILENCE_MAX} s`;
    const stop = setTimer(SILENCE_MAX, () => this.#controller.abort(new Error(silent)));
    try {
      return await this.#chunks.next();
    } catch (error) {
      throw this.#controller.signal.aborted ? this.#controller.signal.reason : error;
    } finally {
      stop();
    }
  }

  #take(text: string): void {
    const lines = (this.#line + text).split("\n");
    this.#line = lines.pop() ?? "";
    for (const line of lines) this.#takeLine(line.endsWith("\r") ? line.slice(0, -1) : line);
    this.#ready.reverse();
    if (this.#line.length > MESSAGE_CHARS_MAX) throw new Again("a message is too large");
  }

  #takeLine(line: string): void {
    if (line.startsWith("data:")) {
      this.#data.push(line.slice(line[5] === " " ? 6 : 5));
    } else if (line === "" && this.#data.length > 0) {
      this.#ready.push(this.#data.join("\n"));
      this.#data = [];
    }
  }

  close(): void {
    this.#close();
  }
}

export async function openSocket(
  calls: Calls,
  options: SubscriptionOptions,
  beginning: Beginning,
  signal: AbortSignal,
): Promise<Source> {
  const { url, token } = calls.settings;
  // A browser sends no `Authorization` with a WebSocket; the token follows in a message.
  const auth = token === undefined ? [] : [encode({ type: "auth", id: AUTHENTICATION, token })];
  const { mode, properties, filter, maxHz } = options;
  const subscribe = encode({
    type: "subscribe",
    id: SUBSCRIPTION,
    entity_id: sentPattern(options),
    ...{ mode, properties, filter, max_hz: maxHz, ...beginning },
  });
  const Socket = globalThis.WebSocket;
  if (Socket === undefined) throw new UnreachableError("there is no WebSocket on this platform");
  const socket = new Socket(`${url.replace(/^http/, "ws")}/api/ws?metrics=false`);
  const source = new SocketSource(socket, signal, [...auth, subscribe]);
  try {
    await within(OPEN_TIMEOUT, signal, "the connection did not open", (deadline) => {
      deadline.addEventListener("abort", () => source.fail(deadline.reason), { once: true });
      return source.opened;
    });
  } catch (error) {
    source.close();
    throw error;
  }
  return source;
}

class SocketSource implements Source {
  readonly opened: Promise<void>;
  readonly #socket: WebSocket;
  readonly #signal: AbortSignal;
  readonly #abort: () => void;
  #pinging: ReturnType<typeof setInterval> | undefined;
  #heard = performance.now();
  readonly #waiting = new Queue<string>();
  #waitingChars = 0;
  #failure: unknown;
  /** Told when there is something to take. */
  #notify: () => void = () => undefined;

  constructor(socket: WebSocket, signal: AbortSignal, first: readonly string[]) {
    this.#socket = socket;
    this.#signal = signal;
    this.#abort = () => this.fail(signal.reason);
    signal.addEventListener("abort", this.#abort, { once: true });
    this.opened = new Promise((resolve, reject) => {
      this.#notify = () => reject(this.#failure);
      socket.onopen = () => {
        for (const message of first) socket.send(message);
        this.#notify = () => undefined;
        resolve();
      };
    });
    this.opened.catch(() => undefined);
    socket.onmessage = ({ data }) => this.#take(String(data));
    socket.onerror = () => this.fail(new Again("the connection broke"));
    socket.onclose = ({ code, reason }) => this.fail(new Again(`closed with ${code} ${reason}`));
    this.#pinging = setInterval(() => this.#ping(), PING_INTERVAL * 1000);
  }

  #ping(): void {
    if (performance.now() - this.#heard > SILENCE_MAX * 1000) {
      this.fail(new Again(`nothing came for ${SILENCE_MAX} s`));
    } else if (this.#socket.readyState === this.#socket.OPEN) {
      this.#socket.send('{"type":"ping"}');
    }
  }

  #take(message: string): void {
    this.#heard = performance.now();
    if (message === '{"type":"pong"}') return;
    // Nothing holds the server back here: what is left after this comes again by the cursor.
    if (this.#waitingChars > WAITING_CHARS_MAX) {
      this.fail(new Again("the reader is too slow"));
      return;
    }
    this.#waiting.push(message);
    this.#waitingChars += message.length;
    this.#notify();
  }

  async next(): Promise<string> {
    for (;;) {
      if (this.#signal.aborted) throw this.#signal.reason;
      const message = this.#waiting.shift();
      if (message !== undefined) {
        this.#waitingChars -= message.length;
        return message;
      }
      if (this.#failure !== undefined) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#notify = resolve;
      });
    }
  }

  /** Ends the connection. What came before is still handed out. */
  fail(reason: unknown): void {
    this.#failure ??= reason ?? new Again("the connection broke");
    this.close();
    this.#notify();
  }

  close(): void {
    const socket = this.#socket;
    clearInterval(this.#pinging);
    this.#signal.removeEventListener("abort", this.#abort);
    socket.onopen = socket.onmessage = socket.onclose = null;
    // A socket that is closed before it is open says so by an error.
    socket.onerror = () => undefined;
    socket.close();
  }
}
