// A line to type in. What is typed is sent as one message when it is committed (Enter, the box's
// own button, or leaving the box), never half of it. A button sends the text along: two widgets'
// messages may be heard in two threads of the kernel, and so in any order.

function render({ model, el }) {
  el.classList.add("minigpt-text-box");
  const label = document.createElement("label");
  const name = document.createElement("span");
  const box = document.createElement("input");
  box.type = "text";
  box.autocomplete = "off";
  box.spellcheck = false;
  box.dataset.lmSuppressShortcuts = "true"; // what is typed is no shortcut of the notebook's
  label.append(name, box);
  el.append(label);

  function describe() {
    name.textContent = model.get("description");
    box.placeholder = model.get("placeholder");
    box.disabled = model.get("disabled");
  }
  box.addEventListener("input", () => {
    if (!model.get("follow")) return;
    model.set("value", box.value);
    model.save_changes();
  });
  // Not at "change": a browser tells of none where what was there at first is typed again after an
  // Enter.
  box.addEventListener("blur", () => model.send({ committed: box.value }));
  const enter = () => model.send({ committed: box.value, enter: true });
  box.addEventListener("keydown", (event) => event.key === "Enter" && enter());
  if (model.get("button")) {
    const button = document.createElement("button");
    button.className = "jupyter-widgets jupyter-button widget-button";
    button.textContent = model.get("button");
    button.addEventListener("click", enter);
    el.append(button);
  }
  model.on("change:value", () => {
    if (box !== document.activeElement) box.value = model.get("value");
  });
  for (const changed of ["description", "placeholder", "disabled"])
    model.on(`change:${changed}`, describe);
  box.value = model.get("value");
  describe();
}

export default { render };
