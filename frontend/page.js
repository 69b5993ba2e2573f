// What Streamlit's page lacks. It runs before Streamlit, in the browser, and asks no other server.
"use strict";
(() => {
  const sentence = (text, label, action) => {
    const box = document.getElementById("sentence") || document.createElement("div");
    box.id = "sentence";
    box.setAttribute("role", "alert");
    box.textContent = text + " ";
    if (label) {
      const button = document.createElement("button");
      button.textContent = label;
      button.onclick = action;
      box.append(button);
    }
    document.body.append(box);
  };
  const settle = () => document.getElementById("sentence")?.remove();

  // Else Streamlit looks for its server below the page's own name first, and gets a 404.
  const base = location.pathname.replace(/(live|users|system)$/, "");
  window.__streamlit = { BACKEND_BASE_URL: location.origin + base };

  const presenting = new URLSearchParams(location.search).get("view") === "tv";
  document.documentElement.classList.toggle("tv", presenting);

  // The server may refuse the connection of a page whose name it does not know.
  const refused = () => {
    const address = (location.origin + base).replace(/\/$/, "");
    sentence(`The dashboard does not accept connections (WebSocket) from ${location.origin}. `
      + `Set PUBLIC_URL to ${address}, and start the dashboard again. `
      + "If that does not help, a proxy between does not pass WebSocket connections.");
  };
  const Socket = window.WebSocket;
  let failures = 0;
  window.WebSocket = class extends Socket {
    constructor(...given) {
      super(...given);
      let opened = false;
      this.addEventListener("open", () => { opened = true; failures = 0; settle(); });
      this.addEventListener("close", () => {
        if (opened) return;
        failures += 1;
        // The page itself has just been loaded, so the server is there.
        if (failures === 1 && !document.querySelector("[data-testid=stMain] h1")) refused();
      });
    }
  };

  // A script of the page that did not load leaves a hole; the loader never asks for it again.
  const broken = () => sentence("A part of this page did not load.", "Reload", () => location.reload());
  addEventListener("error", (event) => {
    if (event.target.matches?.("script, link[rel=stylesheet], link[rel=modulepreload]")) broken();
  }, true);
  addEventListener("vite:preloadError", broken);
  addEventListener("unhandledrejection", (event) => {
    if (/dynamically imported|module script failed|preload CSS/i.test(event.reason?.message)) broken();
  });

  // Escape closes a dialog wherever the focus is: it is lost when the focused button is disabled.
  addEventListener("keydown", (event) => {
    const dialog = document.querySelector("[role=dialog]");
    if (event.key === "Escape" && dialog && !dialog.contains(document.activeElement))
      dialog.querySelector("button[aria-label=Close]")?.click();
  });

  // A translator moves and replaces nodes; React must not stop because of that.
  const { removeChild, insertBefore } = Node.prototype;
  Node.prototype.removeChild = function (child) {
    if (child.parentNode === this) return removeChild.call(this, child);
    child.parentNode?.removeChild(child);
    return child;
  };
  Node.prototype.insertBefore = function (child, before) {
    return insertBefore.call(this, child, before?.parentNode === this ? before : null);
  };

  // The badge ages here, so that it is true when the dashboard itself stops.
  const arrivals = new Map(), SILENCE_SECONDS = 7;
  const text = (seconds) => {
    const [unit, size] = seconds < 120 ? ["s", 1] : seconds < 7200 ? ["min", 60] : ["h", 3600];
    return `${Math.floor(seconds / size)} ${unit}`;
  };
  setInterval(() => {
    let late = false;
    for (const each of document.querySelectorAll("[data-age]")) {
      const drawn = each.dataset.at;  // the same after a change of the window's size
      if (!arrivals.has(drawn)) arrivals.set(drawn, performance.now());
      if (arrivals.size > 99) arrivals.delete(arrivals.keys().next().value);
      const here = (performance.now() - arrivals.get(drawn)) / 1000;
      const age = Number(each.dataset.age) + here;
      late = here > SILENCE_SECONDS && !each.closest(".gray");  // that page stands still
      each.textContent = late ? `No news for ${text(age)}`
        : each.dataset.text.replace("{}", text(age));
    }
    document.documentElement.classList.toggle("late", late);
  }, 1000);
})();
