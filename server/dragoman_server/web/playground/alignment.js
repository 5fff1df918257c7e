/* Which words stand for which: two rows of words with lines between them, or two columns where rows are too long. */
import { make, percent, roving, focusOne } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";

export class Alignment {
  /** `place` holds words and lines, `told` says in words what is pointed at. */
  constructor(place, told) {
    this.place = place;
    this.told = told;
    this.empty = told.textContent;
    new ResizeObserver(() => this.settle()).observe(place.parentElement);
  }

  show({ source, target, links }) {
    this.links = links;
    this.texts = [source, target];
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("aria-hidden", "true");
    this.lines = links.map(([, , weight]) => {
      const line = document.createElementNS(SVG, "line");
      line.setAttribute("stroke-width", (1 + 4.5 * weight).toFixed(2));
      line.setAttribute("stroke-opacity", (0.2 + 0.8 * weight).toFixed(2));
      svg.append(line);
      return line;
    });
    this.sides = [0, 1].map((side) => this.side(side));
    this.place.replaceChildren(svg, ...this.sides);
    this.light();
    this.settle();
  }

  side(side) {
    const buttons = this.texts[side].map((word, number) => {
      const button = make("button", { type: "button", class: "link-word", tabindex: number ? "-1" : "0" }, word);
      const told = this.partners(side, number);
      button.setAttribute("aria-label", `${word}: ${told}`);
      const light = () => this.light(side, number, word, told);
      button.onpointerenter = light;
      button.onfocus = light;
      button.onpointerleave = () => document.activeElement !== button && this.light();
      button.onblur = () => this.light();
      return button;
    });
    const name = side ? "Translation" : "Text";
    const row = make("div", { class: "side-words", role: "group", dir: "auto", "aria-label": name }, ...buttons);
    roving(row, () => buttons);
    row.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      const link = this.links.find((each) => each[side] === buttons.indexOf(document.activeElement));
      if (link) focusOne([...this.sides[1 - side].children], link[1 - side]);
    });
    return row;
  }

  partners(side, number) {
    const found = this.links
      .filter((link) => link[side] === number)
      .map((link) => `${this.texts[1 - side][link[1 - side]]} (${percent(link[2])})`);
    return found.join(", ") || "no link";
  }

  /** Lights a word and those that it is linked with; without arguments: none. */
  light(side, number, word, told) {
    const lit = this.links.map((link) => side !== undefined && link[side] === number);
    this.lines.forEach((line, i) => {
      line.classList.toggle("lit", lit[i]);
      line.classList.toggle("dim", side !== undefined && !lit[i]);
    });
    this.sides.forEach((row, which) =>
      [...row.children].forEach((button, i) => {
        const on = which === side ? i === number : this.links.some((link, at) => lit[at] && link[which] === i);
        button.classList.toggle("lit", on);
        button.classList.toggle("dim", side !== undefined && !on);
      }),
    );
    if (word === undefined) this.told.textContent = this.empty;
    else this.told.replaceChildren(make("b", { dir: "auto" }, word), ` ↔ ${told}`);
  }

  /** Rows where they fit, else columns; then the lines between the words. */
  settle() {
    if (!this.sides || !this.place.isConnected || !this.place.clientWidth) return;
    this.place.classList.remove("stacked");
    const stacked = this.sides.some((row) => row.scrollWidth > this.place.clientWidth);
    this.place.classList.toggle("stacked", stacked);
    const box = this.place.getBoundingClientRect();
    this.links.forEach(([from, to], i) => {
      const a = this.sides[0].children[from].getBoundingClientRect();
      const b = this.sides[1].children[to].getBoundingClientRect();
      const ends = stacked
        ? [a.right + 2, a.top + a.height / 2, b.left - 2, b.top + b.height / 2]
        : [a.left + a.width / 2, a.bottom + 2, b.left + b.width / 2, b.top - 2];
      ["x1", "y1", "x2", "y2"].forEach((name, end) => {
        this.lines[i].setAttribute(name, ends[end] - (end % 2 ? box.top : box.left));
      });
    });
  }
}
