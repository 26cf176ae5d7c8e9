// The spec of a cluster: edited with a check for concurrent changes; its revisions, compared and
// rolled back.
import { attempt } from "./actions.js";
import * as api from "./api.js";
import { fill, h, toast } from "./dom.js";
import { t } from "./i18n.js";
import { query, setQuery } from "./router.js";
import { clusters } from "./store.js";
import { absolute, ago } from "./time.js";
import { FLAGS, PORTS, faint, labels, readLabels, readPort, tag, time } from "./words.js";

const PAGE = 20;

export function specPanel(name) {
  const spec = h("div");
  const list = h("ol.timeline");
  const older = h("button.small", { onclick: () => { most += PAGE; put(); } }, t("older"));
  const past = h("div.past", { hidden: true }, h("h2", t("history")), list, older);
  const element = h("section.panel.pad", spec, past);
  let editing = false;
  let shown = "";
  let most = PAGE;
  let revisions = [];

  function draw(view) {
    if (editing) return;
    const now = JSON.stringify([view.generation, view.labels, view.protected]);
    if (now === shown) return;
    shown = now;
    const button = h("button", { "data-action": "edit", onclick: () => edit(view) }, t("edit"));
    fill(spec, h("div.head", h("h2", t("spec")), h("span.grow"), view.protected ? null : button),
      h("dl", FLAGS.map(({ name: key }) => [h("dt", t(key)), h("dd", t(view[key] ? "yes" : "no"))])));
  }

  function edit(view) {
    editing = true;
    const inputs = {};
    const mine = {};
    const line = (key, label, value) => {
      inputs[key] = h("input", { type: "text", value, spellcheck: false, autocomplete: "off" });
      const onclick = () => { inputs[key].value = mine[key].value; mine[key].hidden = true; };
      mine[key] = h("button.bare.mine", { type: "button", hidden: true, onclick });
      return h("label.field", label, inputs[key], mine[key]);
    };
    const flag = ({ name: key }) => {
      inputs[key] = h("input", { type: "checkbox", checked: view[key] });
      return h("label.check", inputs[key], t(key));
    };
    const error = h("div.error", { role: "alert" });
    fill(spec, h("form.stack", { onsubmit: save }, h("h2", t("spec")),
      PORTS.map(({ name: key }) => line(key, t(key), view[key])),
      line("cluster_subnet", t("network"), view.cluster_subnet ?? ""),
      line("labels", t("labels"), labels(view).join(", ")), FLAGS.map(flag), error,
      h("div.actions", h("button", { type: "button", onclick: done }, t("cancel")), h("button.main", t("save")))));

    async function save(event) {
      event.preventDefault();
      try {
        const wanted = readLabels(inputs.labels.value);
        const removed = Object.keys(view.labels ?? {}).filter((key) => !(key in wanted)).map((key) => [key, null]);
        const change = {
          generation: view.generation, cluster_subnet: inputs.cluster_subnet.value.trim(),
          labels: { ...wanted, ...Object.fromEntries(removed) },
        };
        for (const { name: key } of PORTS) change[key] = readPort(inputs[key].value);
        for (const { name: key } of FLAGS) change[key] = inputs[key].checked;
        await api.patch(api.of(name), change);
        toast(t("done"));
        done();
      } catch (rejected) {
        const current = rejected.status === 409 ? rejected.body?.current ?? {} : null;
        fill(error, current ? t("lostRace", { n: current.generation ?? "" }) : rejected.message);
        if (current?.generation) merge(current);
      }
    }

    /** Shows the values of a concurrent change, with the user's own beside them. */
    function merge(current) {
      const theirs = { cluster_subnet: current.cluster_subnet ?? "", labels: labels(current).join(", ") };
      for (const { name: key } of PORTS) theirs[key] = String(current[key]);
      for (const [key, value] of Object.entries(theirs)) {
        mine[key].hidden = inputs[key].value === value;
        mine[key].value = inputs[key].value;
        fill(mine[key], t("yours", { value: inputs[key].value || "–" }));
        inputs[key].value = value;
      }
      view = current;
    }
  }

  function done() {
    editing = false;
    shown = "";
    const view = clusters.get(name);
    if (view) draw(view);
  }

  let known = "";
  async function changed() {
    const generation = clusters.get(name)?.generation ?? "gone";
    if (generation === known) return;
    known = generation;
    try {
      revisions = await api.get(api.of(name, "/revisions"));
      past.hidden = false;
      put();
    } catch { /* a name that was never declared has no revisions */ }
  }

  function put() {
    const asked = query().get("compare");
    const [mine, theirs] = (asked ?? "").split("..").map((n) => revisions.find((one) => `${one.generation}` === n));
    const other = mine !== theirs && theirs;
    if (asked && !(mine && other)) {
      toast(t("noCompare", { asked }));
      setQuery({ compare: "" });
    }
    fill(list, revisions.map((one, n) => (n < most || (other && one === mine)
      ? revision(one, revisions[n + 1], n === 0, one === mine && other) : null)));
    older.hidden = revisions.length <= most;
  }

  function differences(one, other) {
    if (!other) return [];
    const differs = (key) => JSON.stringify(one.spec[key]) !== JSON.stringify(other.spec[key]);
    const change = (field, from, to) => t("changedTo", { field, from, to });
    const lines = Object.keys(one.spec).filter(differs)
      .map((key) => change(key, other.spec[key] ?? "–", one.spec[key] ?? "–"));
    if (one.desired_state !== other.desired_state) {
      lines.push(change(t("state"), t(other.desired_state), t(one.desired_state)));
    }
    return lines.map((text) => h("div.mono.soft", text));
  }

  function revision(one, before, current, asked) {
    const changes = h("div");
    const compareWith = (other) => {
      const lines = differences(one, other);
      fill(changes, lines.length || other === before ? lines : h("div.soft", t("noDifference")));
    };
    compareWith(asked || before);
    const option = (each) => h("option",
      { value: each.generation, selected: each === (asked || before) }, t("against", { n: each.generation }));
    const onchange = ({ target: { value } }) => {
      setQuery({ compare: value && `${one.generation}..${value}` });
      compareWith(revisions.find((each) => `${each.generation}` === value));
    };
    const compare = h("select", { "aria-label": t("compare", { n: one.generation }), onchange },
      before ? null : h("option", { value: "" }, "–"), revisions.filter((each) => each !== one).map(option));
    const rollBack = () => attempt(() => api.post(api.of(name, "/rollback"),
      { generation: one.generation, if_generation: clusters.get(name).generation }), t("done"));
    return h("li", h("div.faint", time(one.at, ago(one.at))), h("div",
      h("div.line", h("b", { title: absolute(one.at) }, t("revision", { n: one.generation })),
        current ? tag(t("current")) : null, faint(t("by", { actor: one.actor })),
        revisions.length > 1 ? compare : null),
      changes,
      current || !clusters.has(name) ? null : h("button.small", { onclick: rollBack }, t("rollBack"))));
  }

  changed();
  return { element, draw, changed };
}
