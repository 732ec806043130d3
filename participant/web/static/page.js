// What the pages do beyond showing themselves: switch the colours, stay up to date, take a dropped scan, leaf through it.
// Without it a scan can be given and its probabilities read; the pictures stay at the brightest slice.
"use strict";

const YEAR = 31536000; // seconds
const EVERY = 5000; // milliseconds between two looks at the agent's files
const SOON = 700; // between two looks at a case that is being looked at
const MB = 1048576;
const root = document.documentElement;

function setUpTheme() {
  const button = document.querySelector("[data-theme-button]");
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

// --- the status page

function setUpLive() {
  if (!document.querySelector("[data-live]")) return;
  let shown = "";
  setInterval(async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.redirected) { location.reload(); return; } // to the login
      const old = document.querySelector("[data-live]");
      const now = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-live]");
      if (!now || now.outerHTML === shown || old.contains(document.activeElement)) return;
      shown = now.outerHTML;
      old.replaceWith(document.importNode(now, true));
    } catch { /* the page's process is away; the next look finds it again */ }
  }, EVERY);
}

// --- giving a scan

function setUpForm() {
  const form = document.querySelector("[data-scan]");
  if (!form) return;
  const [file, drop, chosen, fault, sending] = ["#scan", "[data-drop]", "[data-chosen]", "[data-fault]", "[data-sending]"].map((each) => form.querySelector(each));
  const button = form.querySelector("button");
  const say = (words) => { fault.textContent = words; fault.hidden = !words; };
  const name = () => {
    const files = [...file.files], size = files.reduce((sum, each) => sum + each.size, 0) / MB;
    chosen.textContent = files.length ? `${files.length === 1 ? files[0].name : `${files.length} files`}, ${size.toFixed(1)} MB` : "";
    say(size > Number(form.dataset.limit) ? `That is more than the ${form.dataset.limit} MB that can be given at once.` : "");
  };
  file.addEventListener("change", name);
  for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.dataset.over = ""; });
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, (event) => { event.preventDefault(); delete drop.dataset.over; });
  drop.addEventListener("drop", (event) => { file.files = event.dataTransfer.files; name(); });

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!fault.hidden && fault.textContent.startsWith("That is more")) return;
    const request = new XMLHttpRequest(); // fetch does not tell how far an upload is
    const bar = sending.querySelector("progress");
    const over = (words) => { say(words); sending.hidden = true; button.disabled = false; };
    request.upload.addEventListener("progress", (done) => { bar.value = done.loaded / done.total; });
    request.addEventListener("load", () => {
      if (new URL(request.responseURL).pathname !== "/diagnose") { location.assign(request.responseURL); return; } // the case's own page
      const words = new DOMParser().parseFromString(request.responseText, "text/html").querySelector("[data-words]");
      over(words ? words.textContent : "That did not work. Try again.");
    });
    request.addEventListener("error", () => over("The page cannot be reached: is it still running, and is the file small enough?"));
    request.open("POST", "/diagnose");
    say("");
    button.disabled = true;
    sending.hidden = false;
    request.send(new FormData(form));
  });
}

// --- waiting for a case

function setUpProgress() {
  const place = document.querySelector("[data-progress]");
  if (!place) return;
  const bar = place.querySelector("progress"), words = place.querySelector("[role=status]");
  const look = async () => {
    try {
      const answer = await fetch(place.dataset.progress);
      if (!answer.ok) { location.reload(); return; }
      const { state, what, done, total } = await answer.json();
      if (state === "done" || state === "failed") { location.reload(); return; }
      [bar.max, bar.value] = [total, done];
      const said = total > 1 ? `${what}: ${done} of ${total}` : what;
      if (words.textContent !== said) words.textContent = said;
    } catch { /* looked at again */ }
    setTimeout(look, SOON);
  };
  look();
}

// --- leafing through a case

function setUpViewer() {
  const viewer = document.querySelector("[data-viewer]");
  if (!viewer) return;
  const all = (each) => [...viewer.querySelectorAll(each)];
  const [slider, at, opacity, strength, label] = ["[data-slider]", "[data-at]", "[data-opacity]", "[data-strength]", "[data-label]"].map((each) => viewer.querySelector(each));
  const base = viewer.dataset.viewer, slices = Number(viewer.dataset.slices);
  const opinions = all("[data-opinion]").map((figure) => ({
    figure, number: figure.dataset.opinion, heat: figure.querySelector("[data-heat]"),
    labels: JSON.parse(figure.dataset.labels), loudest: JSON.parse(figure.dataset.loudest),
  }));
  const slice = () => (slider ? Number(slider.value) - 1 : 0);
  const preset = () => viewer.querySelector("[data-preset]:checked")?.value ?? "lung";
  const sliceOf = (number) => `${base}/slices/${number}.png?preset=${preset()}`;
  const heatOf = (opinion, number) => `${base}/heat/${opinion.number}/${opinion.labels.indexOf(label.value)}/${number}.png`;
  const put = (image, address) => { if (image.getAttribute("src") !== address) image.src = address; };

  function show() {
    const number = slice();
    for (const image of all("[data-slice]")) put(image, sliceOf(number));
    for (const image of all("[data-outline]")) put(image, `${base}/outline/${number}.png`);
    for (const opinion of opinions) {
      opinion.heat.hidden = !opinion.labels.includes(label.value); // a model of other classes has no map of this one
      if (!opinion.heat.hidden) put(opinion.heat, heatOf(opinion, number));
    }
    if (!slider) return;
    at.textContent = `${number + 1} of ${slices}`;
    slider.setAttribute("aria-valuetext", `slice ${number + 1} of ${slices}`);
    fetchAhead(number);
  }

  function fetchAhead(number) {
    for (const near of [number + 1, number - 1].filter((each) => each >= 0 && each < slices)) {
      new Image().src = sliceOf(near);
      for (const opinion of opinions) if (!opinion.heat.hidden) new Image().src = heatOf(opinion, near);
    }
  }

  function move(to) {
    slider.value = String(Math.min(slices, Math.max(1, to)));
    show();
  }

  for (const control of [slider, label, ...all("[data-preset]")]) control?.addEventListener("input", show);
  opacity.addEventListener("input", () => {
    for (const { heat } of opinions) heat.style.opacity = opacity.value / 100;
    strength.textContent = `${opacity.value} %`;
  });
  if (slider) {
    for (const place of all(".slice")) {
      place.addEventListener("wheel", (event) => { event.preventDefault(); move(slice() + 1 + Math.sign(event.deltaY)); }, { passive: false });
    }
    for (const opinion of opinions) {
      opinion.figure.querySelector("[data-go]").addEventListener("click", () => {
        const number = opinion.labels.indexOf(label.value);
        if (number >= 0) move(opinion.loudest[number] + 1);
      });
    }
  }
  document.querySelector("[data-keep]")?.addEventListener("submit", (event) => {
    event.target.elements.preset.value = preset(); // what is kept looks as it does here
    event.target.elements.opacity.value = opacity.value;
  });
  show();
}

setUpTheme();
setUpLive();
setUpForm();
setUpProgress();
setUpViewer();
