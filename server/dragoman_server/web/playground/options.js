/* Options of decoding as fields: what stays empty is not sent, and has the server's default. */
import { make } from "./dom.js";

// `slide`: from, to and step of a slider; what is out of range is the server's to say.
const OPTIONS = {
  beam_size: { label: "Beam size", slide: [1, 16, 1], empty: "1" },
  num_hypotheses: { label: "Hypotheses", slide: [1, 16, 1], empty: "1" },
  length_penalty: { label: "Length penalty", slide: [0, 3, 0.1], empty: "1" },
  coverage_penalty: { label: "Coverage penalty", slide: [0, 2, 0.05], empty: "0" },
  temperature: { label: "Temperature", slide: [0.05, 2, 0.05], empty: "1" },
  top_k: { label: "Top k", slide: [1, 200, 1], empty: "all" },
  top_p: { label: "Top p", slide: [0.05, 1, 0.01], empty: "1" },
  min_p: { label: "Min p", slide: [0, 1, 0.01], empty: "0" },
  repetition_penalty: { label: "Repetition penalty", slide: [0.5, 2, 0.05], empty: "1" },
  no_repeat_ngram_size: { label: "No n-gram twice, n =", empty: "off" },
  max_length: { label: "Most tokens", empty: "as many as fit" },
  seed: { label: "Seed", empty: "drawn anew" },
  stop: { label: "Stop before", empty: "one text a line", lines: true },
  banned_words: { label: "Words that must not come", empty: "one a line", lines: true },
};

export const TRANSLATION_OPTIONS = [
  ["Search", ["beam_size", "num_hypotheses", "length_penalty", "coverage_penalty"]],
  ["Sampling", ["temperature", "top_k", "top_p", "min_p", "seed"]],
  ["Limits", ["max_length", "repetition_penalty", "no_repeat_ngram_size", "banned_words"]],
];
export const GENERATION_OPTIONS = [
  ["Sampling", ["temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed"]],
  ["Limits", ["max_length", "stop"]],
];

/** A form of options inside `place`, with `values()` for the request; calls `onChange` when one of them changes. */
export class OptionForm {
  constructor(place, groups, onChange = () => {}, given = {}) {
    this.fields = new Map();
    this.onChange = onChange;
    const onclick = () => this.fill({});
    const reset = make("button", { type: "button", class: "quiet small", onclick }, "Back to the defaults");
    place.replaceChildren(
      make(
        "div",
        { class: "option-groups" },
        ...groups.map(([title, names]) =>
          make("fieldset", {}, make("legend", {}, title), ...names.map((name) => this.option(place.id, name))),
        ),
      ),
      reset,
    );
    for (const [name, value] of Object.entries(given)) this.set(name, value);
  }

  option(prefix, name) {
    const { label, slide, empty, lines } = OPTIONS[name];
    const id = `${prefix}-${name}`;
    const changed = () => this.onChange();
    const attributes = { id, "data-field": `options.${name}`, placeholder: empty, autocomplete: "off" };
    if (lines) {
      const field = make("textarea", { ...attributes, rows: 2, oninput: changed });
      this.fields.set(name, { field });
      return make("div", { class: "option" }, make("label", { for: id }, label), field);
    }
    const field = make("input", { ...attributes, inputmode: "decimal" });
    let slider;
    if (slide) {
      const [min, max, step] = slide;
      slider = make("input", { type: "range", min, max, step, "aria-label": `${label}, slider` });
      slider.oninput = () => {
        field.value = slider.value;
        changed();
      };
    }
    field.oninput = () => {
      this.align(name);
      changed();
    };
    this.fields.set(name, { field, slider, empty });
    this.align(name);
    return make(
      "div",
      { class: "option" },
      make("label", { for: id }, label),
      slider ? make("div", { class: "range" }, slider, field) : field,
    );
  }

  /** The slider stands where the field says, or at the default. */
  align(name) {
    const { field, slider, empty } = this.fields.get(name);
    if (slider) slider.value = field.value.trim() || (empty === "all" ? slider.max : empty);
  }

  set(name, value) {
    this.fields.get(name).field.value = value;
    this.align(name);
  }

  /** Only the given options stay. */
  fill(given) {
    for (const name of this.fields.keys()) this.set(name, given[name] ?? "");
    this.onChange();
  }

  /** The options that were given, as DecodingOptions has them. What is no number is sent as it is, to be refused. */
  values() {
    const found = {};
    for (const [name, { field }] of this.fields) {
      const text = field.value.trim();
      if (!text) continue;
      if (OPTIONS[name].lines) found[name] = field.value.split("\n").filter((line) => line !== "").map(unescaped);
      else if (name === "seed") found[name] = text; // 64 bits are more than a number holds
      else found[name] = Number.isFinite(Number(text)) ? Number(text) : text;
    }
    return found;
  }
}

/** A line break can be asked for as \n. */
const unescaped = (line) => line.replaceAll("\\n", "\n");
