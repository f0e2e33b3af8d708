// A text and its mentions → boxes in boxes. Mentions may lie in each other and may cross; the text itself stays whole.

/** The places in a mention's row. */
const TYPE = 0,
  START = 1,
  END = 2,
  SCORE = 3,
  STATE = 4;
/** Its states. */
const FOUND = 0,
  RIGHT = 1,
  WRONG = 2,
  MISSED = 3;

/**
 * Mentions as a tree of pieces {row, start, end, first, last, height, children}. A mention that crosses the end of another is cut
 * there and goes on behind it, so that boxes only ever lie in boxes.
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
    const around = open[open.length - 1];
    around.height = Math.max(around.height, piece.height + 1);
  };
  for (let at = 0; at < waiting.length; at += 1) {
    const piece = waiting[at];
    while (open.length > 1 && open[open.length - 1].end <= piece.start) close();
    const around = open[open.length - 1];
    if (piece.end > around.end) {
      const rest = { ...piece, start: around.end, first: false, children: [] };
      piece.end = around.end;
      piece.last = false;
      let place = at + 1;
      while (place < waiting.length && order(waiting[place], rest) < 0) place += 1;
      waiting.splice(place, 0, rest);
    }
    around.children.push(piece);
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
    if (!piece.first) classes.push("goes-on");
    if (!piece.last) classes.push("to-be-continued");
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

/** What stands at the end of a box. */
function tagOf(row) {
  const sign = { [WRONG]: "✕ ", [MISSED]: "○ " }[row[STATE]] ?? "";
  return sign + summary.types[row[TYPE]].name;
}

/** A text with its boxes, as a paragraph in the text's own direction. */
function marked(text, rows, from, to, describe) {
  const body = make("div", { class: "text", dir: "auto" });
  const tree = pieces(rows, text.length);
  renderPieces(body, tree.children, from, to, text, describe);
  return body;
}

const STATES = ["found", "right", "wrong", "missed"];

/** Where a mention stands, in code points as in the tables. */
function placeOf(text, mention) {
  const [start, end] = [START, END].map((place) => [...text.slice(0, mention[place])].length);
  return `characters ${whole(start)} to ${whole(end)}`;
}

/** What the tip of a document's mention says. */
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
      // What is right is on the other side too, whichever side that is.
      const there = all.filter(
        (other) => other[START] < row[END] && row[START] < other[END] && other[STATE] !== row[STATE],
      );
      const same = there.filter((other) => sameSpan(row, other));
      const shown = same.length > 0 ? same : there;
      const side = row[STATE] === WRONG ? "gold has" : "found was";
      const what =
        there.length === 0
          ? [`${side} nothing here`]
          : [
              `${side} `,
              ...shown.slice(0, 3).flatMap((other, at) => [at > 0 ? ", " : "", name(summary.types[other[TYPE]].name)]),
              same.length > 0 ? " in this place" : " in part of it",
            ];
      lines.push(make("p", { class: "tip-note" }, ...what));
    }
    lines.push(make("p", { class: "tip-note" }, placeOf(owner.text, row)));
    return lines;
  };
}

const sameSpan = (one, other) => one[START] === other[START] && one[END] === other[END];

/** Colours there are; types beyond them take them again with a double line. */
const COLOURS = 8;

/** The class of a type's colour. */
const colourOf = (type) => `t${type % COLOURS}`;

/** The colour of a type, with its sign of repetition where there are more types than colours. */
const swatch = (type) =>
  make("span", { class: `swatch ${colourOf(type)}${type >= COLOURS ? " again" : ""}`, "aria-hidden": "true" });

/** A type's colour and name. */
const typeLabel = (type) => make("span", null, swatch(type), name(summary.types[type].name));
