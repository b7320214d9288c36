"use strict";
(() => {
  // Charts: drawn when they come near, over the still picture that is there from the start.
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const options = { actions: false, renderer: "svg", ast: true };
  async function draw(box) {
    const parts = specs[box.dataset.chart];
    const fresh = parts.map(() => Object.assign(document.createElement("div"), { className: "part" }));
    const holder = document.createElement("div");
    holder.append(...fresh);
    box.style.minHeight = `${box.offsetHeight}px`;
    const still = [...box.childNodes];
    box.append(holder);
    try {
      for (const [index, part] of parts.entries()) await vegaEmbed(fresh[index], part, options);
      for (const node of still) node.remove();
      box.classList.add("drawn");
    } catch (error) {
      holder.remove(); // the still picture stays
      console.error(`chart ${box.dataset.chart}: ${error.message}`);
    }
    box.style.minHeight = "";
  }
  const boxes = [...document.querySelectorAll("[data-chart]")];
  if (typeof vegaEmbed !== "undefined") {
    const near = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        near.unobserve(entry.target);
        draw(entry.target);
      }
    }, { rootMargin: "600px" });
    for (const box of boxes) near.observe(box);
  }

  // The table of trials: sorted by a column, filtered by state and words.
  const table = document.getElementById("trials-table");
  if (table) {
    const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
    const keyOf = (row, column) => {
      const cell = row.cells[column], text = cell.dataset.key ?? cell.textContent;
      if (text === "") return null;
      return heads[column].classList.contains("number") ? Number(text) : text;
    };
    const compare = (one, other) => (typeof one === "number" ? one - other : one.localeCompare(other));
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
        const keyed = rows.map((row) => [keyOf(row, column), row]);
        keyed.sort(([one], [other]) => {
          if (one === null || other === null) return (one === null) - (other === null); // last either way
          return sign * compare(one, other);
        });
        body.append(...keyed.map(([, row]) => row));
      });
    });
    const group = document.getElementById("group"), words = document.getElementById("words");
    const count = document.getElementById("count");
    const texts = rows.map((row) => [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase());
    const filter = () => {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, index) => {
        const fits = (!group.value || row.dataset.groups.split("|").includes(group.value))
          && wanted.every((word) => texts[index].includes(word));
        row.hidden = !fits;
        shown += fits;
      });
      count.textContent = `${shown} of ${rows.length} trials`;
    };
    group.addEventListener("change", filter);
    words.addEventListener("input", filter);
    const form = document.querySelector(".filter");
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    filter();
  }

  // Commands: copied by a button.
  if (navigator.clipboard) {
    for (const command of document.querySelectorAll(".command")) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "copy";
      button.textContent = "copy";
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(command.querySelector("code").textContent);
        button.textContent = "copied";
        setTimeout(() => { button.textContent = "copy"; }, 1500);
      });
      command.querySelector("p").append(button);
    }
  }
  // On paper everything that can be opened is open.
  addEventListener("beforeprint", () => {
    for (const each of document.querySelectorAll("#ended details")) each.open = true;
  });
})();
