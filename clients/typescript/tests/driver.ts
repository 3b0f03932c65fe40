/**
 * The driver of this client for clients/rig: what it reads as lines of JSON, it does. Its argument
 * says how watches are connected.
 */

import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { Flux, FluxError, newEvent } from "flux-client";
import type { Entity, EntityUpdate, EventUpdate, Watch } from "flux-client";

const watchOver = process.argv[2] === "websocket" ? "websocket" : "stream";

let url = "";
let flux = new Flux();
let entities = new Map<string, Entity>();
let copy: Watch<EntityUpdate> | undefined;
const events: [number, string][] = [];
const resets: string[] = [];
let updates = 0;
const turns: [number, number, number][] = [];
const competing: Promise<void>[] = [];
let isDone = false;

/** Seconds of CLOCK_MONOTONIC. */
const monotonic = () => Number(process.hrtime.bigint()) / 1e9;

async function follow(watch: Watch<EntityUpdate>): Promise<void> {
  for await (const update of watch) {
    updates += 1;
    if (update.type === "snapshot") entities = new Map(update.entities);
    else if (update.type === "change") entities.set(update.entity.id, update.entity);
    else if (update.type === "reset") resets.push(update.reason);
    else if (!entities.delete(update.entityId)) throw new Error("deleted what was not there");
  }
}

async function followEvents(watch: Watch<EventUpdate>): Promise<void> {
  for await (const update of watch) {
    if (update.type === "event") events.push([update.sequence, update.eventId]);
    else if (update.type === "reset") resets.push(update.reason);
  }
}

async function compete(entityId: string, ttl: number, holds: number[]): Promise<void> {
  const client = new Flux(url);
  const lease = client.lease(entityId, { ttl });
  for (const hold of holds) {
    if (isDone) break;
    try {
      if (!(await lease.claim({ wait: 2 }))) continue;
      const began = monotonic();
      let [ended, now] = [began, began];
      while (lease.held && now < began + hold) {
        [ended, now] = [now, monotonic()];
        await pause(5);
      }
      turns.push([began, ended, lease.sequence ?? 0]);
      await lease.release();
    } catch (error) {
      // No answer within the time of the lease: it is not held.
      if (!(error instanceof FluxError)) throw error;
    }
  }
  await client.close();
}

const commands: { readonly [name: string]: (command: any) => unknown } = {
  open(command) {
    url = command.url;
    flux = new Flux(url, { retryFor: 120, watchOver });
  },
  async publish(command) {
    const made = command.events.map((event: any) =>
      newEvent(event.entity_id, event.properties, { unset: event.unset }),
    );
    const results = await flux.publishMany(made);
    return results.filter((result) => result instanceof FluxError).length;
  },
  async watch({ pattern, mode, since }) {
    if (mode === "event") {
      void followEvents(await flux.watch(pattern, { mode: "event", since }).ready());
    } else {
      copy = await flux.watch(pattern).ready();
      void follow(copy);
    }
  },
  view() {
    const rows = [...entities].map(([id, { version, properties }]) => [id, { version, properties }]);
    const isEqual = isDeepStrictEqual(copy?.entities, entities);
    return { entities: Object.fromEntries(rows), is_equal: isEqual, events, resets, updates };
  },
  compete(command) {
    competing.push(compete(command.entity_id, command.ttl, command.holds));
  },
  async turns() {
    isDone = true;
    await Promise.all(competing);
    return turns;
  },
};

async function answer(line: string): Promise<void> {
  const { id, ...command } = JSON.parse(line);
  try {
    const result = (await commands[command.do]?.(command)) ?? null;
    console.log(JSON.stringify({ id, result }));
  } catch (error) {
    console.log(JSON.stringify({ id, error: String(error) }));
  }
}

const answers: Promise<void>[] = [];
for await (const line of createInterface({ input: process.stdin })) answers.push(answer(line));
await Promise.all(answers);
await flux.close();
