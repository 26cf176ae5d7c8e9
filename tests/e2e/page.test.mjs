import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { test } from "node:test";

import { create, eventually, freePort, row, scene, state } from "./kit.mjs";

const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

/** The serious findings of axe-core on the page. */
async function findings(page) {
  // Evaluated by the driver: the content policy of the page blocks other scripts.
  await page.evaluate(await readFile(axe, "utf8"));
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations.filter((one) => ["serious", "critical"].includes(one.impact)).map((one) => `${one.id}: ${one.nodes.map((node) => node.target).join(", ")}`);
}

test("a new cluster is shown running in two browsers", () => scene({ KINDLER_SANDBOX_CREATE_DELAY: "500ms" }, async (daemon, browser) => {
  const [one, other] = [await browser.page(), await browser.page()];
  await one.goto(daemon.url);
  await other.goto(daemon.url);
  await one.getByText("No clusters yet").waitFor();
  await create(one, "demo");
  for (const page of [one, other]) await state(page, "demo", "creating");
  for (const page of [one, other]) await state(page, "demo", "running");
  // A change in one browser is shown in the other.
  await other.goto(`${daemon.url}/clusters/demo`);
  await other.locator('[data-action="stop"]').click();
  await state(one, "demo", "stopped");
}));

test("a change by SQL and a removal are shown at once", () => scene({}, async (daemon, browser) => {
  const page = await browser.page();
  await page.goto(daemon.url);
  await page.getByText("No clusters yet").waitFor();
  await daemon.psql(`INSERT INTO clusters (name, provider, http_port, labels) VALUES ('by-hand', 'kind', ${await freePort()}, '{"env": "prod"}')`);
  await state(page, "by-hand", "running");
  await row(page, "by-hand").getByText("env=prod").waitFor();
  await daemon.psql("UPDATE clusters SET labels = '{\"env\": \"dev\"}'");
  await row(page, "by-hand").getByText("env=dev").waitFor();
  await daemon.psql("UPDATE clusters SET desired_state = 'absent'");
  await row(page, "by-hand").waitFor({ state: "detached" });
}));

test("a failure shows reason, attempts and next attempt", () => scene({ KINDLER_SANDBOX_FAIL: "broken", KINDLER_BACKOFF_INITIAL: "60s", KINDLER_BACKOFF_MAX: "60s" }, async (daemon, browser) => {
  const page = await browser.page();
  await page.goto(daemon.url);
  await create(page, "broken");
  await state(page, "broken", "failed");
  await row(page, "broken").getByText("failed on purpose").waitFor();
  await row(page, "broken").getByText(/next attempt in \d+s/).waitFor();
  await row(page, "broken").getByRole("link").click();
  await page.getByRole("heading", { name: "History" }).waitFor();
  await page.locator("pre.log").getByText("failed on purpose").first().waitFor();
  // The log search is in the address.
  await page.getByLabel("Search the log").fill("on purpose");
  await page.waitForURL(/log=on\+purpose/);
  await page.reload();
  await page.locator("pre.log mark").getByText("on purpose").first().waitFor();
  // Sandbox clusters have no kubeconfig; a message says so.
  await page.locator('[data-action="kubeconfig"]').click();
  await page.locator(".toast.bad").getByText(/kubeconfig/).waitFor();
  const attempts = () => page.locator(".timeline").first().getByText("creating → failed").count();
  await eventually("the first attempt", async () => (await attempts()) === 1);
  await page.locator('[data-action="retry"]').click();
  await eventually("the second attempt", async () => (await attempts()) === 2);
}));

test("a cluster is deleted during its creation", () => scene({ KINDLER_SANDBOX_CREATE_DELAY: "60s" }, async (daemon, browser) => {
  const page = await browser.page();
  await page.goto(daemon.url);
  await create(page, "wrong");
  await state(page, "wrong", "creating");
  await page.goto(`${daemon.url}/clusters/wrong`);
  await page.locator('[data-action="delete"]').click();
  const dialog = page.locator("dialog[open]");
  const confirm = dialog.locator("button.main");
  assert.equal(await confirm.isDisabled(), true);
  await dialog.getByRole("textbox").fill("wron");
  assert.equal(await confirm.isDisabled(), true);
  await dialog.getByRole("textbox").fill("wrong");
  await confirm.click();
  await page.getByText("Cluster wrong was removed").waitFor();
  await page.goto(daemon.url);
  await page.getByText("No clusters yet").waitFor();
}));

test("the page marks stale data while the daemon restarts", () => scene({}, async (daemon, browser) => {
  const page = await browser.page();
  await page.goto(daemon.url);
  await create(page, "demo");
  await state(page, "demo", "running");
  await daemon.end();
  await page.getByText(/Reconnecting\. The data is from/).waitFor();
  await row(page, "demo").waitFor();
  await daemon.spawn();
  await page.locator("#banner").waitFor({ state: "hidden" });
  await daemon.psql("UPDATE clusters SET desired_state = 'stopped'");
  await state(page, "demo", "stopped");
  await page.goto(`${daemon.url}/system`);
  await page.getByText("Queue").waitFor();
  await page.getByText(/nothing due|due, the oldest|^empty$/).waitFor();
}));

test("the keyboard alone is enough", () => scene({}, async (daemon, browser) => {
  const page = await browser.page();
  await page.goto(daemon.url);
  await page.getByText("No clusters yet").waitFor();
  await page.keyboard.press("c");
  await page.locator("dialog[open]").waitFor();
  await page.keyboard.type("first");
  const port = page.locator('dialog [name="http_port"]');
  await eventually("a port", async () => (await port.inputValue()) !== "");
  for (let presses = 0; !(await port.evaluate((one) => one === document.activeElement)); presses += 1) {
    assert.ok(presses < 5, "the port is reached with Tab");
    await page.keyboard.press("Tab");
  }
  await page.keyboard.type(String(await freePort()));
  await page.keyboard.press("Enter");
  await state(page, "first", "running");
  await daemon.declare("second");
  await state(page, "second", "running");
  await page.keyboard.press("/");
  await page.keyboard.type("fir");
  await row(page, "second").waitFor({ state: "detached" });
  assert.match(page.url(), /q=fir/);
  await page.keyboard.press("Escape");
  await row(page, "second").waitFor();
  await page.keyboard.press("j");
  await page.keyboard.press("x");
  await page.getByText("1 selected").waitFor();
  await page.keyboard.press("?");
  await page.locator("dialog[open]").getByText("New cluster").waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.waitForURL(/clusters\//);
  await page.getByText("Conditions").waitFor();
  await page.keyboard.press("Escape");
  await page.waitForURL((url) => url.pathname === "/");
}));

test("an invalid field shows its error and keeps its value", () => scene({}, async (daemon, browser) => {
  await daemon.declare("taken", { http_port: 18080 });
  const page = await browser.page();
  await page.goto(daemon.url);
  await page.locator("#create").click();
  const dialog = page.locator("dialog[open]");
  await dialog.locator('[name="name"]').fill("Not_A_Name");
  await dialog.getByText(/use 1 to 63 lower-case letters/).waitFor();
  await dialog.locator('[name="name"]').fill("taken");
  await dialog.getByText(/already exists/).waitFor();
  await dialog.locator('[name="name"]').fill("fine");
  await dialog.locator('[name="http_port"]').fill("80");
  await dialog.getByText(/use 1024 to 65535/).waitFor();
  await dialog.locator('[name="http_port"]').fill("18080");
  await dialog.getByText(/also declared by cluster taken/).waitFor();
  assert.equal(await dialog.locator('[name="name"]').inputValue(), "fine");
  // The dialog has its own address.
  await page.goto(`${daemon.url}/?q=taken&create=1`);
  await dialog.locator('[name="name"]').waitFor();
  await page.keyboard.press("Escape");
  await page.waitForURL(`${daemon.url}/?q=taken`);
}));

test("a spec is edited, merged, compared and rolled back", () => scene({}, async (daemon, browser) => {
  await daemon.declare("demo", { http_port: 18080 });
  const page = await browser.page();
  await page.goto(`${daemon.url}/clusters/demo`);
  await page.locator('[data-action="edit"]').click();
  await daemon.api("PATCH", "/api/clusters/demo", { http_port: 18200 });
  const form = page.locator("section form");
  await form.locator("input").first().fill("18201");
  await form.locator("button.main").click();
  await form.getByText(/The cluster was changed meanwhile/).waitFor();
  // The field has the new value, with the user's own beside it.
  assert.equal(await form.locator("input").first().inputValue(), "18200");
  await form.getByText("yours: 18201").waitFor();
  await form.locator("input").first().fill("18202");
  await form.locator("button.main").click();
  await page.getByText("http_port: 18200 → 18202").first().waitFor();
  // Any two revisions can be compared.
  await page.getByLabel("Compare revision 3 with").selectOption("1");
  await page.getByText("http_port: 18080 → 18202").first().waitFor();
  assert.match(page.url(), /compare=3\.\.1/);
  await page.reload();
  await page.getByText("http_port: 18080 → 18202").first().waitFor();
  await page.getByRole("button", { name: "Roll back to this" }).last().click();
  await eventually("the first port again", async () => (await daemon.api("GET", "/api/clusters/demo")).http_port === 18080);
}));

test("every view is accessible in each theme, width and language", () => scene({ KINDLER_SANDBOX_FAIL: "broken" }, async (daemon, browser) => {
  for (const [name, labels] of [["api", { env: "prod" }], ["broken", { env: "dev" }]]) await daemon.declare(name, { labels });
  for (const options of [{ colorScheme: "light" }, { colorScheme: "dark" }, { colorScheme: "light", viewport: { width: 360, height: 740 }, locale: "zh-CN" }]) {
    const page = await browser.page(options);
    for (const path of ["/", "/?group=env", "/clusters/broken", "/activity", "/system", "/clusters/nobody"]) {
      await page.goto(daemon.url + path);
      await page.locator("main h1").waitFor();
      await page.locator(".skeleton").first().waitFor({ state: "detached" });
      assert.deepEqual(await findings(page), [], `${path} ${JSON.stringify(options)}`);
      const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wider <= 0, `${path} scrolls sideways by ${wider} px`);
    }
    await page.goto(daemon.url);
    await page.locator("#create").click();
    assert.deepEqual(await findings(page), [], `the dialog ${JSON.stringify(options)}`);
    if (!options.locale) continue;
    assert.equal(await page.locator("h1").first().textContent(), "集群");
    // Reasons have Chinese texts.
    await row(page, "api").getByText("探测正常").waitFor();
    await row(page, "broken").getByText("创建失败：").waitFor();
  }
}));

test("every text exists in English and Chinese", async () => {
  const [{ en }, { zh }] = await Promise.all(["en", "zh"].map((one) => import(`../../web/assets/${one}.js`)));
  // The daemon's messages are English, so only Chinese has texts for reasons.
  assert.deepEqual(Object.keys(zh).filter((key) => !key.startsWith("r_")).sort(), Object.keys(en).sort());
  const holes = (text) => (text.match(/\{\w+\}/g) ?? []).sort();
  for (const key of Object.keys(en).filter((one) => one !== "by")) assert.deepEqual(holes(zh[key]), holes(en[key]), key);
});

test("ten thousand clusters are shown; the selection bar stays", () => scene({ KINDLER_CONCURRENCY: "1" }, async (daemon, browser) => {
  await daemon.psql("INSERT INTO clusters (name, provider, pf_port, http_port, https_port, paused) SELECT 'many-' || n, 'kind', 1000 + n, 20000 + n, 40000 + n, true FROM generate_series(1, 10000) n");
  const page = await browser.page();
  await page.goto(daemon.url);
  await page.locator(".chip b").getByText("10000").first().waitFor();
  assert.ok((await page.locator(".row").count()) < 60);
  await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
  await eventually("the last rows", async () => (await page.locator(".row").last().evaluate((one) => one.style.top)) === `${9999 * 56}px`);
  // The actions on the selection stay in view.
  await page.evaluate(() => scrollTo(0, 0));
  await page.locator(".row input").first().check();
  const bar = await page.locator(".batch").boundingBox();
  assert.ok(bar.y > 0 && bar.y + bar.height <= 800, JSON.stringify(bar));
}));

test("a server that requires a token shows only the login", () => scene({ KINDLER_AUTH: "required" }, async (daemon, browser) => {
  const [alice, reader] = [await daemon.token("alice", "write"), await daemon.token("reader", "read")];
  await daemon.psql(`INSERT INTO clusters (name, provider, http_port) VALUES ('demo', 'k3d', ${await freePort()})`);
  const page = await browser.page();
  const logIn = async (token) => {
    await page.getByLabel("Token").last().fill(token);
    await page.keyboard.press("Enter");
  };
  const shut = () => page.getByRole("heading", { name: "Log in" }).waitFor();
  await page.goto(daemon.url);
  await shut();
  assert.equal(await page.getByText("demo").count(), 0);
  await logIn(`kdl_${"A".repeat(43)}`);
  await page.getByText("this token is unknown").waitFor();
  assert.deepEqual(await findings(page), [], "the login");

  // After the login the page is live, and the audit log names the actor.
  await logIn(alice);
  await state(page, "demo", "running");
  const kept = await page.evaluate(() => JSON.stringify([document.cookie, { ...localStorage }, { ...sessionStorage }]));
  assert.ok(!kept.includes("kindler_session") && !kept.includes(alice.slice(4)), kept);
  const [cookie] = await page.context().cookies();
  assert.deepEqual([cookie.name, cookie.httpOnly, cookie.sameSite], ["kindler_session", true, "Strict"]);
  assert.notEqual(cookie.value, alice);
  await create(page, "mine");
  await state(page, "mine", "running");
  await page.goto(`${daemon.url}/activity`);
  await page.getByText("api:alice").first().waitFor();

  // After a logout the old cookie is invalid.
  await page.getByRole("button", { name: "Log out" }).click();
  await shut();
  await page.context().addCookies([cookie]);
  await page.goto(daemon.url);
  await shut();

  // A token with the scope read cannot change anything.
  await logIn(reader);
  await state(page, "demo", "running");
  await page.goto(`${daemon.url}/clusters/demo`);
  await page.locator('[data-action="pause"]').click();
  await page.getByText("token reader has the scope read").first().waitFor();

  // A revoked token ends the session of an open page.
  await page.goto(daemon.url);
  await state(page, "demo", "running");
  await daemon.kindler("token", "revoke", "reader");
  const revoked = Date.now();
  await shut();
  console.log(`logged out ${Date.now() - revoked} ms after the token was revoked`);
  assert.equal(await page.getByText("demo").count(), 0);
  for (const secret of [alice, reader, cookie.value]) assert.ok(!daemon.output.includes(secret.slice(4)), "a secret is in the log");
}));

test("without a stream the page polls the list", () => scene({}, async (daemon, browser) => {
  await daemon.declare("demo");
  const page = await browser.page();
  await page.route(/\/api\/stream$/, (route) => route.fulfill({ status: 502, body: "no streams here" }));
  await page.goto(daemon.url);
  await state(page, "demo", "running");
  await daemon.psql("UPDATE clusters SET desired_state = 'stopped'");
  await state(page, "demo", "stopped");
}));

test("an update does not interrupt a click", () => scene({ KINDLER_SANDBOX_FAIL: "demo", KINDLER_BACKOFF_INITIAL: "60s", KINDLER_BACKOFF_MAX: "60s" }, async (daemon, browser) => {
  await daemon.declare("demo");
  const page = await browser.page();
  const slowly = async (element, changing) => {
    await element.hover();
    await page.mouse.down();
    const before = await changing.textContent();
    await eventually("new words", async () => (await changing.textContent()) !== before);
    await page.mouse.up();
  };
  await page.goto(daemon.url);
  await slowly(row(page, "demo").getByRole("link"), row(page, "demo").getByText(/next attempt in/));
  await page.waitForURL(/clusters\/demo/);
  await slowly(page.locator('[data-action="pause"]'), page.getByText(/next attempt in/));
  await page.locator('[data-action="resume"]').waitFor();
  // A closed section stays closed.
  await page.locator("summary").first().click();
  await page.locator("section pre").first().waitFor({ state: "hidden" });
  await daemon.psql("UPDATE clusters SET labels = '{\"a\": \"b\"}'");
  await page.getByText("a=b").first().waitFor();
  assert.equal(await page.locator("section pre").first().isVisible(), false);
}));
