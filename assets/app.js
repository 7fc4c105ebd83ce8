// Keyboard shortcuts, presentation mode, and the current tab in the URL. Runs before the page is rendered; fetches nothing.
(() => {
  const asked = new URLSearchParams(location.search);
  if (["presentation", "talk"].some((name) => asked.get(name) === "1")) document.documentElement.classList.add("presentation");

  const seen = (node) => node && node.offsetParent !== null && !node.disabled;
  // On a narrow screen, Gradio moves the last tabs to a menu, whose buttons work while it is closed.
  const tabs = () => [
    ...[...document.querySelectorAll("#tabs > .tab-wrapper .tab-container [role=tab]")].filter(seen),
    ...document.querySelectorAll("#tabs > .tab-wrapper .overflow-dropdown button"),
  ];
  const called = (tab) => tab.textContent.trim().toLowerCase();
  const page = () => [...document.querySelectorAll("#tabs > .tabitem")].find(seen) || document;
  const typing = (node) =>
    node.isContentEditable || ["TEXTAREA", "SELECT"].includes(node.tagName) || node.getAttribute("role") === "listbox" ||
    (node.tagName === "INPUT" && !["range", "checkbox", "radio", "button", "file"].includes(node.type));
  const press = (node) => node && (node.click(), true);

  // A presenter's remote sends PageDown and PageUp: the next or previous card, then the next or previous page. It sends
  // "b" or "." for a black screen.
  const turn = (forward) => {
    const cards = [...page().querySelectorAll(".card")].filter((each) => seen(each) && !each.parentElement.closest(".card"));
    const tops = [...new Set(cards.map((each) => Math.max(0, Math.round(each.getBoundingClientRect().top + scrollY - 16))))].sort((a, b) => a - b);
    const end = document.documentElement.scrollHeight - innerHeight;
    const stops = [0, ...tops.slice(1).map((top) => Math.min(top, end))]; // the first card is seen with the tabs
    const next = forward ? stops.find((top) => top > scrollY + 8) : stops.filter((top) => top < scrollY - 8).pop();
    if (next !== undefined) return scrollTo({top: next, behavior: "smooth"}), true;
    const all = tabs(), at = all.findIndex((each) => each.classList.contains("selected"));
    const tab = all[at + (forward ? 1 : -1)];
    return press(tab) && (scrollTo({top: 0}), true);
  };
  const blank = () => {
    const black = document.querySelector(".blanked");
    if (black) black.remove();
    else document.body.append(Object.assign(document.createElement("div"), {className: "blanked"}));
    return true;
  };

  const act = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      const near = document.activeElement?.closest(".acts-together") || page();
      return press([...near.querySelectorAll("button.primary:not(.stops)")].find(seen));
    }
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return false;
    if (event.key === "Escape" && document.activeElement?.closest(".measure")) return document.activeElement.blur(), true;
    if (event.key === "Escape") return press([...page().querySelectorAll("button.stops")].find(seen));
    if (document.documentElement.classList.contains("presentation")) {
      if (["PageDown", "PageUp"].includes(event.key)) return turn(event.key === "PageDown");
      if (event.key === "b" || event.key === ".") return blank();
    }
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
  // Both pictures of every comparison side by side, or in one frame with a slider; remembered by the browser.
  // A page inside another site's frame may not be allowed to store anything.
  const FRAME = "atelier-one-frame";
  const stored = (use) => { try { return use(localStorage); } catch { return null; } };
  document.documentElement.classList.toggle("one-frame", stored((store) => store.getItem(FRAME)) === "1");
  // While a slider is pressed, more of its events will come, so a preview is enough (ui/live_preview.py).
  window.atelierPressed = false;
  addEventListener("pointerdown", (event) => { window.atelierPressed = event.target.type === "range"; }, true);
  for (const name of ["pointerup", "pointercancel"]) addEventListener(name, () => { window.atelierPressed = false; }, true);

  // How often the user has typed in a field: an answer to an earlier question must not overwrite it (ui/wiring.py). The same
  // field on another tab follows at once. Gradio's own "input" comes with a key press only, not with Backspace or a paste.
  window.atelierTyped = {};
  let copying = false;
  document.addEventListener("input", (event) => {
    const name = event.target.closest?.("[class*=typed-]")?.className.match(/\btyped-(\w+)/)[1];
    if (!name || copying) return;
    window.atelierTyped[name] = (window.atelierTyped[name] || 0) + 1;
    copying = true;
    for (const other of document.querySelectorAll(`.typed-${name} :is(textarea, input)`)) {
      if (other === event.target) continue;
      other.value = event.target.value;
      other.dispatchEvent(new Event("input", {bubbles: true}));
    }
    copying = false;
  }, true);

  const formRoom = () => { // how far down the form begins, so that its button stays in the window
    const row = page().querySelector(".page:has(> .inputs > .form-card)");
    if (row) document.documentElement.style.setProperty("--form-top", `${Math.max(14, Math.round(row.getBoundingClientRect().top))}px`);
  };
  for (const kind of ["scroll", "resize"]) addEventListener(kind, formRoom, {passive: true});

  // The chip in the header, and "Choose another base model", lead to the field at the top of the form.
  window.atelierBase = () => {
    press(tabs().find((each) => each.textContent.trim() === "Train"));
    const focus = (tries) => {
      const field = document.querySelector("#base-model input");
      if (!seen(field)) return tries && setTimeout(() => focus(tries - 1), 100);
      field.scrollIntoView({block: "center"});
      field.focus();
    };
    focus(30);
  };

  document.addEventListener("click", (event) => {
    if (event.target.closest?.(".chip.base")) window.atelierBase();
    if (event.target.closest?.(".compare-view")) {
      const one = document.documentElement.classList.toggle("one-frame");
      stored((store) => store.setItem(FRAME, one ? "1" : "0"));
    }
    const card = event.target.closest?.(".example-card, .library-card"); // immediate feedback; the server's response sets the same state
    if (card) {
      const kind = card.classList.contains("example-card") ? ".example-card" : ".library-card";
      page().querySelectorAll(kind).forEach((each) => each.classList.toggle("chosen", each === card));
    }
    const tab = event.target.closest?.("#tabs > .tab-wrapper :is([role=tab], .overflow-dropdown button)");
    if (tab) {
      const address = new URL(location.href); // not "#…" alone, which would be resolved against the page's base URL
      address.hash = called(tab);
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

  // "#edit", "#identity space" or "#identity-space"
  const plain = (text) => text.toLowerCase().replace(/[^a-z]+/g, "-");
  const wanted = () => plain(location.hash.slice(1).replaceAll("%20", " "));
  const open = (tries = 20) => {
    const tab = tabs().find((each) => plain(called(each)) === wanted());
    if (tab && !tab.classList.contains("selected")) {
      tab.click();
      if (tries) setTimeout(() => open(tries - 1), 50); // it may have been moved to the menu meanwhile
    }
    return Boolean(tab);
  };
  addEventListener("hashchange", () => open());
  if (location.hash) {
    const watcher = new MutationObserver(() => tabs().length && (watcher.disconnect(), setTimeout(open, 0)));
    watcher.observe(document, {childList: true, subtree: true});
  }
})();
