// A live region that stays in the page while its words change: a screen reader hears each of them
// once.

function render({ model, el }) {
  el.classList.add("minigpt-announcer");
  const region = document.createElement("div");
  region.setAttribute("role", model.get("role"));
  region.textContent = model.get("words");
  el.append(region);
  model.on("change:words", () => {
    region.textContent = model.get("words");
  });
}

export default { render };
