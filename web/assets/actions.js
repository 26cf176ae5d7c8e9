// The actions on clusters, for every view.
import * as api from "./api.js";
import { h, toast } from "./dom.js";
import { t } from "./i18n.js";
import { clusters } from "./store.js";

/** Runs an action and shows its result; returns null after a failure. */
export async function attempt(work, done) {
  try {
    const answer = await work();
    if (done) toast(done);
    return answer ?? true;
  } catch (error) {
    toast(t("rejected", { why: error.message }), true);
    return null;
  }
}

const send = (name, what) => api.post(api.of(name, `/${what}`));
export const order = (name, what) => attempt(() => send(name, what), `${name}: ${t(what)}`);

/** Runs an action on several clusters and shows what was rejected, and why. */
export async function orderAll(names, what) {
  const answers = await Promise.allSettled(names.map((name) => send(name, what)));
  const rejected = answers.filter((one) => one.status === "rejected").map((one) => one.reason.message);
  const why = [...new Set(rejected)].slice(0, 3).join("; ");
  if (rejected.length) toast(t("partly", { n: names.length - rejected.length, of: names.length, why }), true);
  else toast(t("done"));
}

/** Downloads the kubeconfig, or shows why there is none. */
export const kubeconfig = (name) => attempt(async () => {
  const text = await api.get(api.of(name, "/kubeconfig"));
  const href = URL.createObjectURL(new Blob([text], { type: "application/yaml" }));
  h("a", { href, download: `${name}.yaml` }).click();
  URL.revokeObjectURL(href);
});

/** The actions that a cluster allows in its state. */
export function possible(view) {
  if (view.protected || view.unreadable || view.optimistic) return [];
  const absent = view.desired_state === "absent";
  const failing = ["failed", "unknown"].includes(view.actual_state) || view.failed_attempts > 0;
  return [
    !view.paused && failing ? "retry" : null,
    view.paused ? "resume" : "pause",
    view.desired_state === "stopped" ? "start" : absent ? null : "stop",
  ].filter(Boolean);
}

/** Asks for a typed confirmation before it deletes one or more clusters. */
export function askDelete(names) {
  const one = names.length === 1 ? clusters.get(names[0]) ?? { name: names[0], provider: "" } : null;
  const wanted = one ? one.name : String(names.length);
  const label = t("typeName", { name: wanted });
  const typed = h("input", {
    type: "text", autocomplete: "off", spellcheck: false, "aria-label": one ? label : wanted,
  });
  const confirm = h("button.danger.main", { disabled: true }, t("delete"));
  typed.addEventListener("input", () => { confirm.disabled = typed.value !== wanted; });
  async function onsubmit(event) {
    event.preventDefault();
    if (confirm.disabled) return;
    confirm.disabled = true;
    const work = one ? () => api.remove(api.of(one.name)) : () => api.post("/api/batch", { delete: names });
    if (await attempt(work, t("done"))) dialog.close();
    else confirm.disabled = false;
  }
  const dialog = h("dialog", { "aria-label": t("delete") }, h("form", { method: "dialog", onsubmit },
    h("h1", one ? t("deleteTitle", { name: one.name }) : t("deleteMany", { n: names.length })),
    h("div", one ? t("deleteText", one) : t("deleteManyText", { names: names.join(", ") })),
    one?.work ? h("div.warning", t("deleteNow")) : null,
    h("label.field", label, typed),
    h("div.actions", h("button", { type: "button", onclick: () => dialog.close() }, t("cancel")), confirm)));
  show(dialog, typed);
}

/** Opens a dialog, and removes it when it closes. */
export function show(dialog, focus) {
  document.body.append(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.showModal();
  focus?.focus();
}

const KEYS = [
  ["/", "keySearch"], ["j  k", "keyMove"], ["Enter", "keyOpen"], ["x", "keySelect"], ["c", "create"], ["r", "retry"],
  ["Esc", "keyBack"], ["?", "help"],
];

export function keyboardHelp() {
  const close = h("button", { onclick: () => dialog.close() }, t("close"));
  const keys = (text) => text.split("  ").map((one) => [h("kbd", one), " "]);
  const dialog = h("dialog", { "aria-label": t("keysTitle") }, h("div.body",
    h("h1", t("keysTitle")),
    h("dl", KEYS.map(([key, what]) => [h("dt", keys(key)), h("dd", t(what))])),
    h("div.actions", close)));
  show(dialog, close);
}
