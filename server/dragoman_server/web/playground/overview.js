/* All heads side by side, small: one of them is chosen, or the mean over all. */
import { make } from "./dom.js";
import { paintSmall, ramp } from "./heatmap.js";

/* In pixels: how wide all heads may be, what stands beside them, and what lies between two. */
const WIDE = 440;
const BESIDE = 96;
const GAP = 8;

export class Overview {
  /** `onChoice(head)`: `[layer, head]`, or null for the mean. */
  constructor(place, onChoice) {
    this.place = place;
    this.onChoice = onChoice;
    place.addEventListener("keydown", (event) => this.move(event));
  }

  show(maps, head) {
    this.maps = maps;
    const colours = ramp();
    const room = (this.place.parentElement.clientWidth || WIDE) - BESIDE;
    const side = Math.max(36, Math.min(84, Math.min(WIDE, room) / maps.heads - GAP));
    const ratio = maps.queries / maps.keys;
    const one = (layer, number) => {
      const canvas = paintSmall(maps, [layer, number], colours);
      canvas.style.width = `${Math.round(ratio > 1 ? side / ratio : side)}px`;
      canvas.style.height = `${Math.round(ratio > 1 ? side : side * ratio)}px`;
      const name = maps.name([layer, number]);
      const button = make("button", { type: "button", "aria-label": name, title: name }, canvas);
      button.dataset.head = `${layer},${number}`;
      button.onclick = () => this.choose([layer, number]);
      return make("td", {}, button);
    };
    const numbers = (count) => Array.from({ length: count }, (_, i) => i);
    const chooseMean = () => this.choose(null);
    const mean = make("button", { type: "button", class: "mean small", onclick: chooseMean }, "Mean of all heads");
    mean.dataset.head = "";
    const titles = numbers(maps.heads).map((i) => make("th", { scope: "col" }, maps.headName(i)));
    const rows = numbers(maps.layers).map((layer) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, maps.layerName(layer)),
        ...numbers(maps.heads).map((number) => one(layer, number)),
      ),
    );
    const body = make("tbody", {}, make("tr", {}, make("td"), ...titles), ...rows);
    this.place.replaceChildren(mean, make("table", {}, body));
    this.press(head);
  }

  choose(head) {
    this.press(head);
    this.onChoice(head);
  }

  press(head) {
    this.head = head;
    for (const button of this.place.querySelectorAll("button")) {
      const on = button.dataset.head === (head ? head.join() : "");
      button.setAttribute("aria-pressed", String(on));
      button.tabIndex = on ? 0 : -1;
    }
  }

  /** The mean stands above the first layer. */
  move(event) {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    const [layer, number] = this.head ?? [-1, 0];
    const toLayer = Math.min(this.maps.layers - 1, layer + step[0]);
    const toNumber = Math.max(0, Math.min(this.maps.heads - 1, number + step[1]));
    this.choose(toLayer < 0 ? null : [toLayer, toNumber]);
    this.place.querySelector("[aria-pressed=true]").focus();
  }
}
