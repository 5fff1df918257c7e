/* Continues a prompt, shown as it is decoded; stopped at any time. */
import { Latest, follow } from "./api.js";
import { announce, byId, make } from "./dom.js";
import { offerExamples } from "./examples.js";
import { Faults } from "./faults.js";
import { offerModels } from "./models.js";
import { GENERATION_OPTIONS, OptionForm } from "./options.js";
import { showReceipt } from "./receipt.js";

const EXAMPLES = ["ROMEO:", "To be, or not to be", "Enter the KING and his train."];
const GIVEN = { temperature: 0.8, top_p: 0.95, max_length: 160 };

export class GeneratePanel {
  constructor() {
    this.latest = new Latest();
    this.faults = new Faults(byId("generate"), byId("generate-fault"));
    this.options = new OptionForm(byId("generate-options"), GENERATION_OPTIONS, undefined, GIVEN);
    this.output = byId("generated");
    byId("go").addEventListener("click", () => this.generate());
    byId("stop").addEventListener("click", () => this.stop());
    byId("generate").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.generate();
      if (event.key === "Escape" && this.latest.running) this.stop();
    });
    offerExamples("generate-examples", EXAMPLES, (text) => {
      byId("prompt").value = text;
      this.generate();
    });
  }

  useModels(models) {
    offerModels(byId("generate-model"), models.with("TASK_GENERATE"));
  }

  async generate() {
    const prompt = byId("prompt").value;
    const request = { prompt, model: byId("generate-model").value, options: this.options.values() };
    this.faults.clear();
    this.running(true);
    this.show(prompt, "", "");
    byId("generate-receipt").hidden = true;
    announce("Generating.");
    const began = performance.now();
    try {
      const onText = (final, provisional) => this.show(prompt, final, provisional);
      const answer = await this.latest.run((signal) => follow("/v1/generate", request, { signal, onText }));
      if (!answer) return;
      const [best, ...others] = answer.response.hypotheses;
      this.show(prompt, best.text, "", others);
      showReceipt(byId("generate-receipt"), answer, answer.response, best.score);
      announce(`Generated: ${best.text}`);
    } catch (error) {
      this.faults.show(error, () => this.generate());
      if (!this.output.querySelector(".made")?.textContent) this.output.replaceChildren();
    } finally {
      if (!this.latest.running) this.running(false, performance.now() - began);
    }
  }

  stop() {
    const focused = document.activeElement === byId("stop");
    this.latest.stop();
    this.running(false);
    if (focused) byId("go").focus();
    announce("Stopped.");
  }

  running(on) {
    byId("stop").hidden = !on;
    byId("go").textContent = on || this.output.hasChildNodes() ? "Generate again" : "Generate";
    this.output.classList.toggle("running", on);
    this.output.setAttribute("aria-busy", String(on));
    byId("generated-empty").hidden = on || this.output.hasChildNodes();
  }

  show(prompt, final, provisional, others = []) {
    const stays = this.output.scrollHeight - this.output.scrollTop - this.output.clientHeight < 40;
    this.output.replaceChildren(
      make("span", { class: "given" }, prompt),
      make("span", { class: "made" }, final),
      make("span", { class: "provisional" }, provisional),
      ...others.map((each) => make("p", { class: "other" }, make("span", { class: "given" }, prompt), each.text)),
    );
    if (stays) this.output.scrollTop = this.output.scrollHeight;
  }
}
