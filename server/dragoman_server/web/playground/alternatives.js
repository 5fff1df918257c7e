/* What else could stand where a word of a translation stands: the likeliest next tokens after what comes before it. */
import { Latest, ask } from "./api.js";
import { focusOne, make, percent, roving } from "./dom.js";
import { Refusal } from "./faults.js";
import { words } from "./texts.js";

const HOW_MANY = 6;

export class Alternatives {
  /** `place` is where they are listed; `panel` is the TranslatePanel that they belong to. */
  constructor(place, panel) {
    this.place = place;
    this.panel = panel;
    this.latest = new Latest();
    roving(place, () => this.options());
    place.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close(true);
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        document.activeElement.click();
      }
    });
    place.addEventListener("focusout", (event) => {
      if (event.relatedTarget && !place.contains(event.relatedTarget)) this.close();
    });
    document.addEventListener("pointerdown", (event) => {
      if (!place.hidden && !place.contains(event.target) && event.target !== this.word) this.close();
    });
  }

  options() {
    return [...this.place.querySelectorAll("[role=option]")];
  }

  /** Closes the list; `back`: the focus returns to the word. */
  close(back = false) {
    this.latest.stop();
    this.place.hidden = true;
    this.word?.setAttribute("aria-expanded", "false");
    if (back) this.word?.focus();
    this.word = undefined;
  }

  async open(number, begin, button) {
    if (this.word === button) return this.close(true);
    this.close();
    this.word = button;
    button.setAttribute("aria-expanded", "true");
    this.tell("Asking for alternatives …");
    const part = this.panel.whole.parts[number];
    const prefix = part.target.slice(0, begin).trimEnd();
    const options = { target_prefix: prefix, alternatives: HOW_MANY };
    try {
      const request = this.panel.request(part.source, options);
      const answer = await this.latest.run((signal) => ask("/v1/translate", request, { signal }));
      if (answer) this.list(number, prefix, part.target, answer.response.hypotheses);
    } catch (error) {
      if (this.word !== button) return;
      const faults = error instanceof Refusal ? error.violations.map((each) => `${each.field}: ${each.limit}`) : [];
      this.tell(faults.join("; ") || error.message);
    }
  }

  tell(text) {
    this.place.replaceChildren(make("p", { class: "told", role: "status" }, text));
    this.place.hidden = false;
    this.settle();
  }

  list(number, prefix, shown, hypotheses) {
    const share = probabilities(hypotheses);
    const options = hypotheses.map((each, i) => {
      const rest = each.text.slice(prefix.length);
      const [from, to] = words(rest)[0] ?? [0, 0];
      const word = rest.slice(from, to) || "the end";
      const joins = from === 0 && prefix !== "" && to > 0; // it goes on with the word before it
      const end = prefix.length + to;
      const stands = each.text.slice(0, end) === shown.slice(0, end) && !continues(shown, end);
      const option = make(
        "div",
        { role: "option", tabindex: "-1", "aria-selected": String(stands) },
        make("span", { class: "word-offered", dir: "auto" }, joins ? `…${word}` : word),
        make("span", { class: "share" }, percent(share[i])),
        make("span", { class: "rest", dir: "auto" }, rest.slice(to).trim()),
      );
      option.onclick = () => {
        this.close();
        this.panel.redecode(number, each.text.slice(0, end), prefix.length + from);
      };
      return option;
    });
    const box = make("div", { role: "listbox", "aria-label": `Instead of “${this.word.textContent}”` }, ...options);
    this.place.replaceChildren(box);
    this.settle();
    focusOne(options, Math.max(0, options.findIndex((each) => each.getAttribute("aria-selected") === "true")));
    this.place.scrollIntoView({ block: "nearest" }); // on a phone it may begin where the screen ends
  }

  /** Below the word, inside of the card. */
  settle() {
    const card = this.place.parentElement.getBoundingClientRect();
    const word = this.word.getBoundingClientRect();
    const left = Math.min(word.left - card.left, card.width - this.place.offsetWidth - 8);
    this.place.style.left = `${Math.max(8, left)}px`;
    this.place.style.top = `${word.bottom - card.top + 6}px`;
  }
}

/** How likely each one's first token after the prefix is: the hypotheses have the prefix's tokens in common. */
export function probabilities(hypotheses) {
  const all = hypotheses.map((each) => each.tokens ?? []);
  let same = 0;
  while (all.every((tokens) => tokens.length > same && tokens[same] === all[0][same])) same += 1;
  return hypotheses.map((each) => Math.exp(each.token_log_probs[same]));
}

/** Whether the word that ends there goes on in the text. */
const continues = (text, at) => words(text).some(([begin, end]) => begin < at && at < end);
