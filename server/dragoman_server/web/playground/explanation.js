/* An answer of Explain, made ready to be drawn: tokens as people know them, and weights by number. */
import { codePoints, part, wordsWithLinks } from "./texts.js";

export const KINDS = {
  encoder_self: "Text to text",
  decoder_self: "Decoder to itself",
  cross: "Translation to text",
};

export class Explanation {
  /** `response`: of Explain; `text` and `pair`: that were asked about. */
  constructor(response, text, pair) {
    const target = response.target_text ?? "";
    const source = response.source_tokens ?? [];
    const read = response.target_tokens ?? [];
    this.response = response;
    this.target = target;
    this.source = shown(source, text + pair);
    this.read = shown(read, source.length ? target : text + target);
    // A decoder's steps begin with the last token of its prompt.
    const prompt = codePoints(text);
    const firstNew = read.findIndex((token) => !token.special && (token.begin ?? 0) >= prompt);
    this.firstStep = source.length ? 0 : Math.max(0, firstNew - 1);
    this.kinds = Object.keys(KINDS)
      .filter((kind) => response[kind]?.shape?.length && !response[kind].shape.includes(0))
      .map((kind) => new Maps(kind, response[kind], this));
    this.words = this.align(text, target, response.alignment ?? []);
  }

  /** Words of both texts, and the links between them: `[source, target, weight]` by number. */
  align(text, target, links) {
    const places = links.map((link) => ({
      from: [link.source_begin ?? 0, link.source_end ?? 0],
      to: [link.target_begin ?? 0, link.target_end ?? 0],
      weight: link.weight,
    }));
    const sides = [
      wordsWithLinks(text, places.map((each) => each.from)),
      wordsWithLinks(target, places.map((each) => each.to)),
    ];
    const number = (side, place) => sides[side].findIndex(([begin]) => begin === place[0]);
    return {
      source: sides[0].map((place) => part(text, ...place)),
      target: sides[1].map((place) => part(target, ...place)),
      links: places.map(({ from, to, weight }) => [number(0, from), number(1, to), weight]),
    };
  }
}

/** The weights of one kind of attention: (layers, heads, queries, keys), every row over the keys sums to one. */
export class Maps {
  constructor(kind, { shape, layers = [], heads = [], weights }, { source, read }) {
    this.kind = kind;
    this.title = KINDS[kind];
    [this.layers, this.heads, this.queries, this.keys] = shape;
    this.layerNumbers = layers;
    this.headNumbers = heads;
    this.rows = kind === "encoder_self" ? source : read;
    this.columns = kind === "decoder_self" ? read : source;
    const bytes = Uint8Array.from(atob(weights), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    this.weights = Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  }

  /** `head` is `[layer, head]`, or null: the mean over all. */
  weight(head, query, key) {
    if (head) return this.weights[((head[0] * this.heads + head[1]) * this.queries + query) * this.keys + key];
    const maps = this.layers * this.heads;
    let sum = 0;
    for (let i = 0; i < maps; i += 1) sum += this.weights[(i * this.queries + query) * this.keys + key];
    return sum / maps;
  }

  /** One row: where the query looks. */
  row(head, query) {
    return Array.from({ length: this.keys }, (_, key) => this.weight(head, query, key));
  }

  name(head) {
    return head ? `${this.layerName(head[0])}, ${this.headName(head[1])}` : "mean of all heads";
  }

  /** People count from 1. There are no numbers where all were aggregated into one. */
  layerName(layer) {
    return this.layerNumbers.length ? `layer ${this.layerNumbers[layer] + 1}` : "all layers";
  }

  headName(head) {
    return this.headNumbers.length ? `head ${this.headNumbers[head] + 1}` : "all heads";
  }
}

/** Tokens as their part of the text; as the vocabulary has them where they stand nowhere, or share a character. */
function shown(tokens, text) {
  const place = ({ begin = 0, end = 0 }) => `${begin},${end}`;
  const counts = new Map();
  for (const token of tokens) counts.set(place(token), (counts.get(place(token)) ?? 0) + 1);
  return tokens.map((token) => {
    const { begin = 0, end = 0, special = false } = token;
    const nowhere = special || begin === end || counts.get(place(token)) > 1;
    const found = nowhere ? token.token : part(text, begin, end);
    return { shown: found.replaceAll("\n", "⏎").replaceAll(" ", "\u00a0"), special };
  });
}
