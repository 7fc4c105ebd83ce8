// Keyboard shortcuts, presentation mode, and the current tab in the URL. Runs before the page is rendered; fetches nothing.
(() => {
  const asked = new URLSearchParams(location.search);
  if (["presentation", "talk"].some((name) => asked.get(name) === "1")) document.documentElement.classList.add("presentation");

  const seen = (node) => node && node.offsetParent !== null && !node.disabled;
  const tabs = () => [...document.querySelectorAll("#tabs > .tab-wrapper .tab-container [role=tab]")].filter(seen);
  const page = () => [...document.querySelectorAll("#tabs > .tabitem")].find(seen) || document;
  const typing = (node) =>
    node.isContentEditable || ["TEXTAREA", "SELECT"].includes(node.tagName) || node.getAttribute("role") === "listbox" ||
    (node.tagName === "INPUT" && !["range", "checkbox", "radio", "button", "file"].includes(node.type));
  const press = (node) => node && (node.click(), true);

  const act = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      const near = document.activeElement?.closest(".acts-together") || page();
      return press([...near.querySelectorAll("button.primary:not(.stops)")].find(seen));
    }
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return false;
    if (event.key === "Escape" && document.activeElement?.closest(".measure")) return document.activeElement.blur(), true;
    if (event.key === "Escape") return press([...page().querySelectorAll("button.stops")].find(seen));
    if (/^[1-9]$/.test(event.key)) return press(tabs()[Number(event.key) - 1]);
    return false;
  };
  document.addEventListener("keydown", (event) => {
    if (!event.repeat && act(event)) {
      event.preventDefault();
      event.stopPropagation();
    }
  }, true);

  const placeTips = () => // below the measure that they explain, or above it, and never beyond the window
    document.querySelectorAll(".measure:is(:hover, :focus-within)").forEach((measure) => {
      const tip = measure.querySelector(".tip"), box = measure.getBoundingClientRect();
      const below = box.bottom + 6 + tip.offsetHeight < innerHeight;
      tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8))}px`;
      tip.style.top = `${below ? box.bottom + 6 : box.top - tip.offsetHeight - 6}px`;
    });
  for (const kind of ["focusin", "pointerover", "scroll"]) document.addEventListener(kind, placeTips, {capture: true, passive: true});

  document.addEventListener("click", (event) => {
    const card = event.target.closest?.(".example-card, .library-card"); // immediate feedback; the server's response sets the same state
    if (card) {
      const kind = card.classList.contains("example-card") ? ".example-card" : ".library-card";
      page().querySelectorAll(kind).forEach((each) => each.classList.toggle("chosen", each === card));
    }
    const tab = event.target.closest?.("#tabs > .tab-wrapper [role=tab]");
    if (tab) {
      const address = new URL(location.href); // not "#…" alone, which would be resolved against the page's base URL
      address.hash = tab.textContent.trim().toLowerCase();
      history.replaceState(null, "", address);
    }
    const link = event.target.closest?.(".theme-switch a");
    if (!link) return;
    event.preventDefault();
    const address = new URL(location.href);
    if (link.classList.contains("from-presentation")) ["presentation", "talk"].forEach((name) => address.searchParams.delete(name));
    new URLSearchParams(link.getAttribute("href")).forEach((value, name) => address.searchParams.set(name, value));
    location.assign(address);
  }, true);

  const wanted = decodeURIComponent(location.hash.slice(1));
  if (wanted) {
    const watcher = new MutationObserver(() => {
      const tab = tabs().find((each) => each.textContent.trim().toLowerCase() === wanted);
      if (!tab) return;
      watcher.disconnect();
      setTimeout(() => tab.click(), 0);
    });
    watcher.observe(document, {childList: true, subtree: true});
  }
})();
