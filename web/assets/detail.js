// One cluster: how far it is, why, what happened, its log and its spec.
import { askDelete, kubeconfig, order, possible } from "./actions.js";
import * as api from "./api.js";
import { fill, h, renew } from "./dom.js";
import { t } from "./i18n.js";
import { logPanel } from "./log.js";
import { specPanel } from "./spec.js";
import { lastList } from "./router.js";
import { stepper } from "./steps.js";
import { clusters, link, watch } from "./store.js";
import { absolute, ago, clock, span, until } from "./time.js";
import { BUSY, PORTS, explain, faint, labels, next, reason, state, tag, time, why, wish } from "./words.js";

export function detail(main, name) {
  const head = h("div", { class: "head" });
  const progress = panel();
  const facts = panel();
  const conditions = panel();
  const happened = panel();
  const log = logPanel(name);
  const spec = specPanel(name);
  fill(main, head, h("div", { class: "grid" }, h("div", { class: "stack" }, progress, happened, log.element), h("div", { class: "stack" }, facts, conditions, spec.element)));

  let events = [];
  let steps = [];
  let asked = 0;
  let told = 0;
  async function history() {
    const mine = ++asked;
    try {
      const found = await api.get(api.of(name, "/events?limit=100"));
      if (mine === asked) events = found;
    } catch (error) {
      if (error.status !== 404) return;
      events = [];
    }
    drawEvents();
    draw();
  }

  async function progressed() {
    const mine = ++told;
    // What cannot be read stays as it was.
    const found = await api.get(api.of(name, "/steps")).catch(() => steps);
    if (mine !== told) return;
    steps = found;
    draw();
  }

  function draw() {
    const view = clusters.get(name);
    const there = Boolean(view);
    for (const panel of [progress, facts, conditions]) panel.hidden = !there;
    for (const panel of [spec.element, happened, log.element]) panel.hidden = !there && link.synced && !events.length;
    if (!there) return missing();
    const wanted = wish(view);
    renew(head, back(), h("h1", {}, name), state(view), wanted ? faint(wanted) : null,
      view.paused ? tag(t("paused")) : null, view.protected ? tag(t("protected")) : null, h("span", { class: "grow" }),
      h("div", { class: "actions" }, possible(view).map((what) => h("button", { "data-action": what, onclick: () => order(name, what) }, t(what))),
        view.protected ? null : h("button", { class: "danger", "data-action": "delete", onclick: () => askDelete([name]) }, t("delete"))));
    renew(progress, h("h2", {}, t("progress")), stepper(steps),
      h("div", { class: view.actual_state === "failed" ? "bad-text" : "" }, why(view).join(" · ")), next(view) ? h("div", { class: "faint" }, next(view), view.failed_attempts ? ` · ${t("failures", { n: view.failed_attempts })}` : "") : null,
      view.reconcile_error ? h("details", { open: true }, h("summary", { class: "soft" }, t("lastError")), h("pre", {}, view.reconcile_error)) : null);
    renew(facts, h("dl", {}, pairs(view).map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)])));
    renew(conditions, h("h2", {}, t("conditions")), h("table", {}, conditionsOf(view, steps).map(([what, holds, because, at]) => h("tr", {}, h("td", {}, what), h("td", { class: holds ? "nowrap" : "nowrap soft" }, h("i", { class: `shape ${holds ? "good" : ""}`, "aria-hidden": "true" }, holds ? "●" : "○"), " ", holds ? t("yes") : t("no")), h("td", { class: "faint" }, because, at ? [because ? " · " : "", time(at, ago(at))] : "")))));
    spec.draw(view);
  }

  function missing() {
    if (!link.synced) return renew(head, h("h1", {}, name), faint(t("loading")));
    renew(head, back(), h("h1", {}, name), h("span", { class: "soft" }, t(events.length ? "gone" : "notFound", { name })));
    return null;
  }

  function drawEvents() {
    renew(happened, h("h2", {}, t("timeline")), events.length ? h("ol", { class: "timeline" }, events.map((one, n) => h("li", {}, h("div", { class: "faint nowrap" }, time(one.at, clock(one.at))), entry(one, events.slice(n + 1))))) : h("div", { class: "soft" }, t("noEvents")));
  }

  const stop = watch((names) => {
    if (!names.has(name) && !names.has("*")) return;
    draw();
    progressed();
    history();
    spec.changed();
    if (clusters.has(name)) log.wake();
  });
  const tick = setInterval(() => (BUSY.includes(clusters.get(name)?.actual_state) ? progressed() : draw()), 1000);
  draw();
  progressed();
  history();
  return {
    leave() { stop(); clearInterval(tick); log.leave(); },
    keys: { r: () => clusters.has(name) && order(name, "retry"), "/": () => log.search() },
  };
}

const panel = () => h("section", { class: "panel pad" });
const back = () => h("a", { href: lastList(), class: "button bare", title: t("back"), "aria-label": t("back") }, "←");

/** One event in words, with how long an attempt took. */
export function entry(one, before = []) {
  const from = before.find((other) => BUSY.includes(other.to_state));
  const took = from && ["running", "stopped", "failed"].includes(one.to_state) && one.kind === "transition" && one.from_state === from.to_state ? span(Date.parse(one.at) - Date.parse(from.at)) : "";
  const moved = one.from_state && one.to_state && one.from_state !== one.to_state ? `${t(one.from_state)} → ${t(one.to_state)}` : t(`k_${one.kind}`);
  const changes = one.kind === "changed" ? Object.entries(one.change ?? {}).map(([field, [was, is]]) => t("changedTo", { field, from: shown(was), to: shown(is) })) : [];
  return h("div", {}, h("div", { class: "line" }, h("b", {}, moved), took ? tag(took) : null, one.attempt > (one.kind === "step" ? 1 : 0) ? tag(t("attempt", { n: one.attempt })) : null, faint(t("by", { actor: one.actor }))),
    h("div", { class: one.error || one.kind === "step" && !/^(Applied|Verified|Removed)$/.test(one.reason) ? "bad-text" : "soft" }, explain(one.reason, one.message) ?? "", changes.map((text) => h("div", { class: "mono" }, text))));
}

/** A value of a change; labels are told as people write them. */
const shown = (value) => (value && typeof value === "object" ? labels({ labels: value }).join(", ") || "–" : value ?? "–");

function pairs(view) {
  // The ports are the host's, which is where this page comes from.
  const link = (port, scheme) => h("a", { href: `${scheme}://${location.hostname}:${port}/`, target: "_blank", rel: "noreferrer" }, `${scheme}://${location.hostname}:${port}`);
  return [
    [t("provider"), view.provider],
    [t("context"), h("span", { class: "mono" }, `${view.provider}-${view.name}`)],
    ["kubeconfig", h("button", { class: "small", "data-action": "kubeconfig", onclick: () => kubeconfig(view.name) }, t("download"))],
    ["HTTP", link(view.http_port, "http")], ["HTTPS", link(view.https_port, "https")],
    ...PORTS.filter((port) => !port.main).map((port) => [t(port.name), view[port.name]]),
    view.cluster_subnet ? [t("network"), view.cluster_subnet] : null,
    view.server_ip ? [t("address"), view.server_ip] : null,
    [t("labels"), labels(view).length ? labels(view).map((one) => [tag(one), " "]) : "–"],
    view.placed_by ? [t("placedBy"), [h("span", { class: "mono" }, view.placed_by), view.strays ? h("div", { class: "warning" }, view.strays) : null]] : null,
    [t("generation"), t("reached", { g: view.generation, o: view.observed_generation })],
    [t("created"), view.created_at ? time(view.created_at, absolute(view.created_at)) : "–"],
    [t("lastHealthy"), view.last_healthy_at ? time(view.last_healthy_at, ago(view.last_healthy_at)) : "–"],
    view.next_check_at && view.settled ? [t("nextCheck"), time(view.next_check_at, until(view.next_check_at))] : null,
  ].filter(Boolean);
}

function conditionsOf(view, steps) {
  const why = explain(view.reason, view.message) ?? "";
  const left = steps.filter((one) => !["done", "skipped"].includes(one.state));
  return [
    [t("condReady"), view.settled && view.actual_state === "running", reason(view.reason), view.last_reconciled_at],
    [t("condApplied"), view.spec_applied, view.spec_applied ? "" : why],
    [t("condSteps"), view.settled && !left.length, left.map((one) => one.name).join(", ")],
    [t("condHealthy"), view.actual_state === "running" && !view.health_failures, view.health_failures ? why : "", view.last_healthy_at],
    [t("condReconciling"), Boolean(view.work), view.work?.owner ?? "", view.work?.since],
    [t("condPaused"), view.paused, ""],
  ];
}
