// What something means, said beside it: under the pointer, and for what has the keyboard's focus.

/** Element → a function that gives the tip's nodes. */
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
  // A mention may run over several lines: the tip belongs to the one under the pointer, or the first.
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
