/** The calls, against a real server. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { join } from "node:path";
import { ClosedError, ConflictError, Digits, Flux, FluxError } from "flux-client";
import { UnreachableError, newEvent } from "flux-client";
import { Server, register, started } from "./support.js";

const { server, flux } = await started();

async function all<T>(rows: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const row of rows) list.push(row);
  return list;
}

test("an entity is written, read and deleted", async () => {
  const published = await flux.publish("crud/a", { x: 1, text: "é\u2028", none: undefined }, { ttl: 1000 });
  assert.deepEqual([published.version, published.duplicate], [1, false]);
  const entity = await flux.get("crud/a");
  assert(entity?.etag && entity.cursor && entity.expiresAt);
  assert.deepEqual(entity.properties, { x: 1, text: "é\u2028" });
  assert(Math.abs(Date.parse(entity.expiresAt) - Date.now() - 1_000_000) < 60_000);
  await flux.publish("crud/a", { y: [1, null] }, { unset: ["x"], ttl: null });
  const second = await flux.get("crud/a", { fields: ["y"] });
  assert.deepEqual([second?.properties, second?.version, second?.expiresAt], [{ y: [1, null] }, 2, null]);
  assert(await flux.delete("crud/a"));
  assert.equal(await flux.get("crud/a"), null);
  assert.equal(await flux.delete("crud/a"), null);
});

test("any id can be written, read, watched and deleted", async () => {
  for (const id of ["ids/a b+c", "ids/../x", "ids/é?&#%2F", ".", "ids/%", "ids/a#b", "ids/日本/🚀", 'ids/"\\']) {
    await flux.publish(id, { x: 1 });
    assert.equal((await flux.get(id))?.id, id);
    const watch = flux.watch(id);
    const { value } = await watch.next();
    assert(value?.type === "snapshot" && value.entities.has(id), id);
    await watch.close();
    assert.equal((await all(flux.history(id))).length, 1);
    assert(await flux.delete(id), id);
  }
});

test("lists and history go over all pages", async () => {
  const ids = Array.from({ length: 2500 }, (_, n) => `pages/${String(n).padStart(4, "0")}+`);
  const events = ids.map((id, n) => newEvent(id, { even: n % 2 === 0 }));
  const results = await flux.publishMany(events);
  assert(results.every((result) => !(result instanceof FluxError)));
  assert.deepEqual((await all(flux.list({ prefix: "pages/" }))).map(({ id }) => id), ids);
  const even = await all(flux.list({ namespace: "pages", filter: "eq(even,true)", fields: ["odd"] }));
  assert.deepEqual(even.map(({ id }) => id), ids.filter((_, n) => n % 2 === 0));
  assert(even.every(({ properties }) => Object.keys(properties).length === 0));
  const history = await all(flux.history({ namespace: "pages" }));
  assert.deepEqual(history.map(({ entityId }) => entityId), [...ids].reverse());
  assert.equal((await all(flux.history({ namespace: "pages", limit: 700 }))).length, 700);
  assert.equal((await all(flux.history({ namespace: "pages", limit: 0 }))).length, 0);
  const [event] = await all(flux.history("pages/0007+", { since: 0 }));
  assert.deepEqual(event?.payload["properties"], { even: false });
  for await (const entity of flux.list({ prefix: "pages/" })) {
    assert.equal(entity.id, ids[0]);
    break;
  }
});

test("the past is as it was", async () => {
  await flux.publish("past/a", { x: 1 });
  const [event] = await all(flux.history("past/a"));
  assert(event);
  await flux.publish("past/a", { x: 2 });
  assert.deepEqual((await flux.at("past/a", event.acceptedAt))?.properties, { x: 1 });
  const [listed] = await all(flux.list({ prefix: "past/", at: event.acceptedAt }));
  assert.deepEqual(listed?.properties, { x: 1 });
  assert.equal(await flux.at("past/a", new Date(Date.now() - 86_400_000)), null);
  assert.equal(await flux.at("past/a", Date.now() - 86_400_000), null);
});

test("sums are exact and numbers keep their digits", async () => {
  const exact = new Flux(server.url, { numbers: "exact" });
  await exact.increment("sums/a", "n", new Digits("0.10"));
  assert.equal(String(await exact.increment("sums/a", "n", new Digits("0.2"))), "0.3");
  await exact.publish("sums/b", { price: new Digits("22.50"), big: 12345678901234567890123n });
  const entity = await exact.get("sums/b");
  assert.equal(String(entity?.properties["price"]), "22.50");
  assert.equal(entity?.properties["big"], 12345678901234567890123n);
  const watch = exact.watch("sums/b");
  const { value } = await watch.next();
  assert(value?.type === "snapshot");
  assert.equal(String(value.entities.get("sums/b")?.properties["price"]), "22.50");
  await exact.close();
  assert.equal((await flux.get("sums/b"))?.properties["price"], 22.5);
  assert.equal(await flux.increment("sums/c", "n"), 1);
});

test("the same event counts once", async () => {
  const event = newEvent("once/a", undefined, { increment: { n: 1 } });
  const [first, second] = [await flux.publish(event), await flux.publish(event)];
  assert.deepEqual([second.duplicate, second.sequence, second.properties], [true, first.sequence, { n: 1 }]);
  const reused = flux.publish("once/a", { n: 7 }, { eventId: event.eventId });
  await assert.rejects(reused, { name: "ConflictError", code: "event_id_reused" });
});

test("a condition that fails shows the entity", async () => {
  await flux.publish("claims/a", { owner: "me" }, { expect: { absent: true } });
  await assert.rejects(flux.publish("claims/a", { owner: "you" }, { expect: { absent: true } }), (error: unknown) => {
    assert(error instanceof ConflictError);
    assert.deepEqual([error.status, error.code], [409, "precondition_failed"]);
    assert.deepEqual(error.entity?.properties, { owner: "me" });
    return true;
  });
  await assert.rejects(flux.publish("claims/a", {}, { expect: { absentProperties: ["owner"] } }), ConflictError);
  await assert.rejects(flux.delete("claims/a", { expect: { properties: { owner: "you" } } }), ConflictError);
  assert(await flux.delete("claims/a", { expect: { properties: { owner: "me" } } }));
});

test("an item of a batch fails alone and an atomic batch as a whole", async () => {
  const bad = newEvent("batch/b", {}, { expect: { present: true } });
  const [good, refused] = await flux.publishMany([{ entityId: "batch/a", properties: { x: 1 } }, bad]);
  assert(!(good instanceof FluxError) && good?.version === 1);
  assert(refused instanceof ConflictError && refused.entity === null);
  const atomic = flux.publishMany([newEvent("batch/c", { x: 1 }), bad], { atomic: true });
  await assert.rejects(atomic, { name: "ConflictError", index: 1 });
  assert.equal(await flux.get("batch/c"), null);
  assert.deepEqual(await flux.publishMany([]), []);
  const both = await flux.publishMany([{ entityId: "batch/c" }, { entityId: "batch/d" }], { atomic: true });
  assert.deepEqual(both.map(({ version }) => version), [1, 1]);
});

test("errors carry status, code and message", async () => {
  await assert.rejects(all(flux.list({ filter: "nonsense" })), { status: 400, code: "invalid_filter" });
  await assert.rejects(flux.watch("*", { filter: "nonsense" }).ready(), { status: 400, code: "invalid_filter" });
  await assert.rejects(flux.watch("*", { mode: "event", since: "nonsense" }).next(), { code: "invalid_cursor" });
});

test("thousands of calls at once go a few at a time", async () => {
  const sums = await Promise.all(Array.from({ length: 3000 }, () => flux.increment("many/a", "n")));
  assert.equal(new Set(sums).size, 3000);
  assert.equal(Math.max(...sums.map(Number)), 3000);
});

test("tokens go with calls and watches, and wrong ones are refused", async () => {
  const guarded = await Server.start({ FLUX_AUTH_ENABLED: "true", FLUX_NAMESPACES_PRIVATE: "true" });
  const token = await register(guarded, "team");
  const mine = new Flux(guarded.url, { token });
  await mine.publish("team/a", { x: 1 });
  const watch = mine.watch("team/*");
  const { value } = await watch.next();
  assert(value?.type === "snapshot" && value.entities.size === 1);
  const nobody = new Flux(guarded.url);
  await assert.rejects(nobody.publish("team/a", { x: 1 }), { status: 401, code: "token_missing" });
  await assert.rejects(nobody.watch("team/*").next(), { status: 401, code: "token_missing" });
  assert.equal(await nobody.get("team/a"), null);
  const wrong = new Flux(guarded.url, { token: "flux_wrong" });
  const calls = [
    () => wrong.get("team/a"),
    () => wrong.publish("team/a", {}),
    () => wrong.watch("team/*").next(),
    () => wrong.lease("team/l").claim({ wait: 5 }),
  ];
  for (const call of calls) await assert.rejects(call, { name: "FluxError", status: 401 });
  await Promise.all([mine.close(), nobody.close(), wrong.close()]);
  await guarded.remove();
});

test("a refusal has a status whichever way it came, and what would be passed over is refused", async () => {
  const [refused] = await flux.publishMany([newEvent("")]);
  assert(refused instanceof FluxError && refused.status === 400);
  const socket = new Flux(server.url, { watchOver: globalThis.WebSocket ? "websocket" : "stream" });
  await assert.rejects(socket.watch("a/*", { filter: "eq(" }).next(), { status: 400, code: "invalid_filter" });
  await socket.close();
  const mode = "property" as "entity";
  assert.throws(() => flux.watch("a/*", { mode }), TypeError);
  // The server would take these for all properties, and for two.
  for (const names of [[], ["a,b"]]) {
    await assert.rejects(async () => flux.get("a/1", { fields: names }), TypeError);
    assert.throws(() => flux.list({ fields: names }), TypeError);
    assert.throws(() => flux.watch("a/*", { properties: names }), TypeError);
  }
  // One would be passed over for the other.
  assert.throws(() => flux.watch("a/*", { mode: "event", since: "C", snapshot: true }), TypeError);
  for (const options of [{ since: "C" }, { snapshot: true }]) {
    assert.throws(() => flux.watch("a/*", options as object), TypeError);
  }
  const away = new Flux("http://127.0.0.1:1").watch("a/*", { giveUpAfter: 0 });
  await assert.rejects(away.next(), /ECONNREFUSED/);
});

test("the error of an atomic batch has its events, which may be sent again", async () => {
  const away = new Flux("http://127.0.0.1:1", { retryFor: 0.1 });
  const batch = away.publishMany([{ entityId: "again/a", properties: { n: 1 } }], { atomic: true });
  const error = await batch.then(() => null, (error: unknown) => error);
  assert(error instanceof UnreachableError && error.events.length === 1);
  const first = await flux.publishMany(error.events, { atomic: true });
  const second = await flux.publishMany(error.events, { atomic: true });
  assert.deepEqual([first[0]?.duplicate, second[0]?.duplicate], [false, true]);
  await away.close();
});

test("a private authority's certificate is trusted if it is named, and else refused at once", async (context) => {
  const folder = server.folder;
  const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
  const request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  try {
    execFileSync("openssl", [...request, "-keyout", key, "-out", cert, ...subject], { stdio: "ignore" });
  } catch {
    context.skip("NOT CHECKED: there is no openssl here");
    return;
  }
  const secure = await Server.start({ FLUX_TLS_CERT_FILE: cert, FLUX_TLS_KEY_FILE: key });
  const trusting = new Flux(secure.url, { caFile: cert });
  await trusting.publish("tls/a", { x: 1 });
  const { value } = await trusting.watch("tls/*").next();
  assert(value?.type === "snapshot" && value.entities.size === 1);
  const wary = new Flux(secure.url);
  const begin = Date.now();
  await assert.rejects(wary.get("tls/a"), UnreachableError);
  await assert.rejects(wary.watch("tls/*").next(), UnreachableError);
  assert(Date.now() - begin < 10_000, "no time is spent on what no waiting changes");
  assert.throws(() => new Flux(secure.url, { caFile: key }), /key\.pem holds no certificate/);
  await Promise.all([trusting.close(), wary.close()]);
  await secure.remove();
});

test("what is declared with await using is closed at the end of its block", async () => {
  let kept: Flux | undefined;
  {
    await using scoped = new Flux(server.url);
    await using lease = scoped.lease("using/lease");
    assert(await lease.claim());
    await using watch = scoped.watch("using/*");
    await watch.next();
    kept = scoped;
  }
  await assert.rejects(kept.get("using/lease"), ClosedError);
  assert.equal(await flux.get("using/lease"), null);
});

test("a server that is not there yet is waited for", async () => {
  const late = await Server.start();
  await late.kill();
  const early = new Flux(late.url);
  const published = early.publish("late/a", { x: 1 });
  const watch = early.watch("late/*");
  const first = watch.next();
  await late.start();
  assert.equal((await published).version, 1);
  assert.equal((await first).value?.type, "snapshot");
  await early.close();
  await late.remove();
});
