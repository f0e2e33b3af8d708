// Tooltips for the element under the pointer or with the keyboard focus.

/** Element → a function that returns the tooltip's nodes. */
const tips = new WeakMap();
const tipBox = byId("tip");
let tipOwner = null;

function tipOf(target) {
  for (let element = target; element instanceof Element; element = element.parentElement) {
    if (tips.has(element)) return element;
  }
  return null;
}

function showTip(owner, x) {
  if (owner !== tipOwner) {
    tipBox.replaceChildren(...tips.get(owner)().flat());
    tipOwner?.removeAttribute("aria-describedby");
    tipOwner = owner;
    owner.setAttribute("aria-describedby", "tip");
    tipBox.hidden = false;
  }
  // A mention can span several lines: place the tooltip at the line under the pointer, or at the first.
  const lines = [...owner.getClientRects()];
  const line = lines.find((one) => x !== null && one.left <= x && x <= one.right) ?? lines[0];
  if (!line) return;
  const box = tipBox.getBoundingClientRect();
  const middle = x === null || owner instanceof SVGElement ? line.left + line.width / 2 : x;
  const left = Math.min(
    Math.max(8, middle - box.width / 2),
    Math.max(8, document.documentElement.clientWidth - box.width - 8),
  );
  const above = line.top - box.height - 8;
  tipBox.style.setProperty("left", `${left}px`);
  tipBox.style.setProperty("top", `${above > 60 ? above : line.bottom + 8}px`);
}

function hideTip() {
  tipOwner?.removeAttribute("aria-describedby");
  tipOwner = null;
  tipBox.hidden = true;
}

document.addEventListener("pointerover", (event) => {
  const owner = tipOf(event.target);
  if (owner) showTip(owner, event.clientX);
  else if (tipOwner && tipOwner !== document.activeElement) hideTip();
});
document.addEventListener("focusin", (event) => {
  const owner = tipOf(event.target);
  if (owner) showTip(owner, null);
  else hideTip();
});
document.addEventListener(
  "scroll",
  () => {
    if (tipOwner === null) return;
    if (tipOwner === document.activeElement) showTip(tipOwner, null);
    else hideTip();
  },
  { passive: true },
);
