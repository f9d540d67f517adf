"use strict";

/* What every part of the screen uses. Text is always set as text, never as markup. */

const element = id => document.getElementById(id);

/* A new element with attributes and children; a string becomes text. */
function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const number = new Intl.NumberFormat("en");
const MARKS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"};

/* A token's bytes as one printable line: spaces as ␣, bytes that are only part of a character in
 * hexadecimal. */
function tokenLabel(bytes) {
  let label = "",
    start = 0;
  while (start < bytes.length) {
    const length = [4, 3, 2, 1].find(n => isCharacter(bytes.subarray(start, start + n), n));
    if (length) {
      const [character] = new TextDecoder("utf-8", {ignoreBOM: true}).decode(
        bytes.subarray(start, start + length),
      );
      label += visible(character);
    } else {
      label += `⟨${bytes[start].toString(16).toUpperCase().padStart(2, "0")}⟩`;
    }
    start += length ?? 1;
  }
  return /^\p{M}/u.test(label) ? "◌" + label : label;
}

/* Whether these are the `length` bytes of one character. */
function isCharacter(bytes, length) {
  try {
    return (
      bytes.length === length &&
      [...new TextDecoder("utf-8", {fatal: true, ignoreBOM: true}).decode(bytes)].length === 1
    );
  } catch {
    return false;
  }
}

function visible(character) {
  if (!/[\p{C}\p{Z}]/u.test(character)) return character;
  return (
    MARKS[character] ??
    `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`
  );
}

/* Fills a table with a bar a row. `rows`: [label, share of 1] each. */
function drawBars(table, heads, rows) {
  const cells = rows.map(([label, share]) => {
    const bar = make("span", {class: "bar"});
    bar.style.width = `${100 * share}%`;
    return make(
      "tr",
      {},
      make("th", {scope: "row"}, make("bdi", {}, label)),
      make("td", {class: "track"}, bar),
      make("td", {class: "share"}, share ? share.toFixed(3) : "0 (cut)"),
    );
  });
  const head = heads.map((text, i) =>
    make("th", i ? {scope: "col", colspan: 2} : {scope: "col"}, text),
  );
  table.replaceChildren(make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...cells));
}
