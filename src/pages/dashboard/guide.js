// What to type, for who opens an empty server.

import { h } from "./dom.js";

export function guide() {
  const origin = location.origin;
  const event = '{"stream":"sensors","source":"me","payload":{"entity_id":"house/room","properties":{"temperature":22.5,"unit":"C"}}}';
  return h(
    "section",
    { class: "guide", "aria-labelledby": "guide-title" },
    h("h2", { id: "guide-title" }, "Nothing is here yet"),
    h("p", {}, "An entity exists as soon as an event sets one of its properties. Publish one; it appears on this page at once."),
    command("With curl", `curl ${origin}/api/events -d '${event}'`),
    command("With the script of the repository", `FLUX_URL=${origin} scripts/flux.sh publish sensors me house/room '{"temperature":22.5,"unit":"C"}'`),
    command("If tokens are in force, register a namespace first, and send its token", `curl -X POST ${origin}/api/namespaces -d '{"name":"house"}'\ncurl ${origin}/api/events -H 'Authorization: Bearer <token>' -d '${event}'`),
    h("p", { class: "quiet" }, "All calls: ", h("a", { href: "/docs" }, "the API"), "."),
  );
}

/**
 * @param {string} title
 * @param {string} text
 */
function command(title, text) {
  const copy = h("button", { type: "button", class: "small" }, "Copy");
  const code = h("code", {}, text);
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch {
      // Only a page that came over TLS or from this machine may copy: the reader does it by hand.
      getSelection()?.selectAllChildren(code);
    }
  });
  return h("div", { class: "command" }, h("div", { class: "command-head" }, h("h3", {}, title), copy), h("pre", {}, code));
}
