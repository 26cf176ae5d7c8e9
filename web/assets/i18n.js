// The texts: English or Chinese, by the browser's language or by choice.
import { en } from "./en.js";
import { zh } from "./zh.js";

const texts = { en, zh };
const browser = (navigator.language || "en").toLowerCase().startsWith("zh") ? "zh" : "en";
let chosen = localStorage.getItem("language") || browser;

export const language = () => (chosen === "zh" ? "zh-CN" : "en-GB");
document.documentElement.lang = language();

/** The text of a key, with {name} filled in. */
export function t(key, values = {}) {
  const text = texts[chosen]?.[key] ?? en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** Whether the chosen language has a text for the key. */
export const has = (key) => key in (texts[chosen] ?? en);

export function otherLanguage() {
  localStorage.setItem("language", chosen === "zh" ? "en" : "zh");
  location.reload();
}
