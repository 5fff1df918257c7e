/* What can go wrong with a request, and how a panel shows it. */
import { make } from "./dom.js";

/** The server did not answer, or the answer broke off. */
export class Unreachable extends Error {}

/** The server answered with an error. */
export class Refusal extends Error {
  /**
   * `status`: of HTTP, or 0 where a stream failed that had begun; `violations`: of fields, with `field`, `value` and
   * `limit`; `retryAfter`: seconds, or undefined; `incident`: the id under which the server has logged it.
   */
  constructor(status, { code = "", message = "", violations = [], retryAfter, incident = "" }) {
    super(message);
    Object.assign(this, { status, code, violations, retryAfter, incident });
  }
}

const TITLES = {
  UNAUTHENTICATED: "The server asks for a token",
  PERMISSION_DENIED: "This token may not do that",
  NOT_FOUND: "There is no such thing on this server",
  RESOURCE_EXHAUSTED: "The server is busy",
  DEADLINE_EXCEEDED: "It took too long",
  UNAVAILABLE: "The server is not ready",
  INTERNAL: "Something went wrong on the server",
  INVALID_ARGUMENT: "Some of it does not fit",
};

let numbered = 0;

/** Where a panel's errors are shown: at the fields that they are about, and the rest in `box`. */
export class Faults {
  /** `panel` holds the fields, each with its path in `data-field`; `box` is where the rest stands. */
  constructor(panel, box) {
    this.panel = panel;
    this.box = box;
    this.timer = undefined;
    box.setAttribute("role", "alert");
  }

  clear() {
    clearInterval(this.timer);
    this.box.hidden = true;
    this.box.replaceChildren();
    for (const field of this.panel.querySelectorAll("[aria-invalid]")) {
      field.removeAttribute("aria-invalid");
      field.removeAttribute("aria-errormessage");
      field.removeAttribute("aria-describedby");
    }
    for (const told of this.panel.querySelectorAll(".field-error")) told.remove();
  }

  /** Shows an error; `retry` is what the button does that tries again, where that can help. */
  show(error, retry) {
    this.clear();
    if (error instanceof Unreachable) {
      this.tell("The server does not answer", [error.message], this.again(retry));
    } else if (error instanceof Refusal) {
      this.refused(error, retry);
    } else {
      console.error(error);
      this.tell("The page has a fault", [String(error.message ?? error)]);
    }
  }

  refused(error, retry) {
    const elsewhere = error.violations.filter((violation) => !this.blame(violation));
    const title = TITLES[error.code] ?? "The server refused it";
    if (error.violations.length && !elsewhere.length) {
      this.tell(title, ["See the marked fields."]);
      const marked = this.panel.querySelector("[aria-invalid]");
      const folded = marked?.closest("details");
      if (folded) folded.open = true;
      return;
    }
    const lines = elsewhere.length ? [] : [error.message];
    if (error.incident) lines.push(`The server has logged it under ${error.incident}.`);
    const passing = ["RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "UNAUTHENTICATED", "INTERNAL"];
    this.tell(title, lines, passing.includes(error.code) ? this.again(retry, error.retryAfter) : undefined, elsewhere);
  }

  /** Marks the field that a violation is about; false where this panel has none. */
  blame(violation) {
    const path = violation.field.replace(/\[\d+\]/g, "");
    const field = this.panel.querySelector(`[data-field="${CSS.escape(path)}"]`);
    if (!field || !field.checkVisibility({ checkVisibilityCSS: true }) && !field.closest("details")) return false;
    const id = `field-error-${(numbered += 1)}`;
    const told = make("p", { class: "field-error", id }, sentence(violation));
    (field.closest(".range") ?? field).after(told);
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-errormessage", id);
    field.setAttribute("aria-describedby", id);
    return true;
  }

  tell(title, lines, button, violations = []) {
    const told = lines.filter(Boolean).map((line) => make("p", {}, line));
    this.box.replaceChildren(make("p", { class: "title" }, title), ...told);
    if (violations.length) {
      this.box.append(make("ul", {}, ...violations.map((each) => make("li", {}, `${each.field}: ${sentence(each)}`))));
    }
    if (button) this.box.append(button);
    this.box.hidden = false;
  }

  /** A button that tries again; counts down first where the server said when to come back. */
  again(retry, seconds = 0) {
    if (!retry) return undefined;
    const button = make("button", { type: "button", onclick: retry }, "Try again");
    let left = Math.ceil(seconds);
    if (left > 0) {
      const show = () => {
        button.disabled = left > 0;
        button.textContent = left > 0 ? `Try again in ${left} s` : "Try again";
        if (left <= 0) clearInterval(this.timer);
        left -= 1;
      };
      show();
      this.timer = setInterval(show, 1000);
    }
    return button;
  }
}

const sentence = ({ value, limit }) => (value ? `${value} is not allowed: ${limit}` : limit);
