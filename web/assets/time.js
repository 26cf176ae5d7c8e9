// Times for people, by the server's clock, which each stream sends.
import { t, language } from "./i18n.js";

let ahead = 0;

export function setServerTime(at) {
  ahead = Date.parse(at) - Date.now();
}

export const now = () => Date.now() + ahead;

/** `45s`, `3m 20s`, `2h 5m`, `4d`. */
export function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  const of = (unit, n) => t(unit, { n: Math.floor(n) });
  if (s < 60) return of("seconds", s);
  if (s < 3600) return `${of("minutes", s / 60)} ${of("seconds", s % 60)}`;
  if (s < 86400) return `${of("hours", s / 3600)} ${of("minutes", (s % 3600) / 60)}`;
  return of("days", s / 86400);
}

export const since = (at) => (at ? span(now() - Date.parse(at)) : "");
/** An age in its largest unit. */
export const age = (at) => since(at).split(" ")[0];
export const ago = (at) => (at ? t("ago", { span: since(at) }) : "–");

/** `in 12s`, or `now` if it is due. */
export function until(at) {
  const left = Date.parse(at) - now();
  return left > 0 ? t("in", { span: span(left + 999) }) : t("dueNow");
}

export const absolute = (at) => (at ? new Date(at).toLocaleString(language()) : "");
export const clock = (at) => (at ? new Date(at).toLocaleTimeString(language()) : "");
