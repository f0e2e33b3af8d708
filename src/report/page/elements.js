// The page's vocabulary: elements, numbers, dates. Strings become text nodes and attribute values, never markup.

const byId = (id) => document.getElementById(id);

/** An element with attributes; `on…` functions listen. Children are nodes or strings; nothing is left out but null and false. */
function make(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

const SVG = "http://www.w3.org/2000/svg";

/** The same for drawings. */
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

/** A name from the data, kept apart from the direction of what stands around it. */
const name = (text, attributes) => make("bdi", attributes, text);

/** 1234567 as 1 234 567. */
const whole = (number) => Math.round(number).toLocaleString("en").replaceAll(",", "\u202f");

/** Few digits: 3.14, 31.4, 314, 3 140. */
function short(number) {
  const size = Math.abs(number);
  return size >= 100 || Number.isInteger(number) ? whole(number) : number.toFixed(size >= 10 ? 1 : 2);
}

const percent = (share, digits = 1) => `${(share * 100).toFixed(digits)}\u202f%`;
const plural = (number, what) => `${whole(number)} ${what}${number === 1 ? "" : "s"}`;

function seconds(time) {
  // Rounded before it is divided: 59.97 are a minute, and no minute has 60 seconds.
  if (time < 59.95) return `${time.toFixed(time < 9.995 ? 2 : 1)} s`;
  const minutes = Math.floor(Math.round(time) / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(time) % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function bytes(number) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  // What three digits would write as 1000 is one of the next unit.
  while (number >= 999.5 && unit < units.length - 1) {
    number /= 1000;
    unit += 1;
  }
  return `${unit === 0 || number >= 999.5 ? whole(number) : number.toPrecision(3)} ${units[unit]}`;
}

/** A moment, the same for every reader. */
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

/** A figure in its unit. */
function figure(value, unit) {
  if (unit === "share" || unit === "probability") return value.toFixed(4);
  if (unit === "seconds") return seconds(value);
  if (unit === "bytes") return bytes(value);
  return `${short(value)} ${unit}`;
}

/** A word as people write it: `false_positive` as false positive. */
const spaced = (word) => word.replaceAll("_", " ");

/** What may be wider than the page. */
const scroll = (label, content) =>
  make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, content);

/** What opens below a line. */
const folded = (line, isOpen, ...content) =>
  make("details", { open: isOpen }, make("summary", null, line), ...content);

/** A table; columns that hold figures are named in `figures` by their place. */
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

/** Makes a section visible and gives back where its content goes. */
function open(id, note) {
  const section = byId(id);
  section.hidden = false;
  if (note) section.querySelector("h2").append(make("small", null, note));
  return section.querySelector(".content");
}
