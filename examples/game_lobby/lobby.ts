/**
 * A lobby for games: players join, take seats in rooms, get ready, and a game starts once.
 *
 * Each step is one write with conditions, or one atomic batch of them. So the last seat goes to one
 * player, and a game starts once, whoever dies in between. What is where:
 *
 * - `<space>/player/<name>`: who is there. It expires unless the player goes on saying so.
 * - `<space>/room/<room>`: how many seats there are, are taken and are ready, and the phase.
 * - `<space>/seat/<room>/<name>`: a seat that is taken, and whether its player is ready.
 * - `<space>/chat/<room>`: the line that was said last. Its history has all of them.
 */

import { ConflictError, newEvent } from "flux-client";
import type { Entity, EventInput, Expect, Flux, NewEvent } from "flux-client";

export interface Room {
  readonly name: string;
  readonly seats: number;
  readonly phase: "open" | "playing";
  readonly players: readonly { readonly name: string; readonly ready: boolean }[];
}

/** Seconds that a player is there after its last word. */
const PRESENCE_TTL = 15;
const PLAYERS_MIN = 2;

/** The lobby as one player uses it. */
export class Lobby {
  readonly player: string;
  readonly #flux: Flux;
  readonly #space: string;
  #presence: ReturnType<typeof setInterval> | undefined;

  constructor(flux: Flux, player: string, space = "lobby") {
    this.#flux = flux;
    this.player = player;
    this.#space = space;
  }

  /** Any text may be the name of a player or a room. */
  #id(kind: string, ...names: readonly string[]): string {
    return [this.#space, kind, ...names.map(encodeURIComponent)].join("/");
  }

  /** Says that the player is there, now and from now on. */
  async join(): Promise<void> {
    const id = this.#id("player", this.player);
    const say = () => this.#flux.publish(id, { name: this.player }, { ttl: PRESENCE_TTL });
    await say();
    clearInterval(this.#presence);
    this.#presence = setInterval(
      () => say().catch((error: unknown) => console.warn(`${this.player}: ${error}`)),
      (PRESENCE_TTL * 1000) / 3,
    );
  }

  /** The player goes. Its seats are free when somebody calls `clear`. */
  async quit(): Promise<void> {
    clearInterval(this.#presence);
    await this.#flux.delete(this.#id("player", this.player));
  }

  /** Makes a room. False if there is one of that name. */
  async create(room: string, seats: number): Promise<boolean> {
    const properties = { name: room, seats, taken: 0, ready: 0, phase: "open" };
    return this.#try([newEvent(this.#id("room", room), properties, { expect: { absent: true } })]);
  }

  /**
   * Takes a seat. False if none is free, or if the game has begun. True also if the player has a
   * seat there already, so it may be called again after an error.
   */
  async sit(room: string): Promise<boolean> {
    const known = await this.#flux.get(this.#id("room", room));
    if (known === null) return false;
    // The number of seats never changes, so the condition may name it.
    const hasRoom = `and(eq(phase,"open"),lt(taken,${Number(known.properties["seats"])}))`;
    const seat = { room, player: this.player, ready: false };
    const batch = [
      newEvent(this.#seat(room), seat, { expect: { absent: true } }),
      this.#count(room, { taken: 1 }, { filter: hasRoom }),
    ];
    try {
      await this.#flux.publishMany(batch, { atomic: true });
      return true;
    } catch (error) {
      if (!isRefused(error)) throw error;
      // The first event is refused if the player has the seat.
      return error.index === 0;
    }
  }

  /**
   * Says that the player is ready. False if it has no seat there, or was ready, or the game runs.
   */
  async ready(room: string): Promise<boolean> {
    return this.#try([
      newEvent(this.#seat(room), { ready: true }, { expect: { properties: { ready: false } } }),
      this.#count(room, { ready: 1 }),
    ]);
  }

  /** Gives the seat back. False if the player has none there, or the game runs. */
  async leave(room: string): Promise<boolean> {
    const seat = await this.#flux.get(this.#seat(room));
    return seat !== null && this.#free(seat);
  }

  /** Frees the seats of players who are no longer there. Anybody may do that. */
  async clear(room: string): Promise<void> {
    for await (const seat of this.#flux.list({ prefix: `${this.#id("seat", room)}/` })) {
      const player = await this.#flux.get(this.#id("player", seat.properties["player"]));
      if (player === null) await this.#free(seat);
    }
  }

  #free(seat: Entity): Promise<boolean> {
    const { room, ready } = seat.properties;
    const gone = { __deleted__: true };
    return this.#try([
      // If its player has become ready meanwhile, the counts below are not right.
      newEvent(seat.id, gone, { expect: { properties: { ready } } }),
      this.#count(room, { taken: -1, ready: ready ? -1 : 0 }),
    ]);
  }

  /**
   * Starts the game if all who sit are ready. True for one player only: the version is that of the
   * room in which all were, and a seat that is taken or given back makes another.
   */
  async start(room: string): Promise<boolean> {
    const id = this.#id("room", room);
    const known = await this.#flux.get(id);
    if (known === null) return false;
    const { phase, taken, ready } = known.properties;
    if (phase !== "open" || taken < PLAYERS_MIN || ready < taken) return false;
    const begin = { phase: "playing", started_by: this.player };
    return this.#try([newEvent(id, begin, { expect: { version: known.version } })]);
  }

  async say(room: string, text: string): Promise<void> {
    await this.#flux.publish(this.#id("chat", room), { player: this.player, text });
  }

  /** The last lines that were said, the oldest first. */
  async lines(room: string, limit = 20): Promise<string[]> {
    const lines: string[] = [];
    for await (const { payload } of this.#flux.history(this.#id("chat", room), { limit })) {
      lines.unshift(`${payload["properties"].player}: ${payload["properties"].text}`);
    }
    return lines;
  }

  /** The rooms as they are, and again whenever something in the lobby changes. */
  async *rooms(signal?: AbortSignal): AsyncGenerator<Room[]> {
    const watch = this.#flux.watch(`${this.#space}/*`, { signal });
    for await (const update of watch) {
      if (update.type !== "reset") yield this.#roomsOf([...watch.entities.values()]);
    }
  }

  #roomsOf(entities: readonly Entity[]): Room[] {
    const of = (kind: string) => {
      const prefix = `${this.#space}/${kind}/`;
      return entities.filter(({ id }) => id.startsWith(prefix)).map((entity) => entity.properties);
    };
    const seats = of("seat");
    return of("room").map(({ name, seats: count, phase }) => ({
      name,
      seats: count,
      phase,
      players: seats
        .filter(({ room }) => room === name)
        .map(({ player, ready }) => ({ name: player, ready })),
    }));
  }

  #seat(room: string): string {
    return this.#id("seat", room, this.player);
  }

  /** Adds to what a room counts, while it is open. */
  #count(room: string, increment: { [name: string]: number }, expect?: Expect): NewEvent {
    const open: Expect = { properties: { phase: "open" } };
    return newEvent(this.#id("room", room), {}, { increment, expect: expect ?? open });
  }

  /** Publishes all of these, or none and false if a condition does not hold. */
  async #try(batch: readonly EventInput[]): Promise<boolean> {
    try {
      await this.#flux.publishMany(batch, { atomic: true });
      return true;
    } catch (error) {
      if (!isRefused(error)) throw error;
      return false;
    }
  }
}

function isRefused(error: unknown): error is ConflictError {
  return error instanceof ConflictError && error.code === "precondition_failed";
}
