"use strict";

/* The prompt, the sliders, the text that streams in, and the bars of what may come next. */

const START = "\n"; // what a text is taken to follow: an empty prompt too needs a token
const TOP_K = [1, 2, 3, 5, 10, 20, 50, 100, null];
const ROWS = 10; // tokens in the bars
const SHOWN_PROMPT = 600; // characters of a long prompt that stand above its continuation

class Writing {
  /* `onRead(ids, reading)` is told of each prompt that was read. */
  constructor(tokenizer, model, onRead) {
    Object.assign(this, {tokenizer, model, onRead});
    this.logits = this.likeliest = null; // of the token after the prompt; the ids in the bars
    this.wish = null; // the prompt that is being read, and
    this.job = null; // the text that is being written: another one takes its place
    element("prompt").addEventListener("input", () => this.readPrompt());
    for (const slider of element("controls").querySelectorAll("input[type=range]")) {
      slider.addEventListener("input", () => this.showSettings());
    }
    element("controls").addEventListener("submit", event => {
      event.preventDefault();
      this.write();
    });
    element("stop").addEventListener("click", () => this.stop());
    this.showSettings();
  }

  /* The prompt, with what is no character (half of one) replaced as a browser does. */
  get prompt() {
    return element("prompt").value.replace(/\p{Surrogate}/gu, "\uFFFD");
  }

  get settings() {
    const value = id => element(id).valueAsNumber;
    const topP = value("top-p");
    return {
      temperature: value("temperature"),
      topK: TOP_K[value("top-k")],
      topP: topP < 1 ? topP : null,
      maxNewTokens: value("length"),
      seed: value("seed"),
    };
  }

  showSettings() {
    const {temperature, topK, topP, maxNewTokens} = this.settings;
    const shown = {
      temperature: temperature.toFixed(2),
      "top-k": topK ?? "off",
      "top-p": topP?.toFixed(2) ?? "off",
      length: maxNewTokens,
    };
    for (const [id, text] of Object.entries(shown)) {
      element(`${id}-value`).textContent = text;
      element(id).setAttribute("aria-valuetext", text);
    }
    this.drawNext();
  }

  /* Reads the prompt, so that the bars and the pictures are about it. */
  async readPrompt() {
    const wish = (this.wish = {});
    const ids = promptIds(this.tokenizer, this.prompt).slice(-this.model.config.context_length);
    const reading = this.model.newReading(ids.length);
    let x;
    for (const id of ids) {
      x = this.model.read(reading, id);
      await breathe();
      if (wish !== this.wish) return; // another prompt was typed meanwhile
    }
    this.logits = this.model.logits(x);
    this.likeliest = byProbability(this.logits).slice(0, ROWS);
    this.drawNext();
    this.onRead(ids, reading);
  }

  /* Temperature keeps the order, so the tokens stay in their rows while their bars move. */
  drawNext() {
    if (!this.logits) return;
    const probs = nextTokenProbs(this.logits, this.settings);
    const rows = this.likeliest.map(id => [tokenLabel(this.tokenizer.bytes(id)), probs[id]]);
    drawBars(element("bars"), ["token", "probability"], rows);
  }

  /* Writes afresh; what is still being written is given up. */
  async write() {
    const job = (this.job = {});
    const {prompt, settings} = this;
    const given = [...prompt];
    const cut = given.length > SHOWN_PROMPT;
    const shown = cut ? "… " + given.slice(-SHOWN_PROMPT).join("") : prompt;
    element("given").textContent = shown;
    const written = document.createTextNode("");
    element("written").replaceChildren(written);
    element("stop").disabled = false;
    element("announcement").textContent = "";
    const decode = this.tokenizer.decoder();
    const began = performance.now();
    let count = 0;
    for await (const id of generateIds(this.model, promptIds(this.tokenizer, prompt), settings)) {
      if (job !== this.job) return;
      written.appendData(decode(id));
      count++;
      const seconds = (performance.now() - began) / 1000;
      element("progress").textContent =
        `${count} tokens, ${number.format(Math.round(count / seconds))} a second`;
    }
    this.stop();
  }

  /* Keeps what is there, and has it read out once. */
  stop() {
    this.job = null;
    if (document.activeElement === element("stop")) element("write").focus();
    element("stop").disabled = true;
    element("announcement").textContent = `Written: ${element("written").textContent}`;
  }
}

function promptIds(tokenizer, prompt) {
  return tokenizer.encode(prompt || START);
}
