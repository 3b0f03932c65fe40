/**
 * A real server from the binary that FLUX_BIN names, servers that answer as they are told, and
 * waits.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, openSync, closeSync, rmSync, cpSync, renameSync } from "node:fs";
import * as http from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { Flux } from "flux-client";

const PATIENCE = 60_000;

export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + PATIENCE;
  while (!(await holds())) {
    assert(Date.now() < end, what);
    await pause(10);
  }
}

/** A server on a free port, which it keeps over restarts, and with a data directory of its own. */
export class Server {
  readonly folder = mkdtempSync(join(tmpdir(), "flux-client-"));
  readonly #environment: { [name: string]: string };
  #process: ChildProcess | undefined;
  port = 0;

  private constructor(environment: { [name: string]: string }) {
    this.#environment = environment;
  }

  static async start(environment: { [name: string]: string } = {}): Promise<Server> {
    const server = new Server(environment);
    await server.start();
    // A lease that lasts for a second only is not claimed while a server replays its log.
    const log = join(server.folder, "log");
    await until("the server never was ready", () => {
      const shards = /(\d+) shards?,/.exec(readFileSync(log, "utf8"))?.[1];
      return readFileSync(log, "utf8").split(": ready after").length > Number(shards);
    });
    return server;
  }

  get url(): string {
    const scheme = "FLUX_TLS_CERT_FILE" in this.#environment ? "https" : "http";
    return `${scheme}://localhost:${this.port}`;
  }

  async start(): Promise<void> {
    const binary = process.env["FLUX_BIN"];
    assert(binary, "FLUX_BIN names no server");
    const log = join(this.folder, "log");
    const file = openSync(log, "w");
    const command = ["--port", String(this.port), "--data-dir", join(this.folder, "data")];
    const env = { ...process.env, ...this.#environment };
    const child = spawn(binary, command, { stdio: ["ignore", "ignore", file], env });
    closeSync(file);
    this.#process = child;
    // A test that fails leaves neither a process behind nor one that waits for it.
    process.once("exit", () => child.kill("SIGKILL"));
    child.unref();
    await until("the server did not start", () => {
      const text = readFileSync(log, "utf8");
      const port = /listening on https?:\/\/[^,]*:(\d+)/.exec(text)?.[1];
      assert(child.exitCode === null, text);
      this.port = Number(port ?? this.port);
      return port !== undefined;
    });
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (!child || child.exitCode !== null) return;
    child.ref();
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }

  /** The end that no program can prepare for. */
  kill(): Promise<void> {
    return this.#end("SIGKILL");
  }

  stop(): Promise<void> {
    return this.#end("SIGTERM");
  }

  keepCopy(): void {
    cpSync(join(this.folder, "data"), join(this.folder, "copy"), { recursive: true });
  }

  restoreCopy(): void {
    rmSync(join(this.folder, "data"), { recursive: true });
    renameSync(join(this.folder, "copy"), join(this.folder, "data"));
  }

  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.folder, { recursive: true });
  }
}

/** A server for all tests of a file, and a client of it. */
export async function started(): Promise<{ readonly server: Server; readonly flux: Flux }> {
  const server = await Server.start();
  const flux = new Flux(server.url);
  after(async () => {
    await flux.close();
    await server.remove();
  });
  return { server, flux };
}

/** The token of a namespace that it registers, with a server that has just been started. */
export async function register(server: Server, name: string): Promise<string> {
  for (;;) {
    const body = JSON.stringify({ name });
    const answer = await fetch(`${server.url}/api/namespaces`, { method: "POST", body });
    const made = (await answer.json()) as { token?: string };
    if (made.token !== undefined) return made.token;
    assert.equal(answer.status, 503);
    await pause(10);
  }
}

export interface Answer {
  readonly status: number;
  readonly headers?: { readonly [name: string]: string };
  readonly body?: unknown;
  /** Sends half of the answer and breaks the connection. */
  readonly isCut?: boolean;
  /** Sends nothing at all. */
  readonly isSilent?: boolean;
}

/** A server that gives the answers of a list, the last one for ever, and keeps what it was sent. */
export class Script {
  readonly requests: { readonly url: string; readonly body: string; readonly at: number }[] = [];
  readonly #server: http.Server;

  private constructor(answers: readonly Answer[]) {
    this.#server = http.createServer(async (request, response) => {
      let body = "";
      for await (const chunk of request) body += chunk;
      this.requests.push({ url: request.url ?? "", body, at: Date.now() });
      const answer = answers[Math.min(this.requests.length, answers.length) - 1];
      assert(answer);
      if (answer.isSilent) return;
      const text = typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body ?? {});
      response.writeHead(answer.status, { "content-length": text.length, ...answer.headers });
      if (answer.isCut) response.write(text.slice(0, text.length / 2), () => response.destroy());
      else response.end(text);
    });
  }

  static async start(...answers: readonly Answer[]): Promise<Script> {
    const script = new Script(answers);
    script.#server.listen(0, "127.0.0.1");
    await once(script.#server, "listening");
    return script;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

export { pause };
