/** Watches: what the rig of both clients does not look at. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { Flux } from "flux-client";
import { Flux as BrowserFlux } from "flux-client/browser";
import type { Entity } from "flux-client";
import { Script, Server, pause, register, started, until } from "./support.js";

const { server, flux } = await started();

// A WebSocket is there from Node 22 on, and before by a flag.
const ways = "WebSocket" in globalThis ? (["stream", "websocket"] as const) : (["stream"] as const);

for (const watchOver of ways) {
  test(`${watchOver}: a copy follows each change, filter and choice of properties`, async () => {
    const client = new Flux(server.url, { watchOver });
    const space = `copy-${watchOver}`;
    await client.publish(`${space}/a`, { x: 1, y: 1 }, { ttl: 1000 });
    const watch = client.watch(`${space}/*`, { filter: "lt(x,5)", properties: ["x"] });
    const first = (await watch.next()).value;
    assert(first?.type === "snapshot" && !first.more);
    assert.deepEqual([...first.entities.keys()], [`${space}/a`]);
    await client.publish(`${space}/a`, { y: 2 });
    await client.publish(`${space}/b`, { x: 2, y: 1 });
    const second = (await watch.next()).value;
    assert(second?.type === "change" && second.entity.id === `${space}/b`);
    assert.deepEqual(second.properties, { x: 2 });
    await client.publish(`${space}/b`, { x: 9 });
    const third = (await watch.next()).value;
    assert(third?.type === "deleted" && third.reason === "unmatched" && third.entityId === `${space}/b`);
    await client.publish(`${space}/a`, {}, { unset: ["x"] });
    assert.equal((await watch.next()).value?.type, "deleted");
    assert.equal(watch.entities.size, 0);
    await client.close();
  });

  test(`${watchOver}: two watches at once, and a loop that is left, go on and end alone`, async () => {
    const client = new Flux(server.url, { watchOver });
    const [one, two] = await Promise.all([
      client.watch("two/a", { mode: "event" }).ready(),
      client.watch("two/*", { mode: "event" }).ready(),
    ]);
    for (let n = 0; n < 10; n += 1) await client.publish(n % 2 ? "two/a" : "two/b", { n });
    const seen: number[] = [];
    for await (const update of one) {
      assert(update.type === "event");
      seen.push(update.payload["properties"].n);
      if (seen.length === 3) break;
    }
    assert.deepEqual(seen, [1, 3, 5]);
    assert.deepEqual(await one.next(), { done: true, value: undefined });
    for (let n = 0; n < 10; n += 1) {
      const { value } = await two.next();
      assert(value?.type === "event" && value.payload["properties"].n === n);
    }
    await client.close();
  });

  test(`${watchOver}: a watch is closed, cancelled, or ended with its client, while it waits`, async () => {
    const client = new Flux(server.url, { watchOver });
    const closed = client.watch("closed/*");
    assert.equal((await closed.next()).value?.type, "snapshot");
    const waiting = closed.next();
    await closed.close();
    assert.deepEqual(await waiting, { done: true, value: undefined });

    const controller = new AbortController();
    const cancelled = client.watch("closed/*", { signal: controller.signal });
    await cancelled.next();
    setTimeout(() => controller.abort(new Error("mine")), 50);
    await assert.rejects(async () => {
      for await (const update of cancelled) assert.equal(update.type, "never");
    }, /mine/);
    assert.deepEqual(await cancelled.next(), { done: true, value: undefined });

    const ended = client.watch("closed/*");
    await ended.next();
    setTimeout(() => client.close(), 50);
    for await (const update of ended) assert.equal(update.type, "never");
  });

  test(`${watchOver}: a slow reader loses no event`, async () => {
    const client = new Flux(server.url, { watchOver });
    const space = `slow-${watchOver}`;
    const watch = await client.watch(`${space}/*`, { mode: "event" }).ready();
    const pad = "x".repeat(20_000);
    for (let start = 0; start < 1000; start += 100) {
      const numbers = Array.from({ length: 100 }, (_, n) => start + n);
      await client.publishMany(numbers.map((n) => ({ entityId: `${space}/a`, properties: { n, pad } })));
    }
    for (let n = 0; n < 1000; n += 1) {
      const { value } = await watch.next();
      assert(value?.type === "event", value?.type);
      assert.equal(value.payload["properties"].n, n);
    }
    await client.close();
  });

  test(`${watchOver}: an event snapshot comes in pages and then every event`, async () => {
    const client = new Flux(server.url, { watchOver });
    const space = `state-${watchOver}`;
    const pad = "x".repeat(1000);
    const ids = Array.from({ length: 1000 }, (_, n) => `${space}/${n}`);
    await client.publishMany(ids.map((entityId) => ({ entityId, properties: { pad } })));
    const watch = client.watch(`${space}/*`, { mode: "event", snapshot: true });
    const entities = new Map<string, Entity>();
    let pages = 0;
    for (;;) {
      const { value } = await watch.next();
      assert(value?.type === "snapshot");
      for (const [id, entity] of value.entities) entities.set(id, entity);
      pages += 1;
      if (!value.more) break;
    }
    assert(pages > 3 && entities.size === 1000);
    await client.publish(`${space}/new`, {});
    const { value } = await watch.next();
    assert(value?.type === "event" && value.entityId === `${space}/new`);
    await client.close();
  });

  test(`${watchOver}: lost history is a reset and a new snapshot`, async () => {
    const own = await Server.start();
    const client = new Flux(own.url, { watchOver });
    await client.publish("rig/old", { x: 1 });
    await own.stop();
    own.keepCopy();
    await own.start();
    await client.publish("rig/new", { x: 1 });
    const copies = client.watch("rig/*");
    const events = await client.watch("rig/*", { mode: "event" }).ready();
    const ids = async () => {
      const { value } = await copies.next();
      return value?.type === "snapshot" ? [...value.entities.keys()] : value;
    };
    assert.deepEqual(await ids(), ["rig/new", "rig/old"]);
    await client.publish("rig/newer", { x: 1 });
    assert.equal((await copies.next()).value?.type, "change");
    assert.equal((await events.next()).value?.type, "event");
    const [begin, begun] = [copies.cursor, events.cursor];
    const [next, event] = [copies.next(), events.next()];
    await until("the cursors follow", () => copies.cursor !== begin && events.cursor !== begun);
    await own.stop();
    own.restoreCopy();
    await own.start();
    assert.deepEqual((await next).value, { type: "reset", reason: "history_removed" });
    assert.deepEqual(await ids(), ["rig/old"]);
    assert.deepEqual((await event).value, { type: "reset", reason: "history_removed" });
    const page = (await events.next()).value;
    assert(page?.type === "snapshot" && page.more && page.entities.size === 1);
    assert.deepEqual((await events.next()).value, { type: "snapshot", entities: new Map(), more: false });
    await client.publish("rig/last", { x: 1 });
    const last = (await events.next()).value;
    assert(last?.type === "event" && last.entityId === "rig/last");
    await client.close();
    await own.remove();
  });

  test(`${watchOver}: a wrong token and a refused pattern are errors`, async () => {
    const guarded = await Server.start({ FLUX_AUTH_ENABLED: "true", FLUX_NAMESPACES_PRIVATE: "true" });
    const token = await register(guarded, "team");
    const mine = new Flux(guarded.url, { token, watchOver });
    await mine.publish("team/a", {});
    assert.equal((await mine.watch("team/*").next()).value?.type, "snapshot");
    const wrong = new Flux(guarded.url, { token: `${token}x`, watchOver });
    await assert.rejects(wrong.watch("team/*").next(), { status: 401 });
    const nobody = new Flux(guarded.url, { watchOver });
    await assert.rejects(nobody.watch("team/*").next(), { status: 401, code: "token_missing" });
    await Promise.all([mine.close(), wrong.close(), nobody.close()]);
    await guarded.remove();
  });
}

for (const watchOver of ways) {
  test(`${watchOver}: an id that ends in a star is watched alone`, async () => {
    const client = new Flux(server.url, { watchOver });
    const space = `stars-${watchOver}`;
    const ids = ["*", "**", "*a", "b"].map((name) => `${space}/${name}`);
    await client.publishMany(ids.map((entityId) => ({ entityId })));
    const [watch, events] = [
      client.watch(`${space}/*`, { exact: true }),
      await client.watch(`${space}/*`, { mode: "event", exact: true }).ready(),
    ];
    const first = (await watch.next()).value;
    assert(first?.type === "snapshot" && first.entities.size === 1);
    for (const id of [...ids].reverse()) await client.publish(id, { x: 1 });
    const change = (await watch.next()).value;
    assert(change?.type === "change" && change.entity.id === ids[0]);
    const event = (await events.next()).value;
    assert(event?.type === "event" && event.entityId === ids[0]);
    for (const id of [...ids].reverse()) await client.delete(id);
    const gone = (await watch.next()).value;
    assert(gone?.type === "deleted" && gone.entityId === ids[0]);
    await client.close();
  });
}

test("a watch of a dead server is closed at once", async () => {
  const nobody = new Flux("http://127.0.0.1:1");
  const watch = nobody.watch("closed/*");
  setTimeout(() => watch.close(), 200);
  for await (const update of watch) assert.equal(update.type, "never");
  await nobody.close();
});

test("a reader of events goes on at a cursor that it kept", async () => {
  const first = await flux.watch("kept/*", { mode: "event" }).ready();
  await flux.publish("kept/a", { n: 1 });
  await first.next();
  const begun = first.cursor;
  const next = first.next();
  await until("the cursor follows", () => first.cursor !== begun);
  const since = first.cursor;
  await first.close();
  await next;
  assert(since);
  await flux.publish("kept/a", { n: 2 });
  const second = flux.watch("kept/*", { mode: "event", since });
  const { value } = await second.next();
  assert(value?.type === "event" && value.payload["properties"].n === 2);
  await second.close();
});

// As large as what may wait for the reader of a WebSocket, and more.
for (const [where, make] of [
  ["in Node", () => new Flux(server.url)],
  ...(ways.length > 1
    ? ([
        ["in a browser", () => new BrowserFlux(server.url)],
        ["over a WebSocket", () => new Flux(server.url, { watchOver: "websocket" })],
      ] as const)
    : []),
] as const) {
  test(`${where} a slow reader gets a large snapshot of mode event, and what follows`, async () => {
    const space = `pages-${where.replaceAll(" ", "-")}`;
    const pad = "x".repeat(20_000);
    const ids = Array.from({ length: 900 }, (_, n) => `${space}/${n}`);
    await flux.publishMany(ids.map((entityId) => ({ entityId, properties: { pad } })));
    const client = make();
    const seen = new Set<string>();
    for await (const update of client.watch(`${space}/*`, { mode: "event", snapshot: true })) {
      if (update.type === "event") {
        assert.equal(update.entityId, `${space}/new`);
        break;
      }
      assert(update.type === "snapshot", update.type);
      for (const id of update.entities.keys()) seen.add(id);
      // Much longer than the server takes for a page.
      if (update.more) await pause(10);
      else await flux.publish(`${space}/new`, {});
    }
    assert.equal(seen.size, ids.length);
    await client.close();
  });
}

test("what was missed is handed out whole, however much it is", async () => {
  const count = 200_000;
  const stream = (messages: readonly object[]) => ({
    status: 200,
    headers: { "content-type": "text/event-stream" },
    body: messages.map((message) => `data: ${JSON.stringify(message)}\n\n`).join(""),
  });
  const change = (n: number) => ({
    ...{ type: "entity", entity_id: `a/${n}`, properties: { n }, removed: [], whole: true },
    ...{ version: 1, sequence: n, timestamp: "2026-01-31T12:00:00.000000Z" },
  });
  const missed = Array.from({ length: count }, (_, n) => change(n));
  const script = await Script.start(
    stream([{ type: "ack", cursor: "A" }, { type: "snapshot_end", cursor: "A" }]),
    stream([...missed, { type: "caught_up", cursor: "B" }]),
    stream([]),
  );
  const client = new Flux(script.url);
  const watch = client.watch("a/*");
  assert.equal((await watch.next()).value?.type, "snapshot");
  for (let n = 0; n < count; n += 1) {
    const { value } = await watch.next();
    assert(value?.type === "change" && value.sequence === n);
  }
  assert.equal(watch.entities.size, count);
  await client.close();
  script.close();
});

test("a program that has closed its client ends, whatever it held", async () => {
  const program = `
    import { Flux } from "flux-client";
    const flux = new Flux(${JSON.stringify(server.url)});
    await flux.watch("ends/*").ready();
    await flux.lease("ends/lease", { ttl: 300 }).claim();
    flux.get("ends/a").catch(() => undefined);
    new Flux("http://127.0.0.1:1").close();
    await flux.close();`;
  const { status } = spawnSync(process.execPath, ["--input-type=module", "-e", program], {
    timeout: 30_000,
    stdio: "inherit",
  });
  assert.equal(status, 0);
});
