// The login, shown only if the server requires a token: it exchanges the token for a cookie that
// scripts cannot read, and does not store the token.
import { attempt } from "./actions.js";
import * as api from "./api.js";
import { fill, h } from "./dom.js";
import { t } from "./i18n.js";

/** The identity of this session; a server without tokens needs none. */
export async function session() {
  try {
    const found = await api.get("/api/session");
    return typeof found === "object" ? found : { auth: "open" };
  } catch (rejected) {
    // 429: too many invalid credentials from this address; the login shows the message.
    return { auth: rejected.status === 429 ? "token" : "open" };
  }
}

export const needsLogin = (user) => user.auth === "token" && !user.scope;

export function login(main) {
  const error = h("div.error", { role: "alert" });
  const token = h("input", {
    type: "password", autocomplete: "current-password", "aria-label": t("token"), required: true,
  });
  const enter = h("button.main", t("login"));
  async function onsubmit(event) {
    event.preventDefault();
    enter.disabled = true;
    try {
      await api.post("/api/login", { token: token.value.trim() });
      location.reload();
    } catch (rejected) {
      fill(error, rejected.message);
      enter.disabled = false;
      token.select();
    }
  }
  fill(main, h("form.panel.login", { onsubmit }, h("h1", t("loginTitle")), h("label.field", t("token"), token),
    error, h("div.faint", t("loginHint")), h("div.actions", enter)));
  token.focus();
  return { leave() {}, keys: {}, alone: true };
}

export async function logout() {
  if (await attempt(() => api.post("/api/logout"))) location.reload();
}
