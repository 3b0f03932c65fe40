/** Client for Flux, the world-state engine, in Node: read, write, watch, hold leases. */

import { FluxClient } from "./client.js";
import type { FluxOptions } from "./client.js";
import { nodePlatform } from "./transport-node.js";

export * from "./exports.js";

export class Flux extends FluxClient {
  constructor(url?: string, options: FluxOptions = {}) {
    super(nodePlatform, url, options);
  }
}
