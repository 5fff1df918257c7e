/* The bearer token: asked for when the server wants one, kept in this tab's session and nowhere else. */
import { byId } from "./dom.js";

const KEY = "dragoman-token";

export function token() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return kept;
  }
}

let kept = ""; // where storage is forbidden
let asking;

/** Asks for a token; true: there is a new one. Whoever asks meanwhile gets the same answer. */
export function askForToken(reason) {
  asking ??= new Promise((resolve) => {
    const dialog = byId("token-dialog");
    const field = byId("token");
    byId("token-reason").textContent = reason;
    field.value = "";
    let given = false;
    byId("token-form").onsubmit = (event) => {
      event.preventDefault();
      kept = field.value.trim();
      try {
        sessionStorage.setItem(KEY, kept);
      } catch {
        // it holds for this page then
      }
      given = kept !== "";
      dialog.close();
    };
    byId("token-cancel").onclick = () => dialog.close();
    dialog.onclose = () => {
      field.value = "";
      asking = undefined;
      resolve(given);
    };
    dialog.showModal();
  });
  return asking;
}
