/** Client for Flux, the world-state engine, in browsers: read, write, watch, hold leases. */

import { FluxClient } from "./client.js";
import type { FluxOptions } from "./client.js";
import { fetchTransport } from "./transport.js";
import type { Platform } from "./transport.js";

export * from "./exports.js";

const browserPlatform: Platform = {
  environment: {},
  get source() {
    return `browser@${globalThis.location?.host || "page"}`.slice(0, 200);
  },
  watchOver: "websocket",
  // A browser has six connections to a server over HTTP/1.1, for all of its tabs.
  callsAtOnce: 6,
  transport: () => fetchTransport,
};

export class Flux extends FluxClient {
  constructor(url?: string, options: FluxOptions = {}) {
    super(browserPlatform, url, options);
  }
}
