// The key and what goes over the network. The key is in this tab's sessionStorage alone and
// travels as a header; so streams are read by fetch, since an EventSource can't send one.

const NAME = "gateway-key";

export const key = {
  get: () => sessionStorage.getItem(NAME) ?? "",
  set: (text) => (text ? sessionStorage.setItem(NAME, text) : sessionStorage.removeItem(NAME)),
};

// What the gateway says no with, in its own words.
export class Refusal extends Error {
  constructor(status, headers, error) {
    super(error?.message ?? `The gateway answered with status ${status}.`);
    this.status = status;
    this.code = error?.code ?? "";
    this.place = headers.get("x-gateway-place") ?? "";
    const ms = Number(headers.get("retry-after-ms"));
    this.retryAfterS = ms > 0 ? ms / 1000 : null;
    this.worthRetrying = this.retryAfterS !== null && headers.get("x-should-retry") !== "false";
  }
}

// A Response that says yes; throws a Refusal, or what fetch throws.
export async function call(path, { body, headers = {}, signal } = {}) {
  const sent = { ...headers };
  if (key.get()) sent.Authorization = `Bearer ${key.get()}`;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  const response = await fetch(path, {
    method: body === undefined ? "GET" : "POST",
    headers: sent,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal,
    credentials: "omit",
    cache: "no-store",
  });
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  throw new Refusal(response.status, response.headers, said?.error);
}

// The records of an event stream as they come: {comment} or {data}.
export async function* records(response) {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of chunks(response.body)) {
    rest += decoder.decode(bytes, { stream: true });
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) yield* read(block);
  }
}

function* read(block) {
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith(":")) yield { comment: line.slice(1).trim() };
    else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
  }
  if (data.length) yield { data: data.join("\n") };
}

// Not every browser can iterate over a stream.
async function* chunks(stream) {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Resolves after so long; rejects at once when the signal says so.
export function wait(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("Stopped.", "AbortError"));
    }, { once: true });
  });
}
