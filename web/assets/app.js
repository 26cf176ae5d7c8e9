// Assembles the page: top bar, view of the address, banner, keyboard.
import { keyboardHelp } from "./actions.js";
import { activity } from "./activity.js";
import { openCreate } from "./create.js";
import { detail } from "./detail.js";
import { $, fill, h, isWriting } from "./dom.js";
import { otherLanguage, t } from "./i18n.js";
import { list } from "./list.js";
import { login, logout, needsLogin, session } from "./login.js";
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
let user = { auth: "open" };
let known = false;

/** Decodes a part of the address; a malformed one stays as it is. */
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
  const cluster = name && [(main) => detail(main, name), "clusters"];
  const [make, place] = cluster || places[path] || [list, "clusters"];
  document.title = `${name || t(place)} · Kindler`;
  top(place);
  view = needsLogin(user) ? login(main) : make(main);
  follow();
}

/** Opens the create dialog if the address asks for it; closes others. */
function follow() {
  const wanted = known && !needsLogin(user) && query().get("create") === "1";
  const open = $("dialog[open]");
  if (wanted && open?.id === "declare") return;
  open?.close("left");
  if (wanted) openCreate();
}

function toggleTheme() {
  localStorage.setItem("theme", theme() === "dark" ? "light" : "dark");
  applyTheme();
}

function top(place) {
  const to = (href, key) => h("a", { href, "aria-current": key === place ? "page" : null }, t(key));
  const button = (label, onclick, ...text) => h("button.bare", { title: label, "aria-label": label, onclick }, text);
  const out = user.scope && user.auth === "token" && button(t("logout"), logout,
    h("span.wide-only", t("logout")), h("span.narrow-only", { "aria-hidden": "true" }, "↪"));
  if (out) out.title = `${t("logout")}: ${user.name} (${user.scope})`;
  const help = button(t("help"), keyboardHelp, "?");
  help.classList.add("wide-only");
  fill($("#top"),
    h("a.brand", { href: "/" }, h("img", { src: "/assets/icon.svg", alt: "Kindler" }), h("span", "Kindler")),
    h("nav", { "aria-label": "Kindler" }, to("/", "clusters"), to("/activity", "activity"), to("/system", "system")),
    out, h("button.bare", { onclick: otherLanguage }, t("language")), button(t("theme"), toggleTheme, "◐"), help);
}

function banner() {
  const box = $("#banner");
  const time = link.truth ? clock(new Date(link.truth).toISOString()) : "–";
  let text = "";
  if (!link.connected && link.truth) text = t("reconnecting", { time });
  else if (link.why) text = t("stale", { why: link.why, time });
  else if (!link.connected && link.failed) text = t("unreadable", { why: link.failed });
  else text = link.problems.map((one) => `${one.what} → ${one.next}`).join(" · ");
  box.hidden = !text;
  if (box.textContent !== text) box.textContent = text;
}

document.addEventListener("keydown", (event) => {
  if (view.alone || event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
  if (isWriting(event.target)) {
    if (event.key === "Escape") view.keys.Escape?.();
    return;
  }
  const inside = location.pathname !== "/";
  const everywhere = { c: () => openCreate(), "?": keyboardHelp, Escape: () => inside && go(lastList()) };
  const own = event.key === "Escape" && inside ? null : view.keys[event.key];
  const act = own ?? everywhere[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

async function identify() {
  const found = await session();
  known = true;
  // Another request may have changed `user` meanwhile.
  if (JSON.stringify(found) !== JSON.stringify(user)) {
    user = found;
    render();
  } else if (!$("dialog[open]")) follow();
}

watch(banner);
addEventListener("kindler-login", identify);
connect();
start(render);
identify();
