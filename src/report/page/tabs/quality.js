// Quality: scores by type, the confusion matrix, error classes, the most frequent errors, and the effect of a threshold.

/** Error classes, by the overlapping mention on the other side. */
const REASONS = [
  ["type", "same span, other type"],
  ["boundary", "same type, other boundaries"],
  ["type_and_boundary", "overlaps another type"],
  ["nothing_there", "no overlapping mention"],
];

function drawQuality() {
  const { quality } = summary;
  if (!quality) {
    if (summary.quality_remark) open("quality").append(make("p", { class: "lede" }, summary.quality_remark));
    return;
  }
  const content = open("quality", "strict: document, type, start and end");
  if (summary.quality_remark)
    content.append(
      make("p", { class: "lede" }, summary.quality_remark, " The scores are those that the run measured."),
    );
  const row = (one, label, colour) => [
    label,
    ...[one.f1, one.precision, one.recall].map((share) => meter(share, 1, percent(share), colour)),
    whole(one.true_positives),
    whole(one.false_positives),
    whole(one.false_negatives),
  ];
  const index = (typeName) => summary.types.findIndex((type) => type.name === typeName);
  const types = quality.types.map((one) => row(one, typeLabel(index(one.name)), colourOf(index(one.name))));
  content.append(
    table(
      "Scores by type",
      ["", "F1", "precision", "recall", "right", "wrong", "missed"],
      [row(quality.all, make("strong", null, "all"), ""), ...types],
      [1, 2, 3, 4, 5, 6],
    ),
  );
  if (!quality.joined) return;
  content.append(make("div", { class: "charts" }, confusionMatrix(quality), errorClasses(quality)));
  if (quality.frequent_errors.length > 0) content.append(frequentErrors(quality, index));
}

function confusionMatrix(quality) {
  const names = [...new Set(quality.confusion.flatMap(([gold, predicted]) => [gold, predicted]))]
    .filter((one) => one !== "")
    .sort();
  names.push("");
  const label = (one) => (one === "" ? make("em", null, "none") : name(one));
  const count = (gold, predicted) => quality.confusion.find((one) => one[0] === gold && one[1] === predicted)?.[2] ?? 0;
  const highest = Math.max(1, ...quality.confusion.filter((one) => one[0] !== one[1]).map((one) => one[2]));
  const cell = (gold, predicted) => {
    if (gold === "" && predicted === "") return make("td", { class: "number" });
    const number = count(gold, predicted);
    const same = gold === predicted;
    const weight = same ? 0 : Math.sqrt(number / highest);
    return make(
      "td",
      { class: `number heat ${same ? "same" : ""}`, "--heat": `${(weight * 60).toFixed(0)}%` },
      number > 0 ? whole(number) : "·",
    );
  };
  return chart(
    "Confusion matrix",
    "rows: gold, columns: predicted, with the same span",
    scroll(
      "Confusion matrix",
      make(
        "table",
        { class: "confusion" },
        make(
          "thead",
          null,
          make(
            "tr",
            null,
            make("td", null),
            names.map((one) => make("th", { scope: "col", class: "number" }, label(one))),
          ),
        ),
        make(
          "tbody",
          null,
          names.map((gold) =>
            make(
              "tr",
              null,
              make("th", { scope: "row" }, label(gold)),
              names.map((predicted) => cell(gold, predicted)),
            ),
          ),
        ),
      ),
    ),
  );
}

function errorClasses(quality) {
  const count = (kind, reason) => quality.kinds.find((one) => one[0] === kind && one[1] === reason)?.[2] ?? 0;
  const highest = Math.max(1, ...quality.kinds.map((one) => one[2]));
  const rows = REASONS.map(([reason, label]) => [
    label,
    ...["false_positive", "false_negative"].map((kind) =>
      meter(count(kind, reason), highest, whole(count(kind, reason)), "is-wrong"),
    ),
  ]);
  return chart(
    "Error classes",
    "by the overlapping mention on the other side",
    table("Error classes", ["", "wrong", "missed"], rows, [1, 2]),
  );
}

function frequentErrors(quality, index) {
  const rows = quality.frequent_errors.map((one) => {
    const wrong = one.kind === "false_positive";
    const other = one.other_type === "" ? make("em", null, "none") : typeLabel(index(one.other_type));
    const own = typeLabel(index(one.entity_type));
    const look = () => showOnly({ search: one.text });
    return [
      make("button", { type: "button", class: "link", onclick: look }, make("bdi", null, one.text)),
      make("span", { class: `state s${wrong ? WRONG : MISSED}` }, wrong ? "wrong" : "missed"),
      wrong ? other : own,
      wrong ? own : other,
      REASONS.find(([reason]) => reason === one.reason)?.[1] ?? spaced(one.reason),
      whole(one.mentions),
      whole(one.documents),
    ];
  });
  return folded(
    `The ${whole(rows.length)} most frequent errors`,
    rows.length <= 8,
    quality.without_text > 0
      ? make(
          "p",
          { class: "notes" },
          `Not counted here: ${plural(quality.without_text, "error")} without a text in the gold table.`,
        )
      : null,
    table("Most frequent errors", ["text", "error", "gold", "predicted", "class", "count", "documents"], rows, [5, 6]),
  );
}

/** Precision, recall and F1 of the mentions at or above a score. */
function thresholds(first, all, right) {
  const gold = summary.quality.all.true_positives + summary.quality.all.false_negatives;
  const points = [];
  let [found, good] = [0, 0];
  for (let at = summary.bins - 1; at >= first; at -= 1) {
    found += all[at];
    good += right[at];
    const precision = found > 0 ? good / found : null;
    const recall = gold > 0 ? good / gold : null;
    points.unshift({
      precision,
      recall,
      f1: precision + recall > 0 ? (2 * precision * recall) / (precision + recall) : null,
    });
  }
  const best = points.reduce(
    (best, point, at) => (point.f1 !== null && point.f1 > (points[best]?.f1 ?? -1) ? at : best),
    0,
  );
  const of = (key) => points.map((point) => point[key]);
  const minimum = (at) => ((at + first) / summary.bins).toFixed(2);
  const write = (value) => (value === null ? "–" : percent(value));
  const tip = (at) => [
    make("p", { class: "tip-head" }, `score ${minimum(at)} or more`),
    make("p", null, `F1 ${write(points[at].f1)}`),
    make("p", null, `precision ${write(points[at].precision)}, recall ${write(points[at].recall)}`),
  ];
  const lowest = Math.min(...points.flatMap((point) => Object.values(point).filter((value) => value !== null)), 1);
  const floor = Math.max(0, Math.floor(lowest * 10 - 0.5) / 10);
  const curves = lines(
    "Precision, recall and F1 by minimum score",
    [
      { class: "precision", values: of("precision") },
      { class: "recall", values: of("recall") },
      { class: "f1", values: of("f1") },
    ],
    points.length,
    floor,
    tip,
  );
  return chart(
    "Scores by threshold",
    `best F1 ${write(points[best].f1)} at minimum score ${minimum(best)}`,
    make(
      "div",
      { class: "frame" },
      make("span", { class: "top" }, percent(1, 0)),
      make("span", { class: "bottom" }, percent(floor, 0)),
      curves,
    ),
    ticks(first),
    key([
      ["f1", "F1"],
      ["precision", "precision"],
      ["recall", "recall"],
    ]),
  );
}

/** The share of right mentions against their scores: below the mean score, scores promise too much. */
function reliability([all, ...types]) {
  const first = all.bins.findIndex((bin) => bin.mentions > 0);
  const bins = all.bins.slice(first);
  const share = (bin) => (bin.mentions > 0 ? bin.right / bin.mentions : null);
  const mean = (bin) => (bin.mentions > 0 ? bin.score / bin.mentions : null);
  const from = first / all.bins.length;
  const values = bins.flatMap((bin) => [share(bin), mean(bin)]).filter((value) => value !== null);
  const floor = Math.floor(Math.min(...values) * 10) / 10;
  const line = (type, at) => {
    const bin = type.bins[at + first];
    return make("p", null, name(type.name), ` ${percent(share(bin))} of ${whole(bin.mentions)}`);
  };
  const tip = (at) => {
    const [low, high] = [at + first, at + first + 1].map((edge) => (edge / all.bins.length).toFixed(2));
    if (bins[at].mentions === 0) return [make("p", { class: "tip-head" }, `no score of ${low} to ${high}`)];
    return [
      make("p", { class: "tip-head" }, `score ${low} to ${high}: mean ${percent(mean(bins[at]))}`),
      make("p", null, `${percent(share(bins[at]))} of ${plural(bins[at].mentions, "mention")} right`),
      types.filter((type) => type.bins[at + first].mentions > 0).map((type) => line(type, at)),
    ];
  };
  const series = [
    { class: "recall", values: bins.map(mean) },
    { class: "f1", values: bins.map(share) },
  ];
  const label = (part) => String(Math.round((from + (1 - from) * part) * 100) / 100);
  return chart(
    "Reliability",
    `expected calibration error ${percent(all.error)}, in ${whole(all.bins.length)} bins`,
    make(
      "div",
      { class: "frame" },
      make("span", { class: "top" }, percent(1, 0)),
      make("span", { class: "bottom" }, percent(floor, 0)),
      lines("Share of right mentions by score", series, bins.length, Math.min(floor, 0.9), tip),
    ),
    axis(...[0, 0.25, 0.5, 0.75, 1].map(label)),
    key([
      ["f1", "share right"],
      ["recall", "mean score"],
    ]),
    types.length > 1 &&
      table(
        "Calibration error by type",
        ["type", "calibration error"],
        types.map((type) => [name(type.name), percent(type.error)]),
        [1],
      ),
  );
}
