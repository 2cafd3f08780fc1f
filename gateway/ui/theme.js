// Light, dark, or as the system has it. Runs before the page is drawn, so that it does not flash.
"use strict";
(() => {
  const NEXT = { auto: "light", light: "dark", dark: "auto" };
  const read = () => {
    try {
      return localStorage.getItem("theme") || "auto";
    } catch {
      return "auto";
    }
  };
  let theme = read() in NEXT ? read() : "auto";
  const show = () => {
    document.documentElement.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (button) {
      button.textContent = `Theme: ${theme}`;
    }
  };
  show();
  document.addEventListener("DOMContentLoaded", () => {
    show();
    document.getElementById("theme").addEventListener("click", () => {
      theme = NEXT[theme];
      try {
        localStorage.setItem("theme", theme);
      } catch {
        // It then lasts as long as the page.
      }
      show();
    });
  });
})();
