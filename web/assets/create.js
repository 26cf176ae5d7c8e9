// The dialog for a new cluster: it suggests free ports, and the server checks the input while the
// user types.
import { show } from "./actions.js";
import * as api from "./api.js";
import { copyable, fill, h, toast } from "./dom.js";
import { t } from "./i18n.js";
import { setQuery } from "./router.js";
import { expect, expectNoMore } from "./store.js";
import { now } from "./time.js";
import { FLAGS, PORTS, readLabels, readPort } from "./words.js";

export async function openCreate() {
  const inputs = {};
  const errors = {};
  let limits = { name_max: { k3d: 32, kind: 50 } };
  let latest = 0;
  let waiting;
  const field = (key, label, props = {}) => {
    inputs[key] = h("input", {
      type: "text", name: key, autocomplete: "off", spellcheck: false, oninput: check, ...props,
    });
    errors[key] = h("span.error");
    return h("label.field", label, inputs[key], errors[key]);
  };
  const port = ({ name }) => field(name, t(name), { inputMode: "numeric" });
  const hint = h("span.faint");
  const provider = h("select", { name: "provider", onchange: check }, ["k3d", "kind"].map((one) => h("option", one)));
  const verdict = h("div.faint", { role: "status", "aria-live": "polite" });
  const same = h("div.stack");
  const flags = FLAGS.map(({ name: key, initial }) => {
    inputs[key] = h("input", { type: "checkbox", checked: initial, onchange: check });
    return h("label.check", inputs[key], t(key));
  });
  const submit = h("button.main", t("declare"));
  const dialog = h("dialog", { id: "declare", "aria-label": t("create") }, h("form", { onsubmit: send },
    h("h1", t("create")),
    h("div.fields", field("name", t("name")), h("label.field", t("provider"), provider), h("div.wide", hint),
      PORTS.filter((one) => one.main).map(port)),
    h("details", h("summary", t("more")), h("div.fields",
      PORTS.filter((one) => !one.main).map(port), field("cluster_subnet", t("subnet")),
      field("labels", t("labels"), { placeholder: t("labelsHint") }), h("div.stack.wide", flags))),
    verdict,
    h("details", h("summary", t("same")), same),
    h("div.actions", h("button", { type: "button", onclick: () => dialog.close() }, t("cancel")), submit)));
  show(dialog, inputs.name);
  setQuery({ create: "1" });
  // If the address closed it, the address is right already.
  dialog.addEventListener("close", () => dialog.returnValue || setQuery({ create: "" }));

  const showLimit = () => fill(hint, t("nameHint", { max: limits.name_max[provider.value] }));
  showLimit();
  try {
    const free = await api.get("/api/suggest");
    limits = free.limits;
    for (const { name: key } of PORTS) if (!inputs[key].value && free[key]) inputs[key].value = free[key];
    inputs.cluster_subnet.placeholder = t("subnetHint", { subnet: free.cluster_subnet ?? "" });
    check();
  } catch (error) {
    fill(verdict, error.message);
  }

  function wrongLabels() {
    try {
      readLabels(inputs.labels.value);
      return "";
    } catch (error) {
      return error.message;
    }
  }

  function body() {
    const declared = { name: inputs.name.value.trim(), provider: provider.value };
    if (!wrongLabels()) declared.labels = readLabels(inputs.labels.value);
    for (const { name: key } of PORTS) if (inputs[key].value.trim()) declared[key] = readPort(inputs[key].value);
    if (inputs.cluster_subnet.value.trim()) declared.cluster_subnet = inputs.cluster_subnet.value.trim();
    for (const { name: key } of FLAGS) declared[key] = inputs[key].checked;
    return declared;
  }

  /** Marks each invalid field; returns the errors of other fields. */
  function markAll(rejected) {
    for (const key of Object.keys(errors)) mark(key, key === "labels" ? wrongLabels() : "");
    const others = [];
    for (const { loc, msg } of rejected?.errors ?? []) {
      const key = loc.at(-1);
      if (errors[key]) mark(key, msg);
      else others.push(msg);
    }
    if (rejected && !rejected.errors?.length) others.push(rejected.message);
    return others.join("; ");
  }

  function mark(key, message) {
    errors[key].textContent = message;
    inputs[key].setAttribute("aria-invalid", String(Boolean(message)));
  }

  function check() {
    showLimit();
    clearTimeout(waiting);
    waiting = setTimeout(ask, 120);
  }

  async function ask() {
    if (!inputs.name.value.trim()) return;
    const mine = ++latest;
    try {
      const answer = await api.post("/api/clusters?dry_run=true", body());
      if (mine !== latest) return;
      markAll(null);
      if (wrongLabels()) return fill(verdict);
      const warnings = answer.warnings.map((one) => h("div.warning", one.message));
      fill(verdict, warnings.length ? warnings : t("fine"));
      fill(same, copyable(answer.cli, t("copy")), copyable(answer.sql, t("copy")));
    } catch (error) {
      if (mine !== latest) return;
      fill(verdict, h("div.error", markAll(error)));
    }
  }

  async function send(event) {
    event.preventDefault();
    if (!inputs.name.value.trim()) return inputs.name.focus();
    if (wrongLabels()) return mark("labels", wrongLabels());
    const declared = body();
    submit.disabled = true;
    const created_at = new Date(now()).toISOString();
    expect({ ...declared, optimistic: true, actual_state: "unknown", desired_state: "present", created_at });
    performance.mark("declared");
    try {
      await api.post("/api/clusters", declared);
      dialog.close();
      toast(t("declared", { name: declared.name }));
    } catch (error) {
      fill(verdict, h("div.error", markAll(error)));
      submit.disabled = false;
    } finally {
      setTimeout(() => expectNoMore(declared.name), submit.disabled ? 5000 : 0);
    }
  }
}
