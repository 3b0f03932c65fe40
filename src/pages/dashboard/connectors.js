// Connectors: what is polled, how often, and how the last poll ended.

import { Refused, explain, get } from "./api.js";
import { fill, h, say, scroller } from "./dom.js";
import { count, duration, time } from "./format.js";

const EVERY_MS = 4000;

/** @returns {import("./main.js").View} */
export function connectors() {
  const leaving = new AbortController();
  const problem = h("p", { class: "problem", role: "alert" });
  const note = h("p", { class: "note" });
  const body = h("tbody");
  const titles = /** @type {const} */ ([["Connector", ""], ["Status", ""], ["Type", ""], ["Every", "number"], ["Last poll", "number"], ["Events", "number"], ["Last error", ""]]);
  const scroll = scroller(
    "Connectors",
    h("table", { class: "rows connectors" }, h("caption", { class: "unseen" }, "Connectors"), h("thead", {}, h("tr", {}, ...titles.map(([title, kind]) => h("th", { scope: "col", class: kind }, title)))), body),
  );
  scroll.hidden = true;
  const element = h("section", {}, problem, note, scroll);
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;

  /**
   * What is known of a connector; `undefined` if it is gone meanwhile.
   * @param {string} name
   */
  const detailOf = async (name) => {
    try {
      return (await get(`/api/connectors/${encodeURIComponent(name)}`, { signal: leaving.signal })).value;
    } catch (error) {
      if (error instanceof Refused && error.status === 404) return undefined;
      throw error;
    }
  };

  const load = async () => {
    clearTimeout(timer);
    try {
      const { value } = await get("/api/connectors", { signal: leaving.signal });
      const answers = await Promise.all(value.connectors.map((/** @type {any} */ one) => detailOf(one.name)));
      const details = answers.filter((one) => one !== undefined);
      say(problem, "");
      say(note, `${details.length} ${details.length === 1 ? "connector" : "connectors"}`);
      scroll.hidden = details.length === 0;
      fill(
        body,
        ...details.map((one) =>
          h(
            "tr",
            {},
            h("th", { scope: "row", class: "id" }, h("bdi", {}, one.name)),
            h("td", {}, h("span", { class: `state ${one.status}` }, one.status.replaceAll("_", " "))),
            h("td", { "data-title": "Type" }, one.type),
            h("td", { class: "number", "data-title": "Every" }, duration(one.poll_interval_seconds)),
            h("td", { class: "number", "data-title": "Last poll" }, time(one.last_poll)),
            h("td", { class: "number", "data-title": "Events" }, count(one.events_published)),
            h("td", { class: "error" }, h("bdi", {}, one.last_error ?? "–")),
          ),
        ),
      );
      again();
    } catch (error) {
      if (leaving.signal.aborted) return;
      say(problem, explain(error));
      // Who has no token has none in a moment either.
      const isRefused = error instanceof Refused && (error.status === 401 || error.status === 403);
      if (!isRefused) again();
    }
  };

  const again = () => {
    clearTimeout(timer);
    timer = setTimeout(load, EVERY_MS);
  };

  load();
  return {
    title: "Connectors",
    element,
    onLive: load,
    close: () => {
      clearTimeout(timer);
      leaving.abort();
    },
  };
}
