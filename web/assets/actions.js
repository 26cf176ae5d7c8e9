// What people do to clusters, from whichever view.
import * as api from "./api.js";
import { fill, h, toast } from "./dom.js";
import { t } from "./i18n.js";
import { clusters } from "./store.js";

/** Does something and says how it went; a refusal is a message. */
export async function attempt(work, done) {
  try {
    const answer = await work();
    if (done) toast(done);
    return answer ?? true;
  } catch (error) {
    toast(t("refused", { why: error.message }), true);
    return null;
  }
}

export const order = (name, what) => attempt(() => api.post(api.of(name, `/${what}`)), `${name}: ${t(what)}`);

/** The same for several: what was refused is told beside what was done. */
export async function orderAll(names, what) {
  const answers = await Promise.allSettled(names.map((name) => api.post(api.of(name, `/${what}`))));
  const refused = answers.filter((one) => one.status === "rejected").map((one) => one.reason.message);
  const why = [...new Set(refused)].slice(0, 3).join("; ");
  if (refused.length) toast(t("partly", { n: names.length - refused.length, of: names.length, why }), true);
  else toast(t("done"));
}

/** Saves the kubeconfig; where there is none, the reason is a message. */
export const kubeconfig = (name) => attempt(async () => {
  const text = await api.get(api.of(name, "/kubeconfig"));
  const href = URL.createObjectURL(new Blob([text], { type: "application/yaml" }));
  h("a", { href, download: `${name}.yaml` }).click();
  URL.revokeObjectURL(href);
});

/** The actions that make sense for a cluster. */
export function possible(view) {
  if (view.protected || view.unreadable || view.optimistic) return [];
  const gone = view.desired_state === "absent";
  return [
    !view.paused && (["failed", "unknown"].includes(view.actual_state) || view.failed_attempts > 0) ? "retry" : null,
    view.paused ? "resume" : "pause",
    view.desired_state === "stopped" ? "start" : gone ? null : "stop",
  ].filter(Boolean);
}

/** Asks before one cluster or several are deleted: what it means is said, and the name is typed. */
export function askDelete(names) {
  const one = names.length === 1 ? clusters.get(names[0]) ?? { name: names[0], provider: "" } : null;
  const wanted = one ? one.name : String(names.length);
  const typed = h("input", { type: "text", autocomplete: "off", spellcheck: false, "aria-label": one ? t("typeName", { name: wanted }) : wanted });
  const confirm = h("button", { class: "danger main", disabled: true }, t("delete"));
  typed.addEventListener("input", () => { confirm.disabled = typed.value !== wanted; });
  const dialog = h("dialog", { "aria-label": t("delete") }, h("form", {
    method: "dialog",
    onsubmit: async (event) => {
      event.preventDefault();
      if (confirm.disabled) return;
      confirm.disabled = true;
      const work = one ? () => api.remove(api.of(one.name)) : () => api.post("/api/batch", { delete: names });
      if (await attempt(work, t("done"))) dialog.close();
      else confirm.disabled = false;
    },
  },
  h("h1", {}, one ? t("deleteTitle", { name: one.name }) : t("deleteMany", { n: names.length })),
  h("div", {}, one ? t("deleteText", one) : t("deleteManyText", { names: names.join(", ") })),
  one?.work ? h("div", { class: "warning" }, t("deleteNow")) : null,
  h("label", { class: "field" }, t("typeName", { name: wanted }), typed),
  h("div", { class: "actions" }, h("button", { type: "button", onclick: () => dialog.close() }, t("cancel")), confirm)));
  show(dialog, typed);
}

/** Shows a dialog, which is gone when it is closed. */
export function show(dialog, focus) {
  document.body.append(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.showModal();
  focus?.focus();
}

export function keyboardHelp() {
  const keys = [["/", "keySearch"], ["j  k", "keyMove"], ["Enter", "keyOpen"], ["x", "keySelect"], ["c", "create"], ["r", "retry"], ["Esc", "keyBack"], ["?", "help"]];
  const close = h("button", { onclick: () => dialog.close() }, t("close"));
  const dialog = h("dialog", { "aria-label": t("keysTitle") }, h("div", { class: "body" },
    h("h1", {}, t("keysTitle")),
    fill(h("dl", {}), keys.map(([key, what]) => [h("dt", {}, key.split("  ").map((one) => [h("kbd", {}, one), " "])), h("dd", {}, t(what))])),
    h("div", { class: "actions" }, close)));
  show(dialog, close);
}
