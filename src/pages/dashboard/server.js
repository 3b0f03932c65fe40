// The server: rates, latencies, flushes, connections and shards, from `GET /metrics` and
// `GET /health`, as long as the view is open.

import { explain, ask, get } from "./api.js";
import { fill, h, say, scroller } from "./dom.js";
import { bytes, count, duration, time } from "./format.js";
import { Metrics, quantileOf, rate } from "./metrics.js";
import { draw } from "./plot.js";

const EVERY_MS = 2000;
/** Milliseconds that plots show: as long as the view is open, within these. */
const SPAN_MS = { least: 60_000, most: 300_000 };

/**
 * @typedef {{ name: string, value: (before: Metrics, after: Metrics) => number }} ChartLine
 * @typedef {{ title: string, format: (value: number) => string, lines: ChartLine[] }} Chart
 */

/** @type {(name: string, value: ChartLine["value"]) => ChartLine} */
const line = (name, value) => ({ name, value });

/** Kinds of connections, and what a legend has room for. @type {[string, string][]} */
const KINDS = [["http", "http"], ["websocket", "ws"], ["sse", "sse"]];

/** @type {Chart[]} */
const CHARTS = [
  {
    title: "Events/s",
    format: count,
    lines: [
      line("accepted", (before, after) => rate(before, after, "flux_events_accepted_total")),
      line("refused", (before, after) => rate(before, after, "flux_events_refused_total")),
    ],
  },
  { title: "HTTP requests/s", format: count, lines: [line("", (before, after) => rate(before, after, "flux_http_requests_total"))] },
  {
    title: "Publish",
    format: duration,
    lines: [
      line("p50", (before, after) => quantileOf(before, after, "flux_publish_duration_seconds", 0.5)),
      line("p99", (before, after) => quantileOf(before, after, "flux_publish_duration_seconds", 0.99)),
    ],
  },
  {
    title: "Flush",
    format: duration,
    lines: [
      line("p50", (before, after) => quantileOf(before, after, "flux_flush_duration_seconds", 0.5)),
      line("p99", (before, after) => quantileOf(before, after, "flux_flush_duration_seconds", 0.99)),
    ],
  },
  {
    title: "Events in a flush",
    format: count,
    lines: [line("", (before, after) => rate(before, after, "flux_flush_events_sum") / rate(before, after, "flux_flush_events_count"))],
  },
  {
    title: "Connections",
    format: count,
    lines: KINDS.map(([kind, name]) => line(name, (_, after) => after.sum("flux_connections", { kind }))),
  },
  { title: "Processor, of one core", format: (value) => (Number.isFinite(value) ? `${Math.round(value * 100)} %` : "–"), lines: [line("", (before, after) => rate(before, after, "process_cpu_seconds_total"))] },
  { title: "Memory", format: bytes, lines: [line("resident", (_, after) => after.sum("process_resident_memory_bytes")), line("clients", (_, after) => after.sum("flux_memory_bytes"))] },
];

/**
 * Columns of the table of shards: title, and a shard's value.
 * @type {[string, (before: Metrics | undefined, after: Metrics, shard: string) => string][]}
 */
const COLUMNS = [
  ["Events/s", (before, after, shard) => (before === undefined ? "–" : count(rate(before, after, "flux_log_events", { shard })))],
  ["Entities", (_, after, shard) => count(after.sum("flux_entities", { shard }))],
  ["Log", (_, after, shard) => bytes(after.sum("flux_log_bytes", { shard }))],
  ["Checkpoint", (_, after, shard) => checkpoint(after.sum("flux_checkpoint_age_seconds", { shard }))],
  ["State", (_, after, shard) => refusing(after, shard)],
];

/** @param {number} age */
function checkpoint(age) {
  return age === 0 ? "current" : `${duration(age)} ago`;
}

/**
 * @param {Metrics} metrics
 * @param {string} shard
 */
function refusing(metrics, shard) {
  const reasons = metrics.samples("flux_shard_refusing", { shard }).filter((sample) => sample.value > 0);
  return reasons.length === 0 ? "accepts" : `refuses: ${reasons.map((sample) => (sample.labels["reason"] ?? "").replaceAll("_", " ")).join(", ")}`;
}

/** @returns {import("./main.js").View} */
export function server() {
  const leaving = new AbortController();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {Metrics | undefined} */
  let last;
  /** When the first metrics came. @type {number | undefined} */
  let first;
  /** @type {import("./plot.js").Point[][][]} */
  const series = CHARTS.map((chart) => chart.lines.map(() => []));
  const problem = h("p", { class: "problem", role: "alert" });
  const facts = h("dl", { class: "facts large" });
  const figures = CHARTS.map(() => h("figure"));
  const body = h("tbody");
  const charts = h("div", { class: "plots", hidden: true }, ...figures);
  const shards = h(
    "section",
    { "aria-labelledby": "shards-title", hidden: true },
    h("h2", { id: "shards-title" }, "Shards"),
    scroller(
      "Shards",
      h("table", { class: "rows" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Shard"), ...COLUMNS.map(([title]) => h("th", { scope: "col", class: "number" }, title)))), body),
    ),
  );
  const element = h("section", {}, problem, facts, charts, shards, h("p", { class: "quiet" }, "All figures: ", h("a", { href: "/metrics" }, "/metrics"), " for Prometheus, ", h("a", { href: "/health?detail" }, "/health"), "."));

  /** @param {any} health */
  const drawFacts = (health) => {
    /** @type {[string, string][]} */
    const pairs = [
      ["Version", String(health.version)],
      ["Up for", duration(health.uptime_seconds)],
      ["Entities", count(health.entities)],
      ["Shards", String(health.shards)],
    ];
    if (last !== undefined) {
      const history = last.samples("flux_history_start_time_seconds").map((sample) => sample.value);
      const start = Math.max(0, ...history);
      pairs.push(["Log", bytes(last.sum("flux_log_bytes"))]);
      pairs.push(["Disk free", bytes(last.sum("flux_disk_free_bytes"))]);
      if (start > 0) pairs.push(["History since", time(start * 1000)]);
      pairs.push(["Subscriptions", count(last.sum("flux_subscriptions"))]);
      pairs.push(["Ready", last.sum("flux_ready") === 0 ? "no" : "yes"]);
    }
    fill(facts, ...pairs.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text))));
  };

  /** @param {Metrics} metrics */
  const take = (metrics) => {
    const before = last;
    // Rates over a moment say nothing.
    if (before !== undefined && metrics.at - before.at < EVERY_MS / 2) return;
    last = metrics;
    first ??= metrics.at;
    const from = metrics.at - Math.min(Math.max(metrics.at - first, SPAN_MS.least), SPAN_MS.most);
    CHARTS.forEach((chart, index) => {
      const lines = chart.lines.map((line, number) => {
        const points = /** @type {import("./plot.js").Point[]} */ (series[index]?.[number]);
        if (before !== undefined) points.push({ at: metrics.at, value: line.value(before, metrics) });
        while ((points[0]?.at ?? from) < from) points.shift();
        return { name: line.name, points };
      });
      const figure = figures[index];
      if (figure !== undefined) draw(figure, { title: chart.title, lines, format: chart.format, from, to: metrics.at, zero: true });
    });
    const names = metrics.samples("flux_entities").map((sample) => sample.labels["shard"] ?? "");
    fill(body, ...names.map((name) => h("tr", {}, h("th", { scope: "row" }, name), ...COLUMNS.map(([, value]) => h("td", { class: "number" }, value(before, metrics, name))))));
    charts.hidden = false;
    shards.hidden = names.length === 0;
  };

  let isAsking = false;
  const load = async () => {
    if (isAsking) return;
    isAsking = true;
    clearTimeout(timer);
    const { signal } = leaving;
    // A proxy may keep one of them to itself.
    const [health, metrics] = await Promise.allSettled([get("/health", { signal }), ask("/metrics", { signal })]);
    isAsking = false;
    if (signal.aborted) return;
    if (metrics.status === "fulfilled") take(new Metrics(metrics.value.body, Date.now()));
    if (health.status === "fulfilled") drawFacts(health.value.value);
    const failed = [health, metrics].find((answer) => answer.status === "rejected");
    say(problem, failed === undefined ? "" : explain(failed.reason));
    timer = setTimeout(load, EVERY_MS);
  };

  load();
  return {
    title: "Server",
    element,
    onLive: load,
    close: () => {
      clearTimeout(timer);
      leaving.abort();
    },
  };
}
