/* Requests to the JSON API of the server that this page came from: bodies and answers are the protos' messages. */
import { eventsOf } from "./events.js";
import { Refusal, Unreachable } from "./faults.js";
import { askForToken, token } from "./token.js";

/** Tells "reached" whenever the server has answered, and "lost" whenever it has not. */
export const connection = new EventTarget();

/** The answer of a GET, as it is. */
export async function get(path) {
  return (await sent(path, {})).json();
}

/** Resolves to `{ response, receipt, elapsed }`; raises Unreachable, Refusal, or AbortError through `signal`. */
export async function ask(path, body, { signal } = {}) {
  const began = performance.now();
  const answer = await sent(path, posted(body, signal));
  const response = await read(answer.json(), signal);
  return { response, receipt: response.receipt, elapsed: performance.now() - began };
}

/**
 * Resolves to what `ask` does, with `first`, the milliseconds to the first text; before that calls `onText` with what
 * is final of the text and what may still change, whenever there is more.
 */
export async function follow(path, body, { signal, onText }) {
  const began = performance.now();
  const answer = await sent(path, posted(body, signal));
  let final = "";
  let first;
  let last;
  for await (const { event, data } of events(answer.body, signal)) {
    const chunk = JSON.parse(data);
    if (event === "error") throw refusal(0, chunk);
    final += chunk.final_text_delta ?? "";
    const provisional = chunk.provisional_text ?? "";
    if (first === undefined && (final || provisional)) first = performance.now() - began;
    if (chunk.response) last = { ...chunk.response, receipt: chunk.receipt };
    else onText(final, provisional);
  }
  if (!last) throw new Unreachable("The answer broke off before its end.");
  return { response: last, receipt: last.receipt, elapsed: performance.now() - began, first };
}

const posted = (body, signal) => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify(body),
  signal,
});

async function sent(path, options) {
  for (;;) {
    const used = token();
    const headers = { ...options.headers, ...(used && { authorization: `Bearer ${used}` }) };
    const request = { ...options, headers, cache: "no-store", redirect: "error" };
    const answer = await read(fetch(path, request), options.signal);
    connection.dispatchEvent(new Event("reached"));
    if (answer.ok) return answer;
    const error = refusal(answer.status, await answer.json().catch(() => ({})), answer.headers.get("retry-after"));
    if (answer.status !== 401) throw error;
    // Another request may have been given a token meanwhile.
    const reason = used ? "It does not know the one that it was given." : "";
    if (used === token() && !(await askForToken(reason))) throw error;
  }
}

async function read(promise, signal) {
  try {
    return await promise;
  } catch (error) {
    throw broken(error, signal);
  }
}

async function* events(body, signal) {
  try {
    yield* eventsOf(body);
  } catch (error) {
    throw broken(error, signal);
  }
}

/** What a browser says of a connection is different in each; an abort by us stays one. */
function broken(error, signal) {
  if (signal?.aborted || error.name === "AbortError") return new DOMException("aborted", "AbortError");
  if (!(error instanceof TypeError)) return error;
  connection.dispatchEvent(new Event("lost"));
  return new Unreachable("Is it still running, and is the network there?");
}

function refusal(status, { error = {} }, header) {
  return new Refusal(status, {
    code: error.code,
    message: error.message || `The server answered with status ${status}.`,
    violations: error.violations,
    retryAfter: error.retry_after ?? (header ? Number(header) : undefined),
    incident: error.incident,
  });
}

/** At most one request at a time: a new one aborts the one before. */
export class Latest {
  /** Runs `act(signal)`; resolves to nothing where a newer one took its place, or it was stopped. */
  async run(act) {
    this.stop();
    const own = (this.controller = new AbortController());
    try {
      const found = await act(own.signal);
      return own.signal.aborted ? undefined : found;
    } catch (error) {
      if (own.signal.aborted) return undefined;
      throw error;
    } finally {
      if (this.controller === own) this.controller = undefined;
    }
  }

  stop() {
    this.controller?.abort();
    this.controller = undefined;
  }

  get running() {
    return this.controller !== undefined;
  }
}
