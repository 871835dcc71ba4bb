// What both views share: the model, the key, the theme, and which view is shown.

import * as api from "./api.js";
import * as chat from "./chat.js";
import * as rules from "./rules.js";

const THEME = "tritonllm-theme";

const $ = (id) => document.getElementById(id);
const model = () => $("model").value;

function notice(text) {
  $("notice").hidden = !text;
  $("notice").textContent = text;
}

function failed(error) {
  if (error.status === 401) {
    notice(api.key() ? "The API key is not valid." : "This gateway needs an API key.");
    $("settings-details").open = true;
    $("key").focus();
  } else notice(error instanceof api.ApiError ? error.message : `The gateway cannot be reached: ${error.message}`);
}

async function loadModels() {
  try {
    const names = await api.models();
    const selected = model();
    $("model").replaceChildren(...names.map((name) => new Option(name, name, false, name === selected)));
    notice(names.length ? "" : "No endpoint is available at the moment. Reload the page to look again.");
    return true;
  } catch (error) {
    failed(error);
    return false;
  }
}

function view() {
  const shown = location.hash === "#rules" ? "rules" : "chat";
  for (const name of ["chat", "rules"]) {
    $(name).hidden = name !== shown;
    if (name === shown) $(`to-${name}`).setAttribute("aria-current", "page");
    else $(`to-${name}`).removeAttribute("aria-current");
  }
  $("parameters").hidden = shown !== "chat";
  document.title = shown === "chat" ? "Chat – tritonllm" : "Rules – tritonllm";
}

chat.start(model, failed);
const checkAgain = rules.start(model, failed);

$("model").addEventListener("change", checkAgain);
$("key").value = api.key();
$("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  api.useKey($("key").value.trim());
  if (await loadModels()) {
    checkAgain();
    $("prompt").focus();
  }
});

$("theme").value = localStorage.getItem(THEME) ?? "system";
document.documentElement.dataset.theme = $("theme").value;
$("theme").addEventListener("change", () => {
  localStorage.setItem(THEME, $("theme").value);
  document.documentElement.dataset.theme = $("theme").value;
});

window.addEventListener("hashchange", view);
view();
// There is room for the settings beside the conversation, but not above it.
if (matchMedia("(min-width: 60rem)").matches) $("settings-details").open = true;
await loadModels();
