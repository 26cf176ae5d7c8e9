// The list: filters and selection are in the address, and only the rows in view are drawn.
import { askDelete, order, orderAll, possible } from "./actions.js";
import { openCreate } from "./create.js";
import { $, fill, h, renew } from "./dom.js";
import { t } from "./i18n.js";
import { go, query, setQuery } from "./router.js";
import { all, clusters, link, watch } from "./store.js";
import { age } from "./time.js";
import { STATES, desired, faint, labels, next, shape, state, tag, time, why } from "./words.js";

const GROUP_HEIGHT = 36;
const OVERSCAN = 6;

const byName = (a, b) => (a.name < b.name ? -1 : 1);
const byState = (a, b) => STATES.indexOf(a.actual_state) - STATES.indexOf(b.actual_state) || byName(a, b);
const newestFirst = (a, b) => (a.created_at < b.created_at ? 1 : a.created_at > b.created_at ? -1 : byName(a, b));
const ORDERS = { name: byName, state: byState };
const split = (text, by) => (text ?? "").split(by).filter(Boolean);

export function list(main) {
  const view = { at: -1, items: [], tops: [], height: 0, names: [] };
  const rows = h("div.rows");
  const chips = h("div.chips");
  const batch = h("div.dock");
  const set = (changes) => { setQuery(changes); refresh(); };
  const search = h("input.search", {
    type: "search", placeholder: t("search"), "aria-label": t("search"), value: query().get("q") ?? "",
    oninput: () => set({ q: search.value }),
  });
  const options = (key, choices) => choices.map(([value, text]) =>
    h("option", { value, selected: (query().get(key) ?? "") === value }, text));
  const choose = (key, label, choices) => h("select",
    { "aria-label": label, onchange: (event) => set({ [key]: event.target.value }) }, options(key, choices));
  const group = choose("group", t("group"), []);
  const columns = ["name", "state", "why", "ports", "age"].map((key) => h("span", t(key)));
  const headings = h("div.headings", h("span"), columns);
  fill(main,
    h("div.head", h("h1", t("clusters")), h("span.grow"),
      h("button.main", { id: "create", onclick: () => openCreate() }, "+ ", t("create"))),
    chips,
    h("div.tools", h("div.search", search),
      choose("provider", t("provider"), [["", t("anyProvider")], ["k3d", "k3d"], ["kind", "kind"]]),
      group,
      choose("sort", t("sort"), [["", t("newest")], ["name", t("byName")], ["state", t("byState")]])),
    h("div.panel", headings, rows), batch);

  const selection = () => new Set(split(query().get("sel"), ","));
  function select(name) {
    const chosen = selection();
    if (!chosen.delete(name)) chosen.add(name);
    set({ sel: [...chosen].join(",") });
  }

  function refresh() {
    const params = query();
    const words = split(params.get("q")?.toLowerCase(), /\s+/);
    const states = split(params.get("state"), ",");
    const provider = params.get("provider");
    const everything = all();
    const has = (one, word) => [one.name, ...labels(one)].some((text) => text.toLowerCase().includes(word));
    const matches = everything.filter((one) => (!provider || one.provider === provider)
      && (!states.length || states.includes(one.actual_state)) && words.every((word) => has(one, word)));
    matches.sort(ORDERS[params.get("sort")] ?? newestFirst);
    const key = params.get("group");
    view.items = key ? grouped(matches, key) : matches;
    view.names = view.items.filter((one) => !one.heading).map((one) => one.name);
    place();
    counts(everything, states);
    groups(everything, key);
    actions();
    draw(true);
  }

  function grouped(matches, key) {
    const groups = new Map();
    for (const one of matches) {
      const value = one.labels?.[key] ?? "";
      if (!groups.has(value)) groups.set(value, []);
      groups.get(value).push(one);
    }
    return [...groups].sort(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([value, members]) => [{ heading: `${key}=${value || "–"} (${members.length})` }, ...members]);
  }

  function place() {
    const row = parseInt(getComputedStyle(document.documentElement).getPropertyValue("--row"), 10) || 56;
    let top = 0;
    view.tops = view.items.map((one) => { const at = top; top += one.heading ? GROUP_HEIGHT : row; return at; });
    view.height = top;
  }

  function counts(everything, states) {
    const count = (name) => everything.filter((one) => one.actual_state === name).length;
    const press = (name) => {
      const chosen = new Set(states);
      if (!chosen.delete(name)) chosen.add(name);
      set({ state: [...chosen].join(",") });
    };
    const chip = (name, pressed, onclick, ...content) =>
      h("button.chip", { "data-chip": name, "aria-pressed": String(pressed), onclick }, content);
    const shown = STATES.map((name) => [name, count(name)]).filter(([name, n]) => n || states.includes(name));
    const focused = document.activeElement?.dataset?.chip;
    renew(chips,
      chip("all", !states.length, () => set({ state: "" }), h("b", everything.length), t("all")),
      shown.map(([name, n]) => chip(name, states.includes(name), () => press(name), shape(name), h("b", n), t(name))));
    if (focused) $(`[data-chip="${focused}"]`, chips)?.focus();
  }

  function groups(everything, chosen) {
    const keys = [...new Set(everything.flatMap((one) => Object.keys(one.labels ?? {})))].sort();
    group.hidden = !keys.length && !chosen;
    if (group.dataset.keys === keys.join()) return;
    group.dataset.keys = keys.join();
    fill(group, options("group", [["", t("noGroup")], ...keys.map((key) => [key, `${t("group")} ${key}`])]));
  }

  function actions() {
    const chosen = [...selection()].filter((name) => clusters.has(name));
    if (!chosen.length) return renew(batch);
    const button = (what) => h("button", { onclick: () => orderAll(chosen, what) }, t(what));
    renew(batch, h("div.panel.batch", h("b", t("selected", { n: chosen.length })), h("span.grow"),
      ["retry", "pause", "resume", "start", "stop"].map(button),
      h("button.danger", { onclick: () => askDelete(chosen) }, t("delete")),
      h("button.bare", { onclick: () => set({ sel: "" }) }, t("clear"))));
  }

  function draw(force) {
    if (!view.items.length) return nothing();
    headings.hidden = false;
    rows.style.height = `${view.height}px`;
    const from = scrollY - rows.getBoundingClientRect().top - scrollY;
    const first = Math.max(0, lower(view.tops, from) - OVERSCAN);
    const last = Math.min(view.items.length, lower(view.tops, from + innerHeight) + OVERSCAN);
    if (!force && first === view.first && last === view.last) return;
    Object.assign(view, { first, last });
    const chosen = selection();
    const focused = rows.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const drawn = view.items.slice(first, last).map((one, n) => {
      const heading = one.heading && h("div.group.cut", { title: one.heading }, one.heading);
      const element = heading || row(one, chosen.has(one.name));
      element.style.top = `${view.tops[first + n]}px`;
      return element;
    });
    renew(rows, drawn);
    if (focused) $(`[data-key="${CSS.escape(focused)}"]`, rows)?.focus({ preventScroll: true });
  }

  function nothing() {
    headings.hidden = true;
    rows.style.height = "";
    if (!link.synced) {
      const skeletons = [1, 2, 3, 4].map(() => h("div.skeleton", { "aria-hidden": "true" }));
      return renew(rows, skeletons, h("span.unseen", t("loading")));
    }
    const clear = () => { search.value = ""; setQuery({ q: "", state: "", provider: "" }); list(main); };
    if (clusters.size) {
      return renew(rows, h("div.empty", h("p", t("nothingFits")), h("button", { onclick: clear }, t("clearFilters"))));
    }
    return renew(rows, h("div.empty", h("h1", t("emptyTitle")), h("p", t("emptyText")),
      h("button.main", { onclick: () => openCreate() }, t("create"))));
  }

  function row(one, chosen) {
    const retry = next(one);
    const wanted = desired(one);
    const path = `/clusters/${one.name}`;
    const failures = one.failed_attempts
      ? h("span.wide-only", ` · ${t("failures", { n: one.failed_attempts })}`) : "";
    const title = one.reconcile_error ?? one.message ?? "";
    const flags = [chosen && "chosen", view.names[view.at] === one.name && "at", one.optimistic && "optimistic"];
    return h("div.row", {
      class: flags.filter(Boolean).join(" "), "data-name": one.name,
      onclick: (event) => { if (!event.target.closest("a, input, button")) go(path); },
    },
    h("input", {
      type: "checkbox", checked: chosen, "data-key": `box-${one.name}`, "aria-label": one.name,
      onchange: () => select(one.name),
    }),
    h("div.two", h("div.cut", h("a", { href: path, "data-key": `to-${one.name}` }, one.name)),
      h("div.line.cut", tag(one.provider), labels(one).slice(0, 3).map((label) => tag(label)))),
    h("div.two", h("span", state(one)), wanted ? faint(wanted) : null),
    h("div.two.why",
      h("div.cut", { class: one.actual_state === "failed" && "bad-text", title }, why(one).join(" · ")),
      retry ? h("div.faint.cut", time(one.next_attempt_at, retry), failures) : null),
    h("div.ports.faint.mono.cut", one.http_port ? `${one.http_port} / ${one.https_port}` : ""),
    h("div.age.faint", one.created_at ? time(one.created_at, age(one.created_at)) : ""));
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

  function retryCurrent() {
    const name = view.names[view.at];
    if (name && possible(clusters.get(name) ?? {}).includes("retry")) order(name, "retry");
  }

  function leaveSearch() {
    if (search.value) {
      search.value = "";
      set({ q: "" });
    }
    search.blur();
  }

  const scrolled = () => draw(false);
  addEventListener("scroll", scrolled, { passive: true });
  addEventListener("resize", refresh);
  const stop = watch(refresh);
  const tick = setInterval(() => draw(true), 1000);
  refresh();
  return {
    leave() {
      stop();
      clearInterval(tick);
      removeEventListener("scroll", scrolled);
      removeEventListener("resize", refresh);
    },
    keys: {
      "/": () => search.focus(), j: () => move(1), k: () => move(-1),
      x: () => view.names[view.at] && select(view.names[view.at]), r: retryCurrent, Escape: leaveSearch,
    },
  };
}

/** The first position whose top is at or below `y`. */
function lower(tops, y) {
  let [from, to] = [0, tops.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    if (tops[middle] < y) from = middle + 1;
    else to = middle;
  }
  return from;
}
