// The recorded steps of a cluster's driver.
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { now, span, until } from "./time.js";
import { faint, tag, time } from "./words.js";

const LOOKS = {
  done: ["good", "●", "isDone"], running: ["busy", "◐"], removing: ["warn", "◐"], failed: ["bad", "▲"],
  pending: ["", "○"], skipped: ["", "–"], removed: ["", "✕", "k_removed"],
};

export function stepper(steps) {
  const last = steps.at(-1);
  // Those that have not begun have no record yet.
  const left = last?.total - steps.filter((one) => one.driver === last.driver).length;
  return last ? h("ol", { class: "steps", "aria-label": t("progress") }, steps.map(item), left > 0 ? h("li", {}, h("i", { class: "shape", "aria-hidden": "true" }, "○"), faint(`+${left} ${t("pending")}`)) : null) : null;
}

function item(step) {
  const failed = step.state === "failed";
  const works = step.started_at && !step.finished_at;
  // Its failure does not fail the cluster.
  const [look, shape, word] = failed && !step.required ? ["warn", "△"] : LOOKS[step.state] ?? LOOKS.pending;
  const ms = (works ? now() : Date.parse(step.finished_at)) - Date.parse(step.started_at);
  return h("li", { class: step.state, "data-name": step.driver + step.name, "aria-current": works ? "step" : null },
    h("i", { class: `shape ${look}`, "aria-hidden": "true" }, shape),
    h("div", { class: "line" }, h("b", {}, step.name), faint(t(word ?? step.state)), step.required ? null : tag(t("bestEffort")), step.attempt > 1 ? tag(t("attempt", { n: step.attempt })) : null),
    h("div", { class: "faint" }, ms >= 0 ? time(step.started_at, ms < 1e4 ? t("seconds", { n: (ms / 1e3).toFixed(1) }) : span(ms)) : null),
    failed ? h("p", { class: step.required ? "error" : "warning" }, step.message, step.next_try_at ? ` · ${t("nextTry", { when: until(step.next_try_at) })}` : "") : null);
}
