/** What is sent again, when, and what is thrown: against servers that answer as they are told. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ClosedError, ConflictError, Digits, Flux, FluxError, UnreachableError, newEvent } from "flux-client";
import { Script, pause } from "./support.js";
import type { Answer } from "./support.js";

const STORED = { eventId: "e", stream: "s", version: 1, sequence: 1, cursor: "c" };
const OK: Answer = { status: 200, body: STORED };

function refusal(status: number, headers: { [name: string]: string } = {}): Answer {
  return { status, headers, body: { error: "no", code: "why" } };
}

/** What a publish leads to that is answered so. */
async function publish(answers: readonly Answer[], retryFor = 30) {
  const script = await Script.start(...answers);
  const flux = new Flux(script.url, { retryFor });
  const outcome = await flux.publish("a/b", { x: 1 }).catch((error: unknown) => error);
  await flux.close();
  script.close();
  return { outcome, requests: script.requests };
}

test("a repeated publish is the same event", async () => {
  const cut = { ...OK, isCut: true };
  const { outcome, requests } = await publish([cut, refusal(503, { "retry-after": "0" }), OK]);
  assert.equal((outcome as { sequence: number }).sequence, 1);
  assert.equal(requests.length, 3);
  assert.equal(new Set(requests.map(({ body }) => body)).size, 1);
  assert.match(JSON.parse(requests[0]?.body ?? "").eventId, /^[0-9a-f]{8}-[0-9a-f-]{27}$/);
});

test("Retry-After is the least that is waited", async () => {
  const { requests } = await publish([refusal(429, { "retry-after": "1" }), OK]);
  const [first, second] = requests;
  assert(first && second && second.at - first.at >= 1000);
});

test("only what waiting can help is repeated", async () => {
  for (const status of [301, 400, 401, 403, 404, 409, 410, 413, 429, 500, 503]) {
    const { outcome, requests } = await publish([refusal(status), OK]);
    assert(outcome instanceof FluxError, String(status));
    assert.deepEqual([requests.length, outcome.status, outcome.code, outcome.message], [1, status, "why", "no"]);
  }
  const dated = new Date().toUTCString();
  for (const value of ["0", "soon", "-1", "1.5", dated]) {
    assert.equal((await publish([refusal(503, { "retry-after": value }), OK])).requests.length, 2, value);
  }
  for (const status of [502, 504]) assert.equal((await publish([refusal(status), OK])).requests.length, 2);
});

test("a call ends before a pause that is longer than its time", async () => {
  for (const [value, seconds] of [["60", 60], ["9".repeat(400), 86_400]] as const) {
    const { outcome, requests } = await publish([refusal(503, { "retry-after": value }), OK]);
    assert(outcome instanceof FluxError);
    assert.deepEqual([requests.length, outcome.status, outcome.retryAfter], [1, 503, seconds]);
  }
  const { outcome, requests } = await publish([{ ...OK, isCut: true }], 0);
  assert(outcome instanceof UnreachableError && outcome.cause instanceof Error);
  assert.deepEqual([requests.length, outcome.code, outcome.status], [1, "unreachable", null]);
});

test("nobody there is an error in time", async () => {
  const flux = new Flux("http://127.0.0.1:1", { retryFor: 0.3 });
  await assert.rejects(flux.get("a/b"), UnreachableError);
  await assert.rejects(flux.watch("*", { giveUpAfter: 0.3 }).ready(), UnreachableError);
  await flux.close();
});

test("a call that waits ends with its client or its signal", async () => {
  for (const answer of [refusal(503, { "retry-after": "20" }), { status: 200, isSilent: true }]) {
    const script = await Script.start(answer);
    const flux = new Flux(script.url);
    const controller = new AbortController();
    const cancelled = flux.get("a/b", { signal: controller.signal });
    const others = [flux.publish("a/b", {}), flux.list().next(), flux.delete("a/b")];
    const outcomes = Promise.allSettled(others);
    await pause(100);
    controller.abort(new Error("mine"));
    await assert.rejects(cancelled, /mine/);
    await flux.close();
    for (const outcome of await outcomes) {
      assert(outcome.status === "rejected" && outcome.reason instanceof ClosedError);
    }
    await assert.rejects(flux.get("a/b"), ClosedError);
    script.close();
  }
});

test("a success that is none of a Flux server is an error of Flux", async () => {
  for (const body of ["<html>", "", "{", "{}", "[]", "null"]) {
    const { outcome, requests } = await publish([{ status: 200, body }]);
    assert(outcome instanceof FluxError);
    assert.deepEqual([requests.length, outcome.status], [1, 200]);
  }
  const script = await Script.start({ status: 200, body: "<html>" });
  const flux = new Flux(script.url);
  await assert.rejects(flux.watch("*").next(), FluxError);
  await flux.close();
  script.close();
});

test("numbers keep their digits if they are to be exact", async () => {
  const row = '{"id":"a","properties":{"__proto__":{"x":1},"n":[22.50,-0,12345678901234567890123,1E+2]},'
    + '"version":3,"lastUpdated":"t"}';
  const script = await Script.start(
    { status: 200, body: row },
    { status: 200, body: row },
    { status: 409, body: `{"error":"no","code":"precondition_failed","entity":${row},"index":2}` },
    OK,
  );
  const flux = new Flux(script.url, { numbers: "exact" });
  const entity = await flux.get("a");
  assert(entity);
  assert.equal(entity.version, 3);
  assert.deepEqual(entity.properties["n"].map(String), ["22.50", "-0", "12345678901234567890123", "1E+2"]);
  assert.equal(entity.properties["n"][2], 12345678901234567890123n);
  assert(entity.properties["n"][0] instanceof Digits && Number(entity.properties["n"][0]) === 22.5);
  const plain = new Flux(script.url);
  assert.equal((await plain.get("a"))?.properties["n"][0], 22.5);
  await assert.rejects(flux.publish("a", {}), (error: unknown) => {
    assert(error instanceof ConflictError);
    assert.equal(String(error.entity?.properties["n"][0]), "22.50");
    return error.index === 2;
  });
  await flux.publish("a", entity.properties);
  const sent = script.requests.at(-1)?.body ?? "";
  assert(sent.includes('"properties":{"__proto__":{"x":1},"n":[22.50,-0,12345678901234567890123,1E+2]}'), sent);
  await Promise.all([flux.close(), plain.close()]);
  script.close();
});

test("what JSON does not have is refused", async () => {
  const cycle: { [name: string]: unknown } = {};
  cycle["self"] = cycle;
  const flux = new Flux("http://127.0.0.1:1");
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, () => 1, [undefined], new Map(), cycle]) {
    await assert.rejects(flux.publish("a", { value }), TypeError);
  }
  assert.throws(() => new Digits("1."), TypeError);
  for (const url of ["localhost:3000", "ftp://x", "http://u:p@x", "http://", "http://x:99999", "http://x:y", "http://x\n", " http://x", "http://x?y=1"]) {
    assert.throws(() => new Flux(url), TypeError, url);
  }
  assert.throws(() => new Flux("http://x", { token: "a\nb" }), TypeError);
  await flux.close();
});

test("a batch that fails midway shows its results", async () => {
  const results = Array.from({ length: 999 }, () => STORED);
  const rest = { error: "no", code: "rate_limited" };
  const script = await Script.start({ status: 200, body: { results: [...results, rest] } }, refusal(403));
  const flux = new Flux(script.url);
  const events = Array.from({ length: 1001 }, (_, n) => ({ entityId: "a/b", properties: { n } }));
  await assert.rejects(flux.publishMany(events), (error: unknown) => {
    assert(error instanceof FluxError && error.status === 403);
    const last = error.results.at(-1);
    assert(last instanceof FluxError && last.status === 429);
    assert.deepEqual([error.results.length, error.events.length], [1000, 1001]);
    return error.events.every((event) => event.eventId !== "");
  });
  await flux.close();
  script.close();
});

test("an event has one id for good", () => {
  const event = newEvent("a/b", { x: 1 }, { ttl: null });
  assert.notEqual(event.eventId, newEvent("a/b").eventId);
  assert.throws(() => Object.assign(event, { eventId: "other" }), TypeError);
});

test("a stream that breaks a message off loses nothing, and one that is no message is passed over", async () => {
  const row = { id: "a", properties: { text: "é" }, version: 1, lastUpdated: "t" };
  const messages = [
    { type: "ack", cursor: "A" },
    { type: "snapshot", entities: [row], more: false },
    { type: "news" },
    { type: "snapshot_end", cursor: "B" },
  ];
  const text = messages.map((m) => `event: ${m.type}\r\nid: x\r\ndata: ${JSON.stringify(m)}\r\n\r\n`).join("");
  const headers = { "content-type": "text/event-stream", "content-length": String(Buffer.byteLength(text)) };
  const stream = { status: 200, headers, body: `: hello\n\n${text}` };
  const whole = { ...stream, headers: { ...headers, "content-length": String(Buffer.byteLength(stream.body)) } };
  const script = await Script.start({ ...whole, isCut: true }, refusal(503), refusal(500), whole);
  const flux = new Flux(script.url, { token: "t" });
  const watch = flux.watch("a b/é*", { properties: ["x", "y"], filter: "eq(a,1)", maxHz: 2 });
  const { value } = await watch.next();
  assert(value?.type === "snapshot" && value.entities.get("a")?.properties["text"] === "é");
  assert.equal(script.requests.length, 4);
  const query = "entity_id=a%20b%2F%C3%A9*&mode=entity&properties=x%2Cy&filter=eq(a%2C1)&max_hz=2&snapshot=true";
  assert.equal(script.requests[3]?.url, `/api/stream?${query}`);
  assert.equal(watch.cursor, "B");
  await flux.close();
  assert.deepEqual(await watch.next(), { done: true, value: undefined });
  script.close();
});

test("what was missed is handed out when all of it is there", async () => {
  const stream = (...messages: { readonly type: string; readonly [name: string]: unknown }[]) => {
    const body = messages.map((message) => `data: ${JSON.stringify(message)}\n\n`).join("");
    return { status: 200, headers: { "content-type": "text/event-stream" }, body };
  };
  const left = { id: "left", properties: {}, version: 1, lastUpdated: "t" };
  const whole = { properties: {}, removed: [], version: 1, sequence: 9, timestamp: "t", whole: true };
  // The one that came is told before the one that went, in no order of the server's.
  const came = { type: "entity", entity_id: "came", ...whole };
  const gone = { type: "entity_deleted", entity_id: "left", sequence: 8 };
  const script = await Script.start(
    stream({ type: "ack", cursor: "A" }, { type: "snapshot", entities: [left] }, { type: "snapshot_end", cursor: "B" }),
    stream({ type: "ack", cursor: "B" }, came),
    stream({ type: "ack", cursor: "B" }, came, gone, { type: "caught_up", cursor: "C" }),
  );
  const flux = new Flux(script.url);
  const watch = flux.watch("*");
  assert.equal((await watch.next()).value?.type, "snapshot");
  for (const type of ["change", "deleted"]) {
    assert.equal((await watch.next()).value?.type, type);
    assert.deepEqual([...watch.entities.keys()], ["came"]);
  }
  assert.equal(watch.cursor, "C");
  await flux.close();
  script.close();
});

test("a claim and a watch wait as long as Retry-After says, and no longer than they may", async () => {
  const later = refusal(503, { "retry-after": "1" });
  const script = await Script.start(later, later, OK, OK);
  const flux = new Flux(script.url);
  const lease = flux.lease("a/lease", { ttl: 1 });
  assert(await lease.claim({ wait: 20 }));
  assert(await lease.release());
  const [first, second, third] = script.requests;
  assert(first && second && third);
  assert(second.at - first.at >= 1000 && third.at - second.at >= 1000);
  script.close();
  const never = await Script.start(refusal(503, { "retry-after": "9".repeat(400) }));
  const patient = new Flux(never.url);
  await assert.rejects(patient.lease("a/lease").claim({ wait: 20 }), { status: 503 });
  await assert.rejects(patient.watch("*", { giveUpAfter: 0.2 }).next(), UnreachableError);
  const watch = patient.watch("*");
  const next = watch.next();
  await pause(300);
  assert.equal(never.requests.filter(({ url }) => url.endsWith("entity_id=*&mode=entity&snapshot=true")).length, 3);
  await patient.close();
  assert.equal((await next).done, true);
  await flux.close();
  never.close();
});
