// The list of entities: by prefix and filter, in pages, live.
//
// A page of the list is read once; what changes after it comes by a subscription from the list's
// cursor on. Changes are collected and drawn once a frame, and only the rows that they concern.

import { explain, get, isForbidden, nextPage, parameters, target } from "./api.js";
import { fill, h, onceAFrame, say, scroller } from "./dom.js";
import { brief, compareIds, count, numeric, setBy, time } from "./format.js";
import { guide } from "./guide.js";

/**
 * @typedef {{
 *   id: string, properties: Map<string, any>, version: number, sequence?: number | undefined,
 *   updated: string, drawn: HTMLTableRowElement, cells: HTMLTableCellElement[], isNew: boolean,
 * }} Row
 */

const SIZES = ["100", "250", "1000"];
/** Rows that a page grows to by what is new. */
const ROWS_MAX = 1000;
/** Milliseconds between two looks at whether all that is shown may still be read. */
const LOOK_MS = 10_000;
/** Milliseconds within which the end of an entity comes as a change. */
const END_MS = 1000;
/** Properties that a row shows. */
const SHOWN = 8;

/**
 * @param {import("./main.js").Context} context
 * @returns {import("./main.js").View}
 */
export function entities({ live, params, go }) {
  const [prefix, filter, after] = ["prefix", "filter", "after"].map((name) => params.get(name) ?? "");
  const size = SIZES.find((size) => size === params.get("limit")) ?? "250";
  /** @type {Row[]} */
  let rows = [];
  /** @type {Map<string, Row>} */
  const byId = new Map();
  /** @type {Set<string>} */
  const changed = new Set();
  /**
   * The last id that belongs to this page; `undefined`: it is the last page.
   * @type {string | undefined}
   */
  let bound;
  const loading = new AbortController();

  const body = h("tbody");
  const note = h("p", { class: "note", role: "status" });
  const problem = h("p", { class: "problem", id: "filter-problem", role: "alert" });
  const empty = h("div");
  const pages = h("nav", { class: "pages", "aria-label": "Pages" });
  const prefixField = h("input", { id: "prefix", type: "search", value: prefix ?? "", placeholder: "house/", spellcheck: "false", autocomplete: "off" });
  const filterField = h("input", {
    id: "filter",
    type: "search",
    value: filter ?? "",
    placeholder: "gt(temperature,22)",
    spellcheck: "false",
    autocomplete: "off",
    "aria-describedby": "filter-problem",
  });
  const sizeField = h("select", { id: "size" }, ...SIZES.map((size) => h("option", { value: size }, size)));
  sizeField.value = size;
  const search = () => {
    go("entities", { prefix: prefixField.value, filter: filterField.value.trim(), limit: sizeField.value === "250" ? "" : sizeField.value });
  };
  const form = h(
    "form",
    {
      class: "tools",
      role: "search",
      submit: (event) => {
        event.preventDefault();
        search();
      },
    },
    h("div", { class: "field" }, h("label", { for: "prefix" }, "Prefix"), prefixField),
    h("div", { class: "field wide" }, h("label", { for: "filter" }, "Filter"), filterField),
    h("div", { class: "field" }, h("label", { for: "size" }, "Rows"), sizeField),
    h("button", { type: "submit" }, "Search"),
  );
  sizeField.addEventListener("change", search);
  const columns = /** @type {const} */ ([["Entity", "id"], ["Properties", "properties"], ["Version", "number"], ["Updated", "number"]]);
  const table = h(
    "table",
    { class: "rows entities" },
    h("caption", { class: "unseen" }, "Entities, by id"),
    h("thead", {}, h("tr", {}, ...columns.map(([title, kind]) => h("th", { scope: "col", class: kind }, title)))),
    body,
  );
  body.addEventListener("keydown", moveByArrows);
  const scroll = scroller("Entities", table);
  const element = h("section", {}, form, problem, note, empty, scroll, pages);

  /** @param {any} entity */
  const rowOf = (entity) => {
    const link = h("a", { href: `#/entity?id=${encodeURIComponent(entity.id)}` }, h("bdi", {}, entity.id));
    const cells = [h("th", { scope: "row", class: "id" }, link), h("td", { class: "properties" }), h("td", { class: "number" }), h("td", { class: "number" })];
    const drawn = h("tr", {}, ...cells);
    /** @type {Row} */
    const row = { id: entity.id, properties: new Map(Object.entries(entity.properties)), version: entity.version, updated: entity.lastUpdated, drawn, cells, isNew: false };
    return row;
  };

  /**
   * @param {Row} row
   * @param {Set<string>} [touched] properties that a change has set
   */
  const drawRow = (row, touched) => {
    const [, properties, version, updated] = row.cells;
    if (properties === undefined || version === undefined || updated === undefined) return;
    const names = [...row.properties.keys()];
    const parts = names.slice(0, SHOWN).flatMap((name) => {
      const value = h("bdi", { class: touched?.has(name) ? "value touched" : "value" }, brief(row.properties.get(name)));
      return [h("span", { class: "property" }, h("bdi", { class: "name" }, name), " ", value), " "];
    });
    if (names.length > SHOWN) parts.push(h("span", { class: "more" }, `+${names.length - SHOWN}`));
    fill(properties, ...parts);
    say(version, String(row.version));
    say(updated, time(row.updated));
    updated.title = row.updated;
  };

  /** The place of an id among the rows. @param {string} id */
  const placeOf = (id) => {
    let [low, high] = [0, rows.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compareIds(/** @type {Row} */ (rows[middle]).id, id) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  };

  /** @param {string} id */
  const remove = (id) => {
    const row = byId.get(id);
    if (row === undefined) return;
    byId.delete(id);
    rows.splice(placeOf(id), 1);
    row.drawn.remove();
    // In a tab that is not seen nothing is drawn, and these would only grow.
    changed.delete(id);
    touched.delete(id);
  };

  /** Leaves what is too much for a page to the next. */
  const trim = () => {
    if (rows.length <= ROWS_MAX) return;
    while (rows.length > ROWS_MAX) remove(/** @type {Row} */ (rows.at(-1)).id);
    bound = rows.at(-1)?.id;
    drawPages();
  };

  /** Which properties of a row have changed since it was drawn. @type {Map<string, Set<string>>} */
  const touched = new Map();

  /** @param {any} message */
  const take = (message) => {
    const id = message.entity_id;
    if (!id.startsWith(prefix)) return;
    if ((after !== "" && compareIds(id, after ?? "") <= 0) || (bound !== undefined && compareIds(id, bound) > 0)) return;
    if (message.type === "entity_deleted" || message.matches === false) {
      remove(id);
      redraw();
      return;
    }
    let row = byId.get(id);
    if (row === undefined) {
      // What a change does not set is not known of an entity that was not there.
      row = rowOf({ id, properties: {}, version: message.version, lastUpdated: message.timestamp });
      row.isNew = true;
      byId.set(id, row);
      rows.splice(placeOf(id), 0, row);
      trim();
    }
    // By place in the log: the version begins anew with an entity that is made again.
    const sequence = numeric(message.sequence);
    if (!message.whole && sequence !== undefined && row.sequence !== undefined && sequence < row.sequence) return;
    row.sequence = sequence;
    if (message.whole) row.properties.clear();
    const set = setBy(message);
    for (const [name, value] of set) row.properties.set(name, value);
    for (const name of message.removed ?? []) row.properties.delete(name);
    if (byId.get(id) !== row) return;
    row.version = message.version;
    row.updated = message.timestamp;
    const names = touched.get(id) ?? new Set();
    for (const [name] of set) names.add(name);
    touched.set(id, names);
    changed.add(id);
    redraw();
  };

  let hasFailed = false;
  /** Its changes don't come. */
  let isRefused = false;
  const describe = () => {
    if (hasFailed || isRefused) return;
    const total = numeric(live.metrics?.entities?.total);
    const isSearch = prefix !== "" || filter !== "";
    const isPart = bound !== undefined || after !== "";
    const of = isPart && !isSearch && total !== undefined ? ` of ${count(total)}` : "";
    const which = isSearch ? (isPart ? " found on this page" : " found") : "";
    say(note, `${rows.length}${of} ${rows.length === 1 && of === "" ? "entity" : "entities"}${which}${after ? `, after ${after}` : ""}`);
    const isBare = rows.every((row) => row.id === "flux-core/directory") && !after;
    scroll.hidden = rows.length === 0;
    if (isBare && !isSearch) say(note, "");
    if (!isBare) fill(empty);
    else if (empty.childElementCount === 0) {
      fill(empty, isSearch ? (rows.length === 0 && h("p", { class: "quiet" }, bound === undefined ? "No entity matches. Entities that come to match appear here by themselves." : "No entity of this page matches; the next page may hold some.")) : guide());
    }
  };

  const redraw = onceAFrame(() => {
    for (const id of changed) {
      const row = byId.get(id);
      if (row === undefined) continue;
      drawRow(row, touched.get(id));
      if (!row.isNew) row.drawn.querySelectorAll(".touched").forEach(flash);
      else {
        flash(row.drawn);
        row.isNew = false;
        const place = placeOf(id);
        const next = rows.slice(place + 1).find((row) => row.drawn.isConnected);
        body.insertBefore(row.drawn, next?.drawn ?? null);
      }
    }
    changed.clear();
    touched.clear();
    describe();
  });

  /** Takes from the screen what may not be read any more. */
  const forget = () => {
    for (const { id } of [...rows]) remove(id);
    bound = undefined;
    drawPages();
    fill(empty);
    say(note, "");
    scroll.hidden = true;
  };

  /**
   * Takes away rows that may not be read any more. Nothing says so as long as the subscription
   * shows anything else: it just tells no more of them.
   */
  const look = async () => {
    if (document.hidden || live.status.kind !== "live" || hasFailed || isRefused || rows.length === 0) return;
    const shown = new Map(rows.map((row) => [row.id, row.version]));
    const last = /** @type {Row} */ (rows.at(-1)).id;
    try {
      // No property has such a name, so ids come without properties.
      const path = target("/api/state/entities", { prefix, filter, after, limit: ROWS_MAX, fields: "\u0000" });
      const { value, headers } = await get(path, { signal: loading.signal });
      for (const entity of value) shown.delete(entity.id);
      // Beyond what was looked at, nothing is known.
      const next = nextPage(headers);
      const end = next === undefined ? last : parameters(next).get("after") ?? "";
      await new Promise((resolve) => setTimeout(resolve, END_MS));
      if (loading.signal.aborted) return;
      let count = 0;
      for (const [id, version] of shown) {
        if (compareIds(id, end) > 0 || byId.get(id)?.version !== version) continue;
        remove(id);
        count += 1;
      }
      if (count === 0) return;
      redraw();
      say(problem, `${count === 1 ? "An entity" : `${count} entities`} can't be read here any more.`);
    } catch (error) {
      if (loading.signal.aborted || !isForbidden(error)) return;
      hasFailed = true;
      say(problem, explain(error));
      forget();
    }
  };
  const looking = setInterval(look, LOOK_MS);

  const load = async () => {
    try {
      const path = target("/api/state/entities", { prefix, filter, after, limit: size });
      const { value, headers } = await get(path, { signal: loading.signal });
      hasFailed = false;
      isRefused = false;
      changed.clear();
      touched.clear();
      rows = value.map(rowOf);
      byId.clear();
      for (const row of rows) {
        byId.set(row.id, row);
        drawRow(row);
      }
      fill(body, ...rows.map((row) => row.drawn));
      const next = nextPage(headers);
      bound = next === undefined ? undefined : parameters(next).get("after");
      say(problem, "");
      filterField.removeAttribute("aria-invalid");
      drawPages();
      fill(empty);
      describe();
      // Of more entities than a page shows, each may change: what is not shown is not waited for.
      const max_hz = bound === undefined ? 20 : 2;
      const wanted = { entity_id: `${prefix}*`, mode: /** @type {const} */ ("entity"), max_hz, ...(filter ? { filter } : {}) };
      live.watch(wanted, headers.get("Flux-Cursor") ?? "", {
        message: take,
        began: () => {
          if (isRefused) say(problem, "");
          isRefused = false;
        },
        resync: load,
        refused: (error) => {
          isRefused = true;
          say(problem, explain(error));
          if (isForbidden(error)) forget();
        },
      });
    } catch (error) {
      if (loading.signal.aborted) return;
      hasFailed = true;
      say(problem, explain(error));
      if (isForbidden(error)) forget();
      if (/** @type {any} */ (error).code === "invalid_filter") filterField.setAttribute("aria-invalid", "true");
      say(note, "");
      fill(empty);
      scroll.hidden = rows.length === 0;
    }
  };

  /** @param {string | undefined} after */
  const link = (after) => `#${target("/entities", { prefix, filter, after, limit: size === "250" ? "" : size })}`;

  const drawPages = () =>
    fill(
      pages,
      after !== "" && h("a", { href: link(undefined) }, "First page"),
      bound !== undefined && h("a", { href: link(bound), rel: "next" }, "Next page"),
    );

  load();
  return {
    title: "Entities",
    element,
    onMetrics: describe,
    onLive: () => {
      if (hasFailed || isRefused) load();
    },
    find: () => prefixField.focus(),
    close: () => {
      clearInterval(looking);
      loading.abort();
    },
  };
}

const isStill = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * Shows that something has changed.
 * @param {Element} element
 */
export function flash(element) {
  if (isStill.matches) return;
  element.animate([{ backgroundColor: "var(--flash)" }, { backgroundColor: "transparent" }], { duration: 900, easing: "ease-out" });
}

/**
 * Up and down go from row to row.
 * @param {KeyboardEvent} event
 */
export function moveByArrows(event) {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const row = event.target instanceof Element ? event.target.closest("tr") : null;
  const other = event.key === "ArrowDown" ? row?.nextElementSibling : row?.previousElementSibling;
  const link = other?.querySelector("a");
  if (link instanceof HTMLElement) {
    event.preventDefault();
    link.focus();
  }
}
