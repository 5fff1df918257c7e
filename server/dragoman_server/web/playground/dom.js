/* Small helpers over the document. Text only ever becomes text: nothing here, or anywhere, parses markup. */

export const byId = (id) => document.getElementById(id);

/** An element with attributes, properties (`onclick`, `value`, ...) and children, which are elements or strings. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on") || key === "value" || key === "checked") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** Said by screen readers once they are done with what they say now. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** The value of a colour such as "--accent", as three numbers of 0 to 255, in the theme that is shown. */
export function colour(name) {
  const probe = make("i", { hidden: true });
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
  probe.remove();
  return found;
}

/** One stop for Tab in a group: the arrow keys, Home and End move inside. `items` gives what can be focused now. */
export function roving(group, items, onMove = () => {}) {
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  group.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.indexOf(document.activeElement);
    if (at < 0) return;
    let to = { Home: 0, End: all.length - 1 }[event.key];
    if (event.key in steps) to = (at + steps[event.key] + all.length) % all.length;
    if (to === undefined) return;
    event.preventDefault();
    focusOne(all, to);
    onMove(all[to]);
  });
}

/** Focus one of a group and make it the group's stop for Tab. */
export function focusOne(all, number) {
  all.forEach((item, i) => {
    item.tabIndex = i === number ? 0 : -1;
  });
  all[number]?.focus();
}

/** Calls `act` once nobody has asked for it for `ms` milliseconds; `cancel()`: not after all. */
export function debounced(act, ms) {
  let timer;
  const ask = () => {
    clearTimeout(timer);
    timer = setTimeout(act, ms);
  };
  ask.cancel = () => clearTimeout(timer);
  return ask;
}

export const percent = (share) => (100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0) + "%";
