// Namespaces, as the server's own directory lists them.

import { Refused, explain, get, target } from "./api.js";
import { fill, h, onceAFrame, say, scroller } from "./dom.js";
import { flash, moveByArrows } from "./entities.js";
import { count, time } from "./format.js";

const DIRECTORY = "flux-core/directory";

/**
 * @param {import("./main.js").Context} context
 * @returns {import("./main.js").View}
 */
export function namespaces({ live }) {
  const leaving = new AbortController();
  /** @type {any} */
  let directory;
  /** What each row showed. @type {Map<string, string>} */
  let before = new Map();
  const problem = h("p", { class: "problem", role: "alert" });
  const note = h("p", { class: "note", role: "status" });
  const body = h("tbody");
  body.addEventListener("keydown", moveByArrows);
  const scroll = scroller(
    "Namespaces",
    h(
      "table",
      { class: "rows narrow" },
      h("caption", { class: "unseen" }, "Namespaces, by name"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Namespace"), h("th", { scope: "col", class: "number" }, "Entities"), h("th", { scope: "col", class: "number" }, "Updated"))),
      body,
    ),
  );
  const element = h("section", {}, problem, note, scroll);

  const redraw = onceAFrame(() => {
    const list = directory?.namespaces ?? [];
    const shown = directory === undefined ? "" : `${count(directory.total_namespaces)} namespaces, ${count(directory.total_entities)} entities`;
    const rest = directory !== undefined && list.length < directory.total_namespaces ? `; the ${list.length} that were updated last are listed` : "";
    say(note, shown + rest);
    scroll.hidden = list.length === 0;
    const drawn = new Map();
    const rows = list.map((/** @type {any} */ row) => {
      const link = h("a", { href: `#${target("/entities", { prefix: `${row.name}/` })}` }, h("bdi", {}, row.name));
      const element = h("tr", {}, h("th", { scope: "row", class: "id" }, link), h("td", { class: "number" }, count(row.entities)), h("td", { class: "number" }, time(row.lastUpdated)));
      const text = `${row.entities} ${row.lastUpdated}`;
      if (before.has(row.name) && before.get(row.name) !== text) requestAnimationFrame(() => flash(element));
      drawn.set(row.name, text);
      return element;
    });
    before = drawn;
    const focused = document.activeElement?.closest("tbody") === body ? document.activeElement?.textContent : undefined;
    fill(body, ...rows);
    if (focused) [...body.querySelectorAll("a")].find((link) => link.textContent === focused)?.focus();
    if (directory !== undefined && list.length === 0) {
      fill(problem);
      say(note, "There is no namespace yet. The namespace of an entity is what stands before the first slash of its id.");
    }
  });

  /** What is shown is not followed, or was never there. */
  let hasFailed = false;

  /** @param {boolean} [isWatched] it is watched already, and only looked at again */
  const load = async (isWatched = false) => {
    let cursor = "";
    try {
      const { value, headers } = await get(target("/api/state/entity", { id: DIRECTORY }), { signal: leaving.signal });
      directory = value.properties;
      cursor = headers.get("Flux-Cursor") ?? "";
      hasFailed = false;
      say(problem, "");
    } catch (error) {
      if (leaving.signal.aborted) return;
      if (!(error instanceof Refused && error.status === 404)) {
        hasFailed = true;
        say(problem, explain(error));
        return;
      }
      if (isWatched) return;
    }
    redraw();
    const take = (/** @type {any} */ message) => {
      if (message.type !== "entity" || message.entity_id !== DIRECTORY) return;
      directory = message.whole ? message.properties : { ...directory, ...message.properties };
      redraw();
    };
    live.watch({ entity_id: DIRECTORY, mode: "entity" }, cursor, {
      message: take,
      began: (isBare) => {
        hasFailed = false;
        say(problem, "");
        // It may have come into being between the answer and the subscription.
        if (isBare && directory === undefined) load(true);
      },
      resync: () => load(),
      refused: (error) => {
        hasFailed = true;
        say(problem, explain(error));
      },
    });
  };

  load();
  return {
    title: "Namespaces",
    element,
    onLive: () => {
      if (hasFailed || directory === undefined) load();
    },
    close: () => leaving.abort(),
  };
}
