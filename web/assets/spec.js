// What is declared of a cluster: changed with care for others who do the same,
// with its history, what differed, and the way back.
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
  const spec = h("div", {});
  const list = h("ol", { class: "timeline" });
  const older = h("button", { class: "small", onclick: () => { most += PAGE; put(); } }, t("older"));
  const past = h("div", { class: "past", hidden: true }, h("h2", {}, t("history")), list, older);
  const element = h("section", { class: "panel pad" }, spec, past);
  let editing = null;
  let shown = "";
  let most = PAGE;
  let revisions = [];

  function draw(view) {
    if (editing) return;
    const now = JSON.stringify([view.generation, view.labels, view.protected]);
    if (now === shown) return;
    shown = now;
    fill(spec, h("div", { class: "head" }, h("h2", {}, t("spec")), h("span", { class: "grow" }), view.protected ? null : h("button", { "data-action": "edit", onclick: () => edit(view) }, t("edit"))),
      h("dl", {}, FLAGS.map(({ name: key }) => [h("dt", {}, t(key)), h("dd", {}, view[key] ? t("yes") : t("no"))])));
  }

  function edit(view) {
    editing = view;
    const inputs = {};
    const mine = {};
    const line = (key, label, value) => { inputs[key] = h("input", { type: "text", value, spellcheck: false, autocomplete: "off" }); mine[key] = h("button", { type: "button", class: "bare mine", hidden: true, onclick: () => { inputs[key].value = mine[key].value; mine[key].hidden = true; } }); return h("label", { class: "field" }, label, inputs[key], mine[key]); };
    const error = h("div", { class: "error", role: "alert" });
    fill(spec, h("form", { class: "stack", onsubmit: save }, h("h2", {}, t("spec")),
      PORTS.map(({ name: key }) => line(key, t(key), view[key])), line("cluster_subnet", t("network"), view.cluster_subnet ?? ""), line("labels", t("labels"), labels(view).join(", ")),
      FLAGS.map(({ name: key }) => { inputs[key] = h("input", { type: "checkbox", checked: view[key] }); return h("label", { class: "check" }, inputs[key], t(key)); }),
      error, h("div", { class: "actions" }, h("button", { type: "button", onclick: done }, t("cancel")), h("button", { class: "main" }, t("save")))));

    async function save(event) {
      event.preventDefault();
      try {
        const wanted = readLabels(inputs.labels.value);
        const gone = Object.keys(view.labels ?? {}).filter((key) => !(key in wanted)).map((key) => [key, null]);
        const change = { generation: view.generation, cluster_subnet: inputs.cluster_subnet.value.trim(), labels: { ...wanted, ...Object.fromEntries(gone) } };
        for (const { name: key } of PORTS) change[key] = readPort(inputs[key].value);
        for (const { name: key } of FLAGS) change[key] = inputs[key].checked;
        await api.patch(api.of(name), change);
        toast(t("done"));
        done();
      } catch (refused) {
        fill(error, refused.status === 409 ? t("lostRace", { n: refused.body?.current?.generation ?? "" }) : refused.message);
        if (refused.status === 409 && refused.body?.current) {
          const current = refused.body.current;
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
    }
  }

  function done() {
    editing = null;
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
    } catch { /* a cluster that never was has none */ }
  }

  /** Shows the newest revisions, and the one that the address compares. */
  function put() {
    const asked = query().get("compare");
    const [mine, theirs] = (asked ?? "").split("..").map((n) => revisions.find((one) => `${one.generation}` === n));
    const other = mine !== theirs && theirs;
    if (asked && !(mine && other)) {
      toast(t("noCompare", { asked }));
      setQuery({ compare: "" });
    }
    fill(list, revisions.map((one, n) => (n < most || (other && one === mine) ? revision(one, revisions[n + 1], n === 0, one === mine && other) : null)));
    older.hidden = revisions.length <= most;
  }

  // What one revision changed of another, a line each.
  function differences(one, other) {
    if (!other) return [];
    const lines = Object.keys(one.spec).filter((key) => JSON.stringify(one.spec[key]) !== JSON.stringify(other.spec[key])).map((key) => t("changedTo", { field: key, from: other.spec[key] ?? "–", to: one.spec[key] ?? "–" }));
    if (one.desired_state !== other.desired_state) lines.push(t("changedTo", { field: t("state"), from: t(other.desired_state), to: t(one.desired_state) }));
    return lines.map((text) => h("div", { class: "mono soft" }, text));
  }

  function revision(one, before, current, asked) {
    const changes = h("div", {});
    const tell = (other) => {
      const lines = differences(one, other);
      fill(changes, lines.length || other === before ? lines : h("div", { class: "soft" }, t("noDifference")));
    };
    tell(asked || before);
    const compare = h("select", { "aria-label": t("compare", { n: one.generation }), onchange: ({ target: { value } }) => {
      setQuery({ compare: value && `${one.generation}..${value}` });
      tell(revisions.find((each) => `${each.generation}` === value));
    } }, before ? null : h("option", { value: "" }, "–"), revisions.filter((each) => each !== one).map((each) => h("option", { value: each.generation, selected: each === (asked || before) || null }, t("against", { n: each.generation }))));
    return h("li", {}, h("div", { class: "faint" }, time(one.at, ago(one.at))), h("div", {},
      h("div", { class: "line" }, h("b", { title: absolute(one.at) }, t("revision", { n: one.generation })), current ? tag(t("current")) : null, faint(t("by", { actor: one.actor })), revisions.length > 1 ? compare : null),
      changes,
      current || !clusters.has(name) ? null : h("button", { class: "small", onclick: () => attempt(() => api.post(api.of(name, "/rollback"), { generation: one.generation, if_generation: clusters.get(name).generation }), t("done")) }, t("rollBack"))));
  }

  changed();
  return { element, draw, changed };
}
