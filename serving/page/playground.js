// One box per served model, built from what GET /models says. Everything shown comes from the server or the user and is
// put into the page as text, never as markup.
"use strict";

const TASKS = {
  "fill-mask": {
    title: "fill in the blank",
    label: "A text with one or more [MASK]",
    button: "Fill",
    example: "Return a [MASK] of all the names in the module.",
    parts: (answer) => (Array.isArray(answer[0]) ? answer : [answer]).map((row, i, all) => ({
      title: all.length > 1 ? `[MASK] ${i + 1} of ${all.length}` : "",
      scores: row.map((guess) => ({ name: guess.token_str, score: guess.score, more: guess.sequence })),
    })),
  },
  "text-classification": {
    title: "classify a text",
    label: "A text",
    button: "Classify",
    example: "Return a new array of the given shape and type, filled with zeros.",
    parts: (answer) => answer.map((row) => ({
      title: "",
      scores: row.map((guess) => ({ name: guess.label, score: guess.score })),
    })),
  },
};

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function showScores(target, parts) {
  target.replaceChildren();
  for (const part of parts) {
    if (part.title) target.append(element("h3", "", part.title));
    for (const guess of part.scores) {
      const line = element("div", "score");
      line.style.setProperty("--share", `${Math.max(0, Math.min(1, guess.score)) * 100}%`);
      line.append(element("span", "name", guess.name), element("span", "figure", `${(guess.score * 100).toFixed(1)} %`));
      if (guess.more) line.title = guess.more;
      target.append(line);
    }
  }
}

function bodyOf(text, top) {
  return JSON.stringify({ inputs: text, parameters: { top_k: top } });
}

// In single quotes a shell takes everything literally but the quote itself.
function curlLine(url, body) {
  return `curl -s ${url} -H 'Content-Type: application/json' -d '${body.replaceAll("'", "'\\''")}'`;
}

async function copyText(text, code) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {  // no clipboard on plain http from another machine: select it, so that the user's own shortcut works
    const range = document.createRange();
    range.selectNodeContents(code);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    return false;
  }
}

function addFacts(list, facts) {
  for (const [name, value] of Object.entries(facts)) {
    const shown = typeof value === "number" ? String(Number(value.toPrecision(6)))
      : typeof value === "object" ? JSON.stringify(value) : String(value);
    list.append(element("dt", "", name), element("dd", "", shown));
  }
}

function makeBox(model) {
  const task = TASKS[model.task];
  const box = document.getElementById("box").content.cloneNode(true).querySelector("section");
  const find = (selector) => box.querySelector(selector);
  const [text, top, button, notice] = ["textarea", ".top", "form button", ".notice"].map(find);
  const url = new URL(model.url, location.href).href;

  find("h2").textContent = model.name;
  find(".task").textContent = task.title;
  const showVersion = (number, digest) => { find(".version").textContent = `v${number} · ${digest.slice(0, 12)}`; };
  showVersion(model.version, model.digest);
  const inItsWords = (sentence) => sentence.replaceAll("[MASK]", model.mask ?? "[MASK]");  // RoBERTa writes <mask>
  find("form label").textContent = inItsWords(task.label);
  find("form label").htmlFor = text.id = `text-${model.name}`;
  button.textContent = task.button;
  text.value = new URLSearchParams(location.search).get(model.name) ?? inItsWords(task.example);
  addFacts(find("dl"), { ...model.scores, ...model.lineage });
  if (!find("dl").children.length) find(".lineage").hidden = true;

  const wanted = () => Math.max(1, Math.min(50, Number.parseInt(top.value, 10) || 5));
  const showCall = () => { find("code").textContent = curlLine(url, bodyOf(text.value, wanted())); };
  showCall();
  text.addEventListener("input", showCall);
  top.addEventListener("input", showCall);
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      find("form").requestSubmit(button);
    }
  });
  find(".copy").addEventListener("click", async () => {
    const copied = await copyText(find("code").textContent, find("code"));
    find(".copy").textContent = copied ? "Copied" : "Selected";
    setTimeout(() => { find(".copy").textContent = "Copy"; }, 1500);
  });

  find("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    notice.hidden = true;
    const began = performance.now();
    try {
      const response = await fetch(model.url, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: bodyOf(text.value, wanted()),
      });
      const answer = await response.json();
      if (!response.ok) throw new Error(answer.error ?? `status ${response.status}`);
      const milliseconds = Math.round(performance.now() - began);
      showScores(find(".answer"), task.parts(answer));
      showVersion(response.headers.get("X-Model-Version"), response.headers.get("X-Model-Digest"));
      const warning = response.headers.get("X-HF-Warning");
      find(".facts").textContent = `${milliseconds} ms` + (warning ? ` · ${warning.split(";").slice(1).join(";").trim()}` : "");
      if (event.submitter) {  // asked by a person: the address bar becomes a link to this very question
        const link = new URL(location.href);
        link.searchParams.set(model.name, text.value);
        history.replaceState(null, "", link);
      }
    } catch (error) {
      find(".answer").replaceChildren();  // of another text: beside an error it would mislead
      find(".facts").textContent = "";
      notice.textContent = error.message;
      notice.hidden = false;
    } finally {
      button.disabled = false;
    }
  });
  return box;
}

async function main() {
  const state = document.getElementById("state");
  try {
    const models = await (await fetch("/models")).json();
    const ready = models.filter((model) => model.ready && TASKS[model.task]);
    document.getElementById("models").append(...ready.map(makeBox));
    const waiting = models.filter((model) => !model.ready).map((model) => `${model.name}: ${model.problem ?? "loading"}`);
    const count = `${ready.length} ${ready.length === 1 ? "model answers" : "models answer"} here`;
    state.textContent = [count, ...waiting].join(" · ");
    for (const form of document.querySelectorAll("form")) form.requestSubmit();
  } catch (error) {
    state.textContent = `the server does not answer (${error.message})`;
  }
}

main();
