"use strict";
// Sort within each block of rows (a comparison across devices or provenances would mislead), and filter by words.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const numeric = head.classList.contains("number");
    const compare = (one, two) => {
      const a = one.cells[place].dataset.sort, b = two.cells[place].dataset.sort;
      if (a === "" || b === "") return (a === "") - (b === "");      // what is missing stays last, either way
      return (numeric ? Number(a) - Number(b) : a.localeCompare(b)) * (down ? -1 : 1);
    };
    for (const body of table.tBodies) {
      body.append(...[...body.rows].filter((row) => !row.classList.contains("group")).sort(compare));
    }
  }));
}
for (const box of document.querySelectorAll("[data-all]")) {
  const table = document.getElementById(box.dataset.all), show = () => table.classList.toggle("brief", !box.checked);
  box.addEventListener("change", show);
  show();
}
for (const input of document.querySelectorAll("[data-filter]")) {
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const body of document.getElementById(input.dataset.filter).tBodies) {
      const group = body.querySelector(".group"), shared = group ? group.textContent.toLowerCase() : "";
      let shown = 0;
      for (const row of body.rows) {
        if (row === group) continue;
        const text = shared + " " + row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      body.hidden = shown === 0;
    }
  });
}
