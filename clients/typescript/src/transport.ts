/** What a platform has to offer for HTTP, and what of it `fetch` can do. */

export interface Request {
  readonly method: string;
  readonly url: string;
  readonly headers: { readonly [name: string]: string };
  readonly body?: string;
  readonly signal: AbortSignal;
}

export interface Response {
  readonly status: number;
  header(name: string): string | null;
  /** Reads as it is iterated, so that a slow reader holds the server back. */
  readonly body: AsyncIterable<Uint8Array>;
}

export interface Transport {
  send(request: Request): Promise<Response>;
  close(): void;
}

/** What differs between Node and a browser. */
export interface Platform {
  readonly environment: { readonly [name: string]: string | undefined };
  /** The name of the program and the host, the same after a restart. */
  readonly source: string;
  /** How a watch is connected if it is not told. */
  readonly watchOver: "stream" | "websocket";
  /** Calls that are under way at once. */
  readonly callsAtOnce: number;
  transport(options: { readonly caFile?: string | undefined; readonly isTls: boolean }): Transport;
}

export const fetchTransport: Transport = {
  async send(request) {
    const response = await fetch(request.url, {
      method: request.method,
      headers: request.headers,
      body: request.body ?? null,
      signal: request.signal,
      // A redirection would take the token elsewhere.
      redirect: "error",
      cache: "no-store",
      credentials: "omit",
    });
    return {
      status: response.status,
      header: (name) => response.headers.get(name),
      body: chunks(response.body),
    };
  },
  close() {},
};

async function* chunks(body: ReadableStream<Uint8Array> | null): AsyncGenerator<Uint8Array> {
  // Not every browser can iterate a stream.
  const reader = body?.getReader();
  try {
    for (;;) {
      const chunk = await reader?.read();
      if (!chunk?.value) return;
      yield chunk.value;
    }
  } finally {
    await reader?.cancel().catch(() => undefined);
  }
}
