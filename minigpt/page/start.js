"use strict";

/* Puts the parts together, or says that the page is damaged. `window.minigpt` is for whoever opens
 * the console:
 *
 *     await minigpt.ready
 *     minigpt.encode("It is a truth")                      // ids
 *     minigpt.logits([1, 2, 3])                            // of the token after them
 *     await minigpt.generate("It is", {temperature: 0})    // the text that follows
 */
window.minigpt = {};
window.minigpt.ready = start().catch(sayDamaged);

async function start() {
  checkWhole();
  const facts = JSON.parse(partText("facts"));
  const tokenizer = new Tokenizer(facts.tokenizer);
  const model = new GPTModel(
    facts.config,
    unpackWeights(partText("weights"), facts.format, facts.tensors),
  );
  Object.assign(window.minigpt, interfaceTo(tokenizer, model));
  const looking = new Looking(tokenizer, model);
  const writing = new Writing(tokenizer, model, (ids, reading) => looking.show(ids, reading));
  showAbout(facts);
  element("prompt").value = await window.minigpt // what it takes to begin a paragraph
    .generate("\n\n", {maxNewTokens: 12, temperature: 0})
    .then(text => text.trim());
  element("notice").remove();
  element("page").hidden = false;
  await writing.readPrompt();
}

function sayDamaged(error) {
  const notice = document.getElementById("notice");
  notice.setAttribute("role", "alert");
  notice.textContent =
    `This page is damaged: ${error.message}. ` + "Get it once more from whoever gave it to you.";
  throw error;
}

/* The model for a console and for tests: what comes from there is checked here, at the door. */
function interfaceTo(tokenizer, model) {
  const {context_length, vocab_size} = model.config;
  return {
    encode: text => tokenizer.encode(text),

    logits(ids) {
      check(
        "ids",
        Array.isArray(ids) && ids.length > 0 && ids.every(id => isWhole(id, 0, vocab_size - 1)),
        ids,
        `a list of one or more whole numbers from 0 to ${vocab_size - 1}`,
      );
      const reading = model.newReading();
      return Array.from(
        model.logits(ids.slice(-context_length).reduce((_, id) => model.read(reading, id), null)),
      );
    },

    async generate(
      prompt = "",
      {maxNewTokens = 200, temperature = 0.8, topK = null, topP = null, seed = null} = {},
    ) {
      check("maxNewTokens", isWhole(maxNewTokens, 0), maxNewTokens, "a whole number of at least 0");
      check(
        "temperature",
        Number.isFinite(temperature) && temperature >= 0,
        temperature,
        "a number of at least 0",
      );
      check(
        "topK",
        topK === null || isWhole(topK, 1),
        topK,
        "a whole number of at least 1, or null",
      );
      check(
        "topP",
        topP === null || (topP > 0 && topP <= 1),
        topP,
        "a number of more than 0 and at most 1, or null",
      );
      check(
        "seed",
        seed === null || isWhole(seed, 0),
        seed,
        "a whole number of at least 0, or null",
      );
      const decode = tokenizer.decoder();
      const settings = {maxNewTokens, temperature, topK, topP, seed};
      let text = "";
      for await (const id of generateIds(model, promptIds(tokenizer, prompt), settings))
        text += decode(id);
      return text;
    },
  };
}

function isWhole(value, low, high = Number.MAX_SAFE_INTEGER) {
  return Number.isSafeInteger(value) && value >= low && value <= high;
}

function check(name, holds, value, allowed) {
  if (!holds) throw new RangeError(`${name} must be ${allowed}, not ${JSON.stringify(value)}`);
}
