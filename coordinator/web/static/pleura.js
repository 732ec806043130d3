// What the pages do beyond showing themselves: switch the colours, stay up to date, send a model file.
// Without it everything but the upload works; one loads the page again to see what is new.
"use strict";

const YEAR = 31536000; // seconds
const QUIET = 600; // milliseconds between two looks at the server, however fast it has news
const root = document.documentElement;

function setUpTheme() {
  const button = document.querySelector("[data-theme-button]");
  if (!button) return;
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const label = () => { button.setAttribute("aria-label", dark() ? "Use light colours" : "Use dark colours"); };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    document.cookie = `pleura-theme=${root.dataset.theme}; path=/; max-age=${YEAR}; samesite=lax`;
    label();
  });
  label();
}

const shown = new Map(); // by id, as the server last wrote it

// Parts of a page that change by themselves have data-live and an id; each is put in the place of its former self.
function swap(fresh) {
  for (const old of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(old.id);
    if (!now || now.outerHTML === shown.get(old.id)) continue;
    if (old.querySelector("input:focus, select:focus, textarea:focus")) continue; // somebody is writing there
    shown.set(old.id, now.outerHTML);
    keepOpen(old, now);
    const controls = "a, button, summary, [tabindex]";
    const focused = [...old.querySelectorAll(controls)].indexOf(document.activeElement);
    const copy = document.importNode(now, true);
    old.replaceWith(copy);
    if (focused >= 0) copy.querySelectorAll(controls)[focused]?.focus({ preventScroll: true });
  }
}

function keepOpen(old, now) {
  for (const details of old.querySelectorAll("details[id]")) {
    const same = now.querySelector(`#${CSS.escape(details.id)}`);
    if (same) same.open = details.open;
  }
}

function setUpLive() {
  const main = document.querySelector("main[data-seen]");
  const sign = document.querySelector("[data-live-sign]");
  if (!main || !sign || !document.querySelector("[data-live]")) return;
  let looking = false, again = false;

  async function look() {
    if (looking) { again = true; return; }
    looking = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.redirected) { location.reload(); return; } // to the login
      if (answer.ok) swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch { /* the server is away; the next event or the reconnection looks again */ }
    setTimeout(() => { looking = false; if (again) { again = false; look(); } }, QUIET);
  }

  function say(words, state) { sign.textContent = words; sign.dataset.state = state; }

  const source = new EventSource(`/events?after=${main.dataset.seen}`);
  source.addEventListener("open", () => say("Live", "live"));
  source.addEventListener("error", () => say("Reconnecting", "lost"));
  source.addEventListener("changed", look);
  source.addEventListener("over", () => { source.close(); location.reload(); });
  addEventListener("pagehide", () => source.close());
}

function setUpUpload() {
  const form = document.querySelector("[data-upload]");
  if (!form) return;
  const [file, button, bar, words] = ["input[type=file]", "button", "progress", "[role=status]"].map((each) => form.querySelector(each));
  form.hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const request = new XMLHttpRequest(); // fetch does not tell how far an upload is
    request.upload.addEventListener("progress", (done) => { bar.value = done.loaded / done.total; });
    request.addEventListener("load", () => {
      const answer = JSON.parse(request.responseText);
      if (request.status === 201) { location.assign(`/studies/new?model=${answer.model}`); return; }
      words.textContent = answer.detail;
      button.disabled = false;
      bar.hidden = true;
    });
    request.addEventListener("error", () => { words.textContent = "The coordinator cannot be reached. Try again."; button.disabled = false; });
    request.open("POST", form.action);
    request.setRequestHeader("X-Form-Token", form.dataset.token);
    button.disabled = true;
    bar.hidden = false;
    words.textContent = "Sending the file.";
    request.send(file.files[0]);
  });
}

setUpTheme();
setUpLive();
setUpUpload();
