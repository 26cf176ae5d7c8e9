// The log of a cluster's commands.
import * as api from "./api.js";
import { fill, h } from "./dom.js";
import { t } from "./i18n.js";
import { query, setQuery } from "./router.js";

const MAX_LINES = 5000;

export function logPanel(name) {
  let lines = [];
  let partial = "";
  let source = null;
  const text = h("pre.log", { tabindex: "0", "aria-label": t("log") });
  const search = h("input", {
    type: "search", placeholder: t("searchLog"), "aria-label": t("searchLog"), value: query().get("log") ?? "",
    oninput: () => { setQuery({ log: search.value }); draw(); },
  });
  const follow = h("input", { type: "checkbox", checked: true, onchange: () => (follow.checked ? open() : close()) });
  const download = h("a.button", { href: api.of(name, "/log?download=true"), download: `${name}.log` }, t("download"));
  const element = h("section.panel.pad",
    h("div.head", h("h2", t("log")), h("span.grow"), h("label.check", follow, t("follow")), download), search, text);
  let scheduled = false;

  function soon() {
    if (scheduled) return;
    scheduled = true;
    setTimeout(() => { scheduled = false; draw(); }, 50);
  }

  function draw() {
    const wanted = search.value.toLowerCase();
    const all = partial ? [...lines, partial] : lines;
    const shown = wanted ? all.filter((line) => line.toLowerCase().includes(wanted)) : all;
    const atEnd = text.scrollTop + text.clientHeight >= text.scrollHeight - 30;
    const none = lines.length ? t("noLine", { n: lines.length }) : t("noLog");
    fill(text, shown.length ? shown.flatMap((line) => [...marked(line, wanted), "\n"]) : none);
    if (atEnd) text.scrollTop = text.scrollHeight;
  }

  function open() {
    close();
    lines = [];
    source = new EventSource(api.of(name, "/log?follow=true&lines=500"));
    source.addEventListener("partial", ({ data }) => { partial = data; soon(); });
    source.addEventListener("line", ({ data }) => {
      partial = "";
      lines.push(data);
      if (lines.length > MAX_LINES) lines.splice(0, lines.length - MAX_LINES);
      soon();
    });
    // Each connection starts with the last lines.
    source.onopen = () => { lines = []; partial = ""; soon(); };
    draw();
  }

  function close() {
    source?.close();
    source = null;
  }

  const wake = () => { if (follow.checked && source?.readyState === EventSource.CLOSED) open(); };

  open();
  return { element, leave: close, wake, search: () => search.focus() };
}

function marked(line, wanted) {
  if (!wanted) return [line];
  const at = line.toLowerCase().indexOf(wanted);
  const end = at + wanted.length;
  return [line.slice(0, at), h("mark", line.slice(at, end)), line.slice(end)];
}
