// Puts the page together: the bar at the top, the view of the address, the
// banner when what is shown may be old, the keyboard.
import { keyboardHelp } from "./actions.js";
import { activity } from "./activity.js";
import { openCreate } from "./create.js";
import { detail } from "./detail.js";
import { $, fill, h, isWriting } from "./dom.js";
import { otherLanguage, t } from "./i18n.js";
import { list } from "./list.js";
import { isAsked, login, logout, session } from "./login.js";
import { go, lastList, query, start } from "./router.js";
import { connect, link, watch } from "./store.js";
import { system } from "./system.js";
import { clock } from "./time.js";

const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");
const theme = () => localStorage.getItem("theme") ?? (dark.matches ? "dark" : "light");
const applyTheme = () => { root.dataset.theme = theme(); };
applyTheme();
dark.addEventListener("change", applyTheme);

let view = { leave() {}, keys: {} };
let who = { auth: "open" };
let known = false;

/** An address that somebody broke is shown as it is. */
function decoded(text) {
  try {
    return text && decodeURIComponent(text);
  } catch {
    return text;
  }
}

function render() {
  view.leave();
  const path = location.pathname;
  const name = decoded(path.match(/^\/clusters\/([^/]+)\/?$/)?.[1]);
  const main = $("#main");
  const places = { "/activity": [activity, "activity"], "/system": [system, "system"] };
  const [make, place] = name ? [(main) => detail(main, name), "clusters"] : places[path] ?? [list, "clusters"];
  document.title = name ? `${name} · Kindler` : `${t(place)} · Kindler`;
  top(place);
  view = isAsked(who) ? login(main) : make(main);
  follow();
}

/** The dialog for a new cluster is open where the address says so; others end with their view. */
function follow() {
  const wanted = known && !isAsked(who) && query().get("create") === "1";
  const open = $("dialog[open]");
  if (wanted && open?.id === "declare") return;
  open?.close("left");
  if (wanted) openCreate();
}

function top(place) {
  const to = (path, key) => h("a", { href: path, "aria-current": key === place ? "page" : undefined }, t(key));
  fill($("#top"), h("a", { class: "brand", href: "/" }, h("img", { src: "/assets/icon.svg", alt: "Kindler" }), h("span", {}, "Kindler")),
    h("nav", { "aria-label": "Kindler" }, to("/", "clusters"), to("/activity", "activity"), to("/system", "system")),
    who.scope && who.auth === "token" ? h("button", { class: "bare", title: `${t("logout")}: ${who.name} (${who.scope})`, "aria-label": t("logout"), onclick: logout }, h("span", { class: "wide-only" }, t("logout")), h("span", { class: "narrow-only", "aria-hidden": "true" }, "↪")) : null,
    h("button", { class: "bare", onclick: otherLanguage }, t("language")),
    h("button", { class: "bare", title: t("theme"), "aria-label": t("theme"), onclick: () => { localStorage.setItem("theme", theme() === "dark" ? "light" : "dark"); applyTheme(); } }, "◐"),
    h("button", { class: "bare wide-only", title: t("help"), "aria-label": t("help"), onclick: keyboardHelp }, "?"));
}

function banner() {
  const box = $("#banner");
  const time = link.truth ? clock(new Date(link.truth).toISOString()) : "–";
  const words = !link.connected && link.truth ? t("reconnecting", { time }) : link.why ? t("stale", { why: link.why, time }) : !link.connected && link.failed ? t("unreadable", { why: link.failed }) : "";
  box.hidden = !words;
  if (box.textContent !== words) box.textContent = words;
}

document.addEventListener("keydown", (event) => {
  if (view.alone || event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
  if (isWriting(event.target)) {
    if (event.key === "Escape") view.keys.Escape?.();
    return;
  }
  const everywhere = { c: () => openCreate(), "?": keyboardHelp, Escape: () => location.pathname !== "/" && go(lastList()) };
  const act = (event.key === "Escape" && location.pathname !== "/" ? everywhere.Escape : view.keys[event.key]) ?? everywhere[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

async function recognise() {
  const told = await session();
  known = true;
  // Compared with what another answer may have changed meanwhile.
  if (JSON.stringify(told) !== JSON.stringify(who)) {
    who = told;
    render();
  } else if (!$("dialog[open]")) follow();
}

watch(banner);
addEventListener("kindler-login", recognise);
connect();
start(render);
recognise();
