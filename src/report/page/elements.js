// Creates elements and formats numbers and dates. Strings become text nodes and attribute values, never markup.

const byId = (id) => document.getElementById(id);

/** Creates an element. Attributes `on…` are event listeners. Children are nodes or strings; null, undefined and false are ignored. */
function make(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

const SVG = "http://www.w3.org/2000/svg";

/** Creates an SVG element. */
function draw(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key.startsWith("--")) element.style.setProperty(key, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A name from the data, isolated from the text direction around it. */
const name = (text, attributes) => make("bdi", attributes, text);

/** 1234567 as 1 234 567. */
const whole = (number) => Math.round(number).toLocaleString("en").replaceAll(",", "\u202f");

/** Three significant digits: 3.14, 31.4, 314, 3 140. */
function short(number) {
  const size = Math.abs(number);
  return size >= 100 || Number.isInteger(number) ? whole(number) : number.toFixed(size >= 10 ? 1 : 2);
}

const percent = (share, digits = 1) => `${(share * 100).toFixed(digits)}\u202f%`;
const plural = (number, noun) => `${whole(number)} ${noun}${number === 1 ? "" : "s"}`;

function seconds(time) {
  // Round before dividing: 59.97 is a minute, and seconds must stay below 60.
  if (time < 59.95) return `${time.toFixed(time < 9.995 ? 2 : 1)} s`;
  const minutes = Math.floor(Math.round(time) / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(time) % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function bytes(number) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  // A value that rounds to 1000 is written in the next unit.
  while (number >= 999.5 && unit < units.length - 1) {
    number /= 1000;
    unit += 1;
  }
  return `${unit === 0 || number >= 999.5 ? whole(number) : number.toPrecision(3)} ${units[unit]}`;
}

/** A date and time in UTC. */
function moment(text) {
  const time = new Date(text);
  if (text === "" || Number.isNaN(time.getTime())) return "";
  const options = {
    day: "numeric",
    month: "short",
    year: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    timeZone: "UTC",
  };
  return `${time.toLocaleString("en-GB", options)} UTC`;
}

/** A figure with its unit. */
function figure(value, unit) {
  if (unit === "share" || unit === "probability") return value.toFixed(4);
  if (unit === "seconds") return seconds(value);
  if (unit === "bytes") return bytes(value);
  return `${short(value)} ${unit}`;
}

/** Replaces underscores: `false_positive` becomes "false positive". */
const spaced = (word) => word.replaceAll("_", " ");

/** A scrollable region for content that can be wider than the page. */
const scroll = (label, content) =>
  make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, content);

/** Content that a summary line expands. */
const folded = (line, isOpen, ...content) =>
  make("details", { open: isOpen }, make("summary", null, line), ...content);

/** A table; `figures` holds the indices of numeric columns. */
function table(caption, header, rows, figures) {
  const kind = (place) => (figures.includes(place) ? "number" : null);
  return scroll(
    caption,
    make(
      "table",
      null,
      make(
        "thead",
        null,
        make(
          "tr",
          null,
          header.map((cell, place) => make("th", { scope: "col", class: kind(place) }, cell)),
        ),
      ),
      make(
        "tbody",
        null,
        rows.map((row) =>
          make(
            "tr",
            null,
            row.map((cell, place) => make("td", { class: kind(place) }, cell)),
          ),
        ),
      ),
    ),
  );
}

/** Makes a section visible and returns its content element. */
function open(id, note) {
  const section = byId(id);
  section.hidden = false;
  if (note) section.querySelector("h2").append(make("small", null, note));
  return section.querySelector(".content");
}
