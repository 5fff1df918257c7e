/* Labels of a text, tags of its words, and what may stand behind a mask. */
import { byId, make, percent } from "./dom.js";
import { Reader } from "./reader.js";
import { part } from "./texts.js";

const MASK = "[MASK]";
const COLOURS = 6; // .span-0 to .span-5
const LABELS = [
  "move fifty euros to my savings",
  "will it rain in Lisbon tomorrow",
  "play something quiet",
  "my keys swim in soup",
];
const TAGGED = ["The grey heron stands in the pond again.", "Our neighbour plays the cello after supper."];
const MASKED = ["how is the [MASK] today", "please [MASK] me a table for two", "what is the [MASK] of my account"];

/** The cards of the panel, each of which shows itself where some model has its task. */
export function understanding() {
  return [new Labels(), tagReader(), maskReader()];
}

class Labels extends Reader {
  constructor() {
    super({
      id: "classify",
      prefix: "classify",
      task: "TASK_CLASSIFY",
      path: "/v1/classify",
      place: "labels",
      examples: LABELS,
      draw: bars,
      request: () => (byId("classify-pair-field").hidden ? {} : { text_pair: byId("classify-pair").value }),
    });
    this.model.addEventListener("change", () => this.askForPair());
  }

  useModels(models) {
    super.useModels(models);
    this.models = models;
    if (!this.card.hidden) this.askForPair();
  }

  /** A model of pairs needs a second text. */
  async askForPair() {
    const bundle = await this.models.bundle(this.model.value).catch(() => ({}));
    byId("classify-pair-field").hidden = !bundle.classifier?.pairs;
  }
}

/** A name, a bar and a percentage. */
const bar = (name, share) => {
  const fill = make("i");
  fill.style.setProperty("--share", share);
  return [
    make("span", { class: "name" }, name),
    make("span", { class: "track", "aria-hidden": "true" }, fill),
    make("span", { class: "share" }, percent(share)),
  ];
};

function bars({ labels, out_of_scope }) {
  const rows = labels.map(({ label, probability }) =>
    make("div", { class: "bar-row" }, ...bar(label.replaceAll("_", " "), probability)),
  );
  if (!out_of_scope) return rows;
  const note = "This seems to belong to none of the labels: the likeliest stays under the model's threshold.";
  return [make("p", { class: "note" }, note), ...rows];
}

function tagReader() {
  return new Reader({
    id: "tag",
    prefix: "tag",
    task: "TASK_TAG",
    path: "/v1/tag",
    place: "spans",
    examples: TAGGED,
    draw: spans,
  });
}

/** The text, with its spans coloured and named. */
function spans({ spans: found }, text) {
  const kinds = [...new Set(found.map((each) => each.tag))].sort();
  const shown = [];
  let at = 0;
  for (const { tag, begin, end, probability } of found) {
    shown.push(part(text, at, begin));
    const colour = kinds.indexOf(tag) % COLOURS;
    shown.push(
      make(
        "mark",
        { class: `span span-${colour}`, title: `${tag}, ${percent(probability)}` },
        part(text, begin, end),
        make("span", { class: "tag" }, tag),
      ),
    );
    at = end;
  }
  shown.push(part(text, at));
  return found.length ? shown : [make("p", { class: "soft" }, "No word of it has a tag.")];
}

function maskReader() {
  const reader = new Reader({
    id: "fill-mask",
    prefix: "fill",
    task: "TASK_FILL_MASK",
    path: "/v1/fill-mask",
    place: "masks",
    examples: MASKED,
    draw: ({ masks }, text) => masks.flatMap((mask, number) => candidates(mask, number, masks.length, text, fill)),
  });
  const fill = (filled) => reader.fill(filled);
  const field = reader.text;
  byId("hide-word").onclick = () => {
    field.setRangeText(MASK, field.selectionStart, field.selectionEnd, "end");
    field.focus();
    reader.read();
  };
  // A text without a mask is what is left when all masks are filled, and no fault.
  const read = reader.read.bind(reader);
  reader.read = () => (field.value.includes(MASK) || !field.value.trim() ? read() : reader.show());
  reader.show = () => {
    reader.faults.clear();
    reader.latest.stop();
    reader.clear();
    reader.place.append(make("p", { class: "soft" }, `Select a word and hide it, or write ${MASK} where you like.`));
  };
  return reader;
}

function candidates(mask, number, of, text, fill) {
  const title = of > 1 ? `Instead of mask ${number + 1} of ${of}` : "Instead of the mask";
  const rows = mask.candidates.map((each) => {
    const filled = part(text, 0, mask.begin) + each.text.trim() + part(text, mask.end);
    const bars = bar(each.text.trim(), each.probability);
    return make("button", { type: "button", class: "bar-row", onclick: () => fill(filled) }, ...bars);
  });
  return [make("p", { class: "mask-title" }, title), make("div", { class: "bars" }, ...rows)];
}
