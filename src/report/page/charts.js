// Figures → small drawings. Drawings stretch with the page, so words stand beside them as text.

/** A horizontal bar: a part of the longest. */
function bar(value, longest, colour) {
  const width = longest > 0 ? Math.max((value / longest) * 100, value > 0 ? 0.5 : 0) : 0;
  return make("span", { class: `meter ${colour ?? ""}`, "--part": `${width.toFixed(2)}%`, "aria-hidden": "true" });
}

/**
 * Columns stacked from layers {class, values}; `from` is the first class drawn, `tip` says what a column is. Heights are square roots, for
 * scores crowd at 1 and the few doubtful ones are what one looks for.
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
    const column = draw(
      "g",
      { class: "column" },
      parts,
      draw("rect", { class: "hit", x: at - from, y: 0, width: 1, height: 100 }),
    );
    if (total(at) > 0) tips.set(column, () => tip(at));
    columns.push(column);
  }
  const shape = {
    viewBox: `0 0 ${count - from} 100`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": label,
    class: "histogram",
  };
  return { drawing: draw("svg", shape, columns), highest };
}

/** Lines over classes: {class, values}, each value in low..1 or null. */
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
  const hits = Array.from({ length: count }, (_, at) => {
    const column = draw("g", { class: "column" }, draw("rect", { class: "hit", x: at, y: 0, width: 1, height: 100 }));
    tips.set(column, () => tip(at));
    return column;
  });
  const paths = series.map((one) => draw("path", { class: `line ${one.class}`, d: path(one.values) }));
  const shape = {
    viewBox: `0 0 ${count} 100`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": label,
    class: "curves",
  };
  return draw("svg", shape, paths, hits);
}

/** The course of a figure: a line, a dot for each value and a larger one for the last. */
function spark(label, values, tip) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const y = (value) => (high > low ? 92 - ((value - low) / (high - low)) * 84 : 50);
  const dot = (value, at, size) => draw("path", { class: `dot ${size}`, d: `M${at + 0.5} ${y(value).toFixed(2)}h0` });
  const path = values.map((value, at) => `${at === 0 ? "M" : "L"}${at + 0.5} ${y(value).toFixed(2)}`).join("");
  const hits = values.map((value, at) => {
    const column = draw(
      "g",
      { class: "column" },
      dot(value, at, at === values.length - 1 ? "last" : ""),
      draw("rect", { class: "hit", x: at, y: 0, width: 1, height: 100 }),
    );
    tips.set(column, () => tip(at));
    return column;
  });
  const shape = {
    viewBox: `0 0 ${values.length} 100`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": label,
    class: "spark",
  };
  return draw("svg", shape, draw("path", { class: "line", d: path }), hits);
}

/** Numbers below a drawing, at equal distances. */
const axis = (...labels) =>
  make(
    "div",
    { class: "axis", "aria-hidden": "true" },
    labels.map((label) => make("span", null, label)),
  );
