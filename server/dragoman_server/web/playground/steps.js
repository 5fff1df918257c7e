/* Where a model looks at each step: of decoding, or of a reader's tokens one after the other. */
import { byId, make, percent } from "./dom.js";

const PACE_MS = 700;

export class Steps {
  /** `onStep(query)` is called when another step is shown. */
  constructor(onStep) {
    this.onStep = onStep;
    this.slider = byId("step");
    this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
    byId("play").addEventListener("click", () => (this.timer ? this.pause() : this.play()));
    byId("step-back").addEventListener("click", () => this.go(this.query - 1));
    byId("step-on").addEventListener("click", () => this.go(this.query + 1));
  }

  /** `maps`: whose weights are shown; `head`: of which head, null for the mean; `first`: where the steps begin. */
  show(maps, head, first) {
    const fresh = this.maps?.rows !== maps.rows;
    Object.assign(this, { maps, head, first });
    this.slider.min = first;
    this.slider.max = maps.queries - 1;
    byId("steps-of").textContent = `${maps.title}, ${maps.name(head)}`;
    if (fresh) this.pause();
    this.draw(fresh ? first : Math.max(first, this.query));
  }

  /** Shows the step of one query, because somebody chose it here. */
  go(query) {
    this.follow(query);
    this.onStep(this.query);
  }

  /** The same, because it was chosen elsewhere. */
  follow(query) {
    this.pause();
    this.draw(query);
  }

  play() {
    if (this.query >= this.maps.queries - 1) this.draw(this.first);
    this.playing(true);
    this.onStep(this.query);
    this.timer = setInterval(() => {
      if (this.query >= this.maps.queries - 1 || !byId("play").checkVisibility()) return this.pause();
      this.draw(this.query + 1);
      return this.onStep(this.query);
    }, PACE_MS);
  }

  pause() {
    clearInterval(this.timer);
    this.timer = undefined;
    this.playing(false);
  }

  /** Screen readers are told where it stops, and not every step on the way. */
  playing(on) {
    byId("play").textContent = on ? "Pause" : "Play";
    byId("step-told").setAttribute("aria-live", on ? "off" : "polite");
  }

  draw(query) {
    const { maps, head } = this;
    this.query = Math.min(maps.queries - 1, Math.max(this.first, query));
    this.slider.value = this.query;
    const weights = maps.row(head, this.query);
    const most = weights.indexOf(Math.max(...weights));
    const reader = maps.kind === "encoder_self";
    const made = reader ? maps.rows[this.query] : (maps.rows[this.query + 1] ?? { shown: "the end", special: true });
    const looked = (token, key) => {
      const found = chip(token, key === most ? "most" : "");
      found.title = weights[key].toFixed(4);
      found.style.setProperty("--share", weights[key].toFixed(4));
      found.style.setProperty("--share-root", Math.sqrt(weights[key]).toFixed(4)); // so that small ones can be seen
      found.append(make("i"));
      return found;
    };
    const seen = maps.columns.slice(0, maps.kind === "decoder_self" ? this.query + 1 : maps.keys);
    byId("stage").replaceChildren(
      row(reader ? "The token looks at" : "The model looks at", seen.map(looked)),
      reader ? row("Token", [chip(made, "now")]) : row("and writes", this.written(made)),
    );
    this.slider.setAttribute("aria-valuetext", made.shown);
    const told = `${reader ? "" : `Step ${this.query - this.first + 1} of ${maps.queries - this.first}: `}`;
    byId("step-told").replaceChildren(
      told,
      make("b", { dir: "auto" }, made.shown),
      ` ${reader ? "looks" : "comes from looking"} most at `,
      make("b", { dir: "auto" }, maps.columns[most].shown),
      ` (${percent(weights[most])})`,
    );
  }

  /** The tokens that were written before this step, the one that it writes, and those that come later. */
  written(made) {
    const tokens = this.maps.rows.slice(this.first + 1);
    const now = this.query - this.first;
    const found = tokens.map((token, i) => chip(token, i < now ? "" : i === now ? "now" : "later"));
    return now >= tokens.length ? [...found, chip(made, "now")] : found;
  }
}

const chip = ({ shown, special }, state) =>
  make("span", { class: `token ${special ? "special" : ""} ${state}` }, shown);

const row = (name, chips) =>
  make("div", { class: "stage-row", dir: "auto" }, make("span", { class: "stage-name" }, name), ...chips);
