// How a cluster is shown in words, colour and shape.
import { h } from "./dom.js";
import { has, t } from "./i18n.js";
import { FIELDS } from "./spec_fields.js";
import { absolute, since, until } from "./time.js";

const LOOKS = {
  running: ["good", "●"], creating: ["busy", "◐"], updating: ["busy", "◐"], failed: ["bad", "▲"],
  stopping: ["warn works", "◐"], stopped: ["", "■"], deleting: ["warn works", "✕"], unknown: ["", "○"],
};

/** The fields of a spec, as the server declares them; each has a text of its name. */
export const PORTS = FIELDS.filter((field) => field.kind === "port");
export const FLAGS = FIELDS.filter((field) => field.kind === "flag");

/** The states in which an action is under way. */
export const BUSY = ["creating", "updating", "stopping", "deleting"];
export const tag = (...what) => h("span", { class: "tag" }, what);
export const faint = (...what) => h("span", { class: "faint" }, what);
export const STATES = Object.keys(LOOKS);

/** The shape of a state, in its colour. */
export const shape = (actual) => h("i", { class: `shape ${LOOKS[actual]?.[0] ?? ""}`, "aria-hidden": "true" }, LOOKS[actual]?.[1] ?? "○");

export function state(view) {
  const actual = view.optimistic ? "unknown" : view.actual_state;
  const [look, shape] = LOOKS[actual] ?? ["", "○"];
  return h("span", { class: `state ${look}`, "data-state": actual },
    h("i", { "aria-hidden": "true" }, shape), view.optimistic ? t("sending") : t(actual));
}

/** What is wanted, where that is not what is. */
export function wish(view) {
  const reached = { present: ["running"], stopped: ["stopped"], absent: [] }[view.desired_state] ?? [];
  const onTheWay = view.desired_state === "present" && ["creating", "updating", "unknown", "failed"].includes(view.actual_state)
    || view.desired_state === "absent" && view.actual_state === "deleting"
    || view.desired_state === "stopped" && view.actual_state === "stopping";
  if (view.optimistic || reached.includes(view.actual_state) || onTheWay) return null;
  return t("wanted", { desired: t(view.desired_state) });
}

/** A reason as a word of this language, where it has one. */
export const reason = (word) => (has(`r_${word}`) ? t(`r_${word}`) : word ?? "");

/** What the daemon says is English; where the reason has words of this language they go before,
    and its sentence stays only where it tells more. */
export function explain(reason, message) {
  if (!has(`r_${reason}`)) return message;
  const more = (/Failed|Lost|Warning|Invalid|Error|Held|Unknown/.test(reason) || /^step /.test(message)) && message;
  return more ? `${t(`r_${reason}`)}：${message}` : t(`r_${reason}`);
}

/** Why it is so, how long already, when it goes on. */
export function why(view) {
  if (view.unreadable) return [view.unreadable];
  const parts = [];
  if (view.protected) parts.push(t("protected"));
  else if (view.paused) parts.push(t("paused"));
  const told = explain(view.reason, view.message);
  const saidAlready = view.reason === "Paused" ? view.paused : view.reason === "Protected" && has("r_Protected");
  if (told && !saidAlready) parts.push(told);
  if (view.work) parts.push(t("forSpan", { span: since(view.work.since) }));
  return parts;
}

export function next(view) {
  const awaited = view.failed_attempts > 0 || view.actual_state === "failed";
  if (!awaited || view.paused || view.protected || view.work) return null;
  const when = view.next_attempt_at ? until(view.next_attempt_at) : t("dueNow");
  return t("nextTry", { when });
}

/** A relative time that shows the absolute one on hover. */
export const time = (at, words) => h("time", { dateTime: at, title: absolute(at) }, words);

export const labels = (view) => Object.entries(view.labels ?? {}).map(([key, value]) => `${key}=${value}`);

/** A port as it was typed: what is no number stays as it is, and is refused as that. */
export const readPort = (text) => (/^\d+$/.test(text.trim()) ? Number(text) : text.trim());

/** `a=b, c=d` as an object; throws at what is neither. */
export function readLabels(text) {
  const read = {};
  for (const part of text.split(",").map((one) => one.trim()).filter(Boolean)) {
    const [key, ...value] = part.split("=");
    if (!key.trim() || !value.length) throw new Error(t("labelsFault", { part }));
    read[key.trim()] = value.join("=").trim();
  }
  return read;
}
