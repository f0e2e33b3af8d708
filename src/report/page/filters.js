// The filter controls next to the documents.

/** Builds the filter controls; changes apply immediately. */
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
  const toggle = (attributes, apply, ...label) =>
    make(
      "label",
      { class: "toggle" },
      make("input", { type: "checkbox", ...attributes, onchange: change((box) => apply(box.checked)) }),
      ...label,
    );
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
          toggle(
            { checked: true, "data-toggle": index },
            (on) => set(view.types, index, on),
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
        { class: "minimum" },
        make("span", null, "Minimum score ", make("output", { id: "minimum-value" })),
        make("input", {
          type: "range",
          id: "minimum",
          min: lowestScore(),
          max: "1000",
          step: "5",
          oninput: change((slider) => {
            const minimum = Number(slider.value);
            view.minimum = minimum > lowestScore() ? minimum : 0;
            showMinimum();
          }),
        }),
      ),
    );
  }
  if (joined()) {
    form.append(
      toggles(
        "Compared with gold",
        [RIGHT, WRONG, MISSED]
          .map((state) =>
            toggle(
              { checked: true, "data-state": state },
              (on) => set(view.states, state, on),
              make("span", { class: `sample s${state}` }, STATES[state]),
            ),
          )
          .concat(
            toggle(
              { id: "only-errors" },
              (on) => {
                view.errors = on;
              },
              "only documents with errors",
            ),
          ),
      ),
    );
  }
  const orders = [
    ["given", documents.rule === "errors" ? "most errors of all types" : "as sampled"],
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
        onclick: () => setView(defaultView()),
      },
      "Reset filters",
    ),
  );
}

/** The minimum of the slider: no mention has a lower score. */
const lowestScore = () => (firstBin() / summary.bins) * 1000;

function showMinimum() {
  const text = view.minimum > lowestScore() ? (view.minimum / 1000).toFixed(3) : "any";
  const value = byId("minimum-value");
  if (!value) return;
  value.textContent = text;
  byId("minimum").setAttribute("aria-valuetext", text);
}

/** Updates the filter controls to the current view. */
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
  if (byId("minimum")) byId("minimum").value = String(Math.max(view.minimum, lowestScore()));
  showMinimum();
}
