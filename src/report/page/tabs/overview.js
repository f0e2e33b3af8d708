// Overview: the store, its main figures, and an example passage with its mentions.

/** The shown run's figure of this name, or undefined. */
const ofRun = (figureName, scope = "all") =>
  summary.figures.find((one) => one[0] === scope && one[1] === figureName)?.[2];

const theRun = () => summary.runs.find((run) => run.id === summary.run);

/** The last part of a model's path. */
const modelName = (run) => run.model.split("/").filter(Boolean).pop() ?? run.model;

function drawHead() {
  const { totals } = summary;
  const run = theRun();
  const about =
    run &&
    make(
      "p",
      { class: "about" },
      "model ",
      name(modelName(run), { title: run.model }),
      `, ${run.precision} on ${run.device}`,
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
    totals.documents > 0 ? `${short(totals.mentions / totals.documents)} per document` : "",
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
    totals.rejects > 0 ? percent(totals.rejects / (totals.all_documents + totals.rejects)) : "no document rejected",
  );
  byId("head").append(
    make("p", { class: "kicker" }, "Entities in"),
    make("h1", null, name(summary.name, { title: summary.store })),
    about ?? "",
    scope.length > 0 ? make("p", { class: "about" }, `Only ${scope.join(" and ")}.`) : "",
    make("dl", { class: "figures" }, figures),
  );
}

/** Splits `30.6 s` into number and unit; longer times are not split. */
function split(time) {
  const parts = time.split(" ");
  return parts.length === 2 ? parts : [time, ""];
}

/** The maximum number of characters of the passage. */
const PASSAGE = 440;

/** Shows the best example: complete sentences with many types and high scores. */
function drawPassage() {
  let best = null;
  for (const row of documents.rows.slice(0, 150)) {
    if (row.text === undefined) continue;
    const ends = sentenceEnds(row.text);
    let last = 0;
    for (const [at, start] of ends.entries()) {
      while (last + 1 < ends.length && ends[last + 1] <= start + PASSAGE) last += 1;
      if (last <= at) continue;
      const passage = { row, start, end: ends[last] };
      passage.worth = worth(passage);
      if (passage.worth > (best?.worth ?? -Infinity)) best = passage;
    }
  }
  if (best === null) return;
  const { row, start, end } = best;
  const content = open("passage");
  const look = (event) => {
    event.preventDefault();
    showDocument(row);
  };
  const inside = within(best);
  content.append(
    make(
      "figure",
      { class: "passage" },
      marked(row.text, inside, start, end, describeMention(row)),
      make(
        "figcaption",
        null,
        "From ",
        make("a", { href: "#documents", onclick: look }, name(row.id)),
        ". ",
        inside.some((one) => one[STATE] === MISSED) ? "Every box, except missed mentions," : "Every box",
        " is a row of the table ",
        make("code", null, "entities"),
        "; point at one to see its score.",
      ),
    ),
  );
}

/** Sentence boundaries, including the beginning and the end of the text. */
function sentenceEnds(text) {
  const ends = [...text.matchAll(/[\p{L}\p{N}]{3}[.!?][\p{Pe}\p{Pf}"']*\s+|[。！？]|\n\s*/gu)];
  return [...new Set([0, ...ends.map((one) => one.index + one[0].length), text.length])];
}

/** The mentions of a passage. */
const within = ({ row, start, end }) => row.mentions.filter((one) => one[START] >= start && one[END] <= end);

/** Rates a passage as an example: types and mentions raise the rating; low scores, errors, lists and numbers lower it. */
function worth(passage) {
  const inside = within(passage);
  if (inside.length < 2) return -Infinity;
  const text = passage.row.text.slice(passage.start, passage.end);
  const count = (found) => text.match(found)?.length ?? 0;
  const doubt = inside.reduce((sum, one) => sum + (one[SCORE] < 0 ? 0 : 1000 - one[SCORE]), 0) / inside.length / 1000;
  const errors = inside.filter((one) => one[STATE] > RIGHT).length;
  const types = new Set(inside.map((one) => one[TYPE])).size;
  const odd = count(/[^\p{L}\p{M}\s.,'"“”‘’。，、-]/gu) + count(/\n/g) * 2 + count(/\p{Lu}{4,}/gu) * 3;
  return types * 6 + Math.min(inside.length, 12) + text.length / 30 - doubt * 40 - errors * 10 - odd;
}

function drawFoot() {
  byId("foot").append(`Made ${moment(summary.made_at)} by Quarry ${summary.quarry} from `, name(summary.store), ".");
}
