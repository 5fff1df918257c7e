/* Texts to begin with, as buttons. */
import { byId, make } from "./dom.js";

/** Calls `onChoice(text, number)` for the one that is chosen. */
export function offerExamples(id, texts, onChoice) {
  byId(id).replaceChildren(
    ...texts.map((text, number) => make("button", { type: "button", onclick: () => onChoice(text, number) }, text)),
  );
}
