// The audit log of all clusters.
import * as api from "./api.js";
import { fill, h, renew } from "./dom.js";
import { entry } from "./detail.js";
import { t } from "./i18n.js";
import { query, setQuery } from "./router.js";
import { clusters, watch } from "./store.js";
import { absolute, ago } from "./time.js";
import { time } from "./words.js";

const KINDS = [
  "declared", "changed", "retry", "paused", "resumed", "protected", "unprotected", "transition", "attempt", "health",
  "step", "removed",
];
const FILTERS = ["cluster", "actor", "kind"];

export function activity(main) {
  const rows = h("tbody");
  const error = h("div.error");
  const older = h("button", { onclick: () => load(true) }, t("older"));
  const input = (key, label) => h("input", {
    type: "search", placeholder: label, "aria-label": label, value: query().get(key) ?? "",
    list: key === "cluster" ? "names" : null,
    oninput: (event) => { setQuery({ [key]: event.target.value.trim() }); soon(); },
  });
  // The filter matches whole names, so the page suggests them.
  const names = h("datalist", { id: "names" });
  const offer = () => renew(names, [...clusters.keys()].sort().slice(0, 500).map((value) => h("option", { value })));
  const kinds = [["", t("anyKind")], ...KINDS.map((one) => [one, t(`k_${one}`)])];
  const kind = h("select", { "aria-label": t("kind"), onchange: () => { setQuery({ kind: kind.value }); load(); } },
    kinds.map(([value, text]) => h("option", { value, selected: (query().get("kind") ?? "") === value }, text)));
  const columns = ["when", "name", "what"].map((key) => h("th", { scope: "col" }, t(key)));
  fill(main, h("div.head", h("h1", t("activity"))),
    h("div.tools",
      h("div.search", input("cluster", t("name")), names), h("div.search", input("actor", t("actor"))), kind),
    error, h("div.panel.scroll", h("table.trail", h("thead", h("tr", columns)), rows)), h("p", older));

  let shown = [];
  let waiting;
  const soon = () => { clearTimeout(waiting); waiting = setTimeout(load, 150); };

  async function load(more = false) {
    const params = new URLSearchParams({ limit: "100" });
    for (const key of FILTERS) if (query().get(key)) params.set(key, query().get(key));
    if (more === true && shown.length) params.set("before", shown.at(-1).id);
    try {
      const found = await api.get(`/api/events?${params}`);
      shown = more === true ? [...shown, ...found] : found;
      older.hidden = found.length < 100;
      fill(error);
      draw();
    } catch (rejected) {
      fill(error, rejected.message);
    }
  }

  function draw() {
    const none = FILTERS.some((key) => query().get(key)) ? "noEventFits" : "noEvents";
    renew(rows, shown.length ? shown.map(row) : h("tr", h("td.soft", { colSpan: 3 }, t(none))));
  }

  offer();
  const stop = watch(() => { offer(); if (shown.length <= 100) soon(); });
  load();
  return { leave() { stop(); clearTimeout(waiting); }, keys: {} };
}

const row = (one) => h("tr", h("td.faint.nowrap", time(one.at, ago(one.at))),
  h("td", h("a", { href: `/clusters/${one.cluster_name}` }, one.cluster_name)),
  h("td", { title: absolute(one.at) }, entry(one)));
