// A line to type in. What is typed is sent as one message when it is committed (Enter, or leaving the box), never
// half of it: a kernel that is busy hears the whole before the button that was pressed after it.

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
  box.addEventListener("change", () => model.send({ committed: box.value }));
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter") model.send({ committed: box.value, enter: true });
  });
  model.on("change:value", () => {
    if (box !== document.activeElement) box.value = model.get("value");
  });
  for (const changed of ["description", "placeholder", "disabled"])
    model.on(`change:${changed}`, describe);
  box.value = model.get("value");
  describe();
}

export default { render };
