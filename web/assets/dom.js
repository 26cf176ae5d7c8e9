// Making and finding elements. Text only ever becomes text: nothing here parses HTML.

/** An element with properties (on… are listeners) and children (texts, elements, nothing). */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) on(element, key.slice(2), value);
    else if (key === "class") element.className = value;
    else if (key in element && key !== "list" && !key.startsWith("aria")) element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false || child === "") continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Replaces what is in an element. */
export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

/** As `fill`, but what is there already stays the same element: a click that has begun, the
    focus and a selected text outlive the new words. A `data-name` tells rows apart. */
export function renew(element, ...children) {
  const fresh = document.createDocumentFragment();
  add(fresh, children);
  settle(element, [...fresh.childNodes]);
  return element;
}

function settle(parent, fresh) {
  const named = new Map([...parent.children].filter((one) => one.dataset.name).map((one) => [one.dataset.name, one]));
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
  for (const { name } of [...old.attributes]) if (!node.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  for (const { name, value } of node.attributes) {
    // The policy forbids styles as attributes; what people opened or closed is theirs.
    if (name === "style") old.style.cssText = node.style.cssText;
    else if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if ("checked" in old) old.checked = node.checked;
  for (const type of Object.keys(old.acts ?? {})) old.acts[type] = null;
  for (const [type, act] of Object.entries(node.acts ?? {})) on(old, type, act);
  settle(old, [...node.childNodes]);
  return old;
}

/** Listens; a later listener of the same kind takes the place of the earlier. */
function on(element, type, act) {
  element.acts ??= {};
  if (!(type in element.acts)) element.addEventListener(type, (event) => element.acts[type]?.(event));
  element.acts[type] = act;
}

export const $ = (selector, within = document) => within.querySelector(selector);

/** Says something to people who listen instead of look. */
export function say(text) {
  $("#said").textContent = text;
}

/** A message that goes by itself; a failure stays longer. */
export function toast(text, bad = false) {
  const box = h("div", { class: bad ? "toast bad" : "toast" }, text);
  $("#toasts").append(box);
  setTimeout(() => box.remove(), bad ? 9000 : 4000);
}

/** A text to copy, with its button. */
export function copyable(text, label) {
  const button = h("button", {
    type: "button",
    onclick: async () => {
      await navigator.clipboard.writeText(text);
      button.textContent = "✓";
    },
  }, label);
  return h("div", { class: "copy" }, h("pre", { tabindex: "0" }, text), button);
}

/** Whether somebody is writing. */
export const isWriting = (target) => /^(INPUT|SELECT|TEXTAREA)$/.test(target?.tagName) && target.type !== "checkbox";
