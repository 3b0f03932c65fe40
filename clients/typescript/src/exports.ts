/** What the package exports besides the client itself. */

export type * from "./types.js";
export type {
  Cancellable,
  DeleteOptions,
  EntityWatchOptions,
  EventWatchOptions,
  FluxOptions,
  GetOptions,
  HistoryOptions,
  LeaseOptions,
  ListOptions,
  PublishOptions,
  WriteOptions,
} from "./client.js";
export { ClosedError, ConflictError, FluxError, LeaseLostError, UnreachableError } from "./errors.js";
export { Digits } from "./json.js";
export { Lease } from "./lease.js";
export type { ClaimOptions } from "./lease.js";
export { Watch } from "./watch.js";
export { newEvent } from "./wire.js";
