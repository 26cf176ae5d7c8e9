// The steps on the page of a cluster: they advance, fail with a reason, are removed.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";

import { eventually, scene } from "./kit.mjs";

const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

/** Takes a screenshot if PICTURES names a folder. */
const picture = (page, name) => process.env.PICTURES && page.screenshot({ path: join(process.env.PICTURES, `${name}.png`), fullPage: true });

/** The serious findings of axe-core in the steps. */
async function findings(page) {
  await page.evaluate(await readFile(axe, "utf8"));
  const { violations } = await page.evaluate(() => globalThis.axe.run(".steps"));
  return violations.filter((one) => ["serious", "critical"].includes(one.impact)).map((one) => one.id);
}

const step = (page, name) => page.locator(".steps li").filter({ has: page.locator("b", { hasText: new RegExp(`^${name}$`) }) });
const is = (page, name, state) => page.locator(`.steps li.${state}`).filter({ hasText: name }).waitFor();
const names = (page) => page.locator(".steps b").allTextContents();

test("steps advance during the creation and are removed after", () => scene({ KINDLER_SANDBOX_CREATE_DELAY: "6s", KINDLER_SANDBOX_DELETE_DELAY: "4s" }, async (daemon, browser) => {
  const page = await browser.page();
  await page.goto(`${daemon.url}/clusters/demo`);
  await page.getByText("There is no cluster demo.").waitFor();
  await daemon.declare("demo");
  await is(page, "folder", "running");
  assert.equal(await step(page, "folder").getAttribute("aria-current"), "step");
  // The duration of the running step increases.
  const time = step(page, "folder").locator("time");
  const before = await time.textContent();
  await eventually("more time", async () => (await time.textContent()) !== before);
  await is(page, "folder", "done");
  assert.equal(await step(page, "folder").getAttribute("aria-current"), null);
  await is(page, "port", "running");
  await page.getByText("step 2 of 5: port").first().waitFor();
  await picture(page, "steps-running");
  await page.locator(".steps li.done").nth(4).waitFor();
  assert.deepEqual(await names(page), ["folder", "port", "process", "ready", "about"]);
  assert.match(await step(page, "folder").textContent(), /done\s*2\.\ds/);
  await page.getByText("step about: ").first().waitFor();
  await daemon.api("DELETE", "/api/clusters/demo");
  await is(page, "process", "removing");
  await is(page, "about", "removed");
  await is(page, "folder", "done");
  await page.getByText("Cluster demo was removed").waitFor();
}));

test("a failed step has a reason; earlier steps stay done", () => scene({ KINDLER_SANDBOX_FAIL: "broken:process", KINDLER_BACKOFF_INITIAL: "60s", KINDLER_BACKOFF_MAX: "60s" }, async (daemon, browser) => {
  await daemon.declare("broken");
  const page = await browser.page();
  await page.goto(`${daemon.url}/clusters/broken`);
  await is(page, "process", "failed");
  await step(page, "process").locator(".error").getByText("failed on purpose").waitFor();
  assert.deepEqual(await names(page), ["folder", "port", "process"]);
  await page.locator(".steps li").last().getByText("+2 pending").waitFor();
  await page.locator("tr", { hasText: "Steps done" }).getByText("process").waitFor();
  await page.locator('[data-action="retry"]').click();
  // A retry on demand starts the count of attempts again.
  await page.locator(".timeline").first().getByText("step process: ").nth(1).waitFor();
  await picture(page, "steps-failed");
  await page.goto(`${daemon.url}/activity?kind=step`);
  await page.locator("tbody .bad-text").getByText(/step process: .*on purpose/).first().waitFor();
}));

test("a failed best-effort step shows its next attempt", () => scene({ KINDLER_SANDBOX_FAIL: "soft:about", KINDLER_BACKOFF_INITIAL: "60s", KINDLER_BACKOFF_MAX: "60s" }, async (daemon, browser) => {
  await daemon.declare("soft");
  for (const [scheme, locale, words] of [["light", "en-GB", [/best effort/, /next attempt in \d+s/]], ["dark", "zh-CN", [/尽力而为/, /下次尝试：\d+秒后/]]]) {
    const page = await browser.page({ colorScheme: scheme, locale });
    await page.goto(`${daemon.url}/clusters/soft`);
    await page.locator('[data-state="running"]').waitFor();
    await is(page, "about", "failed");
    for (const word of words) await step(page, "about").getByText(word).waitFor();
    assert.equal(await page.locator(".steps .error").count(), 0);
    await step(page, "about").locator(".warning").getByText("on purpose").waitFor();
    assert.deepEqual(await findings(page), [], scheme);
    await picture(page, `steps-best-effort-${scheme}`);
    await page.setViewportSize({ width: 360, height: 740 });
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
    await picture(page, `steps-best-effort-narrow-${scheme}`);
    await page.context().close();
  }
}));

test("a step message is shown as text only", () => scene({}, async (daemon, browser) => {
  await daemon.declare("demo");
  const page = await browser.page();
  await page.goto(`${daemon.url}/clusters/demo`);
  await page.locator(".steps li.done").nth(4).waitFor();
  const evil = "<img src=x onerror=alert(1)><b>bold</b>";
  await daemon.psql(`UPDATE cluster_steps SET state = 'failed', message = '${evil}' WHERE name = 'port'`);
  await page.reload();
  await step(page, "port").getByText(evil).waitFor();
  assert.equal(await page.locator(".steps img").count(), 0);
}));
