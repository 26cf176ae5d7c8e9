// The log of a cluster's commands: followed live, searched, downloaded.
import * as api from "./api.js";
import { fill, h } from "./dom.js";
import { t } from "./i18n.js";
import { query, setQuery } from "./router.js";

const MOST = 5000;

export function logPanel(name) {
  let lines = [];
  let source = null;
  const text = h("pre", { class: "log", tabindex: "0", "aria-label": t("log") });
  const search = h("input", { type: "search", placeholder: t("searchLog"), "aria-label": t("searchLog"), value: query().get("log") ?? "", oninput: () => { setQuery({ log: search.value }); draw(); } });
  const follow = h("input", { type: "checkbox", checked: true, onchange: () => (follow.checked ? open() : close()) });
  const element = h("section", { class: "panel pad" },
    h("div", { class: "head" }, h("h2", {}, t("log")), h("span", { class: "grow" }), h("label", { class: "check" }, follow, t("follow")), h("a", { class: "button", href: api.of(name, "/log?download=true"), download: `${name}.log` }, t("download"))),
    search, text);
  let asked = false;

  function soon() {
    if (asked) return;
    asked = true;
    setTimeout(() => { asked = false; draw(); }, 50);
  }

  function draw() {
    const wanted = search.value.toLowerCase();
    const shown = wanted ? lines.filter((line) => line.toLowerCase().includes(wanted)) : lines;
    const end = text.scrollTop + text.clientHeight >= text.scrollHeight - 30;
    fill(text, shown.length ? shown.flatMap((line) => [...marked(line, wanted), "\n"]) : lines.length ? t("noLine", { n: lines.length }) : t("noLog"));
    if (end) text.scrollTop = text.scrollHeight;
  }

  function open() {
    close();
    lines = [];
    source = new EventSource(api.of(name, "/log?follow=true&lines=500"));
    source.addEventListener("line", ({ data }) => {
      lines.push(data);
      if (lines.length > MOST) lines.splice(0, lines.length - MOST);
      soon();
    });
    // It begins with the last lines each time it is opened.
    source.onopen = () => { lines = []; soon(); };
    draw();
  }

  function close() {
    source?.close();
    source = null;
  }

  /** What was refused, as without the database, is asked for again. */
  const wake = () => { if (follow.checked && source?.readyState === EventSource.CLOSED) open(); };

  open();
  return { element, leave: close, wake, search: () => search.focus() };
}

function marked(line, wanted) {
  if (!wanted) return [line];
  const at = line.toLowerCase().indexOf(wanted);
  return [line.slice(0, at), h("mark", {}, line.slice(at, at + wanted.length)), line.slice(at + wanted.length)];
}
