/* Shows what a model attended to: linked words, step by step, and head by head. */
import { Alignment } from "./alignment.js";
import { Latest, ask } from "./api.js";
import { announce, byId, make } from "./dom.js";
import { Explanation } from "./explanation.js";
import { Faults } from "./faults.js";
import { HeatMap, ramp, shade } from "./heatmap.js";
import { languageName, offerModels } from "./models.js";
import { Overview } from "./overview.js";
import { showReceipt } from "./receipt.js";
import { Steps } from "./steps.js";
import { Tabs } from "./tabs.js";

const TRANSLATES = "FAMILY_ENCODER_DECODER";
const CONTINUES = "FAMILY_DECODER";

export class AttentionPanel {
  constructor() {
    this.latest = new Latest();
    this.faults = new Faults(byId("attention"), byId("explain-fault"));
    this.alignment = new Alignment(byId("links"), byId("linked"));
    this.steps = new Steps((query) => this.map.pointRow(query));
    this.map = new HeatMap(byId("map"), (query) => this.steps.follow(query));
    this.overview = new Overview(byId("overview"), (head) => this.chooseHead(head));
    this.tabs = new Tabs(byId("kinds"), (tab) => this.chooseKind(Number(tab.dataset.number)));
    byId("explain-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.explain();
    });
    byId("explain-text").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey) return;
      event.preventDefault();
      this.explain();
    });
    byId("explain-model").addEventListener("change", () => this.chooseModel());
    byId("explain-language").addEventListener("change", () => {
      byId("explain-target").value = "";
    });
    document.addEventListener("themechange", () => this.explanation && this.chooseKind(this.number));
    byId("explain-text").value = "The coffee was so hot that I burned my tongue.";
  }

  useModels(models) {
    this.models = models;
    offerModels(byId("explain-model"), models.with("*"));
    this.chooseModel();
  }

  async chooseModel() {
    const name = byId("explain-model").value;
    const model = this.models.named(name);
    if (!model) return;
    const language = byId("explain-language");
    const before = language.value;
    language.replaceChildren(...model.languages.map((code) => make("option", { value: code }, languageName(code))));
    language.value = model.languages.includes(before) ? before : model.languages[0];
    byId("explain-language-field").hidden = model.family !== TRANSLATES;
    byId("explain-target-field").hidden = model.family !== TRANSLATES && model.family !== CONTINUES;
    byId("explain-tokens-field").hidden = model.family !== CONTINUES;
    byId("explain-target").value = "";
    const bundle = await this.models.bundle(name).catch(() => ({}));
    byId("explain-pair-field").hidden = !bundle.classifier?.pairs;
  }

  /** Explains an answer that another panel has. */
  explainThis(text, target, language, model) {
    byId("explain-model").value = model;
    this.chooseModel();
    byId("explain-language").value = language;
    byId("explain-text").value = text;
    byId("explain-target").value = target;
    this.explain();
  }

  request() {
    const there = (id) => (byId(`${id}-field`).hidden ? "" : byId(id).value);
    const tokens = there("explain-tokens").trim();
    return {
      text: byId("explain-text").value,
      text_pair: there("explain-pair"),
      target: there("explain-target"),
      target_language: there("explain-language"),
      model: byId("explain-model").value,
      aggregation: byId("explain-aggregation").value,
      ...(tokens && { max_new_tokens: Number.isFinite(Number(tokens)) ? Number(tokens) : tokens }),
    };
  }

  async explain() {
    const request = this.request();
    this.faults.clear();
    try {
      const answer = await this.latest.run((signal) => ask("/v1/explain", request, { signal }));
      if (!answer) return;
      this.show(new Explanation(answer.response, request.text, request.text_pair));
      showReceipt(byId("explain-receipt"), answer, answer.response);
      announce(answer.response.target_text ? `Explained: ${answer.response.target_text}` : "Explained.");
    } catch (error) {
      this.steps.pause();
      byId("explained").hidden = true;
      byId("explain-receipt").hidden = true;
      this.faults.show(error, () => this.explain());
    }
  }

  show(explanation) {
    this.explanation = explanation;
    this.head = null;
    byId("explained").hidden = false;
    byId("alignment").hidden = explanation.words.links.length === 0;
    if (explanation.words.links.length) this.alignment.show(explanation.words);
    byId("kinds").replaceChildren(
      ...explanation.kinds.map((maps, number) => {
        const tab = make("button", { type: "button", role: "tab", "aria-controls": "maps" }, maps.title);
        tab.dataset.number = number;
        return tab;
      }),
    );
    byId("kinds").hidden = explanation.kinds.length < 2;
    this.tabs.choose(byId("kinds").lastElementChild);
  }

  chooseKind(number) {
    this.number = number;
    const maps = this.explanation.kinds[number];
    if (this.head && (this.head[0] >= maps.layers || this.head[1] >= maps.heads)) this.head = null;
    this.overview.show(maps, this.head);
    const colours = ramp();
    const legend = byId("ramp").getContext("2d");
    for (let x = 0; x < 128; x += 1) {
      legend.fillStyle = `rgb(${shade(colours, x / 127).join()})`;
      legend.fillRect(x, 0, 1, 10);
    }
    this.chooseHead(this.head);
  }

  chooseHead(head) {
    this.head = head;
    const maps = this.explanation.kinds[this.number];
    const first = maps.kind === "encoder_self" ? 0 : this.explanation.firstStep;
    byId("which").textContent = `${maps.title}, ${maps.name(head)}`;
    this.steps.show(maps, head, first);
    this.map.show(maps, head);
  }
}
