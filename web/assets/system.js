// The state of Kindler.
import * as api from "./api.js";
import { fill, h, renew } from "./dom.js";
import { t } from "./i18n.js";
import { watch } from "./store.js";
import { since, span, until } from "./time.js";
import { badge, explain, faint, reason } from "./words.js";

const cluster = (name) => h("a", { href: `/clusters/${name}` }, name);
const row = (...cells) => h("tr", cells);
const panel = (title, content) => h("section.panel.pad.scroll", h("h2", t(title)), content);
const table = (rows, none) => (rows.length ? h("table", rows) : none);

/** The state of a daemon. */
function health(alive, { standby, listening, silent_seconds: silent }) {
  if (!alive) return badge("bad", "▲", t("silent", { span: span(silent * 1000) }));
  if (standby) return badge("warn", "■", t("standby"));
  return listening ? badge("good", "●", t("alive")) : badge("warn", "■", `${t("listener")}: ${t("disconnected")}`);
}

function daemon({ alive, replica }, work) {
  const selector = replica.selector ? ` · ${t("worksOn", { selector: replica.selector })}` : "";
  const up = t("up", { span: since(replica.started_at) });
  const claims = work.filter((one) => one.owner === replica.owner);
  return row(h("td", health(alive, replica)),
    h("td", h("b", replica.host), faint(` pid ${replica.pid} · ${replica.version} · ${up}${selector}`),
      replica.notice ? h("div.warning", replica.notice) : null),
    h("td", claims.map((one) => h("div", cluster(one.cluster_name),
      faint(` ${t(one.actual_state)} ${t("forSpan", { span: since(one.acquired_at) })}`)))));
}

function draw(body, { listener, queue, schema, ...now }) {
  const listening = listener.notifications === "received";
  let queued = t("empty");
  if (queue.due) queued = t("due", { n: queue.due, span: since(queue.oldest_due_at) });
  else if (queue.next_due_at) queued = t("nextDue", { when: until(queue.next_due_at) });
  const database = [
    [t("database"), h("dd", t("answers", { v: schema.version }))],
    [t("listener"), h("dd", { class: !listening && "bad-text" },
      t(listener.notifications), listener.why ? ` · ${listener.why}` : "")],
    [t("queue"), h("dd", queued)], [t("streams"), h("dd", now.streams)], ["Kindler", h("dd", now.version)],
  ];
  const when = (at) => h("td.faint.nowrap", at ? until(at) : "");
  const work = now.work.map((one) => row(h("td", cluster(one.cluster_name)), h("td", t(one.actual_state)),
    h("td.soft", one.message), h("td.faint.nowrap", since(one.acquired_at))));
  const deferred = now.deferred.map((one) => row(
    h("td.whole", { colSpan: 2 }, t("deferred", { n: one.clusters, reason: reason(one.reason) })), when(one.next_at)));
  const unselected = now.unselected.clusters.map((one) => row(h("td", cluster(one.name)),
    h("td.bad-text", { colSpan: 2 }, t("unselected"), one.placed_by ? ` ${t("placedBy")} ${one.placed_by}` : "")));
  const failing = now.failing.map((one) => row(h("td", cluster(one.name)),
    h("td.bad-text", explain(one.reason, one.message)), when(one.next_attempt_at)));
  renew(body,
    panel("database", h("dl", database.map(([term, value]) => [h("dt", term), value]))),
    panel("daemons", table(now.replicas.map((one) => daemon(one, now.work)), t("empty"))),
    panel("working", table(work, h("div.soft", t("idle")))),
    panel("waiting", table([deferred, unselected, failing].flat(), h("div.soft", t("nothingWaits")))));
}

export function system(main) {
  const body = h("div.stack");
  fill(main, h("div.head", h("h1", t("system"))), body);

  async function load() {
    try {
      draw(body, await api.get("/api/status"));
    } catch (error) {
      fill(body, h("div.panel.pad.bad-text", error.message));
    }
  }

  let waiting;
  const stop = watch(() => { clearTimeout(waiting); waiting = setTimeout(load, 200); });
  const tick = setInterval(load, 5000);
  load();
  return { leave() { stop(); clearInterval(tick); clearTimeout(waiting); }, keys: {} };
}
