// Measures the page in Chromium against the real daemon: the last part of
// `make bench`. A slow figure is marked `over` and does not fail: the machine may
// be busy.
import { create, scene, state } from "./kit.mjs";

const CLICKS = 100;
const CLUSTERS = 10_000;
const STEPS = 120;

const percentile = (samples, share) => samples.toSorted((a, b) => a - b)[Math.round((samples.length - 1) * share)];

/** One line of the table that `cargo bench` prints. */
function figure(what, value, most) {
  const verdict = most === undefined ? "" : `${`<= ${most} ms`.padStart(10)}  ${value <= most ? "pass" : "over"}`;
  console.log(`${what.padEnd(50)} ${`${value.toFixed(value < 100 ? 1 : 0)} ms`.padStart(12)} ${verdict}`.trimEnd());
}

/** The time from the click until the row shows `creating`, the state from the daemon. */
async function clicks(daemon, browser) {
  const page = await browser.page();
  await page.goto(daemon.url);
  const took = [];
  for (let n = 0; n < CLICKS; n += 1) {
    const name = `quick-${n}`;
    await page.evaluate((wanted) => {
      globalThis.seen = new Promise((resolve) => {
        const look = () => (document.querySelector(`.row[data-name="${wanted}"] [data-state="creating"]`) ? resolve(performance.now()) : requestAnimationFrame(look));
        look();
      });
    }, name);
    await create(page, name);
    took.push(await page.evaluate(async () => (await globalThis.seen) - performance.getEntriesByName("declared").at(-1).startTime));
    await state(page, name, "running");
    // Deletes it, so that the next one is first in the list and in view.
    await daemon.api("DELETE", `/api/clusters/${name}`);
  }
  figure("page, click to creating, p50", percentile(took, 0.5), 50);
  figure("page, click to creating, p95", percentile(took, 0.95), 150);
}

/** The time from the navigation to the frame after the first rows, and of scrolling. */
async function many(daemon, browser) {
  await daemon.psql(`INSERT INTO clusters (name, provider, pf_port, http_port, https_port, paused) SELECT 'many-' || n, 'kind', 1000 + n, 20000 + n, 40000 + n, true FROM generate_series(1, ${CLUSTERS}) n`);
  const first = await browser.page();
  await first.goto(daemon.url);
  // Now the daemon has read all rows, so the second page measures only itself.
  await first.locator(".chip b").getByText(String(CLUSTERS)).first().waitFor();
  await first.context().close();
  const page = await browser.page();
  await page.addInitScript(() => {
    const look = () => (document.querySelector(".row") ? requestAnimationFrame(() => { globalThis.painted = performance.now(); }) : requestAnimationFrame(look));
    requestAnimationFrame(look);
  });
  await page.goto(daemon.url);
  const painted = await (await page.waitForFunction(() => globalThis.painted)).jsonValue();
  figure("page, first rows of 10,000", painted, 1000);
  await page.locator(".chip b").getByText(String(CLUSTERS)).first().waitFor();
  const frames = await page.evaluate(async (steps) => {
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    const times = [];
    await frame();
    for (let step = 0; step < steps; step += 1) {
      const began = performance.now();
      scrollTo(0, (step * document.body.scrollHeight) / steps);
      await frame();
      times.push(performance.now() - began);
    }
    return times;
  }, STEPS);
  // Each frame jumps eighty screens, the worst case.
  figure("page, a frame while scrolling 10,000, p50", percentile(frames, 0.5));
  figure("page, a frame while scrolling 10,000, p95", percentile(frames, 0.95), 50);
}

await scene({ KINDLER_SANDBOX_CREATE_DELAY: "300ms" }, clicks);
await scene({ KINDLER_CONCURRENCY: "1" }, many);
