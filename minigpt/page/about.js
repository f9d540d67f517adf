"use strict";

/* Who the model is: its size, what it has read, how well it predicts, and how its loss fell. */

function showAbout(facts) {
  const {config, tokenizer, about, numbers} = facts;
  document.title = facts.title;
  element("title").textContent = facts.title;
  element("size").textContent =
    `A GPT of ${number.format(numbers)} numbers, and all that it needs to write, in one file.`;
  const methods = {
    bpe: "byte-pair merges",
    substring: "frequent substrings",
    bytes: "single bytes",
  };
  const rows = [
    [
      "size",
      `${number.format(numbers)} numbers: ${count(config.n_layers, "layer")} of ` +
        `${count(config.n_heads, "head")}, ` +
        `${number.format(config.d_model)} channels`,
    ],
    ["sees at once", `${number.format(config.context_length)} tokens`],
    ["vocabulary", `${number.format(config.vocab_size)} tokens, ${methods[tokenizer.method]}`],
    [
      "has read",
      [about.text, about.n_bytes && `${number.format(about.n_bytes)} bytes`]
        .filter(Boolean)
        .join(", "),
    ],
    ["training", about.steps && count(about.steps, "step")],
    [
      "loss on text that it has not read",
      about.held_out_loss &&
        `${about.held_out_loss.toFixed(3)} nats per byte ` +
          `(knowing nothing: ${Math.log(256).toFixed(1)}; the lower, the better)`,
    ],
  ];
  for (const [name, value] of rows) {
    if (value)
      element("about").append(
        make("div", {}, make("dt", {}, name), make("dd", {}, make("bdi", {}, value))),
      );
  }
  if (facts.history) element("curve").append(...lossCurve(facts.history));
  element("curve").hidden = !facts.history;
}

function count(n, what) {
  return `${number.format(n)} ${what}${n === 1 ? "" : "s"}`;
}

const WIDTH = 420;
const HEIGHT = 250;
const LEFT = 52;
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 46;

/* The curve, and the words under it. `training` and `held_out`: [step, nats per byte] each. */
function lossCurve({training, held_out}) {
  const losses = [...training, ...held_out].map(([, loss]) => loss);
  const end = Math.max(...[...training, ...held_out].map(([step]) => step));
  const low = Math.max(0, Math.min(...losses) - 0.1);
  const high = Math.max(...losses) + 0.1;
  const x = step => LEFT + ((WIDTH - LEFT - RIGHT) * step) / end;
  const y = loss => TOP + ((HEIGHT - TOP - BOTTOM) * (high - loss)) / (high - low);
  const line = points =>
    points.map(([step, loss]) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`).join(" ");
  const picture = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: "img",
    "aria-label": curveWords(training, held_out),
  });
  for (const loss of roundNumbers(low, high)) {
    picture.append(
      svg("line", {class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(loss), y2: y(loss)}),
      svg("text", {x: LEFT - 8, y: y(loss) + 5, "text-anchor": "end"}, `${loss}`),
    );
  }
  for (const step of roundNumbers(0, end)) {
    picture.append(
      svg(
        "text",
        {x: x(step), y: HEIGHT - BOTTOM + 20, "text-anchor": "middle"},
        number.format(step),
      ),
    );
  }
  picture.append(
    svg("text", {x: (LEFT + WIDTH) / 2, y: HEIGHT - 6, "text-anchor": "middle"}, "step"),
    svg("polyline", {class: "training", points: line(training)}),
    svg("polyline", {class: "held-out", points: line(held_out)}),
    ...held_out.map(([step, loss]) =>
      svg("rect", {class: "held-out", x: x(step) - 4, y: y(loss) - 4, width: 8, height: 8}),
    ),
  );
  const words =
    "Its loss in training, in nats per byte: the line is what it read, " +
    "the squares are text held out from it.";
  return [picture, make("figcaption", {}, words)];
}

function curveWords(training, held_out) {
  const ends = points => `from ${points[0][1].toFixed(2)} to ${points.at(-1)[1].toFixed(2)}`;
  const also = held_out.length ? `; on held-out text it went ${ends(held_out)}` : "";
  return training.length ? `The training loss went ${ends(training)} nats per byte${also}.` : "";
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/* A few numbers between `low` and `high` that are easy to read. */
function roundNumbers(low, high) {
  const power = 10 ** Math.floor(Math.log10(high - low));
  const step = [0.1, 0.2, 0.5, 1, 2]
    .map(share => power * share)
    .find(size => (high - low) / size <= 5.5);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({length: last - first + 1}, (_, i) => +((first + i) * step).toPrecision(6));
}
