// Takes the pictures in docs/screenshots of a real daemon with clusters in every
// state: `make screenshots`. This is not a test.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";

import { Browser, Daemon, eventually, freePort, state } from "./kit.mjs";

const folder = process.env.SCREENSHOTS ?? join(import.meta.dirname, "..", "..", "docs", "screenshots");

const CLUSTERS = [
  ["payments-prod", "k3d", { env: "prod", team: "payments" }], ["payments-dev", "kind", { env: "dev", team: "payments" }],
  ["search-prod", "k3d", { env: "prod", team: "search" }], ["search-uat", "k3d", { env: "uat", team: "search" }],
  ["ml-train", "kind", { env: "dev", team: "ml" }], ["billing", "k3d", { env: "prod", team: "payments" }], ["edge-lab", "k3d", { env: "dev", team: "edge" }],
];

async function play(daemon) {
  let port = 18090;
  const next = async () => { port = (await freePort(port + 1)); return port; };
  const ports = async () => ({ http_port: await next(), https_port: await next() });
  for (const [name, provider, labels] of CLUSTERS) await daemon.declare(name, { provider, labels, ...(await ports()) });
  const settled = (name, wanted) => eventually(`${name} ${wanted}`, async () => (await daemon.api("GET", `/api/clusters/${name}`)).actual_state === wanted, 60_000);
  for (const [name] of CLUSTERS) await settled(name, name === "ml-train" ? "failed" : "running");
  await daemon.api("POST", "/api/clusters/search-uat/stop");
  await settled("search-uat", "stopped");
  await daemon.api("POST", "/api/clusters/edge-lab/pause");
  await daemon.api("PATCH", "/api/clusters/payments-prod", { pf_port: 19007, labels: { tier: "gold" } });
  await eventually("the change", async () => (await daemon.api("GET", "/api/clusters/payments-prod")).settled, 60_000);
  await daemon.declare("checkout-pr-412", { labels: { env: "dev", team: "payments" }, ...(await ports()) });
  await settled("checkout-pr-412", "creating");
}

async function shoot(browser, daemon, ending, options, views) {
  const page = await browser.page(options);
  for (const [name, path, prepare] of views) {
    await page.goto(daemon.url + path);
    await page.locator("main h1").waitFor();
    await page.locator(".skeleton").first().waitFor({ state: "detached" });
    if (path === "/") await state(page, "billing", "running");
    await prepare?.(page);
    await page.evaluate(() => document.fonts.ready);
    await page.screenshot({ path: join(folder, `${name}-${ending}.png`), caret: "initial" });
  }
  await page.context().close();
}

const VIEWS = [
  ["list", "/"],
  ["groups", "/?group=env&sel=billing,search-prod", (page) => page.locator(".batch").waitFor()],
  ["create", "/", async (page) => {
    await page.locator("#create").click();
    const dialog = page.locator("dialog[open]");
    await dialog.locator('[name="name"]').fill("demo");
    await dialog.locator("summary").last().click();
    await dialog.locator(".copy").first().waitFor();
  }],
  ["cluster", "/clusters/payments-prod", (page) => page.locator(".timeline li").nth(2).waitFor()],
  ["failed", "/clusters/ml-train", (page) => page.locator(".timeline li").nth(2).waitFor()],
  ["delete", "/clusters/billing", async (page) => {
    await page.locator('[data-action="delete"]').click();
    await page.locator("dialog[open] input").fill("bill");
  }],
  ["activity", "/activity", (page) => page.locator("tbody tr").nth(4).waitFor()],
  ["system", "/system", (page) => page.locator("table").first().waitFor()],
];
const some = (...names) => VIEWS.filter(([name]) => names.includes(name));

await mkdir(folder, { recursive: true });
const daemon = await Daemon.start({ KINDLER_SANDBOX_CREATE_DELAY: "3s", KINDLER_SANDBOX_FAIL: "ml-train", KINDLER_CONCURRENCY: "12", KINDLER_BACKOFF_INITIAL: "4m" });
const browser = await Browser.start();
try {
  // The last cluster stays in `creating` for all pictures.
  await play(daemon);
  const narrow = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 1.5 };
  await shoot(browser, daemon, "light", { colorScheme: "light" }, VIEWS);
  await shoot(browser, daemon, "dark", { colorScheme: "dark" }, some("list", "create", "cluster", "failed", "activity", "system"));
  await shoot(browser, daemon, "narrow", { colorScheme: "light", ...narrow }, some("list", "create", "failed"));
  await shoot(browser, daemon, "zh", { colorScheme: "dark", locale: "zh-CN" }, some("list", "failed"));
  const shut = await Daemon.start({ KINDLER_AUTH: "required" });
  try {
    const page = await browser.page({ colorScheme: "light" });
    await page.goto(shut.url);
    await page.getByRole("heading", { name: "Log in" }).waitFor();
    await page.screenshot({ path: join(folder, "login-light.png"), caret: "initial" });
  } finally {
    await shut.stop();
  }
} finally {
  await browser.stop();
  await daemon.stop();
}
