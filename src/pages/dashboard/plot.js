// A plot of numbers over time, as a drawing. What it shows is in its label too.

import { fill, h, svg } from "./dom.js";
import { count, time } from "./format.js";

const [WIDTH, HEIGHT] = [320, 72];

/**
 * @typedef {{ at: number, value: number }} Point
 * @typedef {{ name: string, points: Point[] }} Line
 */

/**
 * Draws lines into a figure, in the place of what it held.
 * @param {HTMLElement} figure
 * @param {{
 *   title: string, lines: Line[], format?: (value: number) => string, steps?: boolean,
 *   from?: number, to?: number, zero?: boolean, mark?: number | undefined,
 * }} plot
 */
export function draw(figure, { title, lines, format = count, steps = false, from, to, zero = false, mark }) {
  const points = lines.flatMap((line) => line.points).filter((point) => Number.isFinite(point.value));
  // With a mark, what was at its time.
  const until = mark ?? Infinity;
  const latest = lines.map((line) => format(line.points.findLast((point) => point.at <= until)?.value ?? NaN));
  const now = lines.map((line, index) => `${line.name} ${latest[index]}`.trim()).join(", ");
  const keys = lines.flatMap((line, index) => {
    const name = lines.length > 1 ? h("span", { class: `key key-${index}` }, line.name) : "";
    return [name, " ", h("span", { class: "now" }, latest[index] ?? ""), " "];
  });
  const caption = h("figcaption", {}, h("bdi", { class: "title" }, title), h("span", { class: "keys" }, ...keys));
  if (points.length === 0) {
    fill(figure, caption, h("div", { class: "drawing none" }, "nothing in this time"), h("div", { class: "span" }, "\u00a0"));
    return;
  }
  const [left, right] = [from ?? Math.min(...points.map((point) => point.at)), to ?? Math.max(...points.map((point) => point.at))];
  let [low, high] = [Math.min(...points.map((point) => point.value)), Math.max(...points.map((point) => point.value))];
  if (zero) low = Math.min(0, low);
  if (low === high) [low, high] = zero ? [low, low + 1] : [low - 1, high + 1];
  const x = (/** @type {number} */ at) => (right === left ? WIDTH : ((at - left) / (right - left)) * WIDTH);
  const y = (/** @type {number} */ value) => HEIGHT - 3 - ((value - low) / (high - low)) * (HEIGHT - 6);
  const paths = lines.map((line, index) => {
    const path = pathOf(line.points, x, y, steps);
    return svg("path", { d: path, class: `line line-${index}` });
  });
  const range = `${format(low)} to ${format(high)}; ${mark === undefined ? "now" : "then"} ${now}`;
  const marks = mark === undefined ? [] : [svg("line", { x1: x(mark), x2: x(mark), y1: 0, y2: HEIGHT, class: "mark" })];
  const drawing = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${range}` },
    ...marks,
    ...paths,
  );
  const scale = h("div", { class: "scale", "aria-hidden": "true" }, h("span", {}, format(high)), h("span", {}, format(low)));
  const span = h("div", { class: "span", "aria-hidden": "true" }, h("span", {}, time(left)), h("span", {}, time(right)));
  fill(figure, caption, h("div", { class: "drawing" }, drawing, scale), span);
}

/**
 * @param {Point[]} points
 * @param {(at: number) => number} x
 * @param {(value: number) => number} y
 * @param {boolean} steps a value holds until the next
 */
function pathOf(points, x, y, steps) {
  let path = "";
  let isDown = false;
  for (const { at, value } of points) {
    if (!Number.isFinite(value)) {
      isDown = false;
      continue;
    }
    const [px, py] = [x(at).toFixed(1), y(value).toFixed(1)];
    if (!isDown) path += `M${px} ${py}`;
    else path += steps ? `H${px}V${py}` : `L${px} ${py}`;
    isDown = true;
  }
  return path;
}
