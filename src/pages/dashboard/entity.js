// One entity: what it is now, or was at a time; what changed it; its numbers over time.

import { Refused, explain, get, isForbidden, nextPage, target } from "./api.js";
import { fill, h, onceAFrame, say, scroller } from "./dom.js";
import { flash } from "./entities.js";
import { brief, moment, numeric, setBy, time, whole } from "./format.js";
import { patternOf } from "./live.js";
import { draw } from "./plot.js";

/**
 * @typedef {{
 *   properties: Map<string, any>, version: number, sequence?: number | undefined,
 *   updated: string, expiresAt?: string | undefined,
 * }} State
 */

/** Events that are asked for at a time. */
const PAGE = 200;
/** Events that are kept, but for those that were asked for. */
const EVENTS_MAX = 1000;
/** Plots that are drawn. */
const PLOTS = 12;

/**
 * @param {import("./main.js").Context} context
 * @returns {import("./main.js").View}
 */
export function entity({ live, params, replace }) {
  const id = params.get("id") ?? "";
  const leaving = new AbortController();
  /** @type {State | undefined} */
  let now;
  /** What is shown in the place of `now`. @type {State | undefined} */
  let then;
  /** The server has said what is now, and what was then: the state, or that there is none. */
  const isKnown = { now: false, then: false };
  /** The time that is shown; empty: now. */
  let at = params.get("at") ?? "";
  /** From the oldest to the newest. @type {any[]} */
  let events = [];
  /** There are events before these. */
  let hasOlder = false;
  /** Events that are kept: more are let go of, the oldest first. */
  let room = EVENTS_MAX;
  /** @type {Map<string, HTMLTableRowElement>} */
  const drawn = new Map();
  /** @type {Set<string>} */
  const touched = new Set();

  const facts = h("dl", { class: "facts" });
  const problem = h("p", { class: "problem", role: "alert" });
  /**
   * What is wrong with what: each ends when that very thing succeeds.
   * @type {Map<"now" | "then" | "changes" | "events", string>}
   */
  const problems = new Map();
  /**
   * @param {"now" | "then" | "changes" | "events"} part
   * @param {unknown} [error] none: it has succeeded
   */
  const report = (part, error) => {
    if (error === undefined) problems.delete(part);
    else problems.set(part, explain(error));
    say(problem, [...new Set(problems.values())].join(" "));
  };
  const past = h("output", { for: "time", class: "past" });
  const slider = h("input", { type: "range", id: "time", min: "0", max: "0", value: "0", step: "1" });
  const back = h("button", { type: "button" }, "Now");
  const properties = h("tbody");
  const plots = h("div", { class: "plots" });
  const plotsSection = h("section", { "aria-labelledby": "plots-title" }, h("h2", { id: "plots-title" }, "Over time"), plots);
  const rows = h("tbody");
  const more = h("button", { type: "button" }, "Older events");
  const none = h("p", { class: "quiet" });
  const travelTools = h("div", { class: "travel" }, h("label", { for: "time" }, "Time"), slider, past, back);
  const eventsSection = h(
    "section",
    { "aria-labelledby": "events-title" },
    h("h2", { id: "events-title" }, "Events"),
    scroller(
      "Events",
      h(
        "table",
        { class: "rows events" },
        h("thead", {}, h("tr", {}, ...["Accepted", "What it set", "Stream", "Source"].map((title) => h("th", { scope: "col" }, title)))),
        rows,
      ),
    ),
    h("p", {}, more),
  );
  const namespace = id.includes("/") ? id.slice(0, id.indexOf("/") + 1) : "";
  const element = h(
    "section",
    {},
    h("p", { class: "crumbs" }, h("a", { href: "#/entities" }, "Entities"), namespace !== "" && h("a", { href: `#${target("/entities", { prefix: namespace })}` }, h("bdi", {}, namespace))),
    h("h1", { tabindex: "-1", class: "id" }, h("bdi", {}, id)),
    facts,
    problem,
    travelTools,
    h(
      "div",
      { class: "columns" },
      h(
        "section",
        { "aria-labelledby": "properties-title" },
        h("h2", { id: "properties-title" }, "Properties"),
        none,
        scroller("Properties", h("table", { class: "rows" }, h("thead", { class: "unseen" }, h("tr", {}, h("th", { scope: "col" }, "Name"), h("th", { scope: "col" }, "Value"))), properties)),
      ),
      plotsSection,
    ),
    eventsSection,
  );

  /** @param {any} value @returns {State} */
  const stateOf = (value) => ({
    properties: new Map(Object.entries(value.properties)),
    version: value.version,
    updated: value.lastUpdated,
    expiresAt: value.expiresAt,
  });

  const drawState = () => {
    const state = at === "" ? now : then;
    element.classList.toggle("then", at !== "");
    const is = at === "" ? "There is no such entity." : "It did not exist then.";
    const isAbsent = state === undefined && (at === "" ? isKnown.now : isKnown.then);
    say(none, isAbsent ? is : state === undefined ? "" : state.properties.size === 0 ? "It has no properties." : "");
    /** @type {[string, string | undefined][]} */
    const pairs = [
      ["Version", state && String(state.version)],
      ["Updated", state && time(state.updated)],
      ["Expires", state?.expiresAt && time(state.expiresAt)],
    ];
    fill(facts, ...pairs.filter(([, text]) => text).map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text))));
    const names = [...(state?.properties.keys() ?? [])].sort();
    fill(
      properties,
      ...names.map((name) => {
        const row = h("tr", {}, h("th", { scope: "row" }, h("bdi", {}, name)), h("td", { class: "value" }, h("bdi", {}, whole(state?.properties.get(name)))));
        if (touched.has(name) && at === "") requestAnimationFrame(() => flash(row));
        return row;
      }),
    );
    touched.clear();
    drawTime();
  };

  const drawTime = () => {
    slider.max = String(events.length);
    slider.disabled = events.length === 0;
    travelTools.hidden = events.length === 0 && at === "";
    eventsSection.hidden = events.length === 0;
    let index = events.length;
    if (at !== "") index = Math.max(0, events.findLastIndex((event) => Date.parse(event.acceptedAt) <= Date.parse(at) && event.acceptedAt <= at));
    if (document.activeElement !== slider || at === "") slider.value = String(index);
    const text = at === "" ? "now" : `as it was at ${moment(at)}, event ${index + 1} of ${hasOlder ? "the last " : ""}${events.length}`;
    say(past, text);
    slider.setAttribute("aria-valuetext", text);
    back.hidden = at === "";
  };

  /** @param {any} event */
  const rowOf = (event) => {
    const set = event.payload?.properties ?? {};
    const parts = Object.entries(set)
      .slice(0, 12)
      .flatMap(([name, value]) => [h("span", { class: "property" }, h("bdi", { class: "name" }, name), " ", h("bdi", { class: "value" }, brief(value))), " "]);
    const what = set["__deleted__"] === true ? [h("span", { class: "gone" }, "deleted")] : parts;
    const when = h("time", { datetime: event.acceptedAt, title: event.acceptedAt }, moment(event.acceptedAt));
    const button = h("button", { type: "button", class: "link", title: "Show the state as it was then", click: () => travel(event.acceptedAt) }, when);
    return h("tr", {}, h("td", { class: "number" }, button), h("td", { class: "properties" }, ...what), h("td", {}, h("bdi", {}, event.stream)), h("td", {}, h("bdi", {}, event.source)));
  };

  const drawEvents = onceAFrame(() => {
    // Rows that are there stay where they are, with the focus that one of them may have.
    let next = rows.firstElementChild;
    for (const event of [...events].reverse()) {
      let row = drawn.get(event.cursor);
      if (row === undefined) {
        row = rowOf(event);
        drawn.set(event.cursor, row);
      }
      if (event.acceptedAt === at) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
      if (row === next) next = next.nextElementSibling;
      else rows.insertBefore(row, next);
    }
    while (next !== null) {
      const gone = next;
      next = next.nextElementSibling;
      gone.remove();
    }
    if (drawn.size > events.length) {
      const kept = new Set(events.map((event) => event.cursor));
      for (const cursor of drawn.keys()) if (!kept.has(cursor)) drawn.delete(cursor);
    }
    more.hidden = !hasOlder;
    drawPlots();
    drawTime();
  });

  const drawPlots = () => {
    /** @type {Map<string, import("./plot.js").Point[]>} */
    const series = new Map();
    for (const event of events) {
      const set = event.payload?.properties ?? {};
      const when = Date.parse(event.acceptedAt);
      if (set["__deleted__"] === true) {
        for (const points of series.values()) points.push({ at: when, value: NaN });
        continue;
      }
      for (const [name, value] of Object.entries(set)) {
        const number = numeric(value);
        const points = series.get(name);
        if (number !== undefined && points === undefined) series.set(name, [{ at: when, value: number }]);
        else points?.push({ at: when, value: number ?? NaN });
      }
    }
    const shown = [...series].filter(([, points]) => points.length > 1).slice(0, PLOTS);
    plotsSection.hidden = shown.length === 0;
    const from = events.length === 0 ? 0 : Date.parse(events[0].acceptedAt);
    const to = events.length === 0 ? 0 : Date.parse(events.at(-1).acceptedAt);
    while (plots.childElementCount > shown.length) plots.lastElementChild?.remove();
    while (plots.childElementCount < shown.length) plots.append(h("figure"));
    shown.forEach(([name, points], index) => {
      const figure = /** @type {HTMLElement} */ (plots.children[index]);
      const mark = at === "" ? undefined : Math.min(Math.max(Date.parse(at), from), to);
      const format = (/** @type {number} */ value) => (Number.isFinite(value) ? String(Number(value.toPrecision(6))) : "–");
      draw(figure, { title: name, lines: [{ name, points }], format, steps: true, from, to, mark });
    });
  };

  /** @type {AbortController | undefined} */
  let asking;

  /**
   * Shows the state at a time; empty: now.
   * @param {string} time
   */
  const travel = async (time) => {
    asking?.abort();
    if (at !== time) {
      isKnown.then = false;
      report("then");
    }
    at = time;
    replace({ id, at });
    if (at !== "") {
      const mine = new AbortController();
      asking = mine;
      try {
        const { value } = await get(target("/api/state/entity", { id, at }), { signal: mine.signal });
        then = stateOf(value);
        isKnown.then = true;
        report("then");
      } catch (error) {
        if (mine.signal.aborted) return;
        then = undefined;
        isKnown.then = isAbsence(error);
        report("then", isKnown.then ? undefined : error);
      }
    }
    drawState();
    drawEvents();
  };

  slider.addEventListener("input", () => {
    const event = events[Number(slider.value)];
    travel(event === undefined ? "" : event.acceptedAt);
  });
  back.addEventListener("click", () => {
    slider.focus();
    travel("");
  });

  /** @param {any} message */
  const take = (message) => {
    if (message.entity_id !== id) return;
    // By place in the log: the version begins anew with an entity that is made again.
    const sequence = numeric(message.sequence);
    if (!message.whole && sequence !== undefined && now?.sequence !== undefined && sequence < now.sequence) return;
    isKnown.now = true;
    if (message.type === "entity_deleted") now = undefined;
    else {
      /** @type {State} */
      const state = now ?? { properties: new Map(), version: 0, updated: "" };
      if (message.whole) state.properties.clear();
      if (message.whole || "expiresAt" in message) state.expiresAt = message.expiresAt ?? undefined;
      for (const [name, value] of setBy(message)) {
        state.properties.set(name, value);
        touched.add(name);
      }
      for (const name of message.removed ?? []) state.properties.delete(name);
      state.version = message.version;
      state.sequence = sequence;
      state.updated = message.timestamp;
      now = state;
    }
    redraw();
    refresh();
  };
  const redraw = onceAFrame(drawState);

  /** Asks for what is new, at most twice a second. */
  let isRefreshing = false;
  const refresh = () => {
    if (isRefreshing) return;
    isRefreshing = true;
    setTimeout(async () => {
      isRefreshing = false;
      if (!leaving.signal.aborted) await loadEvents(events.at(-1)?.acceptedAt);
    }, 500);
  };

  /** Counts calls for the newest events: the answer to an earlier one is late. */
  let eventLoads = 0;
  /**
   * Adds the events since a time; without it, puts the newest in the place of all.
   * @param {string} [since]
   */
  const loadEvents = async (since) => {
    if (since === undefined) eventLoads += 1;
    const mine = eventLoads;
    try {
      const { value, headers } = await get(target("/api/events", { entity: id, limit: PAGE, since }), { signal: leaving.signal });
      if (mine !== eventLoads) return;
      report("events");
      if (since === undefined) {
        events = [];
        room = EVENTS_MAX;
      }
      const known = new Set(events.map((event) => event.cursor));
      const fresh = value.reverse().filter((/** @type {any} */ event) => !known.has(event.cursor));
      if (since === undefined) hasOlder = nextPage(headers) !== undefined;
      else if (fresh.length === PAGE) {
        // More came than one page holds: what lies between would be missing.
        events = [];
        hasOlder = true;
      }
      events = [...events, ...fresh];
      if (events.length > room) {
        events = events.slice(-room);
        hasOlder = true;
      }
      drawEvents();
    } catch (error) {
      if (!leaving.signal.aborted && mine === eventLoads) report("events", error);
    }
  };

  more.addEventListener("click", async () => {
    const hadFocus = document.activeElement === more;
    const before = events[0]?.cursor;
    more.disabled = true;
    try {
      const path = target("/api/events", { entity: id, limit: PAGE, before });
      const { value, headers } = await get(path, { signal: leaving.signal });
      report("events");
      // Others came to be the oldest meanwhile: there would be a gap between.
      if (events[0]?.cursor !== before) return;
      hasOlder = nextPage(headers) !== undefined;
      const known = new Set(events.map((event) => event.cursor));
      const older = value.reverse().filter((/** @type {any} */ event) => !known.has(event.cursor));
      room += older.length;
      events = [...older, ...events];
      drawEvents();
    } catch (error) {
      if (!leaving.signal.aborted) report("events", error);
    } finally {
      more.disabled = false;
      // A button that is disabled loses the focus.
      if (hadFocus && document.activeElement === document.body) more.focus();
    }
  });

  /** Takes from the screen what may not be read any more. */
  const forget = () => {
    asking?.abort();
    // Answers that are still to come are of what could be read.
    loads += 1;
    eventLoads += 1;
    [now, then, events, hasOlder] = [undefined, undefined, [], false];
    isKnown.now = false;
    isKnown.then = false;
    touched.clear();
    drawState();
    drawEvents();
  };

  /** How often the state was asked for: an answer to an earlier call is late. */
  let loads = 0;

  /** @param {boolean} [isWatched] it is watched already, and only looked at again */
  const load = async (isWatched = false) => {
    loads += 1;
    const mine = loads;
    let cursor = "";
    try {
      const { value, headers } = await get(target("/api/state/entity", { id }), { signal: leaving.signal });
      if (mine !== loads) return;
      now = stateOf(value);
      cursor = headers.get("Flux-Cursor") ?? "";
    } catch (error) {
      if (leaving.signal.aborted || mine !== loads) return;
      if (!isAbsence(error)) {
        report("now", error);
        if (isForbidden(error)) forget();
        // What is shown stays, but of an absence nothing is known any more.
        if (now === undefined) isKnown.now = false;
        drawState();
        return;
      }
      // A change that came meanwhile is newer than this answer.
      if (!isWatched) now = undefined;
    }
    isKnown.now = true;
    report("now");
    drawState();
    if (isWatched && cursor === "") return;
    live.watch({ entity_id: patternOf(id), mode: "entity", max_hz: 20 }, cursor, {
      message: take,
      began: (isBare) => {
        report("changes");
        // It may have come into being between the answer and the subscription.
        if (isBare) load(true);
      },
      resync: () => load(),
      refused: (error) => {
        report("changes", error);
        if (isForbidden(error)) forget();
      },
    });
    await loadEvents();
    if (at !== "" && !leaving.signal.aborted) travel(at);
  };

  drawState();
  load();
  return {
    title: id,
    element,
    onLive: () => {
      if (now === undefined || problems.has("now") || problems.has("changes")) load();
      else {
        refresh();
        if (problems.has("then")) travel(at);
      }
    },
    close: () => {
      leaving.abort();
      asking?.abort();
    },
  };
}

/**
 * The server has said that there is no such entity.
 * @param {unknown} error
 */
function isAbsence(error) {
  return error instanceof Refused && error.status === 404;
}
