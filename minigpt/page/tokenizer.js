"use strict";

/* Text to token ids, and back: what minigpt/tokenizer.py does, on the same vocabulary.
 *
 * `parts.words` is the regular expression that cuts a text into words; <0> in it stands for the
 * first of `parts.classes`. Python wrote these classes of characters out, range by range, as
 * Python itself understands them: so it does not matter what this browser takes for a letter. */
class Tokenizer {
  constructor(parts) {
    this.method = parts.method; // "bpe", "substring" or "bytes"
    this.vocab = parts.vocab; // each token as a string, a character a byte
    this.merges = parts.merges; // pairs of ids; the i-th makes token 256 + i
    this.words = new RegExp(
      parts.words.replace(/<(\d+)>/g, (_, i) => `[${parts.classes[i]}]`),
      "gu",
    );
    this.ranks = new Map(parts.merges.map(([left, right], rank) => [pairKey(left, right), rank]));
    this.ids = new Map();
    this.lengths = new Map(); // first two bytes -> how long a token that begins so may be
    parts.vocab.forEach((token, id) => {
      if (token && !this.ids.has(token)) this.ids.set(token, id); // of equal ones the first
    });
    for (const token of this.ids.keys()) {
      const beginning = token.slice(0, 2);
      this.lengths.set(beginning, (this.lengths.get(beginning) ?? new Set([1])).add(token.length));
    }
    for (const [beginning, lengths] of this.lengths) {
      this.lengths.set(
        beginning,
        [...lengths].sort((a, b) => b - a),
      ); // longest first
    }
  }

  /* The ids of a text's tokens. */
  encode(text) {
    if (typeof text !== "string") throw new TypeError(`text must be a string, not ${text}`);
    if (/\p{Surrogate}/u.test(text)) {
      throw new RangeError(
        "text must be valid Unicode, without a lone surrogate (half of a character)",
      );
    }
    const ids = [];
    const known = new Map();
    for (const word of text.match(this.words) ?? []) {
      if (!known.has(word)) known.set(word, this.encodeWord(word));
      for (const id of known.get(word)) ids.push(id);
    }
    return ids;
  }

  encodeWord(word) {
    const bytes = new TextEncoder().encode(word);
    return this.method === "substring" ? this.longestMatches(bytes) : this.applyMerges([...bytes]);
  }

  /* At each place the longest token that fits. A single byte always does. */
  longestMatches(bytes) {
    const word = byteString(bytes);
    const ids = [];
    for (let place = 0; place < word.length;) {
      const lengths = this.lengths.get(word.slice(place, place + 2)) ?? [1];
      const fits = lengths.find(length => this.ids.has(word.slice(place, place + length)));
      ids.push(this.ids.get(word.slice(place, place + fits)));
      place += fits;
    }
    return ids;
  }

  /* Of all pairs of neighbours the one learned first is merged, until there is none that was
   * learned. */
  applyMerges(ids) {
    for (;;) {
      let first = Infinity;
      for (let i = 0; i + 1 < ids.length; i++) {
        first = Math.min(first, this.ranks.get(pairKey(ids[i], ids[i + 1])) ?? Infinity);
      }
      if (first === Infinity) return ids;
      const [left, right] = this.merges[first];
      const merged = [];
      for (let i = 0; i < ids.length; i++) {
        const fits = ids[i] === left && ids[i + 1] === right;
        merged.push(fits ? 256 + first : ids[i]);
        if (fits) i++;
      }
      ids = merged;
    }
  }

  /* The bytes of one token. */
  bytes(id) {
    return Uint8Array.from(this.vocab[id], character => character.charCodeAt(0));
  }

  /* A function that takes ids one by one and gives the text so far as it can be told: a character
   * whose bytes have not all come is held back until they have. */
  decoder() {
    const decoder = new TextDecoder("utf-8", {ignoreBOM: true});
    return id => decoder.decode(this.bytes(id), {stream: true});
  }
}

function pairKey(left, right) {
  return left * 65536 + right; // no vocabulary has more tokens than that
}

/* Bytes as a string of as many characters, in pieces that a call can take. */
function byteString(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192)
    text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return text;
}
