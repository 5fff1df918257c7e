/* Tabs by the ARIA pattern: arrow keys move and choose, one stop for Tab. */
import { roving } from "./dom.js";

/** `onShow` is called with the tab that was chosen. Tabs that are hidden are passed over. */
export class Tabs {
  constructor(list, onShow) {
    this.list = list;
    this.onShow = onShow;
    list.addEventListener("click", (event) => {
      const tab = event.target.closest("[role=tab]");
      if (tab) this.choose(tab);
    });
    roving(list, () => this.tabs(), (tab) => this.choose(tab));
  }

  tabs() {
    return [...this.list.querySelectorAll("[role=tab]")].filter((tab) => !tab.hidden);
  }

  /** Shows a tab's panel and hides the others'. */
  choose(chosen) {
    for (const tab of this.list.querySelectorAll("[role=tab]")) {
      const on = tab === chosen;
      tab.setAttribute("aria-selected", String(on));
      tab.tabIndex = on ? 0 : -1;
    }
    this.onShow(chosen);
    // Where the tabs are wider than the screen, the list is scrolled to the chosen one, and the page is not.
    const begin = chosen.offsetLeft - this.list.offsetLeft;
    const end = begin + chosen.offsetWidth - this.list.clientWidth;
    this.list.scrollLeft = Math.min(begin, Math.max(end, this.list.scrollLeft));
  }
}
