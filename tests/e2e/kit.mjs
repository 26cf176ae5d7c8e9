// A real daemon and a real browser for one test, with their own state folder and
// port; both end with the test.
import { execFile, spawn } from "node:child_process";
import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { chromium } from "playwright-core";

const run = promisify(execFile);
const root = join(import.meta.dirname, "..", "..");
const kindler = process.env.KINDLER_BIN ?? join(root, "target", "debug", "kindler");

/** Waits for a truthy value, with a deadline; returns it. */
export async function eventually(awaited, look, within = 20_000) {
  const end = Date.now() + within;
  for (;;) {
    const value = await look();
    if (value) return value;
    if (Date.now() > end) throw new Error(`timed out after ${within} ms waiting for ${awaited}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** A free port of this machine: any, or the first from the given one. */
export async function freePort(from = 0) {
  const server = createServer().listen(from, "127.0.0.1");
  const free = await new Promise((resolve) => server.once("listening", () => resolve(true)).once("error", () => resolve(false)));
  if (!free) return freePort(from + 1);
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** `kindler dev` with a private Postgres and the sandbox. */
export class Daemon {
  static async start(settings = {}) {
    const daemon = new Daemon();
    daemon.state = await mkdtemp(join(tmpdir(), "kindler-e2e-"));
    // As root, Postgres runs as another user, which needs access.
    await chmod(daemon.state, 0o711);
    daemon.port = await freePort();
    daemon.url = `http://127.0.0.1:${daemon.port}`;
    daemon.settings = settings;
    await daemon.spawn();
    return daemon;
  }

  async spawn() {
    this.output = "";
    this.process = spawn(kindler, ["dev"], {
      env: { PATH: process.env.PATH, HOME: this.state, KINDLER_STATE_DIR: this.state, KINDLER_LISTEN: `127.0.0.1:${this.port}`, ...this.settings },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.process.stdout, this.process.stderr]) stream.on("data", (data) => { this.output += data; });
    this.ended = new Promise((resolve) => this.process.once("exit", resolve));
    await eventually("the daemon to be ready", async () => {
      try {
        return (await fetch(`${this.url}/readyz`)).ok;
      } catch {
        return false;
      }
    }, 60_000).catch((error) => { throw new Error(`${error.message}\n${this.output}`); });
  }

  async end() {
    this.process.kill("SIGTERM");
    await this.ended;
  }

  async stop() {
    await this.end();
    await rm(this.state, { recursive: true, force: true });
  }

  async api(method, path, body) {
    const response = await fetch(this.url + path, { method, headers: { "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  /** Declares a cluster on a free port. */
  async declare(name, more = {}) {
    return this.api("POST", "/api/clusters", { name, provider: "k3d", http_port: await freePort(), ...more });
  }

  /** Runs a command on the same database; returns its output. */
  async kindler(...args) {
    const env = { PATH: process.env.PATH, HOME: this.state, KINDLER_STATE_DIR: this.state };
    return (await run(kindler, args, { env })).stdout;
  }

  /** Creates a token. */
  async token(name, scope) {
    return (await this.kindler("token", "create", name, "--scope", scope)).trim();
  }

  async psql(statement) {
    const url = (await readFile(join(this.state, "database-url"), "utf8")).trim();
    await run("psql", [url, "-v", "ON_ERROR_STOP=1", "-c", statement]);
  }
}

/** A browser that fails the test after an error of the page. */
export class Browser {
  static async start() {
    const browser = new Browser();
    const flags = ["--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
    // Chromium's sandbox does not work for root.
    if (process.getuid() === 0) flags.push("--no-sandbox");
    const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
    browser.chromium = await chromium.launch({ executablePath, args: flags });
    browser.errors = [];
    return browser;
  }

  async page(options = {}) {
    const context = await this.chromium.newContext({ viewport: { width: 1280, height: 800 }, locale: "en-GB", ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    page.on("pageerror", (error) => this.errors.push(`error: ${error.message}`));
    page.on("console", (message) => {
      // The browser logs failed requests, too; the page shows them to the user.
      if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) this.errors.push(message.text());
    });
    await page.addInitScript(() => document.addEventListener("securitypolicyviolation", (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`)));
    return page;
  }

  async stop() {
    await this.chromium.close();
    if (this.errors.length) throw new Error(`errors of the page:\n${this.errors.join("\n")}`);
  }
}

/** Runs a test with its own daemon and browser. */
export async function scene(settings, play) {
  const daemon = await Daemon.start(settings);
  try {
    const browser = await Browser.start();
    try {
      await play(daemon, browser);
    } catch (error) {
      await browser.chromium.close();
      throw error;
    }
    await browser.stop();
  } finally {
    await daemon.stop();
  }
}

export const row = (page, name) => page.locator(`.row[data-name="${name}"]`);
export const state = (page, name, wanted) => row(page, name).locator(`[data-state="${wanted}"]`).waitFor();

/** Creates a cluster with the dialog of the page. */
export async function create(page, name) {
  await page.locator("#create").click();
  const dialog = page.locator("dialog[open]");
  await dialog.locator('[name="name"]').fill(name);
  // Replaces the suggested port, which another program here may use.
  await eventually("a port", async () => (await dialog.locator('[name="http_port"]').inputValue()) !== "");
  await dialog.locator('[name="http_port"]').fill(String(await freePort()));
  await dialog.locator("button.main").click();
  await dialog.waitFor({ state: "detached" });
}
