// The filters at the side of the documents, and what they say.

/** Builds the filters; they work at once. */
function buildFilters() {
  const form = byId("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  let waiting = 0;
  const search = (event) => {
    view.search = event.target.value;
    clearTimeout(waiting);
    waiting = setTimeout(refresh, 120);
  };
  const set = (members, member, on) => (on ? members.add(member) : members.delete(member));
  const toggles = (legend, entries) => make("fieldset", null, make("legend", null, legend), entries);
  const change = (apply) => (event) => {
    apply(event.target);
    refresh();
  };
  form.append(
    make(
      "label",
      { class: "search" },
      make("span", null, "Search"),
      make("input", {
        type: "search",
        id: "search",
        placeholder: "Text, name or id",
        autocomplete: "off",
        spellcheck: "false",
        oninput: search,
      }),
    ),
  );
  if (summary.types.length > 0) {
    form.append(
      toggles(
        "Types",
        summary.types.map((type, index) =>
          make(
            "label",
            { class: "toggle" },
            make("input", {
              type: "checkbox",
              checked: true,
              "data-toggle": index,
              onchange: change((box) => set(view.types, index, box.checked)),
            }),
            swatch(index),
            name(type.name),
            make("span", { class: "count", "data-type": index }),
          ),
        ),
      ),
    );
    form.append(
      make(
        "label",
        { class: "least" },
        make("span", null, "Least score ", make("output", { id: "least-value" })),
        make("input", {
          type: "range",
          id: "least",
          min: lowestScore(),
          max: "1000",
          step: "5",
          oninput: change((slider) => {
            view.least = Number(slider.value);
            sayLeast();
          }),
        }),
      ),
    );
  }
  if (joined()) {
    form.append(
      toggles(
        "Against gold",
        [RIGHT, WRONG, MISSED]
          .map((state) =>
            make(
              "label",
              { class: "toggle" },
              make("input", {
                type: "checkbox",
                checked: true,
                "data-state": state,
                onchange: change((box) => set(view.states, state, box.checked)),
              }),
              make("span", { class: `sample s${state}` }, STATES[state]),
            ),
          )
          .concat(
            make(
              "label",
              { class: "toggle" },
              make("input", {
                type: "checkbox",
                id: "only-errors",
                onchange: change((box) => {
                  view.errors = box.checked;
                }),
              }),
              "only documents with errors",
            ),
          ),
      ),
    );
  }
  const orders = [
    ["given", documents.rule === "errors" ? "most errors of all types" : "as chosen"],
    ["mentions", "most mentions"],
    ["doubtful", "lowest score"],
    ...(joined() ? [["errors", "most errors shown"]] : []),
  ];
  form.append(
    make(
      "label",
      { class: "order" },
      make("span", null, "Order"),
      make(
        "select",
        {
          id: "order",
          onchange: change((list) => {
            view.order = list.value;
          }),
        },
        orders.map(([value, label]) => make("option", { value }, label)),
      ),
    ),
  );
  form.append(
    make(
      "button",
      {
        type: "button",
        class: "reset",
        onclick: () => {
          view = everything();
          syncFilters();
          refresh();
        },
      },
      "Show everything",
    ),
  );
}

/** Where the slider begins: below it there is nothing to leave out. */
const lowestScore = () => (firstBin() / summary.bins) * 1000;

function sayLeast() {
  const text = view.least > lowestScore() ? (view.least / 1000).toFixed(3) : "any";
  const value = byId("least-value");
  if (!value) return;
  value.textContent = text;
  byId("least").setAttribute("aria-valuetext", text);
}

/** Makes the filters show what the view is. */
function syncFilters() {
  byId("search").value = view.search;
  byId("order").value = view.order;
  document.querySelectorAll("#filters [data-toggle]").forEach((box) => {
    box.checked = view.types.has(Number(box.dataset.toggle));
  });
  document.querySelectorAll("#filters [data-state]").forEach((box) => {
    box.checked = view.states.has(Number(box.dataset.state));
  });
  if (byId("only-errors")) byId("only-errors").checked = view.errors;
  if (byId("least")) byId("least").value = String(Math.max(view.least, lowestScore()));
  sayLeast();
}
