/* The theme that was chosen, set before anything is drawn: a classic script, since modules run after that. */
"use strict";
{
  const names = { auto: "as the system", light: "light", dark: "dark" };
  const read = () => {
    try {
      const kept = localStorage.getItem("dragoman-theme");
      return kept in names ? kept : "auto";
    } catch {
      return "auto"; // storage may be forbidden
    }
  };
  const show = (theme) => {
    document.documentElement.dataset.theme = theme;
    document.getElementById("theme")?.setAttribute("aria-label", "Theme: " + names[theme]);
  };
  let theme = read();
  show(theme);
  document.addEventListener("DOMContentLoaded", () => {
    show(theme);
    document.getElementById("theme").addEventListener("click", () => {
      theme = { auto: "light", light: "dark", dark: "auto" }[theme];
      try {
        localStorage.setItem("dragoman-theme", theme);
      } catch {
        // it holds for this page then
      }
      show(theme);
      document.dispatchEvent(new Event("themechange"));
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      document.dispatchEvent(new Event("themechange"));
    });
  });
}
