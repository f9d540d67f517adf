"use strict";

/* The tokens of the prompt, and what each attention head looks at while it reads them. */

const LOOKS = 8; // tokens in the bars
const SHOWN_TOKENS = 256; // of a longer prompt the last ones are shown

/* viridis, dark to bright, at nine even steps: the map of the notebooks' pictures (Smith and van
 * der Walt, 2015). */
const VIRIDIS = [
  [68, 1, 84],
  [71, 44, 122],
  [59, 81, 139],
  [44, 113, 142],
  [33, 144, 141],
  [39, 173, 129],
  [92, 200, 99],
  [170, 220, 50],
  [253, 231, 37],
];

class Looking {
  constructor(tokenizer, model) {
    Object.assign(this, {tokenizer, model});
    const count = n => Array.from({length: n}, (_, i) => make("option", {value: i}, `${i + 1}`));
    element("layer").append(...count(model.config.n_layers));
    element("head").append(...count(model.config.n_heads));
    element("looking").hidden = model.config.n_layers === 0;
    for (const id of ["layer", "head"]) element(id).addEventListener("change", () => this.draw());
    element("tokens").addEventListener("click", event =>
      this.choose(this.buttons.indexOf(event.target)),
    );
    element("tokens").addEventListener("keydown", event => this.move(event));
    element("map-frame").addEventListener("click", event => this.chooseRow(event));
  }

  /* Shows the tokens of a prompt that was read. */
  show(ids, reading) {
    this.reading = reading;
    this.first = Math.max(0, ids.length - SHOWN_TOKENS);
    this.labels = ids.map(id => tokenLabel(this.tokenizer.bytes(id)));
    this.buttons = ids
      .slice(this.first)
      .map((id, i) =>
        make(
          "button",
          {type: "button", role: "radio", class: `token tint${i % 5}`, title: `token ${id}`},
          this.labels[this.first + i],
        ),
      );
    element("tokens").replaceChildren(...this.buttons);
    const {context_length} = this.model.config;
    const some = this.first ? `; the last ${SHOWN_TOKENS} are shown` : "";
    element("cut").textContent =
      `${number.format(ids.length)} of the ${number.format(context_length)} tokens ` +
      `that it can see at once${some}.`;
    this.choose(this.buttons.length - 1);
  }

  /* The arrow keys go from token to token, as in any group of radio buttons. */
  move(event) {
    const steps = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1};
    const last = this.buttons.length - 1;
    const jumps = {Home: 0, End: last};
    const goal = jumps[event.key] ?? (event.key in steps ? this.chosen + steps[event.key] : -1);
    if (goal < 0 || goal > last) return;
    event.preventDefault();
    this.choose(goal);
    this.buttons[goal].focus();
  }

  choose(index) {
    if (index < 0) return;
    this.chosen = index;
    this.buttons.forEach((button, i) => {
      button.setAttribute("aria-checked", i === index);
      button.tabIndex = i === index ? 0 : -1;
    });
    if (this.model.config.n_layers) this.draw();
  }

  chooseRow(event) {
    const box = element("map").getBoundingClientRect();
    this.choose(Math.floor(((event.clientY - box.top) / box.height) * this.buttons.length));
  }

  /* What the chosen token looks at, as bars, and the whole head as a map. */
  draw() {
    const layer = +element("layer").value;
    const head = +element("head").value;
    const at = this.first + this.chosen;
    const row = place => this.model.attentionWeights(this.reading, layer, head, place);
    const weights = row(at);
    const best = byProbability(weights)
      .slice(0, LOOKS)
      .filter(place => weights[place] >= 0.0005);
    const name = place =>
      `${this.labels[place]} (${place === at ? "itself" : `${at - place} back`})`;
    drawBars(
      element("looks"),
      [`${this.labels[at]} looks at`, "share"],
      best.map(place => [name(place), weights[place]]),
    );
    this.drawMap(this.buttons.map((_, i) => row(this.first + i).subarray(this.first)));
    element("map").setAttribute(
      "aria-label",
      `Layer ${layer + 1}, head ${head + 1}, ${this.buttons.length} tokens. ` +
        `The chosen one, ${this.labels[at]}, looks most at ${name(best[0])}, ` +
        `with a share of ${weights[best[0]].toFixed(2)}.`,
    );
  }

  /* A pixel a pair of tokens; the style sheet enlarges it. Where a token may not look it stays
   * empty. */
  drawMap(rows) {
    const canvas = element("map");
    const size = (canvas.width = canvas.height = rows.length);
    const context = canvas.getContext("2d");
    const image = context.createImageData(size, size);
    rows.forEach((weights, y) =>
      weights.forEach((weight, x) => {
        image.data.set([...viridis(weight), 255], 4 * (y * size + x));
      }),
    );
    context.putImageData(image, 0, 0);
    element("row").style.height = `${100 / size}%`; // a frame around the chosen row
    element("row").style.top = `${(100 * this.chosen) / size}%`;
  }
}

function viridis(share) {
  const place = Math.min(share, 1) * (VIRIDIS.length - 1);
  const below = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return VIRIDIS[below].map(
    (channel, i) => channel + (place - below) * (VIRIDIS[below + 1][i] - channel),
  );
}
