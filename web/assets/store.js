// The clusters by name, from one event stream. `watch` calls views at most once per frame.
import * as api from "./api.js";
import { say } from "./dom.js";
import { t } from "./i18n.js";
import { now, setServerTime } from "./time.js";

export const clusters = new Map();
/** Declared on this page, and not received from the stream yet. */
export const sent = new Map();
/** `truth`: when the data was current; `why` it may be stale; `failed`: why there is none. */
export const link = { synced: false, connected: false, why: null, truth: null, failed: null, problems: [] };

const listeners = new Set();
let changed = new Set();
let scheduled = false;

/** Calls the listener with the changed names (`*`: all); returns a function that stops it. */
export function watch(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function touch(name) {
  changed.add(name);
  if (scheduled) return;
  scheduled = true;
  // A hidden page gets no frames.
  const soon = document.hidden ? (f) => setTimeout(f, 100) : requestAnimationFrame;
  soon(() => {
    scheduled = false;
    const names = changed;
    changed = new Set();
    for (const listener of listeners) listener(names);
  });
}

export function expect(view) {
  sent.set(view.name, view);
  touch(view.name);
}

export function expectNoMore(name) {
  sent.delete(name);
  touch(name);
}

export const all = () => {
  const waiting = [...sent.values()].filter((one) => !clusters.has(one.name));
  return [...waiting, ...clusters.values()];
};

function upsert(view) {
  const before = clusters.get(view.name);
  clusters.set(view.name, view);
  sent.delete(view.name);
  if (link.synced && before?.actual_state !== view.actual_state) {
    say(t("saidState", { name: view.name, state: t(view.actual_state) }));
  }
  touch(view.name);
}

let source;
let failures = 0;

/** Opens the stream, and reopens it whenever it ends. */
export function connect() {
  let seen = new Set();
  let whole = false;
  source = new EventSource("/api/stream");
  const on = (event, act) => source.addEventListener(event, (message) => {
    failures = 0;
    link.truth = now();
    act(JSON.parse(message.data));
  });
  on("snapshot", ({ part, clusters: rows }) => {
    if (part === 0) seen = new Set();
    whole = true;
    for (const view of rows) {
      seen.add(view.name);
      clusters.set(view.name, view);
      sent.delete(view.name);
    }
    link.connected = true;
    touch("*");
  });
  on("synced", ({ at }) => {
    setServerTime(at);
    if (whole) for (const name of clusters.keys()) if (!seen.has(name)) clusters.delete(name);
    Object.assign(link, { synced: true, connected: true, why: null, failed: null, truth: now(), problems: [] });
    whole = false;
    touch("*");
  });
  on("upsert", upsert);
  on("remove", ({ name }) => {
    clusters.delete(name);
    touch(name);
  });
  on("status", ({ current, why, as_of: read, problems }) => {
    link.why = current ? null : why;
    link.problems = problems;
    if (!current && read) link.truth = Date.parse(read);
    touch("*");
  });
  source.onerror = () => {
    link.connected = false;
    touch("*");
    // The browser reconnects by itself, except after an error status.
    if (source.readyState !== EventSource.CLOSED) return;
    failures += 1;
    // The session may have ended.
    dispatchEvent(new Event("kindler-login"));
    setTimeout(connect, Math.min(5000, 500 * failures));
    if (failures > 2 || !link.truth) poll();
  };
}

/** Reads a list, for networks that block the stream. */
async function poll() {
  try {
    const rows = await api.get("/api/clusters?limit=10000");
    clusters.clear();
    for (const view of rows) clusters.set(view.name, view);
    const { problems } = await api.get("/api/status");
    Object.assign(link, { synced: true, connected: true, failed: null, truth: now(), problems });
  } catch (error) {
    // After 401 the login is shown instead.
    link.failed = error.status === 401 ? null : error.message;
  }
  touch("*");
}
