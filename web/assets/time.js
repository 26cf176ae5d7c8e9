// Times as people say them. The server's clock is the one that counts: every
// stream tells it, and ours is corrected by the difference.
import { t, language } from "./i18n.js";

let ahead = 0;

/** Learns the server's time. */
export function serverSays(at) {
  ahead = Date.parse(at) - Date.now();
}

export const now = () => Date.now() + ahead;

/** `45s`, `3m 20s`, `2h 5m`, `4d`. */
export function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${s % 60}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h ${Math.floor((s % 3600) / 60)}m`;
  return `${Math.floor(s / 86400)}d`;
}

/** The largest unit only: for ages. */
export const age = (at) => (at ? span(now() - Date.parse(at)).split(" ")[0] : "");
export const since = (at) => (at ? span(now() - Date.parse(at)) : "");
export const ago = (at) => (at ? t("ago", { span: since(at) }) : "–");

/** `in 12s`, or that it is due. */
export function until(at) {
  const left = Date.parse(at) - now();
  return left > 0 ? t("in", { span: span(left + 999) }) : t("dueNow");
}

export const absolute = (at) => (at ? new Date(at).toLocaleString(language()) : "");
export const clock = (at) => (at ? new Date(at).toLocaleTimeString(language()) : "");
