/* Translates as you type, streams the text, and takes another word where one is chosen. */
import { Alternatives } from "./alternatives.js";
import { Latest, follow } from "./api.js";
import { announce, byId, debounced, make } from "./dom.js";
import { offerExamples } from "./examples.js";
import { Faults } from "./faults.js";
import { languageName, offerModels } from "./models.js";
import { OptionForm, TRANSLATION_OPTIONS } from "./options.js";
import { showReceipt } from "./receipt.js";
import { joined, partsOf } from "./texts.js";
import { Words } from "./words.js";

const PAUSE_MS = 300;
const EXAMPLES = [
  ["en", "Where is the station?"],
  ["en", "The coffee was so hot that I burned my tongue."],
  ["de", "Morgen fahren wir mit dem Zug ans Meer. Kommst du mit?"],
];

export class TranslatePanel {
  /** `explain(text, target, language, model)` is called when somebody wants to look inside. */
  constructor(explain) {
    this.latest = new Latest();
    this.faults = new Faults(byId("translate"), byId("translate-fault"));
    this.source = byId("source");
    this.output = byId("translation");
    this.whole = undefined; // the parts of the translation that is shown
    this.words = new Words(this.output, (part, begin, button) => this.alternatives.open(part, begin, button));
    this.alternatives = new Alternatives(byId("alternatives"), this);
    this.soon = debounced(() => this.translate(), PAUSE_MS);
    this.options = new OptionForm(byId("translate-options"), TRANSLATION_OPTIONS, this.soon);
    this.source.addEventListener("input", () => {
      this.offerHelp();
      this.soon();
    });
    for (const id of ["from", "to"]) byId(id).addEventListener("change", () => this.translate());
    byId("translate-model").addEventListener("change", () => this.chooseModel());
    byId("swap").addEventListener("click", () => this.swap());
    byId("clear").addEventListener("click", () => {
      this.fill("");
      this.source.focus();
    });
    byId("copy").addEventListener("click", () => this.copy());
    byId("look-inside").addEventListener("click", () => {
      // Of several sentences the first: each is decoded, and explained, by itself.
      const { source, target } = this.whole.parts.find((part) => !part.copied) ?? this.whole.parts[0];
      explain(source, target, byId("to").value, byId("translate-model").value);
    });
    offerExamples("translate-examples", EXAMPLES.map(([, text]) => text), (text, number) => {
      const language = EXAMPLES[number][0];
      const other = [...byId("to").options].map((each) => each.value).find((code) => code !== language);
      if (byId("to").value === language && other) byId("to").value = other;
      byId("from").value = "";
      this.fill(text);
    });
  }

  useModels(models) {
    this.models = models;
    offerModels(byId("translate-model"), models.with("TASK_TRANSLATE"));
    this.chooseModel();
  }

  chooseModel() {
    const model = this.models.named(byId("translate-model").value);
    if (!model) return;
    const [from, to] = [byId("from"), byId("to")];
    const before = [from.value, to.value];
    const offered = () => model.languages.map((code) => make("option", { value: code }, languageName(code)));
    from.replaceChildren(make("option", { value: "" }, "Any language"), ...offered());
    to.replaceChildren(...offered());
    from.value = model.languages.includes(before[0]) ? before[0] : "";
    to.value = model.languages.includes(before[1]) ? before[1] : model.languages[0];
    this.translate();
  }

  fill(text) {
    this.source.value = text;
    this.offerHelp();
    this.translate();
  }

  /** Examples for who has no text, and a way back for who has. */
  offerHelp() {
    byId("clear").hidden = !this.source.value;
    byId("translate-examples").hidden = this.source.value !== "";
  }

  swap() {
    const [from, to] = [byId("from"), byId("to")];
    const target = to.value;
    to.value = from.value || [...to.options].map((each) => each.value).find((code) => code !== target) || target;
    if (from.value) from.value = target;
    this.fill(this.whole ? joined(this.whole) : this.source.value);
  }

  async copy() {
    const told = await navigator.clipboard.writeText(joined(this.whole)).then(
      () => "Copied",
      () => "Not allowed",
    );
    byId("copy").textContent = told;
    announce(told);
  }

  /** What every request of this panel has in common. */
  request(text, options) {
    return {
      text,
      target_language: byId("to").value,
      source_language: byId("from").value,
      model: byId("translate-model").value,
      options,
    };
  }

  async translate() {
    this.soon.cancel();
    this.alternatives.close();
    const text = this.source.value;
    if (!text.trim()) return this.empty();
    return this.decode(this.request(text, this.options.values()), () => this.translate(), {
      onText: (final, provisional) => this.words.showRunning("", final, provisional, ""),
      onAnswer: (response) => {
        this.whole = partsOf(text, response.hypotheses[0].text, response.segments ?? []);
        this.showWhole();
        this.showHypotheses(response.hypotheses);
      },
    });
  }

  /** Decodes one part again, beginning with `prefix`; `chosen` is where the word that was taken begins in it. */
  async redecode(number, prefix, chosen) {
    const part = this.whole.parts[number];
    const before = joined({ parts: this.whole.parts.slice(0, number), after: "" }) + part.before;
    const after = joined({ parts: this.whole.parts.slice(number + 1), after: this.whole.after });
    this.words.showRunning(before + prefix, "", "", after);
    const options = { ...this.options.values(), target_prefix: prefix };
    return this.decode(this.request(part.source, options), () => this.redecode(number, prefix, chosen), {
      onText: (final, provisional) => {
        const all = final + provisional;
        const shown = final.length > prefix.length ? final : prefix;
        this.words.showRunning(before + shown, "", all.slice(shown.length), after);
      },
      onAnswer: (response) => {
        part.target = response.hypotheses[0].text;
        this.showWhole();
        this.showHypotheses([]);
        this.words.mark(number, chosen);
      },
    });
  }

  async decode(request, again, { onText, onAnswer }) {
    this.faults.clear();
    this.output.classList.add("waiting");
    byId("translation-empty").hidden = true;
    try {
      const answer = await this.latest.run((signal) => follow("/v1/translate/stream", request, { signal, onText }));
      if (!answer) return;
      onAnswer(answer.response);
      showReceipt(byId("translate-receipt"), answer, answer.response, answer.response.hypotheses[0].score);
      announce(`Translation: ${joined(this.whole)}`);
    } catch (error) {
      this.empty();
      byId("translation-empty").hidden = true;
      this.faults.show(error, again);
    } finally {
      if (!this.latest.running) this.output.classList.remove("waiting");
    }
  }

  showWhole() {
    this.words.showFinal(this.whole);
    this.done(true);
  }

  /** The others of several hypotheses, under the best one. */
  showHypotheses(hypotheses) {
    const place = byId("hypotheses");
    place.hidden = hypotheses.length < 2;
    const title = make("h2", { class: "small soft" }, "Other hypotheses, best first");
    const items = hypotheses.slice(1).map((each) =>
      make(
        "li",
        {},
        make("span", { dir: "auto" }, each.text),
        make("span", { class: "rank", title: "Score after penalties" }, each.rank_score.toFixed(3)),
      ),
    );
    place.replaceChildren(title, make("ol", {}, ...items));
  }

  empty() {
    this.latest.stop();
    this.whole = undefined;
    this.words.clear();
    this.faults.clear();
    this.done(false);
    byId("hypotheses").hidden = true;
    byId("translate-receipt").hidden = true;
    byId("translation-empty").hidden = false;
    this.output.classList.remove("waiting");
  }

  done(there) {
    for (const id of ["look-inside", "translation-help"]) byId(id).hidden = !there;
    byId("copy").hidden = !there || !navigator.clipboard; // browsers have it on trusted addresses alone
    byId("copy").textContent = "Copy";
  }
}
