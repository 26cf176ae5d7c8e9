// Draws the pictures in docs/dashboards: `make dashboards`. It does not need
// Grafana: a real Prometheus scrapes a real daemon for some minutes, answers the
// queries of each panel, and panels.mjs draws the results in Chromium. This is
// not a test.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Browser, Daemon, eventually, freePort } from "./kit.mjs";
import { drawn, escape } from "./panels.mjs";

const root = join(import.meta.dirname, "..", "..");
const folder = process.env.SCREENSHOTS ?? join(root, "docs", "dashboards");
const SCRAPE = 5;
const WIDTH = 1600, CELL = 36, GAP = 8;
/** The cluster that always fails, and the one of the cluster dashboard. */
const NEVER = "ml-train", ONE = "orders-uat";

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

class Prometheus {
  static async start(targets) {
    const prometheus = new Prometheus();
    prometheus.folder = await mkdtemp(join(tmpdir(), "kindler-prometheus-"));
    prometheus.url = `http://127.0.0.1:${await freePort()}`;
    const config = join(prometheus.folder, "prometheus.yml");
    await writeFile(config, JSON.stringify({ global: { scrape_interval: `${SCRAPE}s` }, scrape_configs: [{ job_name: "kindler", static_configs: [{ targets }] }] }));
    prometheus.process = spawn("prometheus", [`--config.file=${config}`, `--storage.tsdb.path=${join(prometheus.folder, "tsdb")}`, `--web.listen-address=${prometheus.url.slice(7)}`], { stdio: "ignore" });
    prometheus.ended = new Promise((resolve) => prometheus.process.once("exit", resolve).once("error", resolve));
    await eventually("Prometheus", () => fetch(`${prometheus.url}/-/ready`).then(({ ok }) => ok, () => false));
    return prometheus;
  }

  async ask(path, parameters) {
    const answer = await fetch(`${this.url}/api/v1/${path}`, { method: "POST", body: new URLSearchParams(parameters) });
    const { data, error } = await answer.json();
    if (error) throw new Error(`${error} in ${parameters.query}`);
    return data.result;
  }

  /** The series of a panel's query: over the range, or at its end. */
  async series(query, instant, { from, to, step }) {
    if (!instant) return this.ask("query_range", { query, start: from, end: to, step });
    return (await this.ask("query", { query, time: to })).map(({ metric, value }) => ({ metric, values: [value] }));
  }

  async stop() {
    this.process.kill("SIGTERM");
    await this.ended;
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** An API-only server on the same database. */
async function pageBeside(daemon) {
  const port = await freePort();
  const url = (await readFile(join(daemon.state, "database-url"), "utf8")).trim();
  const kindler = process.env.KINDLER_BIN ?? join(root, "target", "debug", "kindler");
  const page = spawn(kindler, ["serve", "--api-only"], { env: { PATH: process.env.PATH, HOME: daemon.state, KINDLER_STATE_DIR: join(daemon.state, "page"), KINDLER_LISTEN: `127.0.0.1:${port}`, KINDLER_DATABASE_URL: url }, stdio: "ignore" });
  const ended = new Promise((resolve) => page.once("exit", resolve));
  await eventually("the page", () => fetch(`http://127.0.0.1:${port}/readyz`).then(({ ok }) => ok, () => false));
  return { port, stop: async () => { page.kill("SIGTERM"); await ended; } };
}

/** Kills the process of a sandbox cluster of this daemon. */
async function breaks(daemon, name) {
  for (const pid of (await readdir("/proc")).filter((entry) => /^\d+$/.test(entry))) {
    const line = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0");
    if (line[1] === "sandbox-node" && line.includes(name) && line.some((word) => word.startsWith(daemon.state))) process.kill(Number(pid), "SIGKILL");
  }
}

/** The events of some minutes in a fleet. */
async function play(daemon) {
  const names = ["payments-prod", "payments-dev", "search-prod", "search-uat", "billing", "edge-lab", NEVER];
  const declare = async (name) => daemon.declare(name, { provider: name.endsWith("dev") ? "kind" : "k3d" });
  const does = (name, what, method = "POST") => daemon.api(method, `/api/clusters/${name}${what}`);
  const watching = new AbortController();
  fetch(`${daemon.url}/api/stream`, { signal: watching.signal }).then(async ({ body }) => { for await (const _ of body); }).catch(() => {});
  const looking = setInterval(() => { daemon.api("GET", "/api/clusters").catch(() => {}); fetch(`${daemon.url}/api/clusters/none`).catch(() => {}); }, 700);
  for (const name of names.slice(0, 4)) await declare(name);
  // Its port is in use at first, so the creation fails.
  const squatter = createServer().listen(0, "127.0.0.1");
  await once(squatter, "listening");
  await daemon.declare(ONE, { provider: "k3d", http_port: squatter.address().port });
  await pause(25);
  for (const name of names.slice(4)) await declare(name);
  await pause(35);
  await does("search-uat", "/stop");
  await breaks(daemon, "billing");
  await pause(15);
  squatter.close();
  await pause(15);
  await daemon.api("PATCH", "/api/clusters/payments-prod", { pf_port: 19777 });
  for (const number of [1, 2, 3, 4, 5]) await declare(`checkout-pr-${number}`);
  await pause(45);
  for (const number of [1, 2]) await does(`checkout-pr-${number}`, "", "DELETE");
  await breaks(daemon, "billing");
  await does("search-uat", "/start");
  await pause(30);
  await does("edge-lab", "/pause");
  await does(NEVER, "/retry");
  await breaks(daemon, ONE);
  await pause(35);
  await declare("demo-late");
  await does("payments-dev", "/stop");
  await breaks(daemon, "search-prod");
  await pause(6);
  clearInterval(looking);
  return () => watching.abort();
}

const filled = (expr, name) => expr.replaceAll("$__rate_interval", `${4 * SCRAPE}s`).replaceAll("$job", "kindler").replaceAll("$instance", ".+").replaceAll("$name", name);

async function page(dashboard, prometheus, frame) {
  const name = dashboard.uid === "kindler-cluster" ? ONE : ".+";
  const parts = [];
  for (const panel of dashboard.panels) {
    const { x, y, w, h } = panel.gridPos;
    const box = { left: (x * WIDTH) / 24, top: y * CELL, width: (w * WIDTH) / 24 - GAP, height: h * CELL - GAP };
    const place = Object.entries(box).map(([key, value]) => `${key}:${value}px`).join(";");
    if (panel.type === "row") {
      parts.push(`<h2 style="${place}">${escape(panel.title)}</h2>`);
      continue;
    }
    const answers = await Promise.all(panel.targets.map(({ expr, instant }) => prometheus.series(filled(expr, name), instant, frame)));
    const inside = drawn(panel, answers, frame, box.width - 18, box.height - 40);
    parts.push(`<section style="${place}"><h3>${escape(panel.title)}</h3>${inside}</section>`);
  }
  const height = Math.max(...dashboard.panels.map(({ gridPos: { y, h } }) => y + h)) * CELL;
  const note = "Drawn by tests/e2e/dashboards.mjs from a live Prometheus, not by Grafana.";
  return { height: height + 70, html: `<!doctype html><style>${STYLE}</style><header><h1>${escape(dashboard.title)}</h1><p>${note}</p></header><main style="height:${height}px">${parts.join("")}</main>` };
}

const STYLE = `
* { box-sizing: border-box; margin: 0 } body { background: #111217; color: #ccccdc; font: 12px Inter, "DejaVu Sans", sans-serif; width: ${WIDTH + 16}px; padding: 8px }
header { display: flex; justify-content: space-between; align-items: baseline; padding: 6px 4px 14px } h1 { font-size: 18px; font-weight: 600 } header p { color: #8e8e8e }
main { position: relative } h2, section { position: absolute } h2 { font-size: 14px; padding-top: 8px; font-weight: 600 }
section { background: #181b1f; border: 1px solid #24272d; border-radius: 3px; padding: 8px; overflow: hidden } h3 { font-size: 13px; font-weight: 500; margin-bottom: 6px; white-space: nowrap }
svg { display: block } svg text { fill: #9fa7b3 } svg text[fill] { fill: #fff }
.stat { display: flex; gap: 4px; height: calc(100% - 30px); text-align: center } .stat div { flex: 1; display: flex; flex-direction: column; justify-content: center; border-radius: 3px; min-width: 0 } .stat > b { margin: auto } .stat small { font-size: 11px; opacity: .85; white-space: nowrap; overflow: hidden } .stat b { font-weight: 600; white-space: nowrap }
table { border-spacing: 0; width: 100% } .legend td, .legend th { height: 18px; font-size: 11px; text-align: right; color: #9fa7b3; font-weight: 400; padding: 0 6px } .legend td:first-child { text-align: left; color: #ccccdc; width: 60% } i { display: inline-block; width: 12px; height: 4px; border-radius: 2px; margin-right: 6px; vertical-align: middle }
.beside { display: flex; gap: 16px } .beside div { flex: 1 }
.key { display: flex; gap: 14px; font-size: 11px; justify-content: center } .bars td { padding: 3px 6px; white-space: nowrap; height: 24px } .bars .bar { width: 70% } .bar div { height: 16px; border-radius: 2px } .cells th, .cells td { text-align: left; padding: 6px 8px; border-bottom: 1px solid #24272d } .cells th { color: #6e9fff; font-weight: 500 }
.none { height: calc(100% - 30px); display: grid; place-items: center; color: #8e8e8e; font-size: 14px }`;

await mkdir(folder, { recursive: true });
const daemon = await Daemon.start({ KINDLER_SANDBOX_CREATE_DELAY: "6s", KINDLER_SANDBOX_DELETE_DELAY: "4s", KINDLER_SANDBOX_FAIL: NEVER, KINDLER_CONCURRENCY: "3", KINDLER_BACKOFF_INITIAL: "3s", KINDLER_BACKOFF_MAX: "40s", KINDLER_HEALTH_INTERVAL: "10s", KINDLER_HEALTH_REPROBE: "1s", KINDLER_RESYNC_INTERVAL: "10s" });
const beside = await pageBeside(daemon);
const prometheus = await Prometheus.start([daemon.url.slice(7), `127.0.0.1:${beside.port}`]);
try {
  const from = Math.floor(Date.now() / 1000);
  const leave = await play(daemon);
  const frame = { from, to: Math.floor(Date.now() / 1000), step: 1 };
  const browser = await Browser.start();
  for (const name of ["fleet", "reconciler", "cluster"]) {
    const dashboard = JSON.parse(await readFile(join(root, "dashboards", `${name}.json`), "utf8"));
    const { html, height } = await page(dashboard, prometheus, frame);
    const sheet = await browser.page({ viewport: { width: WIDTH + 16, height }, colorScheme: "dark" });
    await sheet.setContent(html);
    await sheet.screenshot({ path: join(folder, `${name}.png`) });
    if (process.env.KEEP_HTML) await writeFile(join(process.env.KEEP_HTML, `${name}.html`), html);
  }
  await browser.stop();
  leave();
} finally {
  await prometheus.stop();
  await beside.stop();
  await daemon.stop();
}
