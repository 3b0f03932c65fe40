/** Leases of one client. That those of several never overlap is shown by the rig. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ConflictError, Flux, LeaseLostError, newEvent } from "flux-client";
import { Server, pause, started, until } from "./support.js";

const { server, flux } = await started();

test("a lease has one holder until it is released", async () => {
  const [mine, yours] = [flux.lease("leases/a", { ttl: 5 }), flux.lease("leases/a", { ttl: 5 })];
  assert((await mine.claim()) && mine.held);
  assert(!(await yours.claim()) && !yours.held);
  assert.throws(() => yours.check(), LeaseLostError);
  const first = mine.sequence;
  assert((await mine.release()) && !mine.held);
  assert(await yours.claim({ wait: 10 }));
  assert(first && yours.sequence && yours.sequence > first);
  assert(!(await mine.renew()) && !(await mine.release()));
  assert(await yours.release());
});

test("a lease is kept while its holder lives and ends after it", async () => {
  const lease = flux.lease("leases/b", { ttl: 1, properties: { job: "print" } });
  assert(await lease.claim());
  await pause(2500);
  assert(lease.held && !lease.lost.aborted);
  assert.deepEqual((await flux.get("leases/b"))?.properties, { job: "print", holder: lease.holder });
  assert(await lease.release());
  const other = new Flux(server.url);
  const dead = other.lease("leases/b", { ttl: 1 });
  assert(await dead.claim());
  await other.close();
  await until("the holder was not told", () => dead.lost.aborted);
  const heir = flux.lease("leases/b", { ttl: 1 });
  assert(await heir.claim({ wait: 30 }));
  assert(!dead.held);
  assert(await heir.release());
});

test("a holder is told as soon as a renewal finds its lease gone", async () => {
  const lease = flux.lease("leases/gone", { ttl: 3600 });
  assert(await lease.claim());
  await flux.delete("leases/gone");
  assert(!lease.lost.aborted);
  assert(!(await lease.renew()));
  assert(lease.lost.aborted && lease.lost.reason instanceof LeaseLostError);
});

test("a lease that is claimed again is still held, and one of no time is refused", async () => {
  const lease = flux.lease("leases/twice", { ttl: 5 });
  assert(await lease.claim());
  const { sequence } = lease;
  assert((await lease.claim()) && lease.held && !lease.lost.aborted);
  assert.equal(lease.sequence, sequence);
  assert(await lease.release());
  for (const ttl of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.throws(() => flux.lease("leases/twice", { ttl }), RangeError);
  }
});

test("a lease that its holder gave back is not lost", async () => {
  const lease = flux.lease("leases/back", { ttl: 5 });
  const other = flux.lease("leases/back", { ttl: 5 });
  const work = async (lost: AbortSignal) => {
    assert(await lease.release());
    assert(await other.claim());
    return lost.aborted;
  };
  assert.equal(await lease.hold(work), false);
  // The end of the work did not disturb the second holder.
  assert((await other.renew()) && (await other.release()));
});

test("a holder stops by its own clock while the server is away", async () => {
  const own = await Server.start();
  const client = new Flux(own.url);
  const lease = client.lease("leases/away", { ttl: 1 });
  assert(await lease.claim());
  await own.kill();
  await until("the holder never noticed", () => lease.lost.aborted);
  assert(!lease.held);
  await own.start();
  const heir = client.lease("leases/away", { ttl: 1 });
  assert(await heir.claim({ wait: 30 }));
  assert(await heir.release());
  await client.close();
  await own.remove();
});

test("what needs the lease is refused without it", async () => {
  const lease = flux.lease("leases/c", { ttl: 5 });
  const held = lease.hold(async (lost) => {
    const work = newEvent("leases/work", {}, { increment: { n: 1 } });
    await flux.publishMany([lease.guard(), work], { atomic: true });
    assert(!lost.aborted);
    await flux.delete("leases/c");
    await assert.rejects(flux.publishMany([lease.guard(), work], { atomic: true }), ConflictError);
  });
  await assert.rejects(held, LeaseLostError);
  assert.deepEqual((await flux.get("leases/work"))?.properties, { n: 1 });
  assert.equal(await flux.lease("leases/c").hold(() => 7), 7);
  assert.equal(await flux.get("leases/c"), null);
});

test("the error of the work is the one that is seen", async () => {
  const held = flux.lease("leases/d").hold(async () => {
    await flux.delete("leases/d");
    throw new RangeError("mine");
  });
  await assert.rejects(held, RangeError);
});

test("a claim that is cancelled leaves no lease behind", async () => {
  const holder = flux.lease("leases/e");
  assert(await holder.claim());
  const controller = new AbortController();
  const waiting = flux.lease("leases/e").hold(() => undefined, { signal: controller.signal });
  setTimeout(() => controller.abort(new Error("mine")), 100);
  await assert.rejects(waiting, /mine/);
  assert(await holder.release());
  // Cancelled at once, the claim may or may not have reached the server.
  for (let delay = 0; delay < 10; delay += 1) {
    const quick = new AbortController();
    const claim = flux.lease("leases/f", { ttl: 60 }).claim({ signal: quick.signal });
    setTimeout(() => quick.abort(new Error("mine")), delay / 2);
    if (await claim.catch(() => false)) break;
    const next = flux.lease("leases/f", { ttl: 60 });
    assert((await next.claim()) && (await next.release()), `delay ${delay}`);
  }
});
