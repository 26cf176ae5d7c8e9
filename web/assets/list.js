// The list: filters and selection live in the address, only the rows in view
// are drawn, and a change redraws no more than those.
import { askDelete, order, orderAll, possible } from "./actions.js";
import { openCreate } from "./create.js";
import { $, fill, h, renew } from "./dom.js";
import { t } from "./i18n.js";
import { go, query, setQuery } from "./router.js";
import { all, clusters, link, watch } from "./store.js";
import { age } from "./time.js";
import { STATES, faint, labels, next, shape, state, tag, time, why, wish } from "./words.js";

const GROUP_HEIGHT = 36;
const BEYOND = 6;

export function list(main) {
  const view = { at: -1, items: [], tops: [], height: 0, names: [] };
  const rows = h("div", { class: "rows" });
  const chips = h("div", { class: "chips" });
  const batch = h("div", { class: "dock" });
  const search = h("input", { type: "search", class: "search", placeholder: t("search"), "aria-label": t("search"), value: query().get("q") ?? "", oninput: () => { setQuery({ q: search.value }); refresh(); } });
  const choose = (key, label, options) => h("select", { "aria-label": label, onchange: (event) => { setQuery({ [key]: event.target.value }); refresh(); } },
    options.map(([value, text]) => h("option", { value, selected: (query().get(key) ?? "") === value }, text)));
  const group = h("select", { "aria-label": t("group"), onchange: () => { setQuery({ group: group.value }); refresh(); } });
  const headings = h("div", { class: "headings" }, h("span", {}), ["name", "state", "why", "ports", "age"].map((key) => h("span", {}, t(key))));
  const body = h("div", { class: "panel" }, headings, rows);
  fill(main,
    h("div", { class: "head" }, h("h1", {}, t("clusters")), h("span", { class: "grow" }),
      h("button", { class: "main", id: "create", onclick: () => openCreate() }, "+ ", t("create"))),
    chips,
    h("div", { class: "tools" }, h("div", { class: "search" }, search),
      choose("provider", t("provider"), [["", t("anyProvider")], ["k3d", "k3d"], ["kind", "kind"]]),
      group,
      choose("sort", t("sort"), [["", t("newest")], ["name", t("byName")], ["state", t("byState")]])),
    body, batch);

  const selection = () => new Set((query().get("sel") ?? "").split(",").filter(Boolean));
  function select(name) {
    const chosen = selection();
    if (!chosen.delete(name)) chosen.add(name);
    setQuery({ sel: [...chosen].join(",") });
    refresh();
  }

  /** What passes the filters, in order, with the headings of groups between. */
  function refresh() {
    const params = query();
    const words = (params.get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const states = (params.get("state") ?? "").split(",").filter(Boolean);
    const provider = params.get("provider");
    const everything = all();
    const fits = everything.filter((one) =>
      (!provider || one.provider === provider)
      && (!states.length || states.includes(one.actual_state))
      && words.every((word) => one.name.includes(word) || labels(one).some((label) => label.toLowerCase().includes(word))));
    const by = { name: (a, b) => (a.name < b.name ? -1 : 1), state: (a, b) => STATES.indexOf(a.actual_state) - STATES.indexOf(b.actual_state) || (a.name < b.name ? -1 : 1) };
    fits.sort(by[params.get("sort")] ?? ((a, b) => (a.created_at < b.created_at ? 1 : a.created_at > b.created_at ? -1 : a.name < b.name ? -1 : 1)));
    const key = params.get("group");
    view.items = key ? grouped(fits, key) : fits;
    view.names = view.items.filter((one) => !one.heading).map((one) => one.name);
    place();
    counts(everything, states);
    groups(everything, key);
    actions();
    draw(true);
  }

  function grouped(fits, key) {
    const groups = new Map();
    for (const one of fits) {
      const value = one.labels?.[key] ?? "";
      if (!groups.has(value)) groups.set(value, []);
      groups.get(value).push(one);
    }
    return [...groups].sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([value, members]) => [{ heading: `${key}=${value || "–"} (${members.length})` }, ...members]);
  }

  function place() {
    const row = parseInt(getComputedStyle(document.documentElement).getPropertyValue("--row"), 10) || 56;
    let top = 0;
    view.tops = view.items.map((one) => { const at = top; top += one.heading ? GROUP_HEIGHT : row; return at; });
    view.height = top;
  }

  function counts(everything, states) {
    const of = (name) => everything.filter((one) => one.actual_state === name).length;
    const press = (name) => { const on = new Set(states); if (!on.delete(name)) on.add(name); setQuery({ state: [...on].join(",") }); refresh(); };
    const shown = STATES.map((name) => [name, of(name)]).filter(([name, n]) => n || states.includes(name));
    const focused = document.activeElement?.dataset?.chip;
    renew(chips,
      h("button", { class: "chip", "data-chip": "all", "aria-pressed": String(!states.length), onclick: () => { setQuery({ state: "" }); refresh(); } }, h("b", {}, everything.length), t("all")),
      shown.map(([name, n]) => h("button", { class: "chip", "data-chip": name, "aria-pressed": String(states.includes(name)), onclick: () => press(name) }, shape(name), h("b", {}, n), t(name))));
    if (focused) $(`[data-chip="${focused}"]`, chips)?.focus();
  }

  function groups(everything, chosen) {
    const keys = [...new Set(everything.flatMap((one) => Object.keys(one.labels ?? {})))].sort();
    group.hidden = !keys.length && !chosen;
    if (group.dataset.keys === keys.join()) return;
    group.dataset.keys = keys.join();
    fill(group, [["", t("noGroup")], ...keys.map((key) => [key, `${t("group")} ${key}`])].map(([value, text]) => h("option", { value, selected: (chosen ?? "") === value }, text)));
  }

  function actions() {
    const chosen = [...selection()].filter((name) => clusters.has(name));
    if (!chosen.length) return renew(batch);
    renew(batch, h("div", { class: "panel batch" }, h("b", {}, t("selected", { n: chosen.length })), h("span", { class: "grow" }),
      ["retry", "pause", "resume", "start", "stop"].map((what) => h("button", { onclick: () => orderAll(chosen, what) }, t(what))),
      h("button", { class: "danger", onclick: () => askDelete(chosen) }, t("delete")),
      h("button", { class: "bare", onclick: () => { setQuery({ sel: "" }); refresh(); } }, t("clear"))));
  }

  /** Draws the rows in view. */
  function draw(force) {
    if (!view.items.length) return nothing();
    headings.hidden = false;
    rows.style.height = `${view.height}px`;
    const from = scrollY - rows.getBoundingClientRect().top - scrollY;
    const first = Math.max(0, lower(view.tops, from) - BEYOND);
    const last = Math.min(view.items.length, lower(view.tops, from + innerHeight) + BEYOND);
    if (!force && first === view.first && last === view.last) return;
    Object.assign(view, { first, last });
    const chosen = selection();
    const focused = rows.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const drawn = [];
    for (let n = first; n < last; n += 1) {
      const one = view.items[n];
      const element = one.heading ? h("div", { class: "group cut", title: one.heading }, one.heading) : row(one, chosen.has(one.name));
      element.style.top = `${view.tops[n]}px`;
      drawn.push(element);
    }
    renew(rows, drawn);
    if (focused) $(`[data-key="${CSS.escape(focused)}"]`, rows)?.focus({ preventScroll: true });
  }

  function nothing() {
    headings.hidden = true;
    rows.style.height = "";
    if (!link.synced) return renew(rows, [1, 2, 3, 4].map(() => h("div", { class: "skeleton", "aria-hidden": "true" })), h("span", { class: "unseen" }, t("loading")));
    if (clusters.size) return renew(rows, h("div", { class: "empty" }, h("p", {}, t("nothingFits")), h("button", { onclick: () => { search.value = ""; setQuery({ q: "", state: "", provider: "" }); list(main); } }, t("clearFilters"))));
    return renew(rows, h("div", { class: "empty" }, h("h1", {}, t("emptyTitle")), h("p", {}, t("emptyText")), h("button", { class: "main", onclick: () => openCreate() }, t("create"))));
  }

  function row(one, chosen) {
    const away = next(one);
    const wanted = wish(one);
    const path = `/clusters/${one.name}`;
    return h("div", {
      class: `row${chosen ? " chosen" : ""}${view.names[view.at] === one.name ? " at" : ""}${one.optimistic ? " optimistic" : ""}`,
      "data-name": one.name,
      onclick: (event) => { if (!event.target.closest("a, input, button")) go(path); },
    },
    h("input", { type: "checkbox", checked: chosen, "data-key": `box-${one.name}`, "aria-label": one.name, onchange: () => select(one.name) }),
    h("div", { class: "two" }, h("div", { class: "cut" }, h("a", { href: path, "data-key": `to-${one.name}` }, one.name)),
      h("div", { class: "line cut" }, tag(one.provider), labels(one).slice(0, 3).map((label) => tag(label)))),
    h("div", { class: "two" }, h("span", {}, state(one)), wanted ? faint(wanted) : null),
    h("div", { class: "two why" }, h("div", { class: `cut${one.actual_state === "failed" ? " bad-text" : ""}`, title: one.reconcile_error ?? one.message ?? "" }, why(one).join(" · ")),
      away ? h("div", { class: "faint cut" }, time(one.next_attempt_at, away), one.failed_attempts ? h("span", { class: "wide-only" }, ` · ${t("failures", { n: one.failed_attempts })}`) : "") : null),
    h("div", { class: "ports faint mono cut" }, one.http_port ? `${one.http_port} / ${one.https_port}` : ""),
    h("div", { class: "age faint" }, one.created_at ? time(one.created_at, age(one.created_at)) : ""));
  }

  function move(by) {
    if (!view.names.length) return;
    view.at = Math.max(0, Math.min(view.names.length - 1, view.at + by));
    const top = view.tops[view.items.findIndex((one) => one.name === view.names[view.at])];
    const page = rows.getBoundingClientRect().top + scrollY + top;
    if (page < scrollY + 120 || page > scrollY + innerHeight - 120) scrollTo(0, page - innerHeight / 2);
    draw(true);
    $(".row.at a", rows)?.focus({ preventScroll: true });
  }

  const scrolled = () => draw(false);
  addEventListener("scroll", scrolled, { passive: true });
  addEventListener("resize", refresh);
  const stop = watch(refresh);
  const tick = setInterval(() => draw(true), 1000);
  refresh();
  return {
    leave() { stop(); clearInterval(tick); removeEventListener("scroll", scrolled); removeEventListener("resize", refresh); },
    keys: {
      "/": () => search.focus(), j: () => move(1), k: () => move(-1),
      x: () => view.names[view.at] && select(view.names[view.at]),
      r: () => { const name = view.names[view.at]; if (name && possible(clusters.get(name) ?? {}).includes("retry")) order(name, "retry"); },
      Escape: () => { if (search.value) { search.value = ""; setQuery({ q: "" }); refresh(); } search.blur(); },
    },
  };
}

/** The first place whose top is not above `y`. */
function lower(tops, y) {
  let [from, to] = [0, tops.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    if (tops[middle] < y) from = middle + 1;
    else to = middle;
  }
  return from;
}
