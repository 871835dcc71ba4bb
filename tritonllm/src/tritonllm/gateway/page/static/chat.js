// The chat with an endpoint.

import * as api from "./api.js";
import {chips, element, marked} from "./verdicts.js";

const NUMBERS = ["temperature", "top_p", "max_tokens", "seed"];
const REASONS = {
  length: "The answer reached its maximum number of tokens.",
  timeout: "The answer took longer than the endpoint allows.",
  cancelled: "The answer was cancelled.",
};

const $ = (id) => document.getElementById(id);

/** Completed turns: what is sent again with the next one. */
let history = [];
let running = null;

export function start(model, failed) {
  const prompt = $("prompt");
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = prompt.value.trim();
    if (!text || running || !model()) return;
    prompt.value = "";
    fit(prompt);
    ask(model(), text).catch(failed);
  });
  prompt.addEventListener("keydown", (event) => {
    // While a word is composed, as in Japanese, Enter belongs to the composition.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      $("composer").requestSubmit();
    }
  });
  prompt.addEventListener("input", () => fit(prompt));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") running?.abort();
  });
  $("stop").addEventListener("click", () => running?.abort());
  $("clear").addEventListener("click", () => {
    running?.abort();
    history = [];
    $("log").replaceChildren($("welcome"));
    $("welcome").hidden = false;
    $("clear").hidden = true;
    prompt.focus();
  });
}

function fit(area) {
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight}px`;
}

function parameters() {
  const found = {};
  for (const name of NUMBERS) {
    const value = $(name).valueAsNumber;
    if (!Number.isNaN(value)) found[name] = value;
  }
  return found;
}

async function ask(model, text) {
  $("welcome").hidden = true;
  $("clear").hidden = false;
  const asked = turn("user", "You", text);
  const answer = turn("assistant", model, "");
  $("log").scrollTop = $("log").scrollHeight;
  const system = $("system").value.trim();
  const messages = [...(system ? [{role: "system", content: system}] : []), ...history, {role: "user", content: text}];
  running = new AbortController();
  busy(true, answer);
  try {
    const content = await stream({model, messages, ...parameters()}, running.signal, asked, answer);
    // A blocked prompt would be blocked again with each one that follows.
    if (content !== null) history.push({role: "user", content: text}, {role: "assistant", content});
    say(content === null ? "The prompt was blocked by a rule." : "The answer is complete.");
  } catch (error) {
    if (error.name === "AbortError") note(answer, "Stopped.");
    else if (error.code === "content_filter") blockedPrompt(asked, answer, error);
    else {
      answer.turn.classList.add("failed");
      note(answer, failure(error));
    }
    if (error.status === 401) throw error;
  } finally {
    running = null;
    busy(false, answer);
  }
}

/** Shows an answer while it arrives; returns its text, or null if the prompt was blocked. */
async function stream(body, signal, asked, answer) {
  const began = performance.now();
  let content = "", reasoning = "", reason = null, first = null, usage = null, verdicts = [];
  for await (const chunk of api.chat(body, signal)) {
    usage = chunk.usage ?? usage;
    verdicts = chunk.guardrails ?? verdicts;
    const choice = chunk.choices?.[0];
    if (!choice) continue;
    const {delta = {}} = choice;
    reason = choice.finish_reason ?? reason;
    const thought = delta.reasoning ?? delta.reasoning_content;
    if (thought) reasoning = think(answer, reasoning + thought);
    const piece = delta.content ?? delta.refusal;
    if (piece) {
      first ??= performance.now();
      content += piece;
      following(() => answer.text.append(piece));
    }
  }
  following(() => finished(asked, answer, {content, reason, verdicts, usage, began, first}));
  return promptBlocked(reason, verdicts) ? null : content;
}

function promptBlocked(reason, verdicts) {
  return reason === "content_filter" && verdicts.some((each) => each.action === "Block" && each.direction === "input");
}

function finished(asked, answer, {content, reason, verdicts, usage, began, first}) {
  const [prompts, answers] = ["input", "output"].map((direction) => verdicts.filter((each) => each.direction === direction));
  asked.verdicts.append(...chips(prompts));
  answer.verdicts.append(...chips(answers));
  // It was put together of as many nodes as there were chunks.
  answer.text.normalize();
  if (answers.some((each) => each.action === "Mask")) answer.text.replaceChildren(...marked(content));
  if (reason === "content_filter") {
    const where = promptBlocked(reason, verdicts) ? asked : answer;
    where.turn.classList.add("blocked");
    note(answer, where === asked ? "The prompt was blocked by a rule." : "The answer was blocked by a rule here.");
  } else if (REASONS[reason]) note(answer, REASONS[reason]);
  else if (!content) note(answer, "The answer is empty.");
  if (usage) answer.numbers.textContent = numbers(usage, began, first);
}

function numbers(usage, began, first) {
  const parts = [`${usage.prompt_tokens} + ${usage.completion_tokens} tokens`];
  if (first !== null) {
    parts.push(`first text after ${((first - began) / 1000).toFixed(2)} s`);
    const seconds = (performance.now() - first) / 1000;
    if (usage.completion_tokens > 1 && seconds > 0.05) {
      parts.push(`${Math.round((usage.completion_tokens - 1) / seconds)} tokens/s`);
    }
  }
  return parts.join(" · ");
}

function think(answer, reasoning) {
  answer.reasoning.hidden = false;
  answer.reasoning.lastChild.textContent = reasoning;
  return reasoning;
}

function blockedPrompt(asked, answer, error) {
  asked.turn.classList.add("blocked");
  following(() => asked.verdicts.append(...chips(error.rules)));
  const turnAtFault = /^messages\[(\d+)\]/.exec(error.param);
  const system = $("system").value.trim() ? 1 : 0;
  const earlier = turnAtFault && Number(turnAtFault[1]) < history.length + system;
  note(answer, earlier ? "An earlier turn was blocked by a rule. Start a new chat." : "The prompt was blocked by a rule; the model has not seen it.");
  say("The prompt was blocked by a rule.");
}

function failure(error) {
  const place = error.param ? `${error.param}: ` : "";
  const request = error.requestId ? ` (request ${error.requestId})` : "";
  return `${place}${error.message}${request}`;
}

/** Adds a turn to the conversation. */
function turn(role, name, content) {
  const text = element("div", {className: "text", textContent: content});
  const verdicts = element("ul", {className: "chips"});
  verdicts.setAttribute("aria-label", "Rules that matched");
  const numbers = element("p", {className: "numbers"});
  const reasoning = element("details", {className: "reasoning", hidden: true}, element("summary", {textContent: "Reasoning"}), element("div"));
  const parts = [element("h2", {textContent: name}), reasoning, text, verdicts, numbers];
  const whole = element("article", {className: `turn ${role}`}, ...parts);
  following(() => $("log").append(whole));
  return {turn: whole, text, verdicts, numbers, reasoning};
}

function note(answer, sentence) {
  following(() => answer.text.after(element("p", {className: "note", textContent: sentence})));
}

/** Changes the conversation, and stays at its end unless the reader has scrolled back. */
function following(change) {
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  change();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function busy(on, answer) {
  $("send").hidden = on;
  $("stop").hidden = !on;
  $("log").setAttribute("aria-busy", on);
  answer.turn.classList.toggle("running", on);
  $("prompt").focus();
}

function say(sentence) {
  $("announcement").textContent = sentence;
}
