// Creates and finds elements. Text is only ever inserted as text: nothing here parses HTML.

/** Creates an element: `h("p.faint", { onclick }, child, …)`. The tag may carry classes, `on…` are
    listeners, properties may be omitted, and empty children are skipped. */
export function h(tag, props, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (props?.constructor !== Object) [props, children] = [{}, [props, ...children]];
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) on(element, key.slice(2), value);
    else if (key === "class") classes.push(value);
    else if (key in element && key !== "list" && !key.startsWith("aria")) element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  if (classes.join("")) element.className = classes.filter(Boolean).join(" ");
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false || child === "") continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Replaces the children of an element. */
export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

/** Like `fill`, but updates the current elements in place, so that a click in progress, the focus
    and a text selection survive. `data-name` identifies rows. */
export function renew(element, ...children) {
  const fresh = document.createDocumentFragment();
  add(fresh, children);
  settle(element, [...fresh.childNodes]);
  return element;
}

function settle(parent, fresh) {
  const rows = [...parent.children].filter((one) => one.dataset.name);
  const named = new Map(rows.map((one) => [one.dataset.name, one]));
  let at = parent.firstChild;
  for (const node of fresh) {
    const name = node.dataset?.name;
    const old = name ? named.get(name) : at?.dataset?.name ? null : at;
    const kept = old?.nodeName === node.nodeName ? patch(old, node) : node;
    if (kept === at) at = at.nextSibling;
    else parent.insertBefore(kept, at);
  }
  while (at) {
    const after = at.nextSibling;
    at.remove();
    at = after;
  }
}

function patch(old, node) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== node.data) old.data = node.data;
    return old;
  }
  for (const { name } of [...old.attributes]) {
    if (!node.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of node.attributes) {
    // The content policy forbids style attributes; `open` belongs to the user.
    if (name === "style") old.style.cssText = node.style.cssText;
    else if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if ("checked" in old) old.checked = node.checked;
  for (const type of Object.keys(old.acts ?? {})) old.acts[type] = null;
  for (const [type, act] of Object.entries(node.acts ?? {})) on(old, type, act);
  settle(old, [...node.childNodes]);
  return old;
}

/** Sets the one listener for an event type. */
function on(element, type, act) {
  element.acts ??= {};
  if (!(type in element.acts)) element.addEventListener(type, (event) => element.acts[type]?.(event));
  element.acts[type] = act;
}

export const $ = (selector, within = document) => within.querySelector(selector);

/** Announces a text to screen readers. */
export function say(text) {
  $("#said").textContent = text;
}

/** Shows a message for a few seconds, a failure for longer. */
export function toast(text, bad = false) {
  const box = h("div.toast", { class: bad && "bad" }, text);
  $("#toasts").append(box);
  setTimeout(() => box.remove(), bad ? 9000 : 4000);
}

/** A text with a copy button. */
export function copyable(text, label) {
  const onclick = async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "✓";
  };
  const button = h("button", { type: "button", onclick }, label);
  return h("div.copy", h("pre", { tabindex: "0" }, text), button);
}

/** Whether the user is typing into this element. */
export const isWriting = ({ tagName, type }) => /^(INPUT|SELECT|TEXTAREA)$/.test(tagName) && type !== "checkbox";
