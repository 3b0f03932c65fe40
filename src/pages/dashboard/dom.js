// Elements of the page. Text goes in as text nodes only: nothing here parses markup.

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * Makes an element.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | boolean | EventListener | undefined>} [attributes] functions
 * listen
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  set(element, attributes);
  add(element, children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/**
 * Makes an element of a drawing.
 * @param {string} tag
 * @param {Record<string, string | number | undefined>} [attributes]
 * @param {...Child} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) element.setAttribute(name, String(value));
  }
  add(element, children);
  return /** @type {SVGElement} */ (element);
}

/**
 * @param {Element} element
 * @param {Record<string, string | boolean | EventListener | undefined>} attributes
 */
function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (typeof value === "string") element.setAttribute(name, value);
  }
}

/**
 * @param {Element} element
 * @param {Child[]} children
 */
function add(element, children) {
  for (const child of children) {
    if (child) element.append(child);
  }
}

/**
 * Sets the text of a node, if it is another.
 * @param {Node} node
 * @param {string} text
 */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Puts children in the place of those that are there.
 * @param {Element} element
 * @param {...Child} children
 */
export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
}

/**
 * Calls back once in the next frame, however often it is asked before.
 * @param {() => void} draw
 * @returns {() => void} asks for a frame
 */
export function onceAFrame(draw) {
  let asked = false;
  const run = () => {
    asked = false;
    draw();
  };
  return () => {
    if (asked) return;
    asked = true;
    // A tab in the background draws no frames; what it shows is current when it is seen again.
    requestAnimationFrame(run);
  };
}

/**
 * A box that scrolls sideways if what it holds is too wide; then it can be reached by keyboard.
 * @param {string} label
 * @param {HTMLElement} child
 */
export function scroller(label, child) {
  const box = h("div", { class: "scroll", role: "region", "aria-label": label }, child);
  const look = new ResizeObserver(() => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  });
  look.observe(box);
  look.observe(child);
  return box;
}
