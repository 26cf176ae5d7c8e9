// Every view has an address, and so do its filters.

let show = () => {};

export function start(render) {
  show = render;
  addEventListener("popstate", () => show());
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='/']");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || link.hasAttribute("download")) return;
    event.preventDefault();
    go(link.getAttribute("href"));
  });
  show();
}

let list = "/";

/** Where the list was left, with its filters. */
export const lastList = () => list;

export function go(path) {
  if (location.pathname === "/") list = location.pathname + location.search;
  if (path !== location.pathname + location.search) history.pushState(null, "", path);
  show();
  scrollTo(0, 0);
}

export const query = () => new URLSearchParams(location.search);

/** Changes the query without a new place in the history; nothing is no entry. */
export function setQuery(changes) {
  const params = query();
  for (const [key, value] of Object.entries(changes)) {
    if (value) params.set(key, value);
    else params.delete(key);
  }
  const text = params.toString();
  history.replaceState(null, "", location.pathname + (text ? `?${text}` : ""));
}
