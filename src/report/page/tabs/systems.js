// Systems: several systems side by side, as `quarry evaluate --compare` measured them.

function drawSystems() {
  const { comparison } = summary;
  if (!comparison) return;
  const { systems } = comparison;
  const content = open("systems", `${plural(comparison.documents, "document")}, strict`);
  const missing = "–";
  const row = (one) => [
    make("strong", { title: one.location }, name(one.name)),
    meter(one.micro.f1, 1, percent(one.micro.f1)),
    one.interval ? `${percent(one.interval.low)} to ${percent(one.interval.high)}` : missing,
    percent(one.micro.precision),
    percent(one.micro.recall),
    percent(one.macro_average.f1),
    one.speed ? whole(Math.round(one.speed.tokens_per_second)) : missing,
    one.speed ? one.speed.seconds_per_type.toFixed(2) : missing,
  ];
  content.append(
    table(
      "Systems",
      ["", "F1", "95 % interval", "precision", "recall", "macro F1", "tokens/s", "s/type"],
      systems.map(row),
      [1, 2, 3, 4, 5, 6, 7],
    ),
  );
  const parts = (of) => [...new Set(systems.flatMap((one) => of(one).map((part) => part.name)))].sort();
  const line = (of) => (part) => [
    name(part),
    ...systems.map((one) => {
      const own = of(one).find((other) => other.name === part);
      return own ? percent(own.f1) : missing;
    }),
  ];
  const [types, nesting] = [(one) => one.types, (one) => one.nesting];
  content.append(
    table(
      "F1 by type",
      ["F1", ...systems.map((one) => one.name)],
      [...parts(types).map(line(types)), ...parts(nesting).map(line(nesting))],
      systems.map((_, at) => at + 1),
    ),
  );
  const compared = systems.filter((one) => one.difference);
  if (compared.length > 0) {
    const signed = (value) => `${value < 0 ? "−" : "+"}${(Math.abs(value) * 100).toFixed(2)}`;
    content.append(
      table(
        "Differences of F1",
        [`F1 against ${systems[0].name}`, "points", "95 % interval", "p", "adjusted p"],
        compared.map(({ name: own, difference }) => [
          name(own),
          signed(difference.f1),
          `${signed(difference.interval.low)} to ${signed(difference.interval.high)}`,
          difference.p_value.toFixed(4),
          difference.adjusted_p_value.toFixed(4),
        ]),
        [1, 2, 3, 4],
      ),
    );
  }
  const notes = systems
    .filter((one) => one.speed)
    .map((one) => `${one.name}: ${one.speed.measured}, ${plural(one.speed.types, "type")}`);
  content.append(
    make(
      "p",
      { class: "notes" },
      compared.length > 0 ? "p: approximate randomization of documents, adjusted by Holm’s method. " : "",
      notes.length > 0 ? `s/type: seconds per million characters of text. ${notes.join("; ")}.` : "",
    ),
  );
}
