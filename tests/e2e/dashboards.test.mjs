// The dashboards match Grafana's published types: every option of every panel
// exists and has a valid value.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile, writeFile, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

const root = join(import.meta.dirname, "..", "..");
const types = join(import.meta.dirname, "node_modules", "@grafana", "schema", "dist", "types", "raw");
const KINDS = { stat: "stat", timeseries: "timeseries", "state-timeline": "statetimeline", bargauge: "bargauge", table: "table", heatmap: "heatmap" };

/** JSON has strings where Grafana's types have enumerations. */
const LOOSE = "type Loose<T> = T extends string ? `${T}` : T extends (infer U)[] ? Loose<U>[] : T extends object ? { [K in keyof T]: Loose<T[K]> } : T;";

function program(dashboard) {
  const lines = [`import type { Dashboard, Panel, RowPanel } from "${types}/dashboard/x/types.gen";`, LOOSE];
  for (const kind of Object.values(KINDS)) lines.push(`import type * as ${kind} from "${types}/composable/${kind}/panelcfg/x/types.gen";`);
  const is = (type, value) => lines.push(`export const a${lines.length}: Loose<${type}> = ${JSON.stringify(value)};`);
  const { panels, ...rest } = dashboard;
  is('Omit<Dashboard, "panels">', rest);
  for (const panel of panels) {
    if (panel.type === "row") {
      is("RowPanel", panel);
      continue;
    }
    const kind = KINDS[panel.type];
    const { options, ...other } = panel;
    is('Omit<Panel, "options">', other);
    is(`${kind}.Options`, options);
    const { custom } = panel.fieldConfig.defaults;
    // Grafana does not publish those of the table.
    if (custom && kind !== "table") is(`${kind}.FieldConfig`, custom);
  }
  return lines.join("\n");
}

async function typeErrors(dashboard) {
  const folder = await mkdtemp(join(import.meta.dirname, "node_modules", ".types-"));
  try {
    const file = join(folder, "dashboard.ts");
    await writeFile(file, program(dashboard));
    const options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "esnext", "--moduleResolution", "bundler", "--target", "es2022", "--pretty", "false"];
    const compiler = join(import.meta.dirname, "node_modules", ".bin", "tsc");
    const output = await new Promise((resolve) => execFile(compiler, [...options, file], (error, stdout, stderr) => resolve(error ? stdout || stderr || String(error) : "")));
    return output.split("\n").filter((line) => /error/.test(line));
  } finally {
    await rm(folder, { recursive: true });
  }
}

const read = async (name) => JSON.parse(await readFile(join(root, "dashboards", `${name}.json`), "utf8"));

for (const name of ["fleet", "reconciler", "cluster"]) {
  test(`${name} matches Grafana's types`, async () => {
    assert.deepEqual(await typeErrors(await read(name)), []);
  });
}

test("an unknown option is reported", async () => {
  const dashboard = await read("fleet");
  dashboard.panels[1].options.graphMode = "areas";
  const found = await typeErrors(dashboard);
  assert.equal(found.length, 1);
  assert.match(found[0], /graphMode|areas/);
});
