// The frame of the page: which view is open, whether what it shows is current, and the token.

import { Refused, ask, explain, parameters, setToken, target, token } from "./api.js";
import { connectors } from "./connectors.js";
import { fill, h, say } from "./dom.js";
import { entities } from "./entities.js";
import { entity } from "./entity.js";
import { count, numeric, time } from "./format.js";
import { Live } from "./live.js";
import { namespaces } from "./namespaces.js";
import { server } from "./server.js";

/**
 * @typedef {{
 *   live: Live, params: Map<string, string>,
 *   go: (name: string, parameters: Record<string, string>) => void,
 *   replace: (parameters: Record<string, string>) => void,
 * }} Context
 * @typedef {{
 *   title: string, element: HTMLElement, close: () => void, onLive?: () => void,
 *   onMetrics?: () => void, find?: () => void,
 * }} View
 */

/** @type {Record<string, (context: Context) => View>} */
const VIEWS = { entities, entity, namespaces, connectors, server };
/** @type {[string, string][]} */
const LINKS = [["entities", "Entities"], ["namespaces", "Namespaces"], ["connectors", "Connectors"], ["server", "Server"]];

const links = LINKS.map(([name, title]) => h("a", { href: `#/${name}` }, title));
const status = h("span", { class: "status connecting" }, "connecting");
const rates = h("span", { class: "rates", "aria-hidden": "true" });
const tokenButton = h("button", { type: "button", class: "small", "aria-haspopup": "dialog" }, "Token");
const banner = h("div", { class: "banner", role: "status", "aria-live": "polite", hidden: true });
const bannerText = h("span");
const countdown = h("span", { "aria-hidden": "true" });
const retryButton = h("button", { type: "button", class: "small" }, "Try now");
banner.append(bannerText, countdown, retryButton);
const content = h("main", { id: "content", tabindex: "-1" });

/** @type {View | undefined} */
let view;
let wasLive = false;

const live = new Live(onStatus, onMetrics);

function onStatus() {
  const now = live.status;
  document.body.classList.toggle("stale", now.kind === "stale");
  status.className = `status ${now.kind}`;
  say(status, now.kind);
  banner.hidden = now.kind !== "stale";
  if (now.kind === "stale") {
    const refused = now.error;
    const isRefused = refused !== undefined && refused.status !== 0;
    const text = isRefused ? explain(refused) : `Connection lost at ${time(now.since)}. What is shown is as it was then.`;
    say(bannerText, text);
    const seconds = Math.ceil((now.retryAt - Date.now()) / 1000);
    say(countdown, isRefused ? "" : seconds > 0 ? ` Next attempt in ${seconds} s.` : " Trying again …");
  }
  if (now.kind === "live" && !wasLive) view?.onLive?.();
  wasLive = now.kind === "live";
}

function onMetrics() {
  const { entities, events } = live.metrics;
  say(rates, `${count(numeric(entities?.total) ?? NaN)} entities · ${count(numeric(events?.rate_per_second) ?? NaN)} events/s`);
  view?.onMetrics?.();
}

/** The view that the address names, and its parameters. */
function route() {
  const name = /^#\/([a-z]*)/.exec(location.hash)?.[1] ?? "";
  const isKnown = Object.hasOwn(VIEWS, name);
  return { name: isKnown ? name : "entities", params: parameters(location.hash) };
}

/** @param {boolean} [isFirst] the focus stays where the browser has put it */
function open(isFirst = false) {
  const { name, params } = route();
  view?.close();
  live.leave();
  const go = (/** @type {string} */ name, /** @type {Record<string, string>} */ parameters) => {
    const hash = `#${target(`/${name}`, parameters)}`;
    if (hash === location.hash) open();
    else location.hash = hash;
  };
  const replace = (/** @type {Record<string, string>} */ parameters) => history.replaceState(null, "", `#${target(`/${name}`, parameters)}`);
  view = /** @type {(context: Context) => View} */ (VIEWS[name])({ live, params, go, replace });
  const current = name === "entity" ? "entities" : name;
  links.forEach((link, index) => {
    if (LINKS[index]?.[0] === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
  document.title = `${view.title} – Flux`;
  const heading = view.element.querySelector("h1") ?? h("h1", { tabindex: "-1" }, view.title);
  if (!heading.isConnected && !view.element.contains(heading)) view.element.prepend(heading);
  // A search gives the focus back to the field that it was typed into.
  const focused = document.activeElement instanceof HTMLInputElement && content.contains(document.activeElement) ? document.activeElement.id : "";
  fill(content, view.element);
  const field = focused === "" ? null : document.getElementById(focused);
  if (field !== null) field.focus();
  else if (!isFirst) heading.focus();
}

const tokenField = h("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false" });
const tokenProblem = h("p", { class: "problem", role: "alert", id: "token-problem" });
tokenField.setAttribute("aria-describedby", "token-problem");

/** The question whether the server takes a token. @type {AbortController | undefined} */
let trying;

/**
 * Uses a token from now on, if the server takes it. Until then, and if not, the one before stays.
 * @param {string} value empty: none
 */
async function useToken(value) {
  trying?.abort();
  const mine = new AbortController();
  trying = mine;
  say(tokenProblem, "");
  if (value !== "") {
    try {
      await ask("/api/tickets", { method: "POST", bearer: value, signal: mine.signal });
    } catch (error) {
      // Another was entered, or the dialog was closed.
      if (mine.signal.aborted) return;
      const isNeedless = error instanceof Refused && error.status === 404;
      const why = isNeedless ? "This server has no tokens in force: none is needed." : `${explain(error).split(". Enter")[0]}.`.replace("..", ".");
      say(tokenProblem, why);
      return;
    }
    if (mine.signal.aborted) return;
  }
  setToken(value);
  dialog.close();
  drawToken();
  live.restart();
  open();
}

function drawToken() {
  say(tokenButton, token() === "" ? "Token" : "Token in use");
}

const forget = h("button", { type: "button", click: () => useToken("") }, "Forget it");
const dialog = h(
  "dialog",
  { "aria-labelledby": "token-title" },
  h("h2", { id: "token-title" }, "Token"),
  h("p", {}, "Private namespaces are shown to tokens that may read them. The token stays in this tab until it is closed, and is sent to this server alone."),
  h(
    "form",
    {
      submit: (event) => {
        event.preventDefault();
        useToken(tokenField.value.trim());
      },
    },
    h("label", { for: "token" }, "Token of a namespace, or the operator's"),
    tokenField,
    tokenProblem,
    h("div", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "Use it"), forget, h("button", { type: "button", click: () => dialog.close() }, "Cancel")),
  ),
);

tokenButton.addEventListener("click", () => {
  tokenField.value = "";
  say(tokenProblem, "");
  forget.hidden = token() === "";
  dialog.showModal();
});
dialog.addEventListener("close", () => {
  // The event comes a moment later: the dialog may be open again by then.
  if (!dialog.open) trying?.abort();
});
retryButton.addEventListener("click", () => live.retry());
addEventListener("hashchange", () => open());
addEventListener("keydown", (event) => {
  const isTyped = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
  if (event.key === "/" && !isTyped && view?.find !== undefined && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    view.find();
  }
});

const skip = h("a", { class: "skip", href: "#content", click: (event) => {
  event.preventDefault();
  content.focus();
} }, "Skip to the content");
const header = h(
  "header",
  {},
  h("a", { class: "brand", href: "#/entities", "aria-label": "Flux, entities" }, "Flux"),
  h("nav", { "aria-label": "Views" }, ...links),
  h("div", { class: "side" }, rates, status, tokenButton),
);
document.body.append(skip, header, banner, content, dialog);
drawToken();
open(true);
