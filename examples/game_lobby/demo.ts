/**
 * Eight players and three rooms of three: who finds no seat goes to the next room.
 *
 *     (cd clients/typescript && npm install && npm pack)
 *     npm install --no-save ./clients/typescript/flux-client-0.1.0.tgz
 *     node examples/game_lobby/demo.ts   # against http://localhost:3000, or FLUX_URL
 *
 * Node runs TypeScript by itself from version 22.18 on; `npx --yes node@22` has that version.
 */

import { Flux, UnreachableError } from "flux-client";
import { Lobby } from "./lobby.ts";

// A lobby of its own for each run.
const SPACE = `lobby-${Math.random().toString(36).slice(2, 10)}`;
const ROOMS = ["chess & co", "dice", "go"];
const SEATS = 3;
const PLAYERS = ["ann", "bob", "cem", "dee", "eve", "fay", "gus", "hal"];

/** Sits down where there is room, gets ready, and starts the game if nobody else does. */
async function play(flux: Flux, name: string): Promise<string> {
  const lobby = new Lobby(flux, name, SPACE);
  await lobby.join();
  for (const room of ROOMS) {
    await lobby.create(room, SEATS);
    if (!(await lobby.sit(room))) continue;
    await lobby.say(room, `${name} is here`);
    await lobby.ready(room);
    for await (const rooms of lobby.rooms()) {
      const mine = rooms.find((other) => other.name === room);
      const isFull = mine?.players.length === SEATS;
      // The last room stays short of a player: its two begin all the same.
      const isLast = rooms.flatMap((other) => other.players).length === PLAYERS.length;
      if (mine?.phase === "playing") break;
      if ((isFull || isLast) && (await lobby.start(room))) console.log(`${name} starts ${room}`);
    }
    await lobby.quit();
    return room;
  }
  throw new Error(`${name} found no seat`);
}

const flux = new Flux(undefined, { stream: "lobby" });
console.log(`${PLAYERS.length} players, a lobby named ${SPACE}`);
const found = await Promise.all(PLAYERS.map((name) => play(flux, name))).catch((error: unknown) => {
  if (!(error instanceof UnreachableError)) throw error;
  console.error(`${error.message}; is a server running? \`flux\` starts one`);
  process.exit(1);
});
for (const room of ROOMS) {
  const players = PLAYERS.filter((_, index) => found[index] === room);
  if (players.length > SEATS) throw new Error(`${room} is overfilled`);
  const lines = await new Lobby(flux, "nobody", SPACE).lines(room);
  console.log(`${room}: ${players.join(", ")} played; ${lines.length} lines were said`);
}
await flux.close();
