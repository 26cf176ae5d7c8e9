// What this page knows of the clusters: one stream, kept by name. Views ask
// here and are told when something changed, at most once a frame.
import * as api from "./api.js";
import { say } from "./dom.js";
import { t } from "./i18n.js";
import { now, serverSays } from "./time.js";

export const clusters = new Map();
/** Declared here and not heard of yet. */
export const sent = new Map();
/** `truth` is when what is shown was true; `why` it may be old; `failed` why there is nothing. */
export const link = { synced: false, connected: false, why: null, truth: null, failed: null };

const listeners = new Set();
let changed = new Set();
let asked = false;

/** Calls back with the names that changed; returns how to stop. */
export function watch(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function touch(name) {
  changed.add(name);
  if (asked) return;
  asked = true;
  // A hidden page has no frames, and is told all the same.
  const soon = document.hidden ? (f) => setTimeout(f, 100) : requestAnimationFrame;
  soon(() => {
    asked = false;
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

/** Opens the stream, and again whenever it ends. */
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
    serverSays(at);
    if (whole) for (const name of clusters.keys()) if (!seen.has(name)) clusters.delete(name);
    Object.assign(link, { synced: true, connected: true, why: null, failed: null, truth: now() });
    whole = false;
    touch("*");
  });
  on("upsert", upsert);
  on("remove", ({ name }) => {
    clusters.delete(name);
    touch(name);
  });
  on("status", ({ current, why, as_of: read }) => {
    link.why = current ? null : why;
    if (!current && read) link.truth = Date.parse(read);
    touch("*");
  });
  source.onerror = () => {
    link.connected = false;
    touch("*");
    // The browser reconnects by itself unless the answer was a refusal.
    if (source.readyState !== EventSource.CLOSED) return;
    failures += 1;
    // Perhaps because a login has ended.
    dispatchEvent(new Event("kindler-login"));
    setTimeout(connect, Math.min(5000, 500 * failures));
    if (failures > 2 || !link.truth) poll();
  };
}

/** Where no stream gets through, lists are better than nothing. */
async function poll() {
  try {
    const rows = await api.get("/api/clusters?limit=10000");
    clusters.clear();
    for (const view of rows) clusters.set(view.name, view);
    Object.assign(link, { synced: true, connected: true, failed: null, truth: now() });
  } catch (refused) {
    // Who has to log in is shown that.
    link.failed = refused.status === 401 ? null : refused.message;
  }
  touch("*");
}
