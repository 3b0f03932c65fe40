/** JSON text to values and back, with numbers as `number` or digit for digit. */

/** The server nests at most so many containers. It also ends values that contain themselves. */
const DEPTH_MAX = 128;

/** The text of a number with a fraction or an exponent, as it was sent or is to be sent. */
export class Digits {
  readonly text: string;

  constructor(text: string) {
    if (!/^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/.test(text)) {
      throw new TypeError(`${JSON.stringify(text)} is not a JSON number`);
    }
    this.text = text;
  }

  toString(): string {
    return this.text;
  }

  /** The nearest `number`. */
  valueOf(): number {
    return Number(this.text);
  }

  /** `JSON.stringify` can't write the digits of a number, so it gets them as a string. */
  toJSON(): string {
    return this.text;
  }
}

/** The value of a JSON text. If `exact`, integers are `bigint` and other numbers are `Digits`. */
export function decode(text: string, exact: boolean): any {
  return exact ? new Parser(text).all() : JSON.parse(text);
}

class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  all(): unknown {
    const value = this.#value(0);
    this.#space();
    if (this.#at < this.#text.length) this.#fail();
    return value;
  }

  #fail(): never {
    throw new SyntaxError(`no JSON at character ${this.#at}`);
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  #space(): void {
    this.#match(/[ \t\n\r]*/y);
  }

  /** Passes over a character if it is the next. */
  #take(character: string): boolean {
    this.#space();
    if (this.#text[this.#at] !== character) return false;
    this.#at += 1;
    return true;
  }

  #value(depth: number): unknown {
    // More than the server nests: what holds an answer nests too.
    if (depth > 2 * DEPTH_MAX) this.#fail();
    this.#space();
    const first = this.#text[this.#at];
    if (first === "{") return this.#object(depth);
    if (first === "[") return this.#array(depth);
    if (first === '"') return this.#string();
    const word = this.#match(/true|false|null/y);
    if (word !== undefined) return word === "null" ? null : word === "true";
    const digits = this.#match(/-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y);
    if (digits === undefined) this.#fail();
    // A bigint has no negative zero.
    return /^-?\d+$/.test(digits) && digits !== "-0" ? BigInt(digits) : new Digits(digits);
  }

  #string(): string {
    const text = this.#match(/"[^"\\]*(?:\\.[^"\\]*)*"/y);
    if (text === undefined) this.#fail();
    return JSON.parse(text);
  }

  #array(depth: number): unknown[] {
    const elements: unknown[] = [];
    this.#at += 1;
    if (this.#take("]")) return elements;
    do elements.push(this.#value(depth + 1));
    while (this.#take(","));
    if (!this.#take("]")) this.#fail();
    return elements;
  }

  #object(depth: number): object {
    const members: [string, unknown][] = [];
    this.#at += 1;
    if (this.#take("}")) return {};
    do {
      this.#space();
      if (this.#text[this.#at] !== '"') this.#fail();
      const name = this.#string();
      if (!this.#take(":")) this.#fail();
      members.push([name, this.#value(depth + 1)]);
    } while (this.#take(","));
    if (!this.#take("}")) this.#fail();
    // Makes a member `__proto__` like any other.
    return Object.fromEntries(members);
  }
}

/**
 * The JSON text of a value. Throws TypeError for what JSON does not have: NaN, infinities,
 * functions, `undefined` in arrays, a Map or Set, what contains itself.
 */
export function encode(value: unknown, depth = 0): string {
  if (depth > DEPTH_MAX) throw new TypeError(`more than ${DEPTH_MAX} nested containers`);
  switch (typeof value) {
    case "string":
      return JSON.stringify(value);
    case "boolean":
    case "bigint":
      return String(value);
    case "number":
      if (!Number.isFinite(value)) throw new TypeError(`${value} is not a JSON number`);
      return Object.is(value, -0) ? "-0" : String(value);
    case "object":
      return value === null ? "null" : encodeObject(value, depth);
    default:
      throw new TypeError(`${typeof value} is not a JSON value`);
  }
}

function encodeObject(value: object, depth: number): string {
  if (value instanceof Digits) return value.text;
  if (Array.isArray(value)) {
    return `[${Array.from(value, (element) => encode(element, depth + 1)).join(",")}]`;
  }
  if ("toJSON" in value && typeof value.toJSON === "function") {
    return encode(value.toJSON(), depth + 1);
  }
  if (value instanceof Map || value instanceof Set || ArrayBuffer.isView(value)) {
    throw new TypeError(`${value.constructor.name} is not a JSON value`);
  }
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .map(([name, member]) => `${JSON.stringify(name)}:${encode(member, depth + 1)}`);
  return `{${members.join(",")}}`;
}
