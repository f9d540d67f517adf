"use strict";

/* What Python packed into this page: the facts and the tokenizer as JSON, the weights as
 * base64. */

/* The text of a part of the page. */
function partText(id) {
  return document.getElementById(id).textContent;
}

/* Throws unless the parts are, letter for letter, what Python wrote. (The scripts are the
 * browser's to check: the page's security policy holds a hash of each.) */
function checkWhole() {
  const found = crc32(["style", "page", "facts", "weights"].map(partText).join("\n"));
  if (found !== document.getElementById("weights").dataset.crc32)
    throw new Error("its checksum does not match its content");
}

/* CRC-32 of a text's bytes, as zlib computes it, in eight hexadecimal digits. */
function crc32(text) {
  const table = new Int32Array(256);
  const bytes = new TextEncoder().encode(text);
  for (let byte = 0; byte < 256; byte++) {
    table[byte] = byte;
    for (let bit = 0; bit < 8; bit++)
      table[byte] = table[byte] & 1 ? (table[byte] >>> 1) ^ 0xedb88320 : table[byte] >>> 1;
  }
  let crc = -1;
  for (let i = 0; i < bytes.length; i++) crc = (crc >>> 8) ^ table[(crc ^ bytes[i]) & 255];
  return (~crc >>> 0).toString(16).padStart(8, "0");
}

/* Name -> Float32Array. `tensors` says how many numbers each name has, in the order in which they
 * lie. */
function unpackWeights(base64, format, tensors) {
  const numbers =
    format === "float16" ? fromHalf(decode(base64)) : new Float32Array(decode(base64));
  const weights = {};
  let start = 0;
  for (const [name, size] of tensors) weights[name] = numbers.subarray(start, (start += size));
  if (start !== numbers.length)
    throw new Error(`it holds ${numbers.length} numbers and needs ${start}`);
  return weights;
}

function decode(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes.buffer; // little-endian, as every processor that runs a browser
}

/* Numbers of 16 bits as numbers of 32: a sign, five bits of exponent, ten of fraction. All 65,536
 * are looked up. */
function fromHalf(buffer) {
  const halves = new Uint16Array(buffer);
  const table = new Float32Array(65536);
  const numbers = new Float32Array(halves.length);
  for (let bits = 0; bits < table.length; bits++) {
    const sign = bits >> 15 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    table[bits] =
      sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
  }
  for (let i = 0; i < halves.length; i++) numbers[i] = table[halves[i]];
  return numbers;
}
