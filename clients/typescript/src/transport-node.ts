/** HTTP by Node's own modules: unlike `fetch` they take the certificate of a private authority. */

import { readFileSync } from "node:fs";
import * as http from "node:http";
import * as https from "node:https";
import { hostname } from "node:os";
import { basename } from "node:path";
import type { Platform, Request, Response, Transport } from "./transport.js";

/** Sockets that wait for the next call. The server closes them after 75 s. */
const IDLE_SOCKETS_MAX = 32;

/** A file without any would say no more than that no server is trusted. */
function certificates(file: string): Buffer {
  const pem = readFileSync(file);
  const isOne = /-----BEGIN (X509 |TRUSTED )?CERTIFICATE-----/.test(pem.toString("latin1"));
  if (!isOne) throw new TypeError(`${file} holds no certificate`);
  return pem;
}

export const nodePlatform: Platform = {
  environment: process.env,
  get source() {
    const program = basename(process.argv[1] ?? "node");
    return `${program.slice(0, 50)}@${hostname().slice(0, 200)}`.replace(/[^\x20-\x7e]/g, "?");
  },
  watchOver: "stream",
  callsAtOnce: 32,
  transport({ caFile, isTls }) {
    const ca = caFile === undefined || !isTls ? {} : { ca: certificates(caFile) };
    const options = { keepAlive: true, maxFreeSockets: IDLE_SOCKETS_MAX };
    const agent = isTls ? new https.Agent({ ...options, ...ca }) : new http.Agent(options);
    return new NodeTransport(agent, isTls ? https.request : http.request);
  },
};

class NodeTransport implements Transport {
  readonly #agent: http.Agent;
  readonly #request: typeof http.request;

  constructor(agent: http.Agent, request: typeof http.request) {
    this.#agent = agent;
    this.#request = request;
  }

  send({ method, url, headers, body, signal }: Request): Promise<Response> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const outgoing = this.#request(url, { method, headers, agent: this.#agent });
      // Whoever aborts knows why. An error given here may surface where nobody listens.
      const abort = () => outgoing.destroy();
      signal.addEventListener("abort", abort, { once: true });
      outgoing.on("close", () => signal.removeEventListener("abort", abort));
      outgoing.on("error", reject);
      outgoing.on("response", (incoming) => {
        // What breaks while nobody reads is seen by the next read.
        incoming.on("error", () => undefined);
        resolve({
          status: incoming.statusCode ?? 0,
          header: (name) => [incoming.headers[name] ?? []].flat()[0] ?? null,
          body: incoming,
        });
      });
      outgoing.end(body);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}
