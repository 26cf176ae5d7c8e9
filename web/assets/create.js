// The dialog for a new cluster: free ports are filled in, the server checks
// while one types, and the row is there at once.
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
  const faults = {};
  let limits = { name_max: { k3d: 32, kind: 63 } };
  let latest = 0;
  let waiting;
  const field = (key, label, props = {}, wide = false) => {
    inputs[key] = h("input", { type: "text", name: key, autocomplete: "off", spellcheck: false, oninput: check, ...props });
    faults[key] = h("span", { class: "error" });
    return h("label", { class: wide ? "field wide" : "field" }, label, inputs[key], faults[key]);
  };
  const portFields = (which) => PORTS.filter(which).map((port) => field(port.name, t(port.name), { inputMode: "numeric" }));
  const hint = h("span", { class: "faint" });
  const provider = h("select", { name: "provider", onchange: check }, ["k3d", "kind"].map((one) => h("option", {}, one)));
  const verdict = h("div", { class: "faint", role: "status", "aria-live": "polite" });
  const same = h("div", { class: "stack" });
  const flags = FLAGS.map(({ name: key, initial }) => {
    inputs[key] = h("input", { type: "checkbox", checked: initial, onchange: check });
    return h("label", { class: "check" }, inputs[key], t(key));
  });
  const submit = h("button", { class: "main" }, t("declare"));
  const dialog = h("dialog", { id: "declare", "aria-label": t("create") }, h("form", { onsubmit: send },
    h("h1", {}, t("create")),
    h("div", { class: "fields" }, field("name", t("name")), h("label", { class: "field" }, t("provider"), provider), h("div", { class: "wide" }, hint),
      portFields((port) => port.main)),
    h("details", {}, h("summary", {}, t("more")), h("div", { class: "fields" },
      portFields((port) => !port.main),
      field("cluster_subnet", t("subnet")), field("labels", t("labels"), { placeholder: t("labelsHint") }), h("div", { class: "stack wide" }, flags))),
    verdict,
    h("details", {}, h("summary", {}, t("same")), same),
    h("div", { class: "actions" }, h("button", { type: "button", onclick: () => dialog.close() }, t("cancel")), submit)));
  show(dialog, inputs.name);
  setQuery({ create: "1" });
  // Closed by the address, it leaves the address alone.
  dialog.addEventListener("close", () => dialog.returnValue || setQuery({ create: "" }));

  const tellLimit = () => fill(hint, t("nameHint", { max: limits.name_max[provider.value] }));
  tellLimit();
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

  /** Shows each fault at its field. */
  function told(error) {
    for (const key of Object.keys(faults)) mark(key, key === "labels" ? wrongLabels() : "");
    const elsewhere = [];
    for (const fault of error?.faults ?? []) {
      const key = fault.loc.at(-1);
      if (faults[key]) mark(key, fault.msg);
      else elsewhere.push(fault.msg);
    }
    if (error && !error.faults?.length) elsewhere.push(error.message);
    return elsewhere.join("; ");
  }

  function mark(key, message) {
    faults[key].textContent = message;
    inputs[key].setAttribute("aria-invalid", String(Boolean(message)));
  }

  function check() {
    tellLimit();
    clearTimeout(waiting);
    waiting = setTimeout(ask, 120);
  }

  async function ask() {
    if (!inputs.name.value.trim()) return;
    const mine = ++latest;
    try {
      const answer = await api.post("/api/clusters?dry_run=true", body());
      if (mine !== latest) return;
      told(null);
      if (wrongLabels()) return fill(verdict);
      fill(verdict, answer.warnings.length ? answer.warnings.map((one) => h("div", { class: "warning" }, one.message)) : t("fine"));
      fill(same, copyable(answer.cli, t("copy")), copyable(answer.sql, t("copy")));
    } catch (error) {
      if (mine !== latest) return;
      fill(verdict, h("div", { class: "error" }, told(error)));
    }
  }

  async function send(event) {
    event.preventDefault();
    if (!inputs.name.value.trim()) return inputs.name.focus();
    if (wrongLabels()) return mark("labels", wrongLabels());
    const declared = body();
    submit.disabled = true;
    expect({ ...declared, optimistic: true, actual_state: "unknown", desired_state: "present", created_at: new Date(now()).toISOString() });
    performance.mark("declared");
    try {
      await api.post("/api/clusters", declared);
      dialog.close();
      toast(t("declared", { name: declared.name }));
    } catch (error) {
      fill(verdict, h("div", { class: "error" }, told(error)));
      submit.disabled = false;
    } finally {
      setTimeout(() => expectNoMore(declared.name), submit.disabled ? 5000 : 0);
    }
  }
}
