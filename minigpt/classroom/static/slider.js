// A slider with a name, and a box beside it that takes a typed number. Both are the browser's own
// controls, so that a screen reader, the keyboard and high contrast know them.

const formats = {
  options: (value, model) => model.get("labels")[value],
  log: (value) => String(Number(value.toPrecision(2))),
  linear: (value, model) => value.toFixed(model.get("decimals")),
};

function render({ model, el }) {
  const scale = model.get("scale");
  const trait = scale === "options" ? "index" : "value";
  const toPlace = scale === "log" ? Math.log10 : (value) => value;
  const fromPlace = scale === "log" ? (place) => 10 ** place : (place) => place;
  const text = (value) => formats[scale](value, model);

  el.classList.add("minigpt-slider");
  const label = document.createElement("label");
  const name = document.createElement("span");
  const range = document.createElement("input");
  range.type = "range";
  label.append(name, range);
  const box = document.createElement(scale === "options" ? "output" : "input");
  el.append(label, box);
  // Jupyter's shortcuts stop at an element with this attribute: the arrow keys are the slider's,
  // and not the notebook's.
  range.dataset.lmSuppressShortcuts = box.dataset.lmSuppressShortcuts = "true";

  function describe() {
    name.textContent = model.get("description");
    box.setAttribute("aria-label", `${model.get("description")}, as a number`);
    range.min = scale === "options" ? 0 : toPlace(model.get("min"));
    range.max = scale === "options" ? model.get("labels").length - 1 : toPlace(model.get("max"));
    range.step = model.get("step");
    range.disabled = box.disabled = model.get("disabled");
    show();
  }
  function show() {
    const value = model.get(trait);
    range.value = toPlace(value);
    range.setAttribute("aria-valuetext", text(value));
    if (box !== document.activeElement) box.value = text(value);
  }
  function choose(value) {
    model.set(trait, value);
    model.save_changes();
    show();
  }
  function take() {
    if (box.value === text(model.get(trait))) return;
    const typed = Number(box.value.trim().replace(",", ".") || NaN);
    if (Number.isFinite(typed)) {
      const inside = Math.min(model.get("max"), Math.max(model.get("min"), typed));
      choose(model.get("whole") ? Math.round(inside) : inside);
    }
    box.value = text(model.get(trait));
  }

  range.addEventListener("input", () => choose(fromPlace(Number(range.value))));
  if (box.tagName === "INPUT") {
    box.inputMode = "decimal";
    box.autocomplete = "off";
    box.addEventListener("blur", take); // not "change": see text_box.js
    box.addEventListener("keydown", (event) => event.key === "Enter" && take());
    box.addEventListener("focus", () => box.select());
  }
  model.on(`change:${trait}`, show);
  for (const changed of ["labels", "min", "max", "disabled", "description"])
    model.on(`change:${changed}`, describe);
  describe();
}

export default { render };
