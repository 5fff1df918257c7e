/* The receipt of an answer: what the request went through, and how long it took as seen from here. */
import { make } from "./dom.js";

const ms = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;

/**
 * Shows a receipt in a `dl`. `answer`: `{ receipt, elapsed, first }`, times in milliseconds, `first` that of the first
 * text of a stream; `response`: the message, with model, version and usage; `score`: of the best hypothesis, if any.
 */
export function showReceipt(list, { receipt = {}, elapsed, first }, response, score) {
  const usage = response.usage ?? {};
  const read = usage.source_tokens ?? 0;
  const made = usage.target_tokens ?? 0;
  const rows = [
    ["in the browser", ms(elapsed), "From sending the request to the last byte of the answer"],
    first !== undefined && ["first text", ms(first), "From sending the request to the first text of the answer"],
    receipt.queue_ms !== undefined && ["queue", ms(receipt.queue_ms), "Waiting for a lane"],
    receipt.encode_ms !== undefined && ["encode", ms(receipt.encode_ms), "Reading the text or the prompt"],
    receipt.steps && ["steps", String(receipt.steps), "Steps of decoding, or passes"],
    receipt.batch_mean && ["batch", receipt.batch_mean.toFixed(1), "Rows decoded together, on average"],
    ["tokens", made ? `${read} → ${made}` : String(read), made ? "Tokens read and produced" : "Tokens read"],
    score !== undefined && ["score", score.toFixed(2), "Natural logarithm of the probability, before any penalty"],
    receipt.precision && ["precision", receipt.precision, "Of the weights"],
    ["model", `${response.model} version ${response.model_version}`, "That answered"],
    receipt.lane !== undefined && ["lane", String(receipt.lane), "Which of the server's lanes decoded it"],
  ];
  const shown = ([name, value, title]) => make("div", { title }, make("dt", {}, name), make("dd", {}, value));
  list.replaceChildren(...rows.filter(Boolean).map(shown));
  list.hidden = false;
}
