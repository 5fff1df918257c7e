/* Which models the server has, and what they do. */
import { get } from "./api.js";
import { make } from "./dom.js";

/** The models that answer requests, the server's default first, as ListModels gives them. */
export class Models {
  static async ask() {
    const { data } = await get("/v1/models");
    return new Models(data.map((each) => each.dragoman).filter((each) => each.state === "STATE_READY"));
  }

  constructor(all) {
    this.all = all;
    this.details = new Map();
  }

  /** Those that have one of the tasks; "*": all. */
  with(...tasks) {
    return this.all.filter((model) => tasks.includes("*") || model.tasks.some((task) => tasks.includes(task)));
  }

  named(name) {
    return this.all.find((model) => reference(model) === name);
  }

  /** What its bundle says, asked for once. */
  bundle(name) {
    if (!this.details.has(name)) {
      const found = get(`/v1/models/${encodeURIComponent(name)}`).then((answer) => answer.bundle);
      found.catch(() => this.details.delete(name));
      this.details.set(name, found);
    }
    return this.details.get(name);
  }
}

/** What a request calls a model: with its version where several of one name are served. */
const reference = (model) => `${model.name}@${model.version}`;

/** Fills a select with models; hides its field where there is no choice. */
export function offerModels(select, models, field = select.closest("label")) {
  const before = select.value;
  const twice = (model) => models.filter((each) => each.name === model.name).length > 1;
  select.replaceChildren(
    ...models.map((model) => make("option", { value: reference(model) }, twice(model) ? reference(model) : model.name)),
  );
  if (models.some((model) => reference(model) === before)) select.value = before;
  field.hidden = models.length < 2;
}

const names = new Intl.DisplayNames(["en"], { type: "language", fallback: "code" });

/** A language's name in English: "German" for "de". */
export const languageName = (code) => names.of(code) ?? code;
