(() => {
  "use strict";
  const brief = document.getElementById("brief");
  if (brief && navigator.clipboard) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", () => {
      navigator.clipboard.writeText(brief.textContent).then(
        () => { button.textContent = "Copied"; },
        () => { button.textContent = "Select the text and copy it"; });
    });
    brief.before(button);
  }

  // A link to a line opens the file it lies in.
  const reveal = () => {
    if (!location.hash.startsWith("#line-")) return;
    const line = document.getElementById(location.hash.slice(1));
    if (!line) return;
    line.closest("details").open = true;
    line.scrollIntoView({ block: "center" });
  };
  addEventListener("hashchange", reveal);
  reveal();

  addEventListener("beforeprint", () => {
    for (const it of document.querySelectorAll("details:not(.twin)")) it.open = true;
  });

  const chart = document.getElementById("chart");
  const readout = document.getElementById("readout");
  const cursor = document.getElementById("cursor");
  const rows = [...document.querySelectorAll("#seconds tbody tr")];
  if (!chart || !rows.length) return;
  const names = [...document.querySelectorAll("#seconds thead th")].map((it) => it.textContent);
  const { left, plot, top, bottom, span, group } =
    Object.fromEntries(Object.entries(chart.dataset).map(([key, value]) => [key, Number(value)]));
  let at = -1;

  const show = (row) => {
    at = Math.max(0, Math.min(rows.length - 1, row));
    const x = left + Math.min(1, (at + 0.5) * group / span) * plot;
    cursor.setAttribute("d", `M${x} ${top}V${bottom}`);
    const values = [...rows[at].children].map((it) => it.textContent);
    readout.replaceChildren(...values.map((value, n) => {
      const line = document.createElement(n ? "span" : "b");
      if (!n) { line.textContent = value; return line; }
      const strong = document.createElement("strong");
      strong.textContent = value;
      line.append(names[n], strong);
      return line;
    }));
    readout.hidden = false;
    const scale = chart.getBoundingClientRect().width / chart.viewBox.baseVal.width;
    const beside = x * scale + 14;
    const room = chart.getBoundingClientRect().width - readout.offsetWidth;
    readout.style.left = `${beside > room ? x * scale - readout.offsetWidth - 14 : beside}px`;
  };
  const hide = () => {
    readout.hidden = true;
    cursor.setAttribute("d", "");
  };
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * chart.viewBox.baseVal.width;
    if (x < left || x > left + plot) return hide();
    show(Math.floor((x - left) / plot * span / group));
  });
  chart.addEventListener("pointerleave", hide);
  chart.setAttribute("tabindex", "0");
  chart.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (event.key === "Escape") return hide();
    if (!by) return;
    event.preventDefault();
    show(at < 0 ? 0 : at + by);
  });
  chart.addEventListener("blur", hide);
})();
