// The text of `GET /metrics` (Prometheus 0.0.4) → samples, and what they say about a time between
// two of them.

/** @typedef {{ labels: Record<string, string>, value: number }} Sample */

/** The metrics of one moment. */
export class Metrics {
  /** @type {Map<string, Sample[]>} */
  #samples = new Map();

  /**
   * @param {string} text
   * @param {number} at milliseconds
   */
  constructor(text, at) {
    this.at = at;
    for (const line of text.split("\n")) {
      if (line === "" || line.startsWith("#")) continue;
      const found = /^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})? (\S+)/.exec(line);
      if (found === null) continue;
      const [, name = "", labels = "", value = ""] = found;
      const sample = { labels: labelsOf(labels), value: value === "+Inf" ? Infinity : Number(value) };
      const samples = this.#samples.get(name);
      if (samples === undefined) this.#samples.set(name, [sample]);
      else samples.push(sample);
    }
  }

  /**
   * The samples of a name that carry these labels.
   * @param {string} name
   * @param {Record<string, string>} [labels]
   */
  samples(name, labels = {}) {
    const wanted = Object.entries(labels);
    return (this.#samples.get(name) ?? []).filter((sample) => wanted.every(([label, value]) => sample.labels[label] === value));
  }

  /**
   * Their sum; `NaN` if there is none.
   * @param {string} name
   * @param {Record<string, string>} [labels]
   */
  sum(name, labels) {
    const samples = this.samples(name, labels);
    return samples.length === 0 ? NaN : samples.reduce((sum, sample) => sum + sample.value, 0);
  }
}

/** @param {string} text */
function labelsOf(text) {
  /** @type {Record<string, string>} */
  const labels = Object.create(null);
  for (const [, name = "", value = ""] of text.matchAll(/([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"/g)) {
    labels[name] = value.replace(/\\(.)/g, (_, char) => (char === "n" ? "\n" : char));
  }
  return labels;
}

/**
 * How much a counter has grown in a second; `NaN` if it was not there, or the server began anew.
 * @param {Metrics} before
 * @param {Metrics} after
 * @param {string} name
 * @param {Record<string, string>} [labels]
 */
export function rate(before, after, name, labels) {
  const growth = after.sum(name, labels) - before.sum(name, labels);
  return growth < 0 ? NaN : growth / ((after.at - before.at) / 1000);
}

/**
 * A quantile of what a histogram counted meanwhile: the bound of its bucket, taken evenly.
 * @param {Metrics} before
 * @param {Metrics} after
 * @param {string} name
 * @param {number} quantile
 * @param {Record<string, string>} [labels]
 */
export function quantileOf(before, after, name, quantile, labels) {
  /** @type {Map<number, number>} */
  const buckets = new Map();
  for (const [metrics, sign] of /** @type {const} */ ([[after, 1], [before, -1]])) {
    for (const sample of metrics.samples(`${name}_bucket`, labels)) {
      const bound = sample.labels["le"] === "+Inf" ? Infinity : Number(sample.labels["le"]);
      buckets.set(bound, (buckets.get(bound) ?? 0) + sign * sample.value);
    }
  }
  const sorted = [...buckets].sort(([a], [b]) => a - b);
  const total = sorted.at(-1)?.[1] ?? 0;
  if (!(total > 0)) return NaN;
  const wanted = quantile * total;
  let [lower, below] = [0, 0];
  for (const [bound, counted] of sorted) {
    if (counted >= wanted) {
      if (bound === Infinity) return lower;
      return lower + ((wanted - below) / Math.max(counted - below, 1)) * (bound - lower);
    }
    [lower, below] = [bound, counted];
  }
  return lower;
}
