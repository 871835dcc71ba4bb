// The gateway's public API, as this page uses it.

const KEY = "tritonllm-key";

export function key() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function useKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

/** An answer with an error: OpenAI's error body, and what its headers add. */
export class ApiError extends Error {
  constructor(status, body, headers) {
    const error = body?.error ?? {};
    super(error.message ?? `The gateway answered with HTTP status ${status}.`);
    this.status = status;
    this.code = error.code ?? "";
    this.param = error.param ?? "";
    this.rules = rulesOf(error, body);
    this.requestId = headers?.get("x-request-id") ?? "";
  }
}

/** The rules that an error names: in `guardrails`, or as Azure's clients expect them. */
function rulesOf(error, body) {
  const listed = error.guardrails ?? body?.guardrails;
  if (Array.isArray(listed)) return listed;
  const details = error.innererror?.content_filter_result?.custom_blocklists?.details ?? [];
  return details.filter((each) => each.filtered).map((each) => ({rule: each.id, action: "Block", direction: "input"}));
}

async function request(path, options = {}) {
  const headers = {...options.headers};
  if (key()) headers.Authorization = `Bearer ${key()}`;
  const response = await fetch(path, {...options, headers});
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw new ApiError(response.status, body, response.headers);
  }
  return response;
}

function post(path, body, signal) {
  return request(path, {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify(body),
    signal,
  });
}

export async function models() {
  const response = await request("v1/models");
  return (await response.json()).data.map((model) => model.id);
}

export async function moderate(model, input, direction, signal) {
  const response = await post("v1/moderations", {model, input, direction}, signal);
  return (await response.json()).results[0];
}

/** Streams a chat completion; yields its chunks. */
export async function* chat(body, signal) {
  const response = await post("v1/chat/completions", {...body, stream: true, stream_options: {include_usage: true}}, signal);
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(response.status, chunk, response.headers);
    yield chunk;
  }
  throw new Error("The connection ended before the answer was complete.");
}

/** The data of each server-sent event. */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const {value, done} = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) yield line.slice(5).trim();
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
