// Changes as they come, over one WebSocket that goes on where it broke off.
//
// A WebSocket, and no stream of server-sent events: a browser opens at most six connections of
// HTTP/1.1 to a server, and each open tab would hold one of them. A token can't be sent in the head
// of a handshake, so it is exchanged for a ticket. The server's `metrics_update`, every 2 s, is the
// heartbeat: a connection that is silent for longer is taken for broken.

import { Refused, ask, token } from "./api.js";
import { parse } from "./format.js";

/** Milliseconds without a message after which a connection is given up. */
const SILENCE_MS = 7000;
/** Milliseconds before the first new attempt, and before a late one. */
const RETRY_MS = { first: 400, last: 10_000 };
/** Milliseconds before a subscription is asked for again that the server had no room for. */
const AGAIN_MS = 3000;
/** Codes of refusals that pass. */
const PASSING = ["overloaded", "not_ready"];

/**
 * @typedef {{ entity_id: string, mode: "entity", filter?: string, max_hz?: number }} Wanted
 *
 * What a view does about messages: `began` is called when the subscription is in force, with true
 * if it had no cursor to begin at; `refused`, when it is not, or not any more.
 * @typedef {{
 *   message: (message: any) => void, began: (isBare: boolean) => void, resync: () => void,
 *   refused: (error: Refused) => void,
 * }} Takes
 * @typedef {{ wanted: Wanted, takes: Takes, cursor: string, id: number, isInForce: boolean }} Watch
 * @typedef {{ kind: "connecting" } | { kind: "live" }
 *   | { kind: "stale", since: number, retryAt: number, error?: Refused | undefined }} Status
 */

/**
 * The narrowest pattern that names an entity. A `*` at the end of an id would say "all that begin
 * so"; with another one behind it, that means the id itself and what begins with all of it.
 * @param {string} id
 */
export const patternOf = (id) => (id.endsWith("*") ? `${id}*` : id);

export class Live {
  /** @type {WebSocket | undefined} */
  #socket;
  /** @type {Watch | undefined} */
  #watch;
  #lastId = 0;
  #attempts = 0;
  #heardAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #again;
  /** @type {Status} */
  status = { kind: "connecting" };
  /** The last `metrics_update`. @type {any} */
  metrics;

  /**
   * @param {() => void} onStatus called when the status has changed
   * @param {() => void} onMetrics called when new metrics are there
   */
  constructor(onStatus, onMetrics) {
    this.onStatus = onStatus;
    this.onMetrics = onMetrics;
    setInterval(() => this.#listen(), 1000);
    addEventListener("online", () => this.retry());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.retry();
    });
    this.#connect();
  }

  /**
   * Watches something else than before, from a cursor on.
   * @param {Wanted} wanted
   * @param {string} cursor
   * @param {Takes} takes
   */
  watch(wanted, cursor, takes) {
    this.leave();
    this.#watch = { wanted, takes, cursor, id: 0, isInForce: false };
    this.#subscribe();
  }

  /** Watches nothing any more. */
  leave() {
    clearTimeout(this.#again);
    const entity_id = this.#watch?.wanted.entity_id;
    if (entity_id !== undefined) this.#send({ type: "unsubscribe", entity_id });
    this.#watch = undefined;
  }

  /** Tries now, if the connection is lost. */
  retry() {
    if (this.status.kind === "stale") this.#connect();
  }

  /** Begins anew, with the token of now. */
  restart() {
    this.#attempts = 0;
    this.#close();
    this.#say({ kind: "connecting" });
    this.#connect();
  }

  async #connect() {
    clearTimeout(this.#timer);
    this.#close();
    let ticket;
    const attempt = {};
    this.#current = attempt;
    if (token() !== "") {
      try {
        const { body } = await ask("/api/tickets", { method: "POST" });
        ticket = JSON.parse(body).ticket;
      } catch (error) {
        // A server without auth makes no tickets and needs none.
        const refused = error instanceof Refused ? error : undefined;
        if (refused?.status !== 404) {
          if (this.#current === attempt) this.#lost(refused);
          return;
        }
      }
    }
    if (this.#current !== attempt) return;
    const url = new URL("/api/ws", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    if (ticket !== undefined) url.searchParams.set("ticket", ticket);
    const socket = new WebSocket(url);
    this.#socket = socket;
    this.#heardAt = performance.now();
    socket.onopen = () => {
      this.#heardAt = performance.now();
      this.#say({ kind: "live" });
      this.#subscribe();
    };
    socket.onmessage = (event) => {
      this.#heardAt = performance.now();
      this.#take(parse(event.data));
    };
    socket.onclose = () => {
      if (this.#socket === socket) this.#lost(undefined);
    };
  }

  /** The attempt that counts. @type {object | undefined} */
  #current;

  #subscribe() {
    const watch = this.#watch;
    if (watch === undefined || this.#socket?.readyState !== WebSocket.OPEN) return;
    clearTimeout(this.#again);
    this.#lastId += 1;
    watch.id = this.#lastId;
    watch.isInForce = false;
    // Without a cursor there was nothing to see.
    const since = watch.cursor === "" ? {} : { since: watch.cursor };
    this.#send({ type: "subscribe", id: watch.id, ...since, ...watch.wanted });
  }

  /** @param {object} message */
  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  /** @param {any} message */
  #take(message) {
    // A connection that is opened and closed at once is no success: the next attempt waits longer.
    if (message.type === "metrics_update" || message.type === "caught_up") this.#attempts = 0;
    if (message.type === "metrics_update") {
      this.metrics = message;
      this.onMetrics();
      return;
    }
    const watch = this.#watch;
    // What belongs to a subscription before is not for this one. Changes carry no id: until this
    // one is acknowledged, they are of the one before.
    if (watch === undefined || (message.id === undefined ? !watch.isInForce : message.id !== watch.id)) return;
    switch (message.type) {
      case "ack": {
        const isBare = watch.cursor === "";
        watch.isInForce = true;
        if (isBare) watch.cursor = message.cursor ?? "";
        watch.takes.began(isBare);
        break;
      }
      case "entity":
      case "entity_deleted":
        watch.takes.message(message);
        break;
      case "cursor":
      case "caught_up":
        watch.cursor = message.cursor;
        break;
      case "resync":
        this.leave();
        watch.takes.resync();
        break;
      case "error": {
        // Of an `unsubscribe` of what had ended by itself.
        if (message.code === "not_subscribed") break;
        if (PASSING.includes(message.code)) {
          watch.isInForce = false;
          this.#again = setTimeout(() => this.#subscribe(), AGAIN_MS * (0.5 + Math.random() / 2));
        } else {
          this.#watch = undefined;
        }
        const status = message.code === "not_readable" ? 403 : /^(token|access)_/.test(message.code) ? 401 : PASSING.includes(message.code) ? 503 : 400;
        watch.takes.refused(new Refused(status, message.code, message.error));
        break;
      }
    }
  }

  #listen() {
    const isOpen = this.#socket !== undefined;
    if (isOpen && performance.now() - this.#heardAt > SILENCE_MS) {
      this.#close();
      this.#lost(undefined);
    } else if (this.status.kind === "stale") {
      this.onStatus();
    }
  }

  #close() {
    const socket = this.#socket;
    this.#socket = undefined;
    this.#current = undefined;
    socket?.close();
  }

  /** @param {Refused | undefined} error */
  #lost(error) {
    this.#close();
    const longest = Math.min(RETRY_MS.last, RETRY_MS.first * 2 ** this.#attempts);
    this.#attempts += 1;
    // So that the tabs of a room don't all come back in the same moment.
    const wait = longest * (0.5 + Math.random() / 2);
    const since = this.status.kind === "stale" ? this.status.since : Date.now();
    this.#say({ kind: "stale", since, retryAt: Date.now() + wait, error });
    // What nobody but its reader can mend is not asked again and again.
    const isHopeless = error !== undefined && (error.status === 401 || error.status === 403);
    if (!isHopeless) this.#timer = setTimeout(() => this.#connect(), wait);
  }

  /** @param {Status} status */
  #say(status) {
    this.status = status;
    this.onStatus();
  }
}
