// The store at a glance: what it is, its figures, types, scores, names, runs and rejects.

/** The run's figure with this name, or undefined. */
const ofRun = (figureName, scope = "all") => summary.figures.find((one) => one[0] === scope && one[1] === figureName)?.[2];

const theRun = () => summary.runs.find((run) => run.id === summary.run);

function drawHead() {
  const { totals } = summary;
  const run = theRun();
  const about = run && make("p", { class: "about" },
    "model ", name(run.model.split("/").filter(Boolean).pop() ?? run.model, { title: run.model }), `, ${run.flavour} on ${run.device}`, make("span", { class: "dot-between" }),
    make("time", { datetime: run.started_at }, moment(run.started_at)), make("span", { class: "dot-between" }), `run ${run.outcome}`);
  const scope = [summary.only_run && "the documents of one run", summary.only_types && "some types"].filter(Boolean);
  const figures = [];
  const add = (label, value, unit, note) => figures.push(make("div", { class: "figure" },
    make("dt", null, label), make("dd", null, make("span", { class: "value" }, value, unit && make("small", null, unit)), make("span", { class: "note" }, note ?? ""))));
  const { quality } = summary;
  if (quality) {
    const { f1, precision, recall } = quality.all;
    add("F1", percent(f1), "", `precision ${percent(precision)}, recall ${percent(recall)}`);
  }
  add("Mentions", whole(totals.mentions), "", totals.documents > 0 ? `${short(totals.mentions / totals.documents)} a document` : "");
  add("Documents", whole(totals.documents), "", `${whole(totals.characters)} characters`);
  const rate = ofRun("documents_per_second");
  if (rate !== undefined && ofRun("documents") > 0) add("Speed", short(rate), "documents/s", `${whole(ofRun("tokens_per_second"))} tokens/s`);
  if (ofRun("seconds") !== undefined) add("Time", ...split(seconds(ofRun("seconds"))), ofRun("peak_memory") ? `${bytes(ofRun("peak_memory"))} of memory` : "");
  add("Rejects", whole(totals.rejects), "", totals.rejects > 0 ? percent(totals.rejects / (totals.documents + totals.rejects)) : "every document is done");
  byId("head").append(make("p", { class: "kicker" }, "Entities in"), make("h1", null, name(summary.name, { title: summary.store })), about ?? "",
    scope.length > 0 ? make("p", { class: "about" }, `Only ${scope.join(" and ")}.`) : "", make("dl", { class: "figures" }, figures));
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
      const score = kinds * 6 + Math.min(inside.length, 12) + least * 20 - inside.filter((one) => one[STATE] > RIGHT).length * 10
        + Math.min(end - start, 420) / 40 - (text.match(/\n\s*\n/g)?.length ?? 0) * 6 - (text.match(/\d/g)?.length ?? 0) / 6;
      if (inside.length > 1 && (best === null || score > best.score)) best = { row, start, end, score };
    }
  }
  if (best === null) return;
  const { row, start, end } = best;
  const content = open("passage");
  const describe = describeMention(row);
  content.append(make("figure", { class: "passage" },
    marked(row.text, row.mentions.filter((one) => one[START] >= start && one[END] <= end), start, end, describe),
    make("figcaption", null, "From ", make("a", { href: "#documents", onclick: () => showOnly({ search: row.id }) }, name(row.id)), ". ",
      "Every box is a row of the table ", make("code", null, "entities"), ": point at one to see its score.")));
}

function sentenceStart(text, at) {
  const before = Math.max(text.lastIndexOf("\n", at - 1), text.lastIndexOf(". ", at - 1) + 1, text.lastIndexOf("。", at - 1), 0);
  const start = at - before > 160 ? text.lastIndexOf(" ", at - 1) + 1 : before;
  return start + (text.slice(start).match(/^\s*/)?.[0].length ?? 0);
}

function sentenceEnd(text, at) {
  if (at >= text.length) return text.trimEnd().length;
  const stops = [text.lastIndexOf(". ", at) + 1, text.lastIndexOf("。", at) + 1, text.lastIndexOf("\n", at)];
  const stop = Math.max(...stops);
  return stop > at - 220 ? stop : Math.max(text.lastIndexOf(" ", at), at - 60);
}

function drawTypes() {
  const types = summary.types.map((type, index) => ({ type, index })).filter(({ type }) => type.mentions > 0 || type.question !== "");
  if (types.length === 0) return;
  const content = open("types", plural(types.length, "question"));
  const longest = Math.max(...types.map(({ type }) => type.mentions));
  const first = firstBin();
  content.append(make("ul", { class: "types" }, types.map(({ type, index }) => {
    const colour = `t${index % COLOURS}`;
    const scores = histogram(`${type.name} by score`, [{ class: colour, values: type.scores }], first, (at) => [make("p", null, `${whole(type.scores[at])} with a score of ${binName(at)}`)]);
    return make("li", null,
      make("button", { type: "button", class: "type", onclick: () => showOnly({ types: [index] }), title: "Show the documents that have some" }, swatch(index), name(type.name)),
      make("span", { class: "question" }, type.question === "" ? "" : make("bdi", { dir: "auto" }, type.question)),
      make("span", { class: "bar-cell" }, bar(type.mentions, longest, colour)),
      make("span", { class: "count" }, whole(type.mentions)),
      make("span", { class: "mean" }, type.mentions > 0 ? `mean score ${type.mean_score.toFixed(2)}` : "none found"),
      make("span", { class: "mini" }, type.mentions > 0 ? scores.drawing : ""));
  })));
}

/** The first class of scores that has any, at a tenth. */
function firstBin() {
  const first = Math.min(summary.bins - 1, ...summary.types.map((type) => type.scores.findIndex((count) => count > 0)).filter((at) => at >= 0));
  return Math.floor(first / (summary.bins / 10)) * (summary.bins / 10);
}

const binName = (at) => `${(at / summary.bins).toFixed(2)} to ${((at + 1) / summary.bins).toFixed(2)}`;

function drawScores() {
  if (summary.totals.mentions === 0) return;
  const content = open("scores", "σ of the match logit");
  const first = firstBin();
  const shown = summary.types.map((type, index) => ({ type, index })).filter(({ type }) => type.mentions > 0);
  const joined = summary.quality?.joined;
  const sum = (pick) => Array.from({ length: summary.bins }, (_, at) => shown.reduce((all, { type }) => all + pick(type, at), 0));
  const right = joined ? sum((type, at) => type.right[at]) : null;
  const all = sum((type, at) => type.scores[at]);
  const layers = joined
    ? [{ class: "is-right", values: right }, { class: "is-wrong", values: all.map((count, at) => count - right[at]) }]
    : shown.map(({ type, index }) => ({ class: `t${index % COLOURS}`, values: type.scores }));
  const tip = (at) => [make("p", { class: "tip-head" }, `score ${binName(at)}`), make("p", null, plural(all[at], "mention")),
    joined ? make("p", null, `${percent(all[at] > 0 ? right[at] / all[at] : 0)} right`)
      : shown.filter(({ type }) => type.scores[at] > 0).map(({ type, index }) => make("p", null, swatch(index), name(type.name), ` ${whole(type.scores[at])}`))];
  const chart = histogram("Mentions by score", layers, first, tip);
  const sure = all.slice(Math.floor(summary.bins * 0.9)).reduce((one, other) => one + other, 0) / summary.totals.mentions;
  const charts = make("div", { class: "charts" }, make("figure", null,
    make("figcaption", null, make("strong", null, "Mentions by score"), ` ${percent(sure, 0)} have 0.9 or more; heights are square roots`), make("div", { class: "frame" }, make("span", { class: "top" }, whole(chart.highest)), chart.drawing),
    ticks(first), joined ? key([["is-right", "right"], ["is-wrong", "wrong"]]) : key(shown.map(({ type, index }) => [`t${index % COLOURS}`, type.name]))));
  if (joined) charts.append(thresholds(first, all, right));
  content.append(charts);
}

/** The scores below a drawing from class `first` on. */
function ticks(first) {
  const from = first / summary.bins;
  return axis(...[0, 0.25, 0.5, 0.75, 1].map((part) => String(Math.round((from + (1 - from) * part) * 1000) / 1000)));
}

const key = (entries) => make("ul", { class: "key" }, entries.map(([colour, label]) => make("li", null, make("span", { class: `swatch ${colour}`, "aria-hidden": "true" }), name(label))));

function drawNames() {
  const types = summary.types.map((type, index) => ({ type, index })).filter(({ type }) => type.names.length > 0);
  if (types.length === 0) return;
  const content = open("names", "most mentioned");
  content.append(make("div", { class: "names" }, types.map(({ type, index }) => make("div", null,
    make("h3", null, swatch(index), name(type.name), make("small", null, `${whole(type.distinct)} different`)),
    make("ol", null, type.names.map(([text, mentions, inDocuments]) => make("li", null,
      make("button", { type: "button", onclick: () => showOnly({ search: text, types: [index] }), title: `in ${plural(inDocuments, "document")}` }, make("bdi", null, text)),
      bar(mentions, type.names[0][1], `t${index % COLOURS}`), make("span", { class: "count" }, whole(mentions)))))))));
}

/** The stages of a run in the order of the work. */
const STAGES = ["read", "tokenize", "inference", "decode", "commit"];
/** Figures whose course is shown: name, label, how it is written. */
const COURSES = [
  ["f1", "F1", (value) => percent(value)], ["documents", "Documents", whole], ["mentions", "Mentions", whole], ["rejects", "Rejects", whole],
  ["documents_per_second", "Documents a second", short], ["seconds", "Time", seconds],
];

function drawRuns() {
  if (summary.runs.length === 0) return;
  const content = open("runs", plural(summary.runs.length + summary.earlier_runs, "run"));
  const stages = STAGES.map((stage) => [stage, ofRun("seconds", `stage:${stage}`), ofRun("share", `stage:${stage}`)]).filter((one) => one[1] !== undefined);
  const charts = make("div", { class: "charts" });
  if (stages.length > 0) {
    const longest = Math.max(...stages.map((one) => one[1]));
    charts.append(make("figure", null, make("figcaption", null, make("strong", null, "Where the time went"), " share of the run’s time; stages overlap"),
      make("ul", { class: "stages" }, stages.map(([stage, time, share]) => make("li", null,
        make("span", null, stage), bar(time, longest), make("span", { class: "count" }, percent(share)), make("span", { class: "note" }, seconds(time)))))));
  }
  const measured = summary.runs.filter((run) => run.measured);
  if (measured.length > 1) {
    const courses = COURSES.map(([key, label, write]) => ({ label, write, runs: measured.filter((run) => run.figures[key] !== undefined), key })).filter(({ runs }) => runs.length > 1);
    charts.append(make("figure", null, make("figcaption", null, make("strong", null, "From run to run"), ` the last ${whole(measured.length)} that extracted something`),
      make("ul", { class: "courses" }, courses.map(({ label, write, runs, key }) => {
        const values = runs.map((run) => run.figures[key]);
        return make("li", null, make("span", null, label),
          spark(`${label} from run to run`, values, (at) => [make("p", { class: "tip-head" }, write(values[at])), make("p", null, moment(runs[at].started_at))]),
          make("span", { class: "count" }, write(values[values.length - 1])));
      }))));
  }
  content.append(charts);
  const rows = [...summary.runs].reverse().slice(0, 12).map((run) => {
    const of = (key, write) => (run.figures[key] === undefined ? "" : write(run.figures[key]));
    const counts = run.counts ?? {};
    return [make("span", { title: run.id }, moment(run.started_at)), make("span", { class: run.outcome === "done" ? "" : "bad" }, run.outcome), whole(counts.documents ?? 0), whole(counts.mentions ?? 0),
      whole(counts.rejects ?? 0), of("seconds", seconds), of("documents_per_second", short), of("f1", (value) => percent(value)), name(`${run.model.split("/").filter(Boolean).pop() ?? ""}, ${run.flavour}, ${run.device}`)];
  });
  const header = ["begun", "outcome", "documents", "mentions", "rejects", "time", "documents/s", "F1", "model"];
  const f1 = header.indexOf("F1");
  const without = summary.runs.some((run) => run.figures.f1 !== undefined) ? (row) => row : (row) => row.filter((_, at) => at !== f1);
  content.append(table("The last runs", without(header), rows.map(without), [2, 3, 4, 5, 6, ...(without(header).length === header.length ? [7] : [])]));
  if (summary.figures.length > 0) {
    const figures = summary.figures.map(([scope, figureName, value, unit]) => [name(scope), spaced(figureName), figure(value, unit)]);
    content.append(make("details", null, make("summary", null, `All ${whole(figures.length)} figures of the run`), table("All figures of the run", ["scope", "figure", "value"], figures, [2])));
  }
}

function drawRejects() {
  if (summary.rejects.length === 0) return;
  const content = open("rejects", plural(summary.totals.rejects, "row"));
  const longest = Math.max(...summary.rejects.map((one) => one.count));
  content.append(make("ul", { class: "stages" }, summary.rejects.map((one) => make("li", null, make("span", null, spaced(one.reason)), bar(one.count, longest), make("span", { class: "count" }, whole(one.count))))));
  const rows = summary.rejects.flatMap((one) => one.examples.map(([source, row, id, detail]) => [spaced(one.reason), name(source.split("/").pop(), { title: source }), row, name(id), name(detail)]));
  content.append(make("details", null, make("summary", null, rows.length < summary.totals.rejects ? `${whole(rows.length)} of them` : "All of them"), table("Rejects", ["reason", "file", "row", "id", "detail"], rows, [2])));
}

function drawFoot() {
  byId("foot").append(`Made ${moment(summary.made_at)} by Quarry ${summary.quarry} from `, name(summary.store), ".");
}
