// How Kindler itself does: daemons and what they hold, the database, the
// listener, what is held back and why.
import * as api from "./api.js";
import { fill, h, renew } from "./dom.js";
import { t } from "./i18n.js";
import { watch } from "./store.js";
import { since, span, until } from "./time.js";
import { explain, faint, reason } from "./words.js";

const cluster = (name) => h("a", { href: `/clusters/${name}` }, name);

/** How a daemon does. */
function daemon(alive, { aside, listening, silent_seconds }) {
  const [look, shape, words] = !alive ? ["bad", "▲", t("silent", { span: span(silent_seconds * 1000) })] : aside || !listening ? ["warn", "■", aside ? t("aside") : `${t("listener")}: ${t("disconnected")}`] : ["good", "●", t("alive")];
  return h("span", { class: `state ${look}` }, h("i", { "aria-hidden": "true" }, shape), words);
}

export function system(main) {
  const body = h("div", { class: "stack" });
  fill(main, h("div", { class: "head" }, h("h1", {}, t("system"))), body);

  async function load() {
    try {
      draw(await api.get("/api/status"));
    } catch (error) {
      fill(body, h("div", { class: "panel pad bad-text" }, error.message));
    }
  }

  function draw(now) {
    const listener = { listening: t("listening"), disconnected: t("disconnected"), deaf: t("deaf") }[now.listener.state];
    const panel = (title, content) => h("section", { class: "panel pad scroll" }, h("h2", {}, title), content);
    const held = (owner) => now.work.filter((one) => one.owner === owner);
    renew(body,
      panel(t("database"), h("dl", {}, h("dt", {}, t("database")), h("dd", {}, t("answers", { v: now.schema.version })), h("dt", {}, t("listener")), h("dd", { class: now.listener.state === "listening" ? "" : "bad-text" }, listener, now.listener.why ? ` · ${now.listener.why}` : ""), h("dt", {}, t("queue")), h("dd", {}, now.queue.due ? t("due", { n: now.queue.due, span: since(now.queue.oldest_due_at) }) : now.queue.next_due_at ? t("nextDue", { when: until(now.queue.next_due_at) }) : t("empty")), h("dt", {}, t("streams")), h("dd", {}, now.streams), h("dt", {}, "Kindler"), h("dd", {}, now.version))),
      panel(t("daemons"), now.replicas.length ? h("table", {}, now.replicas.map(({ alive, replica }) => h("tr", {},
        h("td", {}, daemon(alive, replica)),
        h("td", {}, h("b", {}, replica.host), faint(` pid ${replica.pid} · ${replica.version} · ${t("up", { span: since(replica.started_at) })}${replica.selector ? ` · ${t("worksOn", { selector: replica.selector })}` : ""}`), replica.notice ? h("div", { class: "warning" }, replica.notice) : null),
        h("td", {}, held(replica.owner).map((one) => h("div", {}, cluster(one.cluster_name), faint(` ${t(one.actual_state)} ${t("forSpan", { span: since(one.acquired_at) })}`))))))) : h("div", { class: "bad-text" }, t("noDaemon"))),
      panel(t("working"), now.work.length ? h("table", {}, now.work.map((one) => h("tr", {}, h("td", {}, cluster(one.cluster_name)), h("td", {}, t(one.actual_state)), h("td", { class: "soft" }, one.message), h("td", { class: "faint nowrap" }, since(one.acquired_at))))) : h("div", { class: "soft" }, t("nobodyWorks"))),
      panel(t("waiting"), now.waiting.length || now.failing.length || now.unselected.total ? h("table", {},
        now.waiting.map((one) => h("tr", {}, h("td", { class: "whole", colSpan: 2 }, t("held", { n: one.clusters, reason: reason(one.reason) })), h("td", { class: "faint nowrap" }, one.next_at ? until(one.next_at) : ""))),
        now.unselected.clusters.map((one) => h("tr", {}, h("td", {}, cluster(one.name)), h("td", { class: "bad-text", colSpan: 2 }, t("unselected"), one.placed_by ? ` ${t("placedBy")} ${one.placed_by}` : ""))),
        now.failing.map((one) => h("tr", {}, h("td", {}, cluster(one.name)), h("td", { class: "bad-text" }, explain(one.reason, one.message)), h("td", { class: "faint nowrap" }, one.next_attempt_at ? until(one.next_attempt_at) : "")))) : h("div", { class: "soft" }, t("nothingWaits"))));
  }

  let waiting;
  const stop = watch(() => { clearTimeout(waiting); waiting = setTimeout(load, 200); });
  const tick = setInterval(load, 5000);
  load();
  return { leave() { stop(); clearInterval(tick); clearTimeout(waiting); }, keys: {} };
}
