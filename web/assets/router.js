// Every view and its filters have an address.

let show = () => {};

export function start(render) {
  show = render;
  addEventListener("popstate", () => show());
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='/']");
    const modified = event.button || event.metaKey || event.ctrlKey || event.shiftKey;
    if (!link || event.defaultPrevented || modified || link.hasAttribute("download")) return;
    event.preventDefault();
    go(link.getAttribute("href"));
  });
  show();
}

let list = "/";

/** The address of the list as it was left, with its filters. */
export const lastList = () => list;

export function go(path) {
  if (location.pathname === "/") list = location.pathname + location.search;
  if (path !== location.pathname + location.search) history.pushState(null, "", path);
  show();
  scrollTo(0, 0);
}

export const query = () => new URLSearchParams(location.search);

/** Changes the query without a new history entry; an empty value removes the key. */
export function setQuery(changes) {
  const params = query();
  for (const [key, value] of Object.entries(changes)) {
    if (value) params.set(key, value);
    else params.delete(key);
  }
  const text = params.toString();
  history.replaceState(null, "", location.pathname + (text ? `?${text}` : ""));
}
