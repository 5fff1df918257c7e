/* Begins: asks which models are served, and shows the panels that they can fill. */
import { connection } from "./api.js";
import { AttentionPanel } from "./attention.js";
import { byId } from "./dom.js";
import { Faults } from "./faults.js";
import { GeneratePanel } from "./generate.js";
import { Models } from "./models.js";
import { Tabs } from "./tabs.js";
import { TranslatePanel } from "./translate.js";
import { understanding } from "./understand.js";

const attention = new AttentionPanel();
const translation = new TranslatePanel((...what) => {
  choose("attention");
  attention.explainThis(...what);
});
const panels = [translation, new GeneratePanel(), ...understanding(), attention];
const faults = new Faults(byId("main"), byId("start-fault"));
let served; // the models, once they are known

const allTabs = [...byId("tabs").querySelectorAll("[role=tab]")];
const panelOf = (tab) => byId(tab.getAttribute("aria-controls"));
const tabs = new Tabs(byId("tabs"), (chosen) => {
  for (const tab of allTabs) panelOf(tab).hidden = tab !== chosen;
  // No element has this id, so the browser neither scrolls there nor begins to tab there.
  history.replaceState(null, "", `#/${panelOf(chosen).id}`);
});

function choose(name) {
  const wanted = allTabs.find((tab) => !tab.hidden && panelOf(tab).id === name);
  tabs.choose(wanted ?? allTabs.find((tab) => !tab.hidden));
}

async function start() {
  try {
    const models = await Models.ask();
    faults.clear();
    served = models;
    showServed(models);
    for (const tab of allTabs) tab.hidden = models.with(...tab.dataset.tasks.split(" ")).length === 0;
    byId("tabs").hidden = models.all.length === 0;
    for (const panel of panels) panel.useModels(models);
    if (models.all.length) choose(location.hash.slice(2));
  } catch (error) {
    byId("tabs").hidden = true;
    showState("No answer yet", false);
    faults.show(error, start);
  }
}

function showServed({ all }) {
  const names = [...new Set(all.map((model) => model.name))];
  showState(names.length ? `Serving ${names.join(", ")}` : "No model is served", names.length > 0);
  byId("served").title = all.map((model) => `${model.name} version ${model.version}, ${model.precision}`).join("\n");
}

connection.addEventListener("reached", () => served && showServed(served));
connection.addEventListener("lost", () => served && showState("No answer", false));

function showState(text, up) {
  byId("served-text").textContent = text;
  document.querySelector(".dot").className = up ? "dot up" : "dot down";
}

start();
