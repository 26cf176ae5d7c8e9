// The recorded steps of a cluster's driver.
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { now, span, until } from "./time.js";
import { faint, symbol, tag, time } from "./words.js";

const LOOKS = {
  done: ["good", "●", "isDone"], running: ["busy", "◐"], removing: ["warn", "◐"], failed: ["bad", "▲"],
  pending: ["", "○"], skipped: ["", "–"], removed: ["", "✕", "k_removed"],
};

export function stepper(steps) {
  const last = steps.at(-1);
  if (!last) return null;
  // A step that has not started has no record.
  const left = last.total - steps.filter((one) => one.driver === last.driver).length;
  const pending = left > 0 && h("li", symbol("", "○"), faint(`+${left} ${t("pending")}`));
  return h("ol.steps", { "aria-label": t("progress") }, steps.map(item), pending);
}

function item(step) {
  const failed = step.state === "failed";
  const works = step.started_at && !step.finished_at;
  // A failed best-effort step does not fail the cluster.
  const [look, shape, word] = failed && !step.required ? ["warn", "△"] : LOOKS[step.state] ?? LOOKS.pending;
  const ms = (works ? now() : Date.parse(step.finished_at)) - Date.parse(step.started_at);
  const took = ms < 1e4 ? t("seconds", { n: (ms / 1e3).toFixed(1) }) : span(ms);
  const next = step.next_try_at ? ` · ${t("nextTry", { when: until(step.next_try_at) })}` : "";
  const current = works ? "step" : null;
  return h("li", { class: step.state, "data-name": step.driver + step.name, "aria-current": current },
    symbol(look, shape),
    h("div.line", h("b", step.name), faint(t(word ?? step.state)), step.required ? null : tag(t("bestEffort")),
      step.attempt > 1 ? tag(t("attempt", { n: step.attempt })) : null),
    h("div.faint", ms >= 0 && !/Verified|Interrupted/.test(step.reason) ? time(step.started_at, took) : null),
    failed ? h("p", { class: step.required ? "error" : "warning" }, step.message, next) : null);
}
