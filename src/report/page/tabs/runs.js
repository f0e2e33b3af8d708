// Runs: time by stage, trends over runs, settings and figures, rejects.

/** The stages of a run in processing order. */
const STAGES = ["start", "read", "tokenize", "tensors", "wait", "inference", "decode", "write", "commit"];
/** Figures shown as trends: name, label, format. */
const TRENDS = [
  ["f1", "F1", (value) => percent(value)],
  ["documents", "Documents", whole],
  ["mentions", "Mentions", whole],
  ["rejects", "Rejects", whole],
  ["documents_per_second", "Documents/s", short],
  ["seconds", "Time", seconds],
];

function drawRuns() {
  if (summary.runs.length === 0) return;
  const content = open("runs", plural(summary.runs.length + summary.earlier_runs, "run"));
  const stages = STAGES.map((stage) => [
    stage,
    ofRun("seconds", `stage:${stage}`),
    ofRun("share", `stage:${stage}`),
  ]).filter((one) => one[1] !== undefined);
  const charts = make("div", { class: "charts" });
  if (stages.length > 0) {
    const rows = stages.map(([label, value, share]) => ({ label, value, text: percent(share), note: seconds(value) }));
    charts.append(chart("Time by stage", "share of the run’s time; stages overlap", barList(rows)));
  }
  const measured = summary.runs.filter((run) => run.measured);
  if (measured.length > 1) {
    const trends = TRENDS.map(([key, label, write]) => ({
      label,
      write,
      runs: measured.filter((run) => run.figures[key] !== undefined),
      key,
    })).filter(({ runs }) => runs.length > 1);
    charts.append(
      chart(
        "Trends",
        `the last ${plural(measured.length, "run")} with new documents`,
        make(
          "ul",
          { class: "courses" },
          trends.map(({ label, write, runs, key }) => {
            const values = runs.map((run) => run.figures[key]);
            return make(
              "li",
              null,
              make("span", null, label),
              spark(`Trend of ${label}`, values, (at) => [
                make("p", { class: "tip-head" }, write(values[at])),
                make("p", null, moment(runs[at].started_at)),
              ]),
              make("span", { class: "count" }, write(values[values.length - 1])),
            );
          }),
        ),
      ),
    );
  }
  content.append(charts);
  const rows = [...summary.runs]
    .reverse()
    .slice(0, 12)
    .map((run) => {
      const of = (key, write) => (run.figures[key] === undefined ? "" : write(run.figures[key]));
      const counts = run.counts ?? {};
      return [
        make("span", { title: run.id }, moment(run.started_at)),
        make("span", { class: run.outcome === "done" ? "" : "bad" }, run.outcome),
        whole(counts.documents ?? 0),
        whole(counts.mentions ?? 0),
        whole(counts.rejects ?? 0),
        of("seconds", seconds),
        of("documents_per_second", short),
        of("f1", (value) => percent(value)),
        name(`${modelName(run)}, ${run.precision}, ${run.device}`),
      ];
    });
  const header = ["started", "outcome", "documents", "mentions", "rejects", "time", "documents/s", "F1", "model"];
  const f1 = header.indexOf("F1");
  const withoutEmptyF1 = summary.runs.some((run) => run.figures.f1 !== undefined)
    ? (row) => row
    : (row) => row.filter((_, at) => at !== f1);
  content.append(
    table("Latest runs", withoutEmptyF1(header), rows.map(withoutEmptyF1), [
      2,
      3,
      4,
      5,
      6,
      ...(withoutEmptyF1(header).length === header.length ? [7] : []),
    ]),
  );
  if (summary.settings.length > 0) {
    const settings = summary.settings.map(([setting, value]) => [name(setting), name(value)]);
    const shown = table("Settings of the run", ["setting", "value"], settings, []);
    content.append(folded("Settings of the run’s job", false, shown));
  }
  if (summary.figures.length > 0) {
    const figures = summary.figures.map(([scope, figureName, value, unit]) => [
      name(scope),
      spaced(figureName),
      figure(value, unit),
    ]);
    const shown = table("All figures of the run", ["scope", "figure", "value"], figures, [2]);
    content.append(folded(`All ${whole(figures.length)} figures of the run`, false, shown));
  }
}

function drawRejects() {
  if (summary.rejects.length === 0) return;
  const content = open("rejects", plural(summary.totals.rejects, "row"));
  content.append(
    barList(summary.rejects.map(({ reason, count }) => ({ label: spaced(reason), value: count, text: whole(count) }))),
  );
  const rows = summary.rejects.flatMap((one) =>
    one.examples.map(([source, row, id, detail]) => [
      spaced(one.reason),
      name(source.split("/").pop(), { title: source }),
      row,
      name(id),
      name(detail),
    ]),
  );
  const line = rows.length < summary.totals.rejects ? `${plural(rows.length, "example")}` : "All rejects";
  content.append(folded(line, false, table("Rejects", ["reason", "file", "row", "id", "detail"], rows, [2])));
}
