// Edge cases: invalid input, odd addresses, long texts, an unreachable database.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { eventually, freePort, row, scene, state } from "./kit.mjs";

/** Takes a screenshot if PICTURES names a folder. */
const picture = (page, name) => process.env.PICTURES && page.screenshot({ path: join(process.env.PICTURES, `${name}.png`), fullPage: true });

const dialogOf = async (page) => {
  await page.locator("#create").click();
  const dialog = page.locator("dialog[open]");
  await eventually("a port", async () => (await dialog.locator('[name="http_port"]').inputValue()) !== "");
  return dialog;
};

test("an invalid port is rejected, not replaced by the default", () => scene({}, async (daemon, browser) => {
  const page = await browser.page();
  await page.goto(daemon.url);
  const dialog = await dialogOf(page);
  assert.equal(await dialog.locator("summary").last().textContent(), "Equivalent command and SQL");
  await dialog.locator('[name="name"]').fill("demo");
  await dialog.locator('[name="http_port"]').fill("80a");
  await dialog.getByText(/http_port "80a" is out of range/).waitFor();
  await dialog.locator("summary").first().click();
  await dialog.locator('[name="labels"]').fill("env");
  await dialog.getByText("env is not KEY=VALUE").waitFor();
  // One invalid field does not hide another.
  await dialog.getByText(/http_port "80a" is out of range/).waitFor();
  await dialog.locator("button.main").click();
  await dialog.locator('[name="labels"]').fill("");
  await dialog.locator("button.main").click();
  assert.deepEqual(await daemon.api("GET", "/api/clusters"), []);
  await dialog.locator('[name="http_port"]').fill(String(await freePort()));
  await dialog.locator("button.main").click();
  await state(page, "demo", "running");
  await page.goto(`${daemon.url}/clusters/demo`);
  await page.locator('[data-action="edit"]').click();
  const form = page.locator("form.stack");
  await form.getByLabel("Port-forward port").fill("nineteen");
  await form.getByText("Save").click();
  await form.getByText(/pf_port "nineteen" is out of range/).waitFor();
  assert.equal((await daemon.api("GET", "/api/clusters/demo")).generation, 1);
}));

test("a cluster appears on its open page after its creation", () => scene({}, async (daemon, browser) => {
  const page = await browser.page();
  await page.goto(`${daemon.url}/clusters/later`);
  await page.getByText("There is no cluster later.").waitFor();
  assert.equal(await page.locator("section:visible").count(), 0);
  await daemon.declare("later");
  await page.locator(".steps .done").nth(4).waitFor();
  await page.getByText("Conditions").waitFor();
  await page.locator("pre.log").getByText("create succeeded").waitFor();
}));

test("malformed addresses work; back keeps the list's filters", () => scene({}, async (daemon, browser) => {
  await daemon.declare("demo");
  const page = await browser.page();
  await page.goto(`${daemon.url}/clusters/%FF`);
  await page.getByText(/There is no cluster/).waitFor();
  await page.goto(`${daemon.url}/?q=dem&sort=name`);
  for (const back of [() => page.keyboard.press("Escape"), () => page.getByTitle("All clusters").click()]) {
    await row(page, "demo").getByRole("link").click();
    await page.getByText("Conditions").waitFor();
    await back();
    await page.waitForURL(/\/\?q=dem&sort=name$/);
    await row(page, "demo").waitFor();
  }
}));

test("a partly rejected action shows both parts", () => scene({}, async (daemon, browser) => {
  await daemon.declare("demo");
  await daemon.psql("INSERT INTO clusters (name, provider, protected) VALUES ('safe', 'kind', true)");
  await daemon.psql("INSERT INTO clusters (name, provider, paused) VALUES ('asleep', 'kind', true)");
  const page = await browser.page();
  await page.goto(`${daemon.url}/?sel=demo,safe`);
  await page.locator(".batch").getByText("Pause").click();
  await page.getByText("Done for 1 of 2. Rejected: Cluster safe is protected").waitFor();
  assert.equal((await daemon.api("GET", "/api/clusters/demo")).paused, true);
  await page.goto(`${daemon.url}/clusters/asleep`);
  await page.locator('[data-action="resume"]').waitFor();
  assert.equal(await page.locator('[data-action="retry"]').count(), 0);
  // A search without a match says so; names are suggested.
  await page.goto(`${daemon.url}/activity?cluster=nobody`);
  await page.getByText("No event matches these filters.").waitFor();
  await page.locator('datalist option[value="demo"]').waitFor({ state: "attached" });
}));

test("a page opened during a database outage recovers", () => scene({}, async (daemon, browser) => {
  const { execFileSync } = await import("node:child_process");
  await daemon.declare("demo");
  const file = await readFile(join(daemon.state, "postgres", "data", "postmaster.pid"), "utf8");
  const main = file.split("\n")[0];
  const signal = (name) => {
    const children = execFileSync("pgrep", ["-P", main]).toString().trim().split("\n");
    for (const pid of [main, ...children]) process.kill(Number(pid), name);
  };
  signal("SIGSTOP");
  try {
    const page = await browser.page();
    await page.goto(`${daemon.url}/clusters/demo`);
    await page.getByText(/No data yet: .+/).waitFor();
    signal("SIGCONT");
    await page.getByText("Conditions").waitFor();
    await page.locator("#banner").waitFor({ state: "hidden" });
    // The page reopens the log, which was rejected meanwhile.
    await page.locator("pre.log").getByText("create succeeded").waitFor();
    signal("SIGSTOP");
    await page.getByText(/The database cannot be read: /).waitFor();
    // A new page shows the same message and time.
    const until = await page.locator("#banner").textContent();
    const late = await browser.page();
    await late.goto(daemon.url);
    await late.getByText(until.split("The data is from ")[1]).waitFor();
    await state(late, "demo", "running");
  } finally {
    signal("SIGCONT");
  }
}));

test("long names and labels fit every view from 360 pixels", () => scene({}, async (daemon, browser) => {
  const name = `long-${"n".repeat(45)}`;
  const labels = { "a-very-long-label-key-indeed.example.org/owner": "x".repeat(120), "<img src=x onerror=alert(1)>": "<script>alert(2)</script>" };
  await daemon.declare(name, { provider: "kind", labels });
  for (const options of [{ viewport: { width: 360, height: 740 } }, {}]) {
    const page = await browser.page(options);
    for (const path of ["/", "/?group=a-very-long-label-key-indeed.example.org%2Fowner", `/clusters/${name}`, "/activity", "/system", "/docs"]) {
      await page.goto(daemon.url + path);
      await page.locator("main h1").first().waitFor();
      if (path.length > 1 && path !== "/system" && path !== "/docs") await page.getByText(name).first().waitFor();
      const beyond = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(beyond, 0, `${path} is ${beyond} px too wide ${JSON.stringify(options)}`);
    }
    // The audit log needs no sideways scrolling.
    await page.goto(`${daemon.url}/activity`);
    const told = page.locator("tbody tr").last().locator("td").last();
    await told.waitFor();
    const box = await told.boundingBox();
    assert.ok(box.width > 120 && box.x + box.width <= page.viewportSize().width, JSON.stringify(box));
  }
}));

test("label changes and health checks do not change the steps", () => scene({ KINDLER_HEALTH_INTERVAL: "1s" }, async (daemon, browser) => {
  await daemon.declare("demo", { labels: { env: "dev" } });
  const page = await browser.page();
  await page.goto(`${daemon.url}/clusters/demo`);
  const times = page.locator(".steps time");
  await eventually("every step with its time", async () => (await times.count()) === 4);
  await daemon.api("PATCH", "/api/clusters/demo", { labels: { env: "prod", team: "a" } });
  await page.getByText("labels: env=dev → env=prod, team=a").waitFor();
  assert.equal(await times.count(), 4);
  const verified = await times.last().getAttribute("datetime");
  const healthy = () => page.locator('dt:has-text("Last healthy") + dd time').getAttribute("datetime");
  const before = await healthy();
  await eventually("another check to be shown", async () => (await healthy()) !== before);
  assert.equal(await times.last().getAttribute("datetime"), verified);
}));

test("the bar with a logout fits 360 pixels in both languages", () => scene({ KINDLER_AUTH: "required" }, async (daemon, browser) => {
  const token = await daemon.token("alice", "read");
  for (const [locale, logIn, logOut] of [["en-GB", "Token", "Log out"], ["zh-CN", "令牌", "退出"]]) {
    const page = await browser.page({ viewport: { width: 360, height: 740 }, locale });
    await page.goto(daemon.url);
    await page.getByLabel(logIn).last().fill(token);
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: logOut }).waitFor();
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), 0, locale);
  }
}));

test("durations and reasons are Chinese in Chinese", () => scene({}, async (daemon, browser) => {
  await daemon.declare("demo");
  await daemon.psql("INSERT INTO clusters (name, provider) VALUES ('devops', 'k3d')");
  const page = await browser.page({ locale: "zh-CN" });
  await page.goto(daemon.url);
  await state(page, "demo", "running");
  await row(page, "demo").getByText(/^\d+秒$/).waitFor();
  // The reason is not repeated.
  await row(page, "devops").getByText(/^受保护$/).waitFor();
  await page.goto(`${daemon.url}/clusters/demo`);
  await page.getByText(/^(创建完成|探测正常) · \d+秒前$/).waitFor();
}));

test("no text is defined twice", async () => {
  for (const language of ["en", "zh"]) {
    const path = join(import.meta.dirname, "..", "..", "web", "assets", `${language}.js`);
    const keys = [...(await readFile(path, "utf8")).matchAll(/(?<=[{,\n]\s*)(\w+): "/g)].map(([, key]) => key);
    assert.ok(keys.length > 150, `${keys.length}`);
    assert.deepEqual(keys.filter((key, n) => keys.indexOf(key) !== n), []);
  }
});

test("unselected clusters and placements are shown", () => scene({ KINDLER_SELECTOR: "host=a" }, async (daemon, browser) => {
  const page = await browser.page();
  await daemon.declare("demo", { labels: { host: "b" } });
  await page.goto(`${daemon.url}/system`);
  await page.getByText("works on host=a").waitFor();
  await page.getByText("No daemon selects it.").waitFor();
  const relabel = (host) => daemon.api("PATCH", "/api/clusters/demo", { labels: { host } });
  await relabel("a");
  await page.getByText("Nothing deferred or failed.").waitFor();
  await page.goto(`${daemon.url}/clusters/demo`);
  await page.locator("dd", { hasText: /^host=a$/ }).first().waitFor();
  await relabel("b");
  await page.getByText("its labels do not match host=a any more; it stays there until it is deleted").waitFor();
}));

test("a daemon on standby is not shown as alive", () => scene({}, async (daemon, browser) => {
  await daemon.psql("INSERT INTO kindler_migrations (version, name) VALUES (999, 'of a later release')");
  for (const [locale, words] of [["en-GB", "standby"], ["zh-CN", "待命"]]) {
    const page = await browser.page({ locale });
    await page.goto(`${daemon.url}/system`);
    await page.locator(".state.warn").getByText(words).waitFor();
    assert.equal(await page.locator(".state.good").count(), 0);
    await page.getByText("newer than this release knows").first().waitFor();
    await picture(page, `standby-${locale}`);
    // An interrupted create, as of a daemon that was killed.
    await daemon.psql("INSERT INTO clusters (name, provider) VALUES ('demo', 'k3d') ON CONFLICT DO NOTHING");
    await daemon.psql("UPDATE clusters SET actual_state = 'creating', status_reason = 'Creating', status_message = 'create started'");
    await page.goto(daemon.url);
    await page.getByText("create started; all replicas are on standby").first().waitFor();
  }
}));

test("a log search without a match names its range", () => scene({}, async (daemon, browser) => {
  await daemon.declare("demo");
  for (const [locale, words] of [["en-GB", /^No match in the last \d+ lines/], ["zh-CN", /^最后 \d+ 行中没有匹配/]]) {
    const page = await browser.page({ locale });
    await page.goto(`${daemon.url}/clusters/demo?log=no+such+words`);
    await page.locator("pre.log").getByText(words).waitFor();
    await picture(page, `log-${locale}`);
    await page.getByRole("searchbox").fill("create succeeded");
    await page.locator("pre.log mark").first().waitFor();
  }
}));

test("all of many revisions can be shown and compared", () => scene({}, async (daemon, browser) => {
  await daemon.declare("demo", { http_port: 18080 });
  for (let port = 20001; port < 20050; port += 1) await daemon.api("PATCH", "/api/clusters/demo", { http_port: port });
  const page = await browser.page();
  const revision = (n) => page.locator(".past li", { has: page.getByText(`Revision ${n}`, { exact: true }) });
  await page.goto(`${daemon.url}/clusters/demo`);
  await revision(31).waitFor();
  assert.equal(await page.locator(".past li").count(), 20);
  // The address names a revision that is not on the first page.
  await page.goto(`${daemon.url}/clusters/demo?compare=3..1`);
  await revision(3).getByText("http_port: 18080 → 20002").waitFor();
  assert.equal(await page.locator(".past li").count(), 21);
  await picture(page, "history");
  const older = page.getByRole("button", { name: "Older" });
  await older.click();
  await revision(11).waitFor();
  await page.keyboard.press("Enter");
  await revision(1).waitFor();
  assert.equal(await page.locator(".past li").count(), 50);
  assert.equal(await older.isVisible(), false);
  await revision(1).getByRole("button", { name: "Roll back to this" }).click();
  await eventually("the first port again", async () => (await daemon.api("GET", "/api/clusters/demo")).http_port === 18080);
  await revision(51).waitFor();
  assert.equal(await page.locator(".past li").count(), 51, "the opened pages stay open");
  // An invalid comparison shows a message and leaves the address.
  for (const wrong of ["99..1", "3..99", "3..3", "abc"]) {
    await page.goto(`${daemon.url}/clusters/demo?log=x&compare=${wrong}`);
    await page.locator(".toast").getByText(`These revisions cannot be compared: ${wrong}`).waitFor();
    assert.equal(new URL(page.url()).search, "?log=x");
  }
  await picture(page, "compare-wrong");
}));

test("the create dialog follows its address, back and forward", () => scene({ KINDLER_AUTH: "required" }, async (daemon, browser) => {
  const token = await daemon.token("alice", "write");
  const page = await browser.page();
  const dialog = page.locator("dialog[open]");
  const away = () => dialog.waitFor({ state: "detached" });
  await page.goto(`${daemon.url}/?create=1`);
  await page.getByLabel("Token").last().fill(token);
  assert.equal(await dialog.count(), 0, "the login comes first");
  await page.keyboard.press("Enter");
  await dialog.locator('[name="name"]').waitFor();
  await page.keyboard.press("Escape");
  await away();
  await page.waitForURL(`${daemon.url}/`);

  await page.getByRole("link", { name: "Activity" }).click();
  await page.keyboard.press("c");
  await dialog.locator('[name="name"]').waitFor();
  await page.waitForURL(/activity\?create=1/);
  for (const _ of [1, 2]) {
    await page.goBack();
    await away();
    assert.equal(page.url(), `${daemon.url}/`);
    await page.goForward();
    await dialog.locator('[name="name"]').waitFor();
    assert.equal(page.url(), `${daemon.url}/activity?create=1`);
    assert.equal(await page.locator("dialog").count(), 1);
  }
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await away();
  await page.waitForURL(`${daemon.url}/activity`);

  // The dialogs of a left view close.
  await page.keyboard.press("?");
  await dialog.waitFor();
  await page.goBack();
  await away();
  for (const other of ["0", "true", "11"]) {
    await page.goto(`${daemon.url}/?create=${other}`);
    await page.getByRole("button", { name: "Log out" }).waitFor();
    await page.getByText("No clusters yet").waitFor();
    assert.equal(await dialog.count(), 0, other);
  }
  // After the end of the session the login comes first.
  await page.goto(`${daemon.url}/?create=1`);
  await dialog.locator('[name="name"]').waitFor();
  await daemon.kindler("token", "revoke", "alice");
  await page.getByRole("heading", { name: "Log in" }).waitFor();
  await away();
  assert.equal(page.url(), `${daemon.url}/?create=1`);
}));

test("what goes on after `kindler dev` is told before", () => scene({}, async (daemon) => {
  assert.match(daemon.output, /Sandbox clusters keep running after Ctrl-C and keep their ports: delete them first/);
  const port = await freePort();
  await daemon.declare("demo", { http_port: port });
  await eventually("demo to run", async () => (await daemon.api("GET", "/api/clusters/demo")).actual_state === "running");
  await daemon.end();
  assert.equal((await fetch(`http://127.0.0.1:${port}/readyz`)).ok, true);
  await daemon.spawn();
  await daemon.kindler("delete", "demo", "--yes", "--wait");
}));

test("a late response keeps the typed token", () => scene({ KINDLER_AUTH: "required" }, async (daemon, browser) => {
  const page = await browser.page();
  const pending = [];
  // The page requests the session at its start, and again after a 401.
  await page.route("**/api/session", (route) => { pending.push(route); });
  await page.goto(daemon.url);
  await eventually("a second request", () => pending.length > 1);
  await pending[0].continue();
  await page.getByLabel("Token").last().fill("kdl_typed");
  const answered = page.waitForResponse("**/api/session");
  await pending[1].continue();
  await (await answered).finished();
  // A later response arrives after the page has handled the earlier one.
  await page.unroute("**/api/session");
  await page.evaluate(() => fetch("/api/session").then((answer) => answer.json()));
  assert.equal(await page.getByLabel("Token").last().inputValue(), "kdl_typed");
}));
