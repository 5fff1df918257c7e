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
    const request = {
      prompt,
      model: byId("generate-model").value,
      options: this.options.values(),
      context_overflow: byId("slide").checked ? "CONTEXT_OVERFLOW_SLIDE" : "CONTEXT_OVERFLOW_REFUSE",
    };
    this.faults.clear();
    this.begin(prompt);
    this.running(true);
    byId("generate-receipt").hidden = true;
    announce("Generating.");
    try {
      const onText = (final, provisional) => this.show(final, provisional);
      const answer = await this.latest.run((signal) => follow("/v1/generate", request, { signal, onText }));
      if (!answer) return;
      const [best, ...others] = answer.response.hypotheses;
      this.show(best.text, "");
      this.draw();
      this.showOthers(prompt, others);
      showReceipt(byId("generate-receipt"), answer, answer.response, best.score);
      announce(`Generated: ${best.text}`);
    } catch (error) {
      this.draw();
      this.faults.show(error, () => this.generate());
      if (!this.made.textContent) this.output.replaceChildren();
    } finally {
      if (!this.latest.running) this.running(false);
    }
  }

  stop() {
    const focused = document.activeElement === byId("stop");
    this.latest.stop();
    this.draw();
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

  begin(prompt) {
    this.draw();
    this.drawn = 0;
    this.made = make("span", { class: "made" });
    this.provisional = make("span", { class: "provisional" });
    this.output.replaceChildren(make("span", { class: "given" }, prompt), this.made, this.provisional);
  }

  /** At the next frame: a text that comes faster than it can be laid out must not keep the page from hearing Stop. */
  show(final, provisional) {
    this.newest = { final, provisional };
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  /** What is final goes on from what it was before: what is there already stays as it is, however long it gets. */
  draw() {
    if (!this.newest) return;
    cancelAnimationFrame(this.frame);
    const { final, provisional } = this.newest;
    this.frame = this.newest = undefined;
    const stays = this.output.scrollHeight - this.output.scrollTop - this.output.clientHeight < 40;
    this.made.append(final.slice(this.drawn));
    this.drawn = final.length;
    this.provisional.textContent = provisional;
    if (stays) this.output.scrollTop = this.output.scrollHeight;
  }

  showOthers(prompt, others) {
    this.output.append(...others.map((each) => make("p", {}, make("span", { class: "given" }, prompt), each.text)));
  }
}
