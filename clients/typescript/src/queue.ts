/** What waits, first in, first out, however much it is. */

/**
 * An array takes time by its length for each `shift`, and `push(...many)` has one argument for
 * each: what a watch missed may be more than a call may have.
 */
export class Queue<T> {
  #items: T[] = [];
  /** The items before it were taken. */
  #first = 0;

  push(item: T): void {
    this.#items.push(item);
  }

  pushAll(items: readonly T[]): void {
    for (const item of items) this.#items.push(item);
  }

  shift(): T | undefined {
    if (this.#first === this.#items.length) return undefined;
    const item = this.#items[this.#first];
    this.#first += 1;
    // So an item is moved once for each time that the queue halves.
    if (this.#first * 2 >= this.#items.length) {
      this.#items = this.#items.slice(this.#first);
      this.#first = 0;
    }
    return item;
  }

  clear(): void {
    this.#items = [];
    this.#first = 0;
  }
}
