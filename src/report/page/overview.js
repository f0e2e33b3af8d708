// The store at a glance: what it is, its largest figures, and a passage that shows what was done to the text.

/** The run's figure with this name, or undefined. */
const ofRun = (figureName, scope = "all") =>
  summary.figures.find((one) => one[0] === scope && one[1] === figureName)?.[2];

const theRun = () => summary.runs.find((run) => run.id === summary.run);

function drawHead() {
  const { totals } = summary;
  const run = theRun();
  const about =
    run &&
    make(
      "p",
      { class: "about" },
      "model ",
      name(run.model.split("/").filter(Boolean).pop() ?? run.model, { title: run.model }),
      `, ${run.flavour} on ${run.device}`,
      make("span", { class: "dot-between" }),
      make("time", { datetime: run.started_at }, moment(run.started_at)),
      make("span", { class: "dot-between" }),
      `run ${run.outcome}`,
    );
  const scope = [summary.only_run && "the documents of one run", summary.only_types && "some types"].filter(Boolean);
  const figures = [];
  const add = (label, value, unit, note) =>
    figures.push(
      make(
        "div",
        { class: "figure" },
        make("dt", null, label),
        make(
          "dd",
          null,
          make("span", { class: "value" }, value, unit && make("small", null, unit)),
          make("span", { class: "note" }, note ?? ""),
        ),
      ),
    );
  const { quality } = summary;
  if (quality) {
    const { f1, precision, recall } = quality.all;
    add("F1", percent(f1), "", `precision ${percent(precision)}, recall ${percent(recall)}`);
  }
  add(
    "Mentions",
    whole(totals.mentions),
    "",
    totals.documents > 0 ? `${short(totals.mentions / totals.documents)} a document` : "",
  );
  add("Documents", whole(totals.documents), "", `${whole(totals.characters)} characters`);
  const rate = ofRun("documents_per_second");
  if (rate !== undefined && ofRun("documents") > 0)
    add("Speed", short(rate), "documents/s", `${whole(ofRun("tokens_per_second"))} tokens/s`);
  if (ofRun("seconds") !== undefined)
    add(
      "Time",
      ...split(seconds(ofRun("seconds"))),
      ofRun("peak_memory") ? `${bytes(ofRun("peak_memory"))} of memory` : "",
    );
  add(
    "Rejects",
    whole(totals.rejects),
    "",
    totals.rejects > 0 ? percent(totals.rejects / (totals.documents + totals.rejects)) : "every document is done",
  );
  byId("head").append(
    make("p", { class: "kicker" }, "Entities in"),
    make("h1", null, name(summary.name, { title: summary.store })),
    about ?? "",
    scope.length > 0 ? make("p", { class: "about" }, `Only ${scope.join(" and ")}.`) : "",
    make("dl", { class: "figures" }, figures),
  );
}

/** `30.6 s` as its number and its unit; longer times stay whole. */
function split(time) {
  const parts = time.split(" ");
  return parts.length === 2 ? parts : [time, ""];
}

/** Characters of the passage. */
const PASSAGE = 420;

/** Shows the passage that has most to show: many types, many mentions the model is sure of, no errors. */
function drawPassage() {
  let best = null;
  for (const row of documents.rows.slice(0, 400)) {
    if (row.text === undefined || row.text.length < 60) continue;
    const right = row.mentions.filter((one) => one[STATE] <= RIGHT);
    for (let from = 0; from < right.length; from += 3) {
      const start = sentenceStart(row.text, right[from][START]);
      const end = sentenceEnd(row.text, start + PASSAGE);
      const inside = row.mentions.filter((one) => one[START] >= start && one[END] <= end);
      const kinds = new Set(inside.map((one) => one[TYPE])).size;
      const least = Math.min(...inside.map((one) => (one[SCORE] < 0 ? 1000 : one[SCORE]))) / 1000;
      const text = row.text.slice(start, end);
      const score =
        kinds * 6 +
        Math.min(inside.length, 12) +
        least * 20 -
        inside.filter((one) => one[STATE] > RIGHT).length * 10 +
        Math.min(end - start, 420) / 40 -
        (text.match(/\n\s*\n/g)?.length ?? 0) * 6 -
        (text.match(/\d/g)?.length ?? 0) / 6;
      if (inside.length > 1 && (best === null || score > best.score)) best = { row, start, end, score };
    }
  }
  if (best === null) return;
  const { row, start, end } = best;
  const content = open("passage");
  const describe = describeMention(row);
  content.append(
    make(
      "figure",
      { class: "passage" },
      marked(
        row.text,
        row.mentions.filter((one) => one[START] >= start && one[END] <= end),
        start,
        end,
        describe,
      ),
      make(
        "figcaption",
        null,
        "From ",
        make("a", { href: "#documents", onclick: () => showOnly({ search: row.id }) }, name(row.id)),
        ". ",
        "Every box is a row of the table ",
        make("code", null, "entities"),
        ": point at one to see its score.",
      ),
    ),
  );
}

function sentenceStart(text, at) {
  const before = Math.max(
    text.lastIndexOf("\n", at - 1),
    text.lastIndexOf(". ", at - 1) + 1,
    text.lastIndexOf("。", at - 1),
    0,
  );
  const start = at - before > 160 ? text.lastIndexOf(" ", at - 1) + 1 : before;
  return start + (text.slice(start).match(/^\s*/)?.[0].length ?? 0);
}

function sentenceEnd(text, at) {
  if (at >= text.length) return text.trimEnd().length;
  const stops = [text.lastIndexOf(". ", at) + 1, text.lastIndexOf("。", at) + 1, text.lastIndexOf("\n", at)];
  const stop = Math.max(...stops);
  return stop > at - 220 ? stop : Math.max(text.lastIndexOf(" ", at), at - 60);
}

function drawFoot() {
  byId("foot").append(`Made ${moment(summary.made_at)} by Quarry ${summary.quarry} from `, name(summary.store), ".");
}
