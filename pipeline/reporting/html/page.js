"use strict";
for (const slider of document.querySelectorAll(".slider")) {
  const frame = slider.querySelector(".frame");
  const range = slider.querySelector("input[type=range]");
  const selects = slider.querySelectorAll("select");
  const move = () => frame.style.setProperty("--at", range.value + "%");
  const choose = () => {
    for (const image of frame.querySelectorAll("img")) {
      for (const select of selects) {
        image.classList.toggle(select.dataset.side, image.dataset.version === select.value);
      }
    }
  };
  range.addEventListener("input", move);
  for (const select of selects) select.addEventListener("change", choose);
  move();
  choose();
}
