// One cluster: progress, facts, conditions, history, log and spec.
import { askDelete, kubeconfig, order, possible } from "./actions.js";
import * as api from "./api.js";
import { fill, h, renew } from "./dom.js";
import { t } from "./i18n.js";
import { logPanel } from "./log.js";
import { lastList } from "./router.js";
import { specPanel } from "./spec.js";
import { stepper } from "./steps.js";
import { clusters, link, watch } from "./store.js";
import { absolute, ago, clock, span, until } from "./time.js";
import {
  BUSY, PORTS, desired, explain, faint, labels, next, reason, state, symbol, tag, time, why,
} from "./words.js";

export function detail(main, name) {
  const head = h("div.head");
  const progress = panel();
  const facts = panel();
  const conditions = panel();
  const history = panel();
  const log = logPanel(name);
  const spec = specPanel(name);
  fill(main, head, h("div.grid",
    h("div.stack", progress, history, log.element), h("div.stack", facts, conditions, spec.element)));

  let events = [];
  let steps = [];
  // Only the answer to the latest request is used.
  let eventsAsked = 0;
  let stepsAsked = 0;
  async function readEvents() {
    const mine = ++eventsAsked;
    try {
      const found = await api.get(api.of(name, "/events?limit=100"));
      if (mine === eventsAsked) events = found;
    } catch (error) {
      if (error.status !== 404) return;
      events = [];
    }
    drawEvents();
    draw();
  }

  async function readSteps() {
    const mine = ++stepsAsked;
    // A failed read keeps the steps that are shown.
    const found = await api.get(api.of(name, "/steps")).catch(() => steps);
    if (mine !== stepsAsked) return;
    steps = found;
    draw();
  }

  function draw() {
    const view = clusters.get(name);
    for (const panel of [progress, facts, conditions]) panel.hidden = !view;
    const unknown = !view && link.synced && !events.length;
    for (const panel of [spec.element, history, log.element]) panel.hidden = unknown;
    if (!view) return missing();
    const wanted = desired(view);
    const action = (what, act, look = "") => h(`button${look}`, { "data-action": what, onclick: act }, t(what));
    renew(head, back(), h("h1", name), state(view), wanted ? faint(wanted) : null,
      view.paused ? tag(t("paused")) : null, view.protected ? tag(t("protected")) : null, h("span.grow"),
      h("div.actions", possible(view).map((what) => action(what, () => order(name, what))),
        view.protected ? null : action("delete", () => askDelete([name]), ".danger")));
    const failures = view.failed_attempts ? ` · ${t("failures", { n: view.failed_attempts })}` : "";
    renew(progress, h("h2", t("progress")), stepper(steps),
      h("div", { class: view.actual_state === "failed" && "bad-text" }, why(view).join(" · ")),
      next(view) ? h("div.faint", next(view), failures) : null,
      view.reconcile_error ? h("details", { open: true },
        h("summary.soft", t("lastError")), h("pre", view.reconcile_error)) : null);
    renew(facts, h("dl", pairs(view).map(([term, value]) => [h("dt", term), h("dd", value)])));
    renew(conditions, h("h2", t("conditions")), h("table", conditionsOf(view, steps).map(condition)));
    spec.draw(view);
  }

  function missing() {
    if (!link.synced) return renew(head, h("h1", name), faint(t("loading")));
    renew(head, back(), h("h1", name), h("span.soft", t(events.length ? "gone" : "notFound", { name })));
    return null;
  }

  function drawEvents() {
    const item = (one, n) => h("li",
      h("div.faint.nowrap", time(one.at, clock(one.at))), entry(one, events.slice(n + 1)));
    renew(history, h("h2", t("timeline")),
      events.length ? h("ol.timeline", events.map(item)) : h("div.soft", t("noEvents")));
  }

  const stop = watch((names) => {
    if (!names.has(name) && !names.has("*")) return;
    draw();
    readSteps();
    readEvents();
    spec.changed();
    if (clusters.has(name)) log.wake();
  });
  const tick = setInterval(() => (BUSY.includes(clusters.get(name)?.actual_state) ? readSteps() : draw()), 1000);
  draw();
  readSteps();
  readEvents();
  return {
    leave() { stop(); clearInterval(tick); log.leave(); },
    keys: { r: () => clusters.has(name) && order(name, "retry"), "/": () => log.search() },
  };
}

const panel = () => h("section.panel.pad");
const back = () => h("a.button.bare", { href: lastList(), title: t("back"), "aria-label": t("back") }, "←");

/** One event, with the duration of the attempt that it ends. */
export function entry(one, before = []) {
  const { kind, from_state: was, to_state: is } = one;
  const begun = before.find((other) => BUSY.includes(other.to_state));
  const ends = kind === "transition" && ["running", "stopped", "failed"].includes(is);
  const took = begun && ends && was === begun.to_state ? span(Date.parse(one.at) - Date.parse(begun.at)) : "";
  const title = was && is && was !== is ? `${t(was)} → ${t(is)}` : t(`k_${kind}`);
  const changes = kind === "changed" ? Object.entries(one.change ?? {}) : [];
  const failed = one.error || (kind === "step" && !/^(Applied|Verified|Removed)$/.test(one.reason));
  return h("div",
    h("div.line", h("b", title), took ? tag(took) : null,
      one.attempt > (kind === "step" ? 1 : 0) ? tag(t("attempt", { n: one.attempt })) : null,
      faint(t("by", { actor: one.actor }))),
    h("div", { class: failed ? "bad-text" : "soft" }, explain(one.reason, one.message) ?? "",
      changes.map(([field, [from, to]]) =>
        h("div.mono", t("changedTo", { field, from: shown(from), to: shown(to) })))));
}

/** A changed value as text; labels as `a=b, c=d`. */
const shown = (value) =>
  (value && typeof value === "object" ? labels({ labels: value }).join(", ") || "–" : value ?? "–");

function pairs(view) {
  // The ports are on the host that serves this page.
  const link = (port, scheme) => {
    const url = `${scheme}://${location.hostname}:${port}`;
    return h("a", { href: `${url}/`, target: "_blank", rel: "noreferrer" }, url);
  };
  const download = { "data-action": "kubeconfig", onclick: () => kubeconfig(view.name) };
  const mismatch = view.placement_mismatch ? h("div.warning", view.placement_mismatch) : null;
  return [
    [t("provider"), view.provider],
    [t("context"), h("span.mono", `${view.provider}-${view.name}`)],
    ["kubeconfig", h("button.small", download, t("download"))],
    ["HTTP", link(view.http_port, "http")], ["HTTPS", link(view.https_port, "https")],
    ...PORTS.filter((port) => !port.main).map((port) => [t(port.name), view[port.name]]),
    view.cluster_subnet ? [t("network"), view.cluster_subnet] : null,
    view.server_ip ? [t("address"), view.server_ip] : null,
    [t("labels"), labels(view).length ? labels(view).map((one) => [tag(one), " "]) : "–"],
    view.placed_by ? [t("placedBy"), [h("span.mono", view.placed_by), mismatch]] : null,
    [t("generation"), t("reached", { g: view.generation, o: view.observed_generation })],
    [t("created"), view.created_at ? time(view.created_at, absolute(view.created_at)) : "–"],
    [t("lastHealthy"), view.last_healthy_at ? time(view.last_healthy_at, ago(view.last_healthy_at)) : "–"],
    view.next_check_at && view.settled ? [t("nextCheck"), time(view.next_check_at, until(view.next_check_at))] : null,
  ].filter(Boolean);
}

function condition([what, holds, because, at]) {
  const status = holds ? "yes" : holds === null ? "unknown" : "no";
  const symbols = holds ? symbol("good", "●") : symbol("", "○");
  return h("tr", h("td", what), h("td.nowrap", { class: !holds && "soft" }, symbols, " ", t(status)),
    h("td.faint", because, at ? [because ? " · " : "", time(at, ago(at))] : ""));
}

function conditionsOf(view, steps) {
  const why = explain(view.reason, view.message) ?? "";
  const left = steps.filter((one) => !["done", "skipped"].includes(one.state));
  // As in src/clusters/condition.rs.
  const ready = view.actual_state === "unknown" || view.reason === "ObservationFailed" ? null
    : ["running", "updating"].includes(view.actual_state);
  return [
    [t("condReady"), ready, reason(view.reason), view.last_reconciled_at],
    [t("condApplied"), view.spec_applied, view.spec_applied ? "" : why],
    [t("condSteps"), view.settled && !left.length, left.map((one) => one.name).join(", ")],
    [t("condHealthy"), ready && !view.health_failures, view.health_failures ? why : "", view.last_healthy_at],
    [t("condReconciling"), Boolean(view.work), view.work?.owner ?? "", view.work?.since],
    [t("condPaused"), view.paused, ""],
  ];
}
