/** examples/game_lobby: players contend for seats while the server is killed. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Flux } from "flux-client";
import type { Entity, Properties } from "flux-client";
import { Lobby } from "./examples/lobby.ts";
import { Server, pause } from "./support.js";

const ROOMS = ["chess", "go", "dice"];
const SEATS = 3;

test("no room is overfilled and each game starts once, over kills of the server", async () => {
  const server = await Server.start();
  const clients = Array.from({ length: 12 }, () => new Flux(server.url, { retryFor: 120 }));
  const players = clients.map((flux, n) => new Lobby(flux, `player ${n}/${n % 2 ? "é" : "a"}`));
  const starts = new Map<string, string[]>();

  const play = async (lobby: Lobby, first: number) => {
    await lobby.join();
    for (const n of ROOMS.keys()) {
      const room = ROOMS[(first + n) % ROOMS.length] ?? "";
      await lobby.create(room, SEATS);
      if (!(await lobby.sit(room))) continue;
      assert(await lobby.sit(room), "who sits there has a seat");
      // Some change their minds, so seats come free and are fought for again.
      if (first % 4 === 0 && n === 0) {
        await lobby.leave(room);
        continue;
      }
      assert(await lobby.ready(room));
      assert(!(await lobby.ready(room)), "ready counts once");
      for (let attempt = 0; attempt < 20; attempt += 1) {
        if (await lobby.start(room)) starts.set(room, [...(starts.get(room) ?? []), lobby.player]);
        await pause(20);
      }
      return;
    }
  };
  const watching = clients[0];
  assert(watching);
  const controller = new AbortController();
  let most = 0;
  const look = (async () => {
    for await (const rooms of new Lobby(watching, "nobody").rooms(controller.signal)) {
      for (const room of rooms) most = Math.max(most, room.players.length - room.seats);
    }
  })().catch((error: unknown) => assert.equal(error, controller.signal.reason));

  const playing = Promise.all(players.map(play));
  for (let round = 0; round < 3; round += 1) {
    await pause(150);
    await server.kill();
    await server.start();
  }
  await playing;
  controller.abort(new Error("all is over"));
  await look;
  assert(most <= 0, "a watcher saw a room with more players than seats");

  let seated = 0;
  for (const room of ROOMS) {
    const entity: Entity | null = await watching.get(`lobby/room/${room}`);
    assert(entity);
    const { seats, taken, ready, phase }: Properties = entity.properties;
    const sitting: Entity[] = [];
    for await (const seat of watching.list({ prefix: `lobby/seat/${room}/` })) sitting.push(seat);
    assert.equal(sitting.length, taken, room);
    assert.equal(sitting.filter(({ properties }) => properties["ready"]).length, ready, room);
    assert(taken <= seats, `${room} is overfilled`);
    // It was never overfilled on the way either.
    for await (const { payload } of watching.history(`lobby/room/${room}`)) {
      assert(!(payload["properties"].taken > seats), `${room} was overfilled`);
    }
    assert.equal(starts.get(room)?.length ?? 0, phase === "playing" ? 1 : 0, `${room} starts once`);
    seated += taken;
  }
  assert(seated >= 2 * SEATS, "seats were taken");
  for (const lobby of players) await lobby.quit();
  await players[0]?.clear("chess");
  await Promise.all(clients.map((flux) => flux.close()));
  await server.remove();
});
