/* A translation as words that can be chosen: one stop for Tab, the arrow keys move from word to word. */
import { make, roving } from "./dom.js";
import { words } from "./texts.js";

export class Words {
  /** `onChoice(part, begin, button)`: number of the part, where the word begins in it, and its button. */
  constructor(place, onChoice) {
    this.place = place;
    this.onChoice = onChoice;
    roving(place, () => this.buttons());
  }

  buttons() {
    return [...this.place.querySelectorAll(".word")];
  }

  clear() {
    this.place.replaceChildren();
  }

  /** Text that is still being decoded: what stays, what may change, and what follows. */
  showRunning(before, final, provisional, after) {
    this.place.replaceChildren(before + final, make("span", { class: "provisional" }, provisional), after);
  }

  /** The finished text; every word of a part that was decoded is a button. */
  showFinal({ parts, after }) {
    this.clear();
    parts.forEach((part, number) => {
      this.place.append(part.before);
      if (part.copied) this.place.append(part.target);
      else this.appendWords(part.target, number);
    });
    this.place.append(after);
    this.buttons().forEach((button, i) => {
      button.tabIndex = i ? -1 : 0;
    });
  }

  appendWords(text, part) {
    let at = 0;
    for (const [begin, end] of words(text)) {
      const word = text.slice(begin, end);
      const button = make("button", { type: "button", class: "word", "aria-haspopup": "listbox" }, word);
      button.ariaExpanded = "false";
      button.dataset.part = part;
      button.dataset.begin = begin;
      button.onclick = () => this.onChoice(part, begin, button);
      this.place.append(text.slice(at, begin), button);
      at = end;
    }
    this.place.append(text.slice(at));
  }

  /** Underlines a word that somebody chose, and gives it the focus. */
  mark(part, begin) {
    const found = this.buttons().find((each) => +each.dataset.part === part && +each.dataset.begin === begin);
    if (!found) return;
    found.classList.add("chosen");
    for (const button of this.buttons()) button.tabIndex = button === found ? 0 : -1;
    found.focus();
  }
}
