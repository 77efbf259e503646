// Fills the page's template with what a document says: the same attributes as
// gateway/web/filling.py, which writes the page that this keeps up to date.

export const NOTHING = "–";

const SVG = "http://www.w3.org/2000/svg";
const UNITS = [["min", 60], ["h", 3600], ["d", 86400]];
const UNTIL = 2;

export function fill(element, here, top = here) {
  const said = element.dataset ?? {};
  if (said.show) {
    const not = said.show.startsWith("!");
    element.toggleAttribute("hidden", there(found(said.show.replace("!", ""), here, top)) === not);
  }
  if (said.set) {
    for (const pair of said.set.split(";")) {
      const [name, words] = pair.trim().split(" ");
      change(element, name, wordsOf(words, here, top));
    }
  }
  if (said.text) {
    const words = wordsOf(said.text, here, top);
    // What did not change keeps its selection.
    if (element.textContent !== words) element.textContent = words;
  }
  if (said.bar) draw(element, said.bar.split(" "), here, longest(top));
  else if (said.each) repeat(element, found(said.each, here, top) ?? [], top);
  else for (const child of element.children) if (child.localName !== "template") fill(child, here, top);
}

// The rows that are there stay, so that what has the focus keeps it.
function repeat(element, entries, top) {
  const template = element.querySelector(":scope > template");
  const rows = [...element.children].filter((child) => child !== template);
  for (const row of rows.splice(entries.length)) row.remove();
  entries.forEach((entry, index) => {
    const row = rows[index] ?? element.appendChild(template.content.firstElementChild.cloneNode(true));
    fill(row, entry, top);
  });
}

export function found(path, here, top) {
  let value = path.startsWith("/") ? top : here;
  for (const name of path.replace("/", "").split(".")) if (name) value = value?.[name];
  return value ?? null;
}

export function wordsOf(said, here, top) {
  const [path, name = ""] = said.split(":");
  let value = found(path, here, top);
  if (value === null || value === "") return NOTHING;
  if (name === "ago") value = Math.max(0, top.at - value);
  return FORMATS[name](value);
}

const there = (value) => (Array.isArray(value) ? value.length > 0 : Boolean(value));

function change(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

// --- Bars ---------------------------------------------------------------------------

// The length of a whole bar: of the longest request that is shown.
function longest(top) {
  const had = [...(top.running ?? []), ...(top.recent ?? [])].map((entry) => entry.total_s);
  const waiting = (top.queue?.requests ?? []).map((entry) => entry.waited_s + entry.expected_wait_s);
  return Math.max(0, ...had, ...waiting) || 1;
}

// A rectangle for each part, in percent of the whole; what it shows is its name.
export function draw(svg, parts, entry, wholeS) {
  if (svg.children.length !== parts.length + 1) {
    svg.replaceChildren(document.createElementNS(SVG, "title"));
    for (const part of parts) {
      const rectangle = svg.appendChild(document.createElementNS(SVG, "rect"));
      rectangle.setAttribute("class", part);
      rectangle.setAttribute("height", "10");
    }
  }
  const [title, ...rectangles] = svg.children;
  const words = parts.map((part) => `${spaced(part)} ${duration(entry[`${part}_s`])}`).join(", ");
  if (title.textContent !== words) title.textContent = words;
  let x = 0;
  parts.forEach((part, index) => {
    const width = (100 * entry[`${part}_s`]) / wholeS;
    change(rectangles[index], "x", x.toFixed(2));
    change(rectangles[index], "width", Math.max(0, Math.min(width, 100 - x)).toFixed(2));
    x = Math.min(100, x + width);
  });
}

// --- Values in words ----------------------------------------------------------------

const rounded = (value) => Math.floor(value + 0.5);
const tenths = (value) => (rounded(value * 10) / 10).toFixed(1);
const short = (value) => (value < 9.95 ? tenths(value) : String(rounded(value)));

export function duration(seconds) {
  if (seconds < 0.0005) return "0 s";
  if (seconds < 0.9995) return `${rounded(seconds * 1000)} ms`;
  let value = seconds, unit = "s";
  for (const [larger, unitS] of UNITS) {
    if (seconds < UNTIL * unitS) break;
    [value, unit] = [seconds / unitS, larger];
  }
  return `${short(value)} ${unit}`;
}

export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  while (value >= 999.5 && units.length > 1) {
    value /= 1000;
    units.shift();
  }
  return `${units[0] === "B" ? rounded(value) : short(value)} ${units[0]}`;
}

export const count = (value) => String(Math.floor(value)).replace(/\B(?=(\d{3})+$)/g, "\u202f");
export const speed = tenths;
const percent = (part) => `${rounded(part * 100)} %`;
const plain = (value) => (typeof value === "boolean" ? (value ? "yes" : "no") : String(value));
const spaced = (value) => plain(value).replaceAll("_", " ");

function ago(seconds) {
  if (seconds < 1) return "now";
  return seconds < 10 ? `${Math.floor(seconds)} s ago` : `${duration(seconds)} ago`;
}

const FORMATS = { "": plain, spaced, duration, size, count, speed, percent, ago };
