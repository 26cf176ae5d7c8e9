// Requests to the API. A rejection becomes an error with a readable message.
import { t } from "./i18n.js";

export class Rejected extends Error {
  constructor(status, body) {
    const errors = Array.isArray(body?.detail) ? body.detail : [];
    super(errors.length ? errors.map(({ msg }) => msg).join("; ") : body?.detail || `HTTP ${status}`);
    Object.assign(this, { status, errors, body });
  }
}

async function send(method, path, body) {
  const headers = { "X-Kindler-CSRF": "1" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Rejected(0, { detail: t("notReachable") });
  }
  const text = await response.text();
  let answer = text;
  try { answer = JSON.parse(text); } catch { /* plain text */ }
  // The login view opens.
  if (response.status === 401 && path !== "/api/login") dispatchEvent(new Event("kindler-login"));
  if (!response.ok) throw new Rejected(response.status, typeof answer === "string" ? { detail: answer } : answer);
  return answer;
}

export const get = (path) => send("GET", path);
export const post = (path, body) => send("POST", path, body);
export const patch = (path, body) => send("PATCH", path, body);
export const remove = (path) => send("DELETE", path);
export const of = (name, rest = "") => `/api/clusters/${encodeURIComponent(name)}${rest}`;
