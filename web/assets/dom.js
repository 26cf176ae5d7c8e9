// Making and finding elements. Text only ever becomes text: nothing here parses HTML.

/** An element with properties (on… are listeners) and children (texts, elements, nothing). */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
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
