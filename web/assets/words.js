// How a cluster is shown: text, colour and shape.
import { h } from "./dom.js";
import { has, t } from "./i18n.js";
import { FIELDS } from "./spec_fields.js";
import { absolute, since, until } from "./time.js";

const LOOKS = {
  running: ["good", "●"], creating: ["busy", "◐"], updating: ["busy", "◐"], failed: ["bad", "▲"],
  restarting: ["busy", "◐"], stopping: ["warn works", "◐"],
  stopped: ["", "■"], deleting: ["warn works", "✕"], unknown: ["", "○"],
};
const look = (actual) => LOOKS[actual] ?? LOOKS.unknown;

/** The fields of a spec. The text of each has its name as key. */
export const PORTS = FIELDS.filter((field) => field.kind === "port");
export const FLAGS = FIELDS.filter((field) => field.kind === "flag");

/** The states in which an action runs. */
export const BUSY = Object.keys(LOOKS).filter((one) => /busy|works/.test(look(one)));
export const tag = (...what) => h("span.tag", what);
export const faint = (...what) => h("span.faint", what);
export const STATES = Object.keys(LOOKS);

/** A symbol in its colour, hidden from screen readers. */
export const symbol = (look, text) => h("i.shape", { class: look, "aria-hidden": "true" }, text);

/** The symbol of a state. */
export const shape = (actual) => symbol(...look(actual));

/** A state as a coloured badge. */
export const badge = (look, text, label, props = {}) =>
  h("span.state", { ...props, class: look }, h("i", { "aria-hidden": "true" }, text), label);

export function state(view) {
  const actual = view.optimistic ? "unknown" : view.actual_state;
  const label = view.optimistic ? t("sending") : t(actual);
  return badge(...look(actual), label, { "data-state": actual });
}

/** The desired state, unless it is reached or an action leads to it. */
export function desired(view) {
  const reached = { present: ["running"], stopped: ["stopped"], absent: [] }[view.desired_state] ?? [];
  const present = view.desired_state === "present";
  const onTheWay = (present && !/^stop|^del/.test(view.actual_state))
    || (view.desired_state === "absent" && view.actual_state === "deleting")
    || (view.desired_state === "stopped" && view.actual_state === "stopping");
  if (view.optimistic || reached.includes(view.actual_state) || onTheWay) return null;
  return t("wanted", { desired: t(view.desired_state) });
}

/** A reason in the chosen language, if it has a text. */
export const reason = (word) => (has(`r_${word}`) ? t(`r_${word}`) : word ?? "");

/** The reason, and the daemon's message if it says more. */
export function explain(reason, message) {
  if (!has(`r_${reason}`)) return message;
  const more = /Failed|Lost|Warning|Invalid|Error|Held|Unknown|Refused|Repairing|Flap/.test(reason)
    || /^step |failed: |queued: |no daemon|standby/.test(message);
  return more && message ? `${t(`r_${reason}`)}：${message}` : t(`r_${reason}`);
}

/** Why the cluster is in its state, and for how long an action runs. */
export function why(view) {
  if (view.unreadable) return [view.unreadable];
  const parts = [];
  if (view.protected) parts.push(t("protected"));
  else if (view.paused) parts.push(t("paused"));
  const text = explain(view.reason, view.message);
  const repeated = !/failed: /.test(view.message)
    && (view.reason === "Paused" ? view.paused : view.reason === "Protected" && has("r_Protected"));
  if (text && !repeated) parts.push(text);
  if (view.work) parts.push(t("forSpan", { span: since(view.work.since) }));
  return parts;
}

export function next(view) {
  const scheduled = view.failed_attempts > 0 || view.actual_state === "failed";
  if (!scheduled || view.paused || view.protected || view.work) return null;
  const when = view.next_attempt_at ? until(view.next_attempt_at) : t("dueNow");
  return t("nextTry", { when });
}

/** A relative time with the absolute one as its tooltip. */
export const time = (at, text) => h("time", { dateTime: at, title: absolute(at) }, text);

export const labels = (view) => Object.entries(view.labels ?? {}).map(([key, value]) => `${key}=${value}`);

/** A port as typed: the server rejects what is not a number. */
export const readPort = (text) => (/^\d+$/.test(text.trim()) ? Number(text) : text.trim());

/** `a=b, c=d` as an object; throws on anything else. */
export function readLabels(text) {
  const read = {};
  for (const part of text.split(",").map((one) => one.trim()).filter(Boolean)) {
    const [key, ...value] = part.split("=");
    if (!key.trim() || !value.length) throw new Error(t("labelsFault", { part }));
    read[key.trim()] = value.join("=").trim();
  }
  return read;
}
