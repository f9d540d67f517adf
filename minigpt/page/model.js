"use strict";

/* The model: what minigpt/model.py and minigpt/self_attention.py do, one token at a time.
 *
 * Shapes: C = d_model channels, T tokens read so far, V tokens in the vocabulary. A weight
 * matrix (out, in) is one long Float32Array, row after row, so that the loop over a row walks
 * through memory without a jump. */
class GPTModel {
  /* `config`: GPTConfig's fields. `weights`: name as in PyTorch -> Float32Array. */
  constructor(config, weights) {
    this.config = config;
    this.weights = weights;
    this.headSize = config.d_model / config.n_heads;
    if (config.positions === "rotary")
      this.rotation = rotations(config.context_length, this.headSize);
  }

  /* What a text leaves behind in the attention layers: the key/value cache, and the queries for
   * the pictures. */
  newReading(places = this.config.context_length) {
    const room = () => new Float32Array(places * this.config.d_model); // (T, C)
    const layer = () => ({queries: room(), keys: room(), values: room()});
    return {length: 0, layers: Array.from({length: this.config.n_layers}, layer)};
  }

  /* Reads one more token. Returns its activations after the last block, (C). */
  read(reading, id) {
    const {context_length, d_model: C, n_layers} = this.config;
    const w = this.weights;
    if (reading.length >= context_length)
      throw new RangeError(`the context of ${context_length} tokens is full`);
    const x = w["token_embedding.weight"].slice(id * C, (id + 1) * C);
    if (w["position_embedding.weight"]) {
      add(x, w["position_embedding.weight"].subarray(reading.length * C, (reading.length + 1) * C));
    }
    for (let layer = 0; layer < n_layers; layer++) this.block(layer, x, reading);
    reading.length++;
    return x;
  }

  /* The logits of the token that follows, (V). */
  logits(x) {
    const w = this.weights;
    const head = w["head.weight"] ?? w["token_embedding.weight"];
    return linear(layerNorm(x, w["norm.weight"], w["norm.bias"]), head);
  }

  /* Attention, then feed-forward; each reads a normalised copy of the stream `x` and adds its
   * result to it. */
  block(layer, x, reading) {
    const part = name => this.weights[`blocks.${layer}.${name}`];
    const normed = layerNorm(x, part("norm1.weight"), part("norm1.bias"));
    const mixed = this.attention(linear(normed, part("attention.qkv.weight")), reading, layer);
    add(x, linear(mixed, part("attention.projection.weight"), part("attention.projection.bias")));
    if (this.config.d_ff === 0) return;
    const wide = linear(
      layerNorm(x, part("norm2.weight"), part("norm2.bias")),
      part("feed_forward.expand.weight"),
      part("feed_forward.expand.bias"),
    ); // (d_ff)
    add(
      x,
      linear(
        wide.map(gelu),
        part("feed_forward.contract.weight"),
        part("feed_forward.contract.bias"),
      ),
    );
  }

  /* (3 C), the query, key and value of the newest token -> (C), the heads' mixtures of the values
   * so far. */
  attention(qkv, reading, layer) {
    const C = this.config.d_model;
    const T = reading.length + 1;
    const size = this.headSize;
    const out = new Float32Array(C);
    const {queries, keys, values} = reading.layers[layer];
    if (this.rotation) {
      const turn = this.rotation.subarray((T - 1) * size, T * size);
      for (let start = 0; start < 2 * C; start += size)
        rotate(qkv.subarray(start, start + size), turn);
    }
    queries.set(qkv.subarray(0, C), (T - 1) * C);
    keys.set(qkv.subarray(C, 2 * C), (T - 1) * C);
    values.set(qkv.subarray(2 * C), (T - 1) * C);
    for (let head = 0; head < this.config.n_heads; head++) {
      const weights = this.attentionWeights(reading, layer, head, T - 1);
      for (let t = 0; t < T; t++) {
        const value = t * C + head * size;
        const weight = weights[t];
        for (let i = 0; i < size; i++) out[head * size + i] += weight * values[value + i];
      }
    }
    return out;
  }

  /* How much of a head's look at place `at` goes to each place up to it: softmax(q k /
   * sqrt(d_head)), (at + 1). */
  attentionWeights(reading, layer, head, at) {
    const C = this.config.d_model;
    const size = this.headSize;
    const {queries, keys} = reading.layers[layer];
    const query = at * C + head * size;
    const scores = new Float32Array(at + 1);
    for (let t = 0; t <= at; t++) {
      const key = t * C + head * size;
      let score = 0;
      for (let i = 0; i < size; i++) score += queries[query + i] * keys[key + i];
      scores[t] = score / Math.sqrt(size);
    }
    return softmax(scores);
  }
}

/* weight (out, in) times x (in), plus bias (out). Four rows side by side: each number of x is
 * fetched once for all four, and the processor need not wait for one sum before the next. */
function linear(x, weight, bias) {
  const size = x.length;
  const out = bias ? bias.slice() : new Float32Array(weight.length / size);
  let row = 0;
  for (; row + 3 < out.length; row += 4) {
    const first = row * size;
    const second = first + size;
    const third = second + size;
    const fourth = third + size;
    let a = 0,
      b = 0,
      c = 0,
      d = 0;
    for (let i = 0; i < size; i++) {
      a += weight[first + i] * x[i];
      b += weight[second + i] * x[i];
      c += weight[third + i] * x[i];
      d += weight[fourth + i] * x[i];
    }
    out[row] += a;
    out[row + 1] += b;
    out[row + 2] += c;
    out[row + 3] += d;
  }
  for (; row < out.length; row++) {
    let a = 0;
    for (let i = 0; i < size; i++) a += weight[row * size + i] * x[i];
    out[row] += a;
  }
  return out;
}

function add(x, y) {
  for (let i = 0; i < x.length; i++) x[i] += y[i];
}

/* Mean 0 and variance 1, then each channel's own scale and shift. */
function layerNorm(x, scale, shift) {
  const mean = x.reduce((sum, value) => sum + value, 0) / x.length;
  const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length;
  const shrink = 1 / Math.sqrt(variance + 1e-5);
  return x.map((value, i) => (value - mean) * shrink * scale[i] + shift[i]);
}

function softmax(scores) {
  const largest = scores.reduce((a, b) => Math.max(a, b));
  const shares = scores.map(score => Math.exp(score - largest));
  const whole = total(shares);
  return shares.map(share => share / whole);
}

/* The sum, rounded to 32 bits as PyTorch rounds it, so that 1 is 1. */
function total(numbers) {
  return Math.fround(numbers.reduce((sum, number) => sum + number, 0));
}

/* x times the share of a bell curve that lies below x. */
function gelu(x) {
  return (x * (1 + erf(x / Math.SQRT2))) / 2;
}

/* The error function, to 1.5e-7: Abramowitz and Stegun, "Handbook of Mathematical Functions"
 * (1964), 7.1.26. */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const polynomial =
    t *
    (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - polynomial * Math.exp(-x * x));
}

/* Rotary positions: for each place and each pair of channels a cosine and a sine, (T, d_head).
 * Rounded to 32 bits step by step, as PyTorch does it: at a late place a rounding error of the
 * speed is a large angle. */
function rotations(T, size) {
  const table = new Float32Array(T * size);
  const speeds = new Float32Array(size / 2);
  for (let i = 0; i < size / 2; i++) speeds[i] = 10000 ** Math.fround((-2 * i) / size);
  for (let t = 0; t < T; t++) {
    for (let i = 0; i < size / 2; i++) {
      const angle = Math.fround(t * speeds[i]);
      table[t * size + 2 * i] = Math.cos(angle);
      table[t * size + 2 * i + 1] = Math.sin(angle);
    }
  }
  return table;
}

/* Turns each pair of neighbouring channels, a point in the plane, by its angle. */
function rotate(x, turn) {
  for (let i = 0; i < x.length; i += 2) {
    const a = x[i];
    const b = x[i + 1];
    const cosine = turn[i];
    const sine = turn[i + 1];
    x[i] = a * cosine - b * sine;
    x[i + 1] = a * sine + b * cosine;
  }
}
