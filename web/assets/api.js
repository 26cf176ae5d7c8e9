// Requests. A refusal is an error with words for people, never a blank page.
import { t } from "./i18n.js";

export class Refused extends Error {
  constructor(status, body) {
    const faults = Array.isArray(body?.detail) ? body.detail : [];
    super(faults.length ? faults.map((fault) => fault.msg).join("; ") : body?.detail || `HTTP ${status}`);
    this.status = status;
    this.faults = faults;
    this.body = body;
  }
}

async function ask(method, path, body) {
  const headers = { "X-Kindler-CSRF": "1" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Refused(0, { detail: t("notReachable") });
  }
  const text = await response.text();
  let answer = text;
  try { answer = JSON.parse(text); } catch { /* a text is an answer too */ }
  // Another view shows what to do about it.
  if (response.status === 401 && path !== "/api/login") dispatchEvent(new Event("kindler-login"));
  if (!response.ok) throw new Refused(response.status, typeof answer === "string" ? { detail: answer } : answer);
  return answer;
}

export const get = (path) => ask("GET", path);
export const post = (path, body) => ask("POST", path, body);
export const patch = (path, body) => ask("PATCH", path, body);
export const remove = (path) => ask("DELETE", path);
export const of = (name, rest = "") => `/api/clusters/${encodeURIComponent(name)}${rest}`;
