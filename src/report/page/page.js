// Starts the page: sections in order, theme, keyboard shortcuts.

/** Light, dark, or that of the system; stored if the browser allows it. */
const THEMES = ["auto", "light", "dark"];

function setTheme(theme) {
  if (theme === "auto") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.setAttribute("data-theme", theme);
  byId("theme").textContent = { auto: "◐ Auto", light: "○ Light", dark: "● Dark" }[theme];
  byId("theme").setAttribute("aria-label", `Colours: ${theme}`);
  try {
    localStorage.setItem("quarry-theme", theme);
  } catch {
    // A browser can forbid storage to a page opened from a file.
  }
}

function nextTheme() {
  const now = document.documentElement.getAttribute("data-theme") ?? "auto";
  setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
}

function storedTheme() {
  try {
    const theme = localStorage.getItem("quarry-theme");
    return THEMES.includes(theme) ? theme : "auto";
  } catch {
    return "auto";
  }
}

/** Shows or hides a type. */
function toggleType(index) {
  if (index >= summary.types.length) return;
  if (!view.types.delete(index)) view.types.add(index);
  setView(view);
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  e: () => joined() && stepError(1),
  E: () => joined() && stepError(-1),
  "/": () => byId("search").focus(),
  "?": () => byId("help").showModal(),
  o: () => current && unfold(current),
  t: nextTheme,
  0: () => setView(defaultView()),
};

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    hideTip();
    if (event.target === byId("search")) event.target.blur();
    return;
  }
  const isTyping = event.target.matches?.("input:not([type=checkbox], [type=range]), select, textarea");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  const action = KEYS[event.key] ?? (/^[1-9]$/.test(event.key) ? () => toggleType(Number(event.key) - 1) : null);
  if (!action) return;
  event.preventDefault();
  action();
});

function start() {
  setTheme(storedTheme());
  byId("theme").addEventListener("click", nextTheme);
  byId("help-button").addEventListener("click", () => byId("help").showModal());
  document.body.classList.toggle("gold", joined());
  drawHead();
  drawPassage();
  drawTypes();
  drawQuality();
  drawSystems();
  drawScores();
  drawNames();
  drawRuns();
  drawRejects();
  drawFoot();
  startDocuments();
  const sections = [...document.querySelectorAll("main > section:not([hidden])")].slice(1);
  byId("contents").append(
    ...sections.map((section) =>
      make("a", { href: `#${section.id}` }, section.querySelector("h2").firstChild.textContent),
    ),
  );
}

start();
