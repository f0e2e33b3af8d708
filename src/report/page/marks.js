// A text and its mentions → nested boxes. Mentions can nest and cross; the text itself is not changed.

/** The indices of a mention's fields. */
const TYPE = 0,
  START = 1,
  END = 2,
  SCORE = 3,
  STATE = 4;
/** The states of a mention. */
const FOUND = 0,
  RIGHT = 1,
  WRONG = 2,
  MISSED = 3;

/**
 * Mentions as a tree of pieces {row, start, end, first, last, height, children}. A mention that crosses the end of another one is split
 * there, so that boxes always nest.
 */
function pieces(rows, length) {
  const order = (a, b) =>
    a.start - b.start || b.end - a.end || b.row[STATE] - a.row[STATE] || a.row[TYPE] - b.row[TYPE];
  const root = { row: null, start: 0, end: length, height: 0, children: [] };
  const waiting = rows
    .filter((row) => row[START] < row[END] && row[END] <= length)
    .map((row) => ({ row, start: row[START], end: row[END], first: true, last: true, height: 0, children: [] }))
    .sort(order);
  const open = [root];
  const close = () => {
    const piece = open.pop();
    const parent = open[open.length - 1];
    parent.height = Math.max(parent.height, piece.height + 1);
  };
  for (let at = 0; at < waiting.length; at += 1) {
    const piece = waiting[at];
    while (open.length > 1 && open[open.length - 1].end <= piece.start) close();
    const parent = open[open.length - 1];
    if (piece.end > parent.end) {
      const rest = { ...piece, start: parent.end, first: false, children: [] };
      piece.end = parent.end;
      piece.last = false;
      let index = at + 1;
      while (index < waiting.length && order(waiting[index], rest) < 0) index += 1;
      waiting.splice(index, 0, rest);
    }
    parent.children.push(piece);
    open.push(piece);
  }
  while (open.length > 1) close();
  return root;
}

/** Appends `text` between `start` and `end` to `parent`, with boxes for `children`. */
function renderPieces(parent, children, start, end, text, describe) {
  let at = start;
  for (const piece of children) {
    parent.append(text.slice(at, piece.start));
    const { row } = piece;
    const classes = ["mark", colourOf(row[TYPE]), `s${row[STATE]}`, `h${Math.min(piece.height, 6)}`];
    if (row[TYPE] >= COLOURS) classes.push("again");
    if (!piece.first) classes.push("continues-before");
    if (!piece.last) classes.push("continues-after");
    const box = make("mark", {
      class: classes.join(" "),
      tabindex: piece.first ? "-1" : null,
      "data-tag": piece.last ? tagOf(row) : null,
    });
    renderPieces(box, piece.children, piece.start, piece.end, text, describe);
    tips.set(box, () => describe(row));
    parent.append(box);
    at = piece.end;
  }
  parent.append(text.slice(at, end));
}

/** The tag at the end of a box: its type, with a sign for errors. */
function tagOf(row) {
  const sign = { [WRONG]: "✕ ", [MISSED]: "○ " }[row[STATE]] ?? "";
  return sign + summary.types[row[TYPE]].name;
}

/** A text with its boxes, in the text's own direction. */
function marked(text, rows, from, to, describe) {
  const body = make("div", { class: "text", dir: "auto" });
  const tree = pieces(rows, text.length);
  renderPieces(body, tree.children, from, to, text, describe);
  return body;
}

const STATES = ["found", "right", "wrong", "missed"];

/** The offsets of a mention in code points, as in the tables. */
function offsetsOf(text, mention) {
  const [start, end] = [START, END].map((field) => [...text.slice(0, mention[field])].length);
  return `characters ${whole(start)} to ${whole(end)}`;
}

/** The tooltip of a document's mention. */
function describeMention(owner) {
  const all = owner.mentions;
  return (row) => {
    const type = summary.types[row[TYPE]];
    const lines = [
      make(
        "p",
        { class: "tip-head" },
        swatch(row[TYPE]),
        name(type.name),
        row[STATE] === FOUND ? null : make("span", { class: `state s${row[STATE]}` }, STATES[row[STATE]]),
      ),
    ];
    if (row[SCORE] >= 0) {
      lines.push(
        make(
          "p",
          { class: "tip-score" },
          make("span", null, `score ${(row[SCORE] / 1000).toFixed(3)}`),
          bar(row[SCORE], 1000, colourOf(row[TYPE])),
        ),
      );
    }
    if (row[STATE] === WRONG || row[STATE] === MISSED) {
      // Mentions of the other side: gold for a wrong mention, predicted for a missed one. Right mentions are on both sides.
      const overlapping = all.filter(
        (other) => other[START] < row[END] && row[START] < other[END] && other[STATE] !== row[STATE],
      );
      const same = overlapping.filter((other) => sameSpan(row, other));
      const shown = same.length > 0 ? same : overlapping;
      const side = row[STATE] === WRONG ? "gold:" : "predicted:";
      const note =
        overlapping.length === 0
          ? [`${side} no overlapping mention`]
          : [
              `${side} `,
              ...shown.slice(0, 3).flatMap((other, at) => [at > 0 ? ", " : "", name(summary.types[other[TYPE]].name)]),
              same.length > 0 ? " (same span)" : " (overlapping)",
            ];
      lines.push(make("p", { class: "tip-note" }, ...note));
    }
    lines.push(make("p", { class: "tip-note" }, offsetsOf(owner.text, row)));
    return lines;
  };
}

const sameSpan = (one, other) => one[START] === other[START] && one[END] === other[END];

/** The number of colours; further types reuse them with a double line. */
const COLOURS = 8;

/** The class of a type's colour. */
const colourOf = (type) => `t${type % COLOURS}`;

/** The colour swatch of a type, marked if the colour is reused. */
const swatch = (type) =>
  make("span", { class: `swatch ${colourOf(type)}${type >= COLOURS ? " again" : ""}`, "aria-hidden": "true" });

/** A type's colour and name. */
const typeLabel = (type) => make("span", null, swatch(type), name(summary.types[type].name));
