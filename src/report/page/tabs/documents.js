// Documents: the filtered list, rendered incrementally while scrolling.

/** Documents rendered at a time. */
const STEP = 20;
/** Documents rendered for printing. */
const PRINTED = 30;
/** A text longer than this is collapsed, in UTF-16 units. */
const FOLDED = 2600;

const defaultView = () => ({
  search: "",
  types: new Set(summary.types.map((_, index) => index)),
  minimum: 0,
  states: new Set([FOUND, RIGHT, WRONG, MISSED]),
  errors: false,
  order: "given",
});
let view = defaultView();
/** Documents that pass the filters, as {row, mentions}, and the number of rendered ones. */
let passing = [];
let drawn = 0;
let current = null;

const joined = () => Boolean(summary.quality?.joined);

const isVisible = (mention) =>
  view.types.has(mention[TYPE]) &&
  view.states.has(mention[STATE]) &&
  (mention[SCORE] < 0 || mention[SCORE] >= view.minimum);
const isError = (mention) => mention[STATE] >= WRONG;
const narrowed = () => view.types.size < summary.types.length || view.minimum > 0 || view.states.size < 4;

/** The search as a regular expression: literal text with flexible white space. */
const pattern = (flags) =>
  new RegExp(
    view.search
      .trim()
      .replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")
      .replace(/\s+/g, "\\s+"),
    flags,
  );

/** Applies the filters and renders the list again. */
function refresh() {
  const search = view.search.trim() === "" ? null : pattern("iu");
  passing = [];
  for (const row of documents.rows) {
    if (search && !(search.test(row.text ?? "") || search.test(row.id) || row.names?.some((one) => search.test(one))))
      continue;
    const mentions = row.mentions.filter(isVisible);
    if (narrowed() && mentions.length === 0) continue;
    if (view.errors && !mentions.some(isError)) continue;
    passing.push({ row, mentions });
  }
  const lowest = ({ mentions }) =>
    mentions.reduce((low, one) => (one[SCORE] >= 0 ? Math.min(low, one[SCORE]) : low), 2000);
  const errors = ({ mentions }) => mentions.filter(isError).length;
  if (view.order === "mentions") passing.sort((a, b) => b.mentions.length - a.mentions.length);
  if (view.order === "doubtful") passing.sort((a, b) => lowest(a) - lowest(b));
  if (view.order === "errors") passing.sort((a, b) => errors(b) - errors(a));
  drawn = 0;
  current = null;
  hideTip();
  byId("feed").replaceChildren();
  drawMore();
  describeResult();
}

/** Writes how the documents were sampled and how many pass the filters. */
function describeResult() {
  const all = documents.rows.length;
  const rules = {
    all: all === summary.totals.documents ? "all" : "as many as fit",
    errors: `those with the most errors of ${whole(summary.totals.documents)}`,
    even: `sampled evenly from ${whole(summary.totals.documents)}`,
  };
  const mentions = passing.reduce((sum, one) => sum + one.mentions.length, 0);
  const some =
    passing.length < all ? `${whole(passing.length)} of ${plural(all, "document")}` : plural(all, "document");
  byId("found").replaceChildren(
    make("strong", null, some),
    ` (${rules[documents.rule]}), ${plural(mentions, "mention")}`,
    joined()
      ? `, ${plural(
          passing.reduce((sum, one) => sum + one.mentions.filter(isError).length, 0),
          "error",
        )}`
      : "",
    passing.length === 0 && all > 0 ? ". No document matches the filters: press 0 to reset them." : ".",
  );
  const counts = new Map();
  for (const { mentions: own } of passing)
    for (const one of own) counts.set(one[TYPE], (counts.get(one[TYPE]) ?? 0) + 1);
  document.querySelectorAll("#filters [data-type]").forEach((cell) => {
    cell.textContent = whole(counts.get(Number(cell.dataset.type)) ?? 0);
  });
}

function drawMore(count = STEP) {
  const next = passing.slice(drawn, drawn + count).map(article);
  drawn += next.length;
  byId("feed").append(...next);
  byId("more").hidden = drawn >= passing.length;
  byId("more").textContent = drawn < passing.length ? `${whole(passing.length - drawn)} more below` : "";
  highlight();
}

/** Renders a document. */
function article({ row, mentions }, index) {
  const title = `document-${drawn + index}`;
  const errors = row.mentions.filter(isError).length;
  const notes = [name(row.source), `${whole(row.characters)} characters`, plural(mentions.length, "mention")];
  if (joined())
    notes.push(make("span", { class: errors > 0 ? "bad" : "" }, errors > 0 ? plural(errors, "error") : "no errors"));
  const between = notes.flatMap((note, at) =>
    at > 0 ? [make("span", { class: "dot-between" }), make("span", { class: "nowrap" }, note)] : [note],
  );
  const element = make(
    "article",
    { class: "document", tabindex: "-1", "aria-labelledby": title },
    make("header", null, make("h3", { id: title }, name(row.id)), make("p", { class: "notes" }, between)),
  );
  if (row.text === undefined) {
    element.append(make("p", { class: "notes" }, `No text: ${row.missing}.`));
    element.append(
      mentions.length > 0
        ? table(
            "Mentions",
            ["mention", "type", "score", "from", "to"],
            row.mentions
              .map((one, at) => [one, row.names[at]])
              .filter(([one]) => isVisible(one))
              .map(([one, text]) => [
                make("bdi", { class: `state s${one[STATE]}` }, text),
                typeLabel(one[TYPE]),
                one[SCORE] < 0 ? "missed" : (one[SCORE] / 1000).toFixed(3),
                whole(one[START]),
                whole(one[END]),
              ]),
            [2, 3, 4],
          )
        : "",
    );
    return element;
  }
  const body = marked(row.text, mentions, 0, row.text.length, describeMention(row));
  element.append(body);
  const shown = row.characters - (row.cut ?? 0);
  if (row.cut > 0)
    element.append(
      make("p", { class: "notes" }, `The first ${whole(shown)} of ${plural(row.characters, "character")}.`),
    );
  if (row.text.length > FOLDED) {
    element.classList.add("folded");
    element.append(
      make(
        "button",
        { type: "button", class: "unfold", onclick: () => unfold(element) },
        `Show all ${plural(shown, "character")}`,
      ),
    );
    body.addEventListener("focusin", () => unfold(element));
  }
  return element;
}

function unfold(element) {
  element.classList.remove("folded");
  element.querySelector(".unfold")?.remove();
}

/** Highlights matches of the search without changing the document, if the browser supports it. */
function highlight() {
  if (!("highlights" in CSS)) return;
  CSS.highlights.delete("search");
  if (view.search.trim() === "") return;
  const all = new Highlight();
  for (const body of byId("feed").querySelectorAll(".text, h3, td bdi")) {
    const walker = document.createTreeWalker(body, NodeFilter.SHOW_TEXT);
    const nodes = [];
    let text = "";
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      nodes.push({ node, start: text.length });
      text += node.data;
    }
    for (const found of text.matchAll(pattern("giu"))) {
      if (found[0] === "") break;
      const range = new Range();
      const nodeAt = (at, end) => nodes.findLast(({ start }) => (end ? start < at : start <= at));
      const [from, to] = [nodeAt(found.index, false), nodeAt(found.index + found[0].length, true)];
      range.setStart(from.node, found.index - from.start);
      range.setEnd(to.node, found.index + found[0].length - to.start);
      all.add(range);
    }
  }
  CSS.highlights.set("search", all);
}

/** Makes a document the current one: its mentions can be reached with the Tab key. */
function makeCurrent(element, scroll) {
  if (current !== element) {
    current?.classList.remove("current");
    current?.querySelectorAll("mark[tabindex]").forEach((mark) => mark.setAttribute("tabindex", "-1"));
    current = element;
    element.classList.add("current");
    element.querySelectorAll("mark[tabindex]").forEach((mark) => mark.setAttribute("tabindex", "0"));
  }
  if (scroll) {
    element.scrollIntoView({ block: "start", behavior: "instant" });
    element.focus({ preventScroll: true });
  }
}

/** Goes to the next or the previous document. */
function step(by) {
  const all = [...byId("feed").children];
  let at = all.indexOf(current);
  if (at < 0) at = by > 0 ? -1 : 0;
  if (at + by >= all.length && drawn < passing.length) {
    drawMore();
    all.splice(0, all.length, ...byId("feed").children);
  }
  const next = all[Math.min(Math.max(at + by, 0), all.length - 1)];
  if (next) makeCurrent(next, true);
}

/** Goes to the next or the previous error. */
function stepError(by) {
  const find = () => [...byId("feed").querySelectorAll("mark.s2[tabindex], mark.s3[tabindex]")];
  const here = document.activeElement?.closest?.("mark, article") ?? current;
  const after = (mark) =>
    here === null ||
    here === undefined ||
    Boolean(here.compareDocumentPosition(mark) & Node.DOCUMENT_POSITION_FOLLOWING);
  const before = (mark) =>
    Boolean(here?.compareDocumentPosition(mark) & Node.DOCUMENT_POSITION_PRECEDING) && !mark.contains(here);
  let next = by > 0 ? find().find(after) : find().findLast(before);
  while (!next && by > 0 && drawn < passing.length) {
    drawMore();
    next = find().find(after);
  }
  if (!next) return;
  const owner = next.closest("article");
  unfold(owner);
  makeCurrent(owner, false);
  next.scrollIntoView({ block: "center", behavior: "instant" });
  next.focus({ preventScroll: true });
}

/** Applies the view `next` and updates the filter controls. */
function setView(next) {
  view = next;
  syncFilters();
  refresh();
}

/** Shows only documents that match, and scrolls to them. */
function showOnly({ search = "", types = null }) {
  const initial = defaultView();
  setView({ ...initial, search, types: types ? new Set(types) : initial.types });
  byId("documents").scrollIntoView({ block: "start" });
}

/** Resets the filters and goes to a document. */
function showDocument(row) {
  setView(defaultView());
  const at = passing.findIndex((one) => one.row === row);
  if (at >= drawn) drawMore(at + 1 - drawn);
  makeCurrent(byId("feed").children[at], true);
}

function startDocuments() {
  buildFilters();
  byId("remarks").append(...documents.remarks.map((remark) => make("li", null, `${remark}.`)));
  setView(view);
  byId("feed").addEventListener("focusin", (event) => makeCurrent(event.target.closest("article"), false));
  new IntersectionObserver(
    (entries) => entries.some((entry) => entry.isIntersecting) && drawn < passing.length && drawMore(),
    { rootMargin: "1500px" },
  ).observe(byId("more"));
  addEventListener("beforeprint", () => {
    if (drawn < PRINTED) drawMore(PRINTED - drawn);
    document.querySelectorAll("details").forEach((one) => {
      one.open = one.open || one.querySelectorAll("tr").length < 30;
    });
  });
}
