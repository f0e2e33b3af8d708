// Types with their questions, the distribution of scores, the most frequent names.

/** The types that `keep` accepts, with their indices. */
const typesThat = (keep) => summary.types.map((type, index) => ({ type, index })).filter(({ type }) => keep(type));

function drawTypes() {
  const types = typesThat((type) => type.mentions > 0 || type.question !== "");
  if (types.length === 0) return;
  const content = open("types", plural(types.length, "question"));
  const longest = Math.max(...types.map(({ type }) => type.mentions));
  const first = firstBin();
  content.append(
    make(
      "ul",
      { class: "types" },
      types.map(({ type, index }) => {
        const colour = colourOf(index);
        const scores = histogram(`${type.name} by score`, [{ class: colour, values: type.scores }], first, (at) => [
          make("p", null, `${whole(type.scores[at])} with a score of ${binName(at)}`),
        ]);
        return make(
          "li",
          null,
          make(
            "button",
            {
              type: "button",
              class: "type",
              onclick: () => showOnly({ types: [index] }),
              title: "Show the documents with mentions of this type",
            },
            swatch(index),
            name(type.name),
          ),
          make("span", { class: "question" }, type.question === "" ? "" : make("bdi", { dir: "auto" }, type.question)),
          make("span", { class: "bar-cell" }, bar(type.mentions, longest, colour)),
          make("span", { class: "count" }, whole(type.mentions)),
          make(
            "span",
            { class: "mean" },
            type.mentions > 0 ? `mean score ${type.mean_score.toFixed(2)}` : "none found",
          ),
          make("span", { class: "mini" }, type.mentions > 0 ? scores.drawing : ""),
        );
      }),
    ),
  );
}

/** The first bin with mentions, rounded down to a tenth. */
function firstBin() {
  const first = Math.min(
    summary.bins - 1,
    ...summary.types.map((type) => type.scores.findIndex((count) => count > 0)).filter((at) => at >= 0),
  );
  return Math.floor(first / (summary.bins / 10)) * (summary.bins / 10);
}

const binName = (at) => `${(at / summary.bins).toFixed(2)} to ${((at + 1) / summary.bins).toFixed(2)}`;

function drawScores() {
  if (summary.totals.mentions === 0) return;
  const content = open("scores", "sigmoid of the match logit");
  const first = firstBin();
  const shown = typesThat((type) => type.mentions > 0);
  const joined = summary.quality?.joined;
  const sum = (pick) =>
    Array.from({ length: summary.bins }, (_, at) => shown.reduce((all, { type }) => all + pick(type, at), 0));
  const right = joined ? sum((type, at) => type.right[at]) : null;
  const all = sum((type, at) => type.scores[at]);
  const layers = joined
    ? [
        { class: "is-right", values: right },
        { class: "is-wrong", values: all.map((count, at) => count - right[at]) },
      ]
    : shown.map(({ type, index }) => ({ class: colourOf(index), values: type.scores }));
  const tip = (at) => [
    make("p", { class: "tip-head" }, `score ${binName(at)}`),
    make("p", null, plural(all[at], "mention")),
    joined
      ? make("p", null, `${percent(all[at] > 0 ? right[at] / all[at] : 0)} right`)
      : shown
          .filter(({ type }) => type.scores[at] > 0)
          .map(({ type, index }) => make("p", null, swatch(index), name(type.name), ` ${whole(type.scores[at])}`)),
  ];
  const { drawing, highest } = histogram("Mentions by score", layers, first, tip);
  const sure =
    all.slice(Math.floor(summary.bins * 0.9)).reduce((one, other) => one + other, 0) / summary.totals.mentions;
  const charts = make(
    "div",
    { class: "charts" },
    chart(
      "Mentions by score",
      `${percent(sure, 0)} have 0.9 or more; heights are square roots`,
      make("div", { class: "frame" }, make("span", { class: "top" }, whole(highest)), drawing),
      ticks(first),
      joined
        ? key([
            ["is-right", "right"],
            ["is-wrong", "wrong"],
          ])
        : key(shown.map(({ type, index }) => [colourOf(index), type.name])),
    ),
  );
  if (joined) charts.append(thresholds(first, all, right));
  if (summary.quality?.reliability.length > 0) charts.append(reliability(summary.quality.reliability));
  content.append(charts);
}

/** The score axis of a drawing that starts at bin `first`. */
function ticks(first) {
  const from = first / summary.bins;
  return axis(...[0, 0.25, 0.5, 0.75, 1].map((part) => String(Math.round((from + (1 - from) * part) * 1000) / 1000)));
}

const key = (entries) =>
  make(
    "ul",
    { class: "key" },
    entries.map(([colour, label]) =>
      make("li", null, make("span", { class: `swatch ${colour}`, "aria-hidden": "true" }), name(label)),
    ),
  );

function drawNames() {
  const types = typesThat((type) => type.names.length > 0);
  if (types.length === 0) return;
  const content = open("names", "most frequent");
  content.append(
    make(
      "div",
      { class: "names" },
      types.map(({ type, index }) =>
        make(
          "div",
          null,
          make("h3", null, swatch(index), name(type.name), make("small", null, `${whole(type.distinct)} different`)),
          make(
            "ol",
            null,
            type.names.map(([text, mentions, inDocuments]) =>
              make(
                "li",
                null,
                make(
                  "button",
                  {
                    type: "button",
                    onclick: () => showOnly({ search: text, types: [index] }),
                    title: `in ${plural(inDocuments, "document")}`,
                  },
                  make("bdi", null, text),
                ),
                bar(mentions, type.names[0][1], colourOf(index)),
                make("span", { class: "count" }, whole(mentions)),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}
