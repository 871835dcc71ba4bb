// The rules of an endpoint, applied to a text while it is typed.

import * as api from "./api.js";
import {chips, marked} from "./verdicts.js";

// Time after the last key before a text is checked, in milliseconds.
const PAUSE = 200;

const $ = (id) => document.getElementById(id);

let checking = null;
let timer = 0;

/** Returns what checks the text again, such as after a change of the model. */
export function start(model, failed) {
  const again = () => {
    clearTimeout(timer);
    timer = setTimeout(() => check(model(), failed), PAUSE);
  };
  $("text").addEventListener("input", again);
  for (const choice of document.getElementsByName("direction")) choice.addEventListener("change", again);
  $("rules-form").addEventListener("submit", (event) => event.preventDefault());
  return again;
}

async function check(model, failed) {
  checking?.abort();
  const text = $("text").value;
  if (!text || !model) {
    show("Nothing to check yet.", []);
    return;
  }
  checking = new AbortController();
  const {signal} = checking;
  try {
    const direction = document.querySelector("[name=direction]:checked").value;
    const result = await api.moderate(model, text, direction, signal);
    const verdicts = result.guardrails ?? [];
    show(sentence(result, verdicts), verdicts, result, text);
  } catch (error) {
    if (error.name === "AbortError") return;
    show(error.message, [], {failed: true});
    failed(error);
  }
}

function sentence(result, verdicts) {
  if (result.blocked ?? verdicts.some((each) => each.action === "Block")) return "Blocked";
  if (verdicts.some((each) => each.action === "Mask")) return "Passes with parts masked";
  if (verdicts.length) return "Passes, and is flagged";
  return "Passes unchanged";
}

function show(summary, verdicts, result = {}, original = "") {
  const verdict = $("verdict");
  verdict.textContent = summary;
  verdict.className = result.failed ? "failed" : (verdicts.find((each) => each.action === "Block") ?? verdicts[0])?.action.toLowerCase() ?? "";
  $("matches").replaceChildren(...chips(verdicts));
  const masked = result.text && verdicts.some((each) => each.action === "Mask");
  $("masked-block").hidden = !masked;
  $("masked").replaceChildren(...(masked ? marked(result.text, original) : []));
}
