"use strict";

/* From logits to a choice of the next token, and from a prompt to a text: what
 * minigpt/sampling.py does. */

/* The distribution to draw from: logits (V) -> probabilities (V). Temperature 0 puts all on the
 * largest, the first of equals; top-k keeps the k most likely, top-p the smallest set whose mass
 * reaches it; null switches either off. */
function nextTokenProbs(logits, {temperature = 1, topK = null, topP = null} = {}) {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  if (temperature === 0) {
    const probs = new Float32Array(logits.length);
    probs[logits.indexOf(largest)] = 1;
    return probs;
  }
  let probs = softmax(
    logits.map(logit => (logit - largest) / Math.max(temperature, 1.17549435e-38)),
  );
  const order = topK === null && topP === null ? [] : byProbability(probs);
  if (topK !== null) {
    for (const id of order.slice(topK)) probs[id] = 0;
    probs = sharedOut(probs);
  }
  if (topP !== null) {
    let mass = 0;
    for (const id of order) {
      mass += probs[id];
      const before = Math.fround(Math.fround(mass) - probs[id]);
      if (before >= Math.fround(topP)) probs[id] = 0; // the token that crosses top-p stays
    }
    probs = sharedOut(probs);
  }
  return probs;
}

/* Ids, the most likely first; of equals the smaller id. */
function byProbability(probs) {
  return Array.from(probs.keys()).sort((a, b) => probs[b] - probs[a]);
}

function sharedOut(probs) {
  const whole = total(probs);
  return probs.map(p => p / whole);
}

/* Draws up to `maxNewTokens` ids that continue `ids`, each as soon as it is known. Who no longer
 * asks has stopped it.
 *
 * When the context is full the window jumps: its last half is kept and read afresh. */
async function* generateIds(model, ids, settings) {
  const context = model.config.context_length;
  const random = randomNumbers(settings.seed);
  let window = ids.slice(-context),
    fresh = window,
    reading = model.newReading();
  for (let i = 0; i < settings.maxNewTokens; i++) {
    const id = draw(nextTokenProbs(await readAll(model, reading, fresh), settings), random());
    yield id;
    window.push(id);
    fresh = [id];
    if (window.length > context) {
      window = fresh = window.slice(-Math.max(1, Math.floor(context / 2)));
      reading = model.newReading();
    }
  }
}

/* Reads tokens into `reading`. Returns the logits of the token that follows them. */
async function readAll(model, reading, ids) {
  let x;
  for (const id of ids) {
    x = model.read(reading, id);
    await breathe();
  }
  return model.logits(x);
}

/* The first token at which the running total exceeds a random share of the whole. */
function draw(probs, share) {
  const goal = share * total(probs);
  let mass = 0,
    last = 0;
  for (let id = 0; id < probs.length; id++) {
    mass += probs[id];
    if (probs[id] > 0) last = id;
    if (mass > goal) return id;
  }
  return last; // only if rounding left the mass short
}

/* Numbers from 0 to 1 that look like chance; equal seeds give equal numbers, null a new seed.
 * (sfc32, Chris Doty-Humphrey, PractRand, 2010.) They are not PyTorch's: the same seed writes
 * another text there. */
function randomNumbers(seed) {
  seed ??= Math.floor(Math.random() * Number.MAX_SAFE_INTEGER);
  let a = 0,
    b = seed | 0,
    c = (seed / 2 ** 32) | 0,
    counter = 1;
  const next = () => {
    const out = (a + b + counter++) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + out) | 0;
    return (out >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 12; i++) next(); // until every bit of the seed has reached every other
  return next;
}

/* Lets the browser draw and hear clicks, if it has waited longer than a frame. */
const FRAME = 12; // milliseconds
let lastBreath = performance.now();

async function breathe() {
  if (performance.now() - lastBreath < FRAME) return;
  await new Promise(resolve => {
    // not a timer: those are held back by 4 ms, and by 1 s in a hidden tab
    const channel = new MessageChannel();
    channel.port1.onmessage = resolve;
    channel.port2.postMessage(null);
  });
  lastBreath = performance.now();
}
