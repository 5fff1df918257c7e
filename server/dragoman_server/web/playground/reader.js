/* What the cards that read a text have in common: ask as you type, show the answer, the receipt or the error. */
import { Latest, ask } from "./api.js";
import { byId, debounced } from "./dom.js";
import { offerExamples } from "./examples.js";
import { Faults } from "./faults.js";
import { offerModels } from "./models.js";
import { showReceipt } from "./receipt.js";

const PAUSE_MS = 300;

export class Reader {
  /**
   * `id`: of the card; `prefix`: of the ids inside; `task`: that the model needs; `path`: of the API; `place`: where
   * the answer stands; `request()`: what is asked beside text and model; `draw(response, text)`: the answer's elements.
   */
  constructor({ id, prefix, task, path, place, examples, draw, request = () => ({}) }) {
    Object.assign(this, { prefix, task, path, draw, request });
    this.card = byId(id);
    this.place = byId(place);
    this.text = byId(`${prefix}-text`);
    this.receipt = byId(`${prefix}-receipt`);
    this.model = byId(`${prefix}-model`);
    this.faults = new Faults(this.card, byId(`${prefix}-fault`));
    this.latest = new Latest();
    this.soon = debounced(() => this.read(), PAUSE_MS);
    this.card.addEventListener("input", (event) => event.target !== this.model && this.soon());
    this.model.addEventListener("change", () => this.read());
    offerExamples(`${prefix}-examples`, examples, (text) => this.fill(text));
  }

  useModels(models) {
    const able = models.with(this.task);
    this.card.hidden = able.length === 0;
    offerModels(this.model, able);
  }

  fill(text) {
    this.text.value = text;
    return this.read();
  }

  async read() {
    this.soon.cancel();
    const text = this.text.value;
    this.faults.clear();
    if (!text.trim()) {
      this.latest.stop();
      this.clear();
      return;
    }
    try {
      const request = { text, model: this.model.value, ...this.request() };
      const answer = await this.latest.run((signal) => ask(this.path, request, { signal }));
      if (!answer) return;
      this.place.replaceChildren(...this.draw(answer.response, text));
      showReceipt(this.receipt, answer, answer.response);
    } catch (error) {
      this.clear();
      this.faults.show(error, () => this.read());
    }
  }

  clear() {
    this.place.replaceChildren();
    this.receipt.hidden = true;
  }
}
