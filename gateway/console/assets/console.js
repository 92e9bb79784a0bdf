// What the pages do in the browser. They work without it, but for the plots and the live tail.
(() => {
  "use strict";
  const zh = document.documentElement.lang === "zh-CN";

  // Times in the reader's own zone, where that is asked for; the server writes Beijing's.
  const local = document.documentElement.dataset.zone === "local";
  const two = (n) => String(n).padStart(2, "0");
  const clock = (d) => two(d.getHours()) + ":" + two(d.getMinutes()) + ":" + two(d.getSeconds());
  const full = (d) => d.getFullYear() + "-" + two(d.getMonth() + 1) + "-" + two(d.getDate()) + " " + clock(d);
  const localize = (root) => {
    if (!local) return;
    for (const t of root.querySelectorAll("time[datetime]")) {
      const d = new Date(t.dateTime);
      if (isNaN(d)) continue;
      if (t.classList.contains("ago")) t.title = full(d);
      else t.textContent = t.classList.contains("clock") ? clock(d) : full(d);
    }
  };
  localize(document);
  document.addEventListener("htmx:afterSwap", (e) => localize(document.contains(e.target) ? e.target : document));

  document.addEventListener("submit", (e) => {
    const question = e.target.dataset.confirm;
    if (question && !window.confirm(question)) e.preventDefault();
  });

  document.addEventListener("click", async (e) => {
    const button = e.target.closest("[data-copy]");
    if (!button) return;
    const from = document.querySelector(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(from.textContent);
    } catch { // without HTTPS a page may not write there: the text is marked instead
      window.getSelection().selectAllChildren(from);
      document.execCommand("copy");
    }
    button.textContent = button.dataset.copied;
  });

  // The live tail asks for what came after the last line; a pause stops the asking, and what it missed is counted.
  const tail = document.getElementById("tail"), poll = document.getElementById("tail-poll"), pause = document.getElementById("pause");
  if (tail && poll && pause) {
    let paused = false, last = Number(poll.dataset.last);
    pause.addEventListener("click", () => {
      paused = !paused;
      pause.textContent = paused ? pause.dataset.go : pause.dataset.pause;
      pause.setAttribute("aria-pressed", String(paused));
    });
    poll.addEventListener("htmx:configRequest", (e) => {
      e.detail.path = "/tail?after=" + last;
    });
    poll.addEventListener("htmx:beforeRequest", (e) => {
      if (paused || document.hidden) e.preventDefault();
    });
    document.addEventListener("htmx:afterSwap", (e) => {
      if (e.target !== tail) return;
      for (const li of tail.querySelectorAll("li")) last = Math.max(last, Number(li.dataset.number || li.dataset.last || 0));
      while (tail.children.length > 100) tail.lastElementChild.remove();
    });
  }

  const plots = document.getElementById("plots");
  if (plots && window.uPlot) {
    const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const fields = { rates: ["pushes", "sends", "deliveries"], errors: ["push_errors", "send_errors", "delivery_errors"], p99: ["p99_seconds"], lag: ["lag_seconds"] };
    let drawn = [];
    const size = (f) => ({ width: Math.max(Math.floor(f.clientWidth), 240), height: 190 });
    const dates = zh ? "{YYYY}-{MM}-{DD} {HH}:{mm}" : "{YYYY}-{MM}-{DD} {HH}:{mm}";
    const draw = async () => {
      const answer = await fetch(plots.dataset.src, { headers: { accept: "application/json" } });
      if (!answer.ok) return;
      const s = await answer.json();
      for (const d of drawn) d.plot.destroy();
      drawn = [...plots.querySelectorAll("figure")].map((f) => {
        const names = f.dataset.names.split("|"), soft = css("--soft"), line = css("--line");
        const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "11px system-ui, sans-serif" };
        const plot = new uPlot({
          ...size(f),
          tzDate: (ts) => local ? new Date(ts * 1e3) : uPlot.tzDate(new Date(ts * 1e3), "Asia/Shanghai"),
          cursor: { drag: { x: false, y: false } },
          scales: { y: { range: (u, min, max) => [0, max > 0 ? max * 1.1 : 1] } },
          axes: [{ ...axis, values: (u, at) => at.map((t) => uPlot.fmtDate("{HH}:{mm}")(local ? new Date(t * 1e3) : uPlot.tzDate(new Date(t * 1e3), "Asia/Shanghai"))) }, { ...axis, size: 48 }],
          series: [{ label: zh ? "时间" : "time", value: dates }, ...names.map((n, i) => ({ label: n, stroke: css("--plot-" + (i + 1)), width: 1.6, points: { show: false } }))],
        }, [s.at, ...fields[f.dataset.plot].map((name) => s[name])], f);
        return { f, plot };
      });
    };
    draw();
    setInterval(() => { if (!document.hidden) draw(); }, 60000);
    window.addEventListener("resize", () => { for (const d of drawn) d.plot.setSize(size(d.f)); });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  }
})();
