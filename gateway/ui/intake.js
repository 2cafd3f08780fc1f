// Ways in for pictures: drop, paste, pick, photograph, samples. What becomes of them is the caller's affair.

import { $, h } from "./dom.js";

/** File names of the samples, which are the labels they have in the test set. */
const SAMPLES = [
  ["0-t-shirt-top", "T-shirt/top"],
  ["1-trouser", "Trouser"],
  ["2-pullover", "Pullover"],
  ["3-dress", "Dress"],
  ["4-coat", "Coat"],
  ["5-sandal", "Sandal"],
  ["6-shirt", "Shirt"],
  ["7-sneaker", "Sneaker"],
  ["8-bag", "Bag"],
  ["9-ankle-boot", "Ankle boot"],
];

/** Calls `take(files)` whenever somebody brings some. */
export function listen(take, complain) {
  listenToDrops($("drop"), take);
  document.addEventListener("paste", (event) => bring(event.clipboardData.files, take));
  for (const input of [$("file"), $("camera")]) {
    input.addEventListener("change", () => {
      bring(input.files, take);
      input.value = "";
    });
  }
  $("samples").replaceChildren(...SAMPLES.map(([name, label]) => h("li", {}, sample(name, label, take, complain))));
}

function bring(files, take) {
  if (files?.length > 0) {
    take([...files]);
  }
}

function listenToDrops(zone, take) {
  // Anywhere on the page: a picture that misses the zone must not replace the page.
  for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      if (event.dataTransfer?.types.includes("Files")) {
        event.preventDefault();
        zone.classList.toggle("over", name === "dragenter" || name === "dragover");
      }
    });
  }
  document.addEventListener("drop", (event) => bring(event.dataTransfer?.files, take));
}

function sample(name, label, take, complain) {
  const source = new URL(`./${name}.png`, import.meta.url).href;
  const send = async () => {
    try {
      const response = await fetch(source);
      const blob = await response.blob();
      take([new File([blob], `${name}.png`, { type: "image/png" })]);
    } catch {
      complain("The sample cannot be loaded: the gateway cannot be reached.");
    }
  };
  const picture = h("img", { src: source, alt: label, width: 28, height: 28, loading: "lazy" });
  return h("button", { class: "sample", type: "button", title: label, onclick: send }, picture);
}
