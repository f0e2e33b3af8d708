// Figures → small charts. The drawings stretch with the page, so labels are separate text.

/** A horizontal bar, relative to the longest one. */
function bar(value, longest, colour) {
  const width = longest > 0 ? Math.max((value / longest) * 100, value > 0 ? 0.5 : 0) : 0;
  return make("span", { class: `meter ${colour ?? ""}`, "--part": `${width.toFixed(2)}%`, "aria-hidden": "true" });
}

/** A bar with its figure. */
const meter = (value, highest, text, colour) => make("span", { class: "score" }, bar(value, highest, colour), text);

/** A list of bars: {label, value, text, note}. */
function barList(rows) {
  const longest = Math.max(...rows.map((row) => row.value));
  return make(
    "ul",
    { class: "stages" },
    rows.map((row) =>
      make(
        "li",
        null,
        make("span", null, row.label),
        bar(row.value, longest),
        make("span", { class: "count" }, row.text),
        row.note !== undefined && make("span", { class: "note" }, row.note),
      ),
    ),
  );
}

/** A figure with a title and a note. */
const chart = (title, note, ...content) =>
  make("figure", null, make("figcaption", null, make("strong", null, title), ` ${note}`), ...content);

/** A drawing of `count` columns with height 100. */
function plot(label, kind, count, ...content) {
  const shape = {
    viewBox: `0 0 ${count} 100`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": label,
    class: kind,
  };
  return draw("svg", shape, ...content);
}

/** A column of a drawing, with its tooltip. */
function column(at, tip, ...content) {
  const own = draw(
    "g",
    { class: "column" },
    ...content,
    draw("rect", { class: "hit", x: at, y: 0, width: 1, height: 100 }),
  );
  if (tip) tips.set(own, tip);
  return own;
}

/**
 * Columns stacked from layers {class, values}; `from` is the first bin drawn, `tip` gives the tooltip of a column. Heights are square
 * roots, since most scores are close to 1 and the few low ones must stay visible.
 */
function histogram(label, layers, from, tip) {
  const count = layers[0]?.values.length ?? 0;
  const total = (at) => layers.reduce((sum, layer) => sum + layer.values[at], 0);
  const highest = Math.max(1, ...Array.from({ length: count - from }, (_, at) => total(at + from)));
  const columns = [];
  for (let at = from; at < count; at += 1) {
    let height = 0;
    const scale = (100 * Math.sqrt(total(at) / highest)) / Math.max(1, total(at));
    const parts = layers.map((layer) => {
      const own = layer.values[at] * scale;
      height += own;
      return (
        own > 0 && draw("rect", { class: layer.class, x: at - from + 0.06, y: 100 - height, width: 0.88, height: own })
      );
    });
    columns.push(column(at - from, total(at) > 0 && (() => tip(at)), ...parts));
  }
  return { drawing: plot(label, "histogram", count - from, columns), highest };
}

/** Lines over bins: {class, values}, each value in low..1 or null. */
function lines(label, series, count, low, tip) {
  const path = (values) => {
    let pen = "M";
    return values
      .map((value, at) => {
        if (value === null) return "";
        const step = `${pen}${at + 0.5} ${(100 - ((value - low) / (1 - low)) * 100).toFixed(2)}`;
        pen = "L";
        return step;
      })
      .join("");
  };
  const paths = series.map((one) => draw("path", { class: `line ${one.class}`, d: path(one.values) }));
  const hits = Array.from({ length: count }, (_, at) => column(at, () => tip(at)));
  return plot(label, "curves", count, paths, hits);
}

/** The trend of a figure: a line with a dot for each value and a larger one for the last. */
function spark(label, values, tip) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const y = (value) => (high > low ? 92 - ((value - low) / (high - low)) * 84 : 50);
  const dot = (value, at, size) => draw("path", { class: `dot ${size}`, d: `M${at + 0.5} ${y(value).toFixed(2)}h0` });
  const path = values.map((value, at) => `${at === 0 ? "M" : "L"}${at + 0.5} ${y(value).toFixed(2)}`).join("");
  const hits = values.map((value, at) =>
    column(at, () => tip(at), dot(value, at, at === values.length - 1 ? "last" : "")),
  );
  return plot(label, "spark", values.length, draw("path", { class: "line", d: path }), hits);
}

/** Axis labels below a drawing, at equal distances. */
const axis = (...labels) =>
  make(
    "div",
    { class: "axis", "aria-hidden": "true" },
    labels.map((label) => make("span", null, label)),
  );
