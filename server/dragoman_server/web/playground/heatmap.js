/* A heat map of one head's weights: values under the pointer, and under the arrow keys. */
import { byId, colour, make } from "./dom.js";

const FONT = '13px ui-sans-serif, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';
const FAR = 1e6; // beyond any edge
const MOVES = {
  ArrowRight: [0, 1],
  ArrowLeft: [0, -1],
  ArrowDown: [1, 0],
  ArrowUp: [-1, 0],
  Home: [0, -FAR],
  End: [0, FAR],
  PageUp: [-FAR, 0],
  PageDown: [FAR, 0],
};

/** Colours of weights 0 to 1 in 256 steps; by the square root, so that small ones can be seen. */
export function ramp() {
  const [none, full] = [colour("--none"), colour("--full")];
  const between = (share) => none.map((low, channel) => Math.round(low + (full[channel] - low) * share));
  return Array.from({ length: 256 }, (_, i) => between(Math.sqrt(i / 255)));
}

export const shade = (colours, weight) => colours[Math.max(0, Math.min(255, Math.round(255 * weight)))];

/** A map without words, one pixel a weight, as a canvas. */
export function paintSmall(maps, head, colours) {
  const canvas = make("canvas", { width: maps.keys, height: maps.queries, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  const image = context.createImageData(maps.keys, maps.queries);
  for (let q = 0; q < maps.queries; q += 1) {
    for (let k = 0; k < maps.keys; k += 1) {
      image.data.set([...shade(colours, maps.weight(head, q, k)), 255], 4 * (q * maps.keys + k));
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

export class HeatMap {
  /** `onRow(query)` is called when another row is pointed at. */
  constructor(canvas, onRow) {
    this.canvas = canvas;
    this.onRow = onRow;
    this.query = 0;
    this.key = 0;
    canvas.addEventListener("pointermove", (event) => this.under(event));
    canvas.addEventListener("pointerdown", (event) => this.under(event));
    canvas.addEventListener("keydown", (event) => {
      const move = MOVES[event.key];
      if (!move) return;
      event.preventDefault();
      this.point(this.query + move[0], this.key + move[1]);
      const { cell, left, top } = this;
      canvas.parentElement.scrollTo({ left: left + cell * this.key - 200, top: top + cell * this.query - 200 });
    });
    new ResizeObserver(() => this.fitted !== this.room() && this.draw()).observe(canvas.parentElement.parentElement);
  }

  show(maps, head) {
    this.maps = maps;
    this.head = head;
    this.point(this.query, this.key, true);
  }

  under(event) {
    const key = Math.floor((event.offsetX - this.left) / this.cell);
    const query = Math.floor((event.offsetY - this.top) / this.cell);
    if (key >= 0 && key < this.maps.keys && query >= 0 && query < this.maps.queries) this.point(query, key);
  }

  /** Points at a weight; beyond the edge stands for the edge. */
  point(query, key, anyway = false) {
    const q = Math.max(0, Math.min(this.maps.queries - 1, query));
    const k = Math.max(0, Math.min(this.maps.keys - 1, key));
    if (!anyway && q === this.query && k === this.key) return;
    const other = q !== this.query;
    this.query = q;
    this.key = k;
    this.draw();
    this.tell("polite");
    if (other) this.onRow(q);
  }

  /** Another row, chosen elsewhere. */
  pointRow(query) {
    const row = this.maps.row(this.head, query);
    this.query = query;
    this.key = row.indexOf(Math.max(...row));
    this.draw();
    this.tell("off"); // the steps tell it
  }

  tell(live) {
    const { maps, head, query, key } = this;
    byId("map-told").setAttribute("aria-live", live);
    byId("map-told").replaceChildren(
      make("b", { dir: "auto" }, maps.rows[query].shown),
      " looks at ",
      make("b", { dir: "auto" }, maps.columns[key].shown),
      `: ${maps.weight(head, query, key).toFixed(4)}`,
    );
  }

  room() {
    return this.canvas.parentElement.parentElement.clientWidth;
  }

  draw() {
    if (!this.maps || !this.room()) return;
    this.fitted = this.room();
    const { maps, head, canvas } = this;
    const context = canvas.getContext("2d");
    const ratio = window.devicePixelRatio || 1;
    context.font = FONT;
    const widths = (tokens) => tokens.map((token) => context.measureText(token.shown).width);
    const widest = (tokens) => Math.ceil(Math.min(130, Math.max(20, ...widths(tokens))) + 14);
    this.left = widest(maps.rows);
    this.top = widest(maps.columns);
    this.cell = Math.max(15, Math.min(36, Math.floor((this.fitted - this.left - 12) / maps.keys)));
    const { left, top, cell } = this;
    const [wide, high] = [left + cell * maps.keys + 8, top + cell * maps.queries + 8];
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(high * ratio);
    canvas.style.width = `${wide}px`;
    canvas.style.height = `${high}px`;
    context.scale(ratio, ratio);
    context.font = FONT;
    context.textBaseline = "middle";
    const colours = ramp();
    const css = (name) => `rgb(${colour(name).join()})`;
    const [plain, soft, warm] = [css("--text"), css("--soft"), css("--warm")];
    const ink = (token, here) => (here ? warm : token.special ? soft : plain);
    for (let q = 0; q < maps.queries; q += 1) {
      context.textAlign = "right";
      context.fillStyle = ink(maps.rows[q], q === this.query);
      context.fillText(maps.rows[q].shown, left - 7, top + cell * (q + 0.5), left - 10);
      for (let k = 0; k < maps.keys; k += 1) {
        context.fillStyle = `rgb(${shade(colours, maps.weight(head, q, k)).join()})`;
        context.fillRect(left + cell * k, top + cell * q, cell - 1, cell - 1);
      }
    }
    context.textAlign = "left";
    for (let k = 0; k < maps.keys; k += 1) {
      context.save();
      context.translate(left + cell * (k + 0.5), top - 7);
      context.rotate(-Math.PI / 2);
      context.fillStyle = ink(maps.columns[k], k === this.key);
      context.fillText(maps.columns[k].shown, 0, 0, top - 10);
      context.restore();
    }
    context.strokeStyle = warm;
    context.lineWidth = 2;
    context.strokeRect(left + cell * this.key - 0.5, top + cell * this.query - 0.5, cell, cell);
    canvas.setAttribute("aria-label", `${maps.title}, ${maps.name(head)}`);
  }
}
