"use strict";

/* Shows what the server says, and, for the teacher, tells it what to do. Text is always set as
 * text, never as markup. The histogram of a question comes once it is revealed, and not before. */

const element = id => document.getElementById(id);
const here = location.pathname.replace(/\/$/, "");
const questions = JSON.parse(element("questions").textContent);
const FOLLOW = "";
const MOST = 8; // mistakes that are shown one by one
let now = null; // what the server has said last
let word = ""; // the teacher's

/* A new element of that class with children; a string becomes text. */
function make(name, kind, ...children) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  made.append(...children);
  return made;
}

/* The prose of a question: words in back-ticks are code. */
function prose(text) {
  return text.split(/`([^`]+)`/).map((part, i) => (i % 2 ? make("code", "", part) : part));
}

// ---- what everybody sees

function show(picture) {
  const before = now;
  now = picture;
  element("members").textContent = now.members;
  for (const code of document.querySelectorAll("code.join"))
    code.textContent = `join("${now.address}")`;
  showQuestion(now.question);
  showExercise(now.exercise);
  arrange();
  if (word) showControls();
  announce(before);
}

function showQuestion(question) {
  element("question-name").textContent = question ? question.name : "";
  if (!question) return;
  element("text").replaceChildren(...prose(question.text));
  element("answered").replaceChildren(
    make("b", "", String(question.answered)),
    ` of ${now.members} have answered`,
  );
  const most = Math.max(1, ...question.bars.map(bar => bar.count));
  const rows = question.revealed
    ? question.bars.map(bar => bars(bar, most))
    : question.options.map(option =>
      make("li", "", make("p", "answer", make("bdi", "", ...prose(option)))));
  element("answers").replaceChildren(...rows);
}

function bars({answer, count, right, why}, most) {
  const bar = make("div", "bar");
  bar.style.width = `${(100 * count) / most}%`;
  const mark = right ? "✓ " : "✗ ";
  return make(
    "li",
    right ? "right" : "",
    make("p", "answer", mark, make("bdi", "", ...prose(answer))),
    make("div", "track", bar),
    make("b", "", String(count)),
    make("p", "why", ...prose(why)),
  );
}

function showExercise(exercise) {
  if (!exercise) return;
  element("exercise-name").textContent = exercise.title;
  element("passed").replaceChildren(
    make("b", "", String(exercise.passed)),
    ` of ${exercise.tried} have passed`,
  );
  const shown = exercise.mistakes.slice(0, MOST);
  const more = exercise.mistakes.slice(MOST).reduce((sum, {times}) => sum + times, 0);
  if (more) shown.push({mistake: "others", times: more});
  element("mistakes-heading").hidden = !shown.length;
  element("mistakes").replaceChildren(
    ...shown.map(({mistake, times}) =>
      make("li", "", make("b", "", `${times} ×`), make("span", "", ...prose(mistake))),
    ),
  );
}

/* Large is what the class is at, or what the teacher has chosen; of the other part a line. */
function arrange() {
  const {question, exercise} = now;
  const view = element("view").value || now.at;
  element("empty").hidden = !!(question || exercise);
  element("question").hidden = !question || (view === "exercise" && !!exercise);
  element("exercise").hidden = !exercise || (view === "question" && !!question);
  const other = element("question").hidden ? question && ["Question", question.name, "answered"]
    : element("exercise").hidden && exercise && ["Exercise", exercise.title, "passed"];
  element("other").hidden = !other;
  if (other) {
    const [kind, name, done] = other;
    element("other").textContent = `${kind} ${name}: ${element(done).textContent}`;
  }
  fit();
}

/* As large as fits on one screen, within limits. */
function fit() {
  const wall = element("wall");
  for (const size of [1.3, 1.15, 1, 0.92, 0.85, 0.78, 0.7]) {
    wall.style.fontSize = `${size}rem`;
    if (document.documentElement.scrollHeight <= window.innerHeight) break;
  }
}

/* For a screen reader: a new question, and what a reveal has shown; not every single answer. */
function announce(before) {
  const {question} = now;
  const was = before?.question;
  if (!question || (was?.name === question.name && was.revealed === question.revealed)) return;
  const shown = question.bars.map(({answer, count, right}) =>
    `${answer}: ${count}${right ? ", right" : ""}`);
  element("announcement").textContent = question.revealed ? shown.join("; ") : question.text;
}

// ---- the teacher's buttons

function showControls() {
  const {question, pinned} = now;
  element("reveal").textContent = question?.revealed ? "Hide" : "Reveal";
  element("pinned").value = pinned ? question.name : FOLLOW;
  element("next").disabled = !nextName();
}

function nextName() {
  const place = questions.findIndex(([name]) => name === now.question?.name);
  return questions[place + 1]?.[0];
}

async function send(to, body) {
  const answer = await fetch(`${here}/${to}`, {
    method: "POST",
    headers: {"Content-Type": "application/json", "X-Teacher": word},
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(await answer.text());
  return answer;
}

/* Does what a button says, and says what went wrong. */
function act(what, question = "") {
  return send("teacher", {do: what, question}).catch(sayError);
}

function sayError(error) {
  element("connection").textContent = error.message;
}

async function download() {
  const table = await (await send("answers.csv", {})).blob();
  const link = make("a");
  link.href = URL.createObjectURL(table);
  link.download = "answers.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}

/* Gives the teacher the buttons, if that is the word. */
async function enter(given) {
  word = given;
  try {
    await send("teacher", {do: "greet", question: ""});
  } catch (error) {
    word = "";
    sayError(error);
    return;
  }
  sessionStorage.setItem("word", word); // for when the page is loaded again
  element("connection").textContent = "";
  element("entry").hidden = true;
  element("controls").hidden = false;
  if (now) {
    showControls();
    fit();
  }
  element("reveal").focus();
}

function startControls() {
  const choices = questions.map(([name, text]) => new Option(`${name}: ${text}`, name));
  element("pinned").append(new Option("what the class is at", FOLLOW), ...choices);
  element("pinned").addEventListener("change", ({target}) =>
    target.value === FOLLOW ? act("follow") : act("pin", target.value),
  );
  element("reveal").addEventListener("click", () => {
    if (now?.question) act(now.question.revealed ? "hide" : "reveal", now.question.name);
  });
  element("next").addEventListener("click", () => act("pin", nextName()));
  element("reveal-all").addEventListener("click", () => act("reveal all"));
  element("export").addEventListener("click", () => download().catch(sayError));
  element("view").addEventListener("change", () => now && arrange());
  addEventListener("resize", () => now && fit());
  element("controls").addEventListener("submit", event => event.preventDefault());
  element("entry").addEventListener("submit", event => {
    event.preventDefault();
    enter(element("word").value.trim());
    element("word").value = "";
  });
}

function listen() {
  const events = new EventSource(`${here}/events`);
  events.addEventListener("open", () => (element("connection").textContent = ""));
  events.addEventListener("message", event => show(JSON.parse(event.data)));
  events.addEventListener("error", () => {
    element("connection").textContent = "The wall's server does not answer. Waiting for it …";
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  });
}

/* The teacher's word is in the address behind "#", which no browser sends anywhere; it is taken
 * out of there at once, since the address is on the projector too. */
startControls();
const given = decodeURIComponent(location.hash.slice(1)) || sessionStorage.getItem("word");
history.replaceState(null, "", here);
if (given) enter(given);
listen();
