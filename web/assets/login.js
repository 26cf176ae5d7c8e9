// Asked for only where the server asks: a token is exchanged for a cookie that
// scripts cannot read. The token itself is kept nowhere.
import { attempt } from "./actions.js";
import * as api from "./api.js";
import { fill, h } from "./dom.js";
import { t } from "./i18n.js";

/** Who the server takes us for; a server without tokens asks nobody. */
export async function session() {
  try {
    const told = await api.get("/api/session");
    return typeof told === "object" ? told : { auth: "open" };
  } catch (refused) {
    // Somebody here was refused too often: the login says so.
    return { auth: refused.status === 429 ? "token" : "open" };
  }
}

export const isAsked = (who) => who.auth === "token" && !who.scope;

export function login(main) {
  const error = h("div", { class: "error", role: "alert" });
  const token = h("input", { type: "password", autocomplete: "current-password", "aria-label": t("token"), required: true });
  const enter = h("button", { class: "main" }, t("login"));
  async function send(event) {
    event.preventDefault();
    enter.disabled = true;
    try {
      await api.post("/api/login", { token: token.value.trim() });
      location.reload();
    } catch (refused) {
      fill(error, refused.message);
      enter.disabled = false;
      token.select();
    }
  }
  fill(main, h("form", { class: "panel login", onsubmit: send }, h("h1", {}, t("loginTitle")), h("label", { class: "field" }, t("token"), token),
    error, h("div", { class: "faint" }, t("loginHint")), h("div", { class: "actions" }, enter)));
  token.focus();
  return { leave() {}, keys: {}, alone: true };
}

export async function logout() {
  if (await attempt(() => api.post("/api/logout"))) location.reload();
}
