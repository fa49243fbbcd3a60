// Draws the table of the last hour as a chart. The table stays: it has the same numbers for those who cannot see the chart.
import uPlot from "uplot";

/** The lines: the column of the table, the colour's name in the style sheet, and a dash of their own, so that colour is not all. */
const LINES = [
  { name: "delivered", colour: "--well", dash: [] },
  { name: "rejected", colour: "--trouble", dash: [8, 4] },
  { name: "failed", colour: "--trouble", dash: [2, 3] },
  { name: "unknown", colour: "--doubt", dash: [6, 3, 2, 3] },
  { name: "skipped", colour: "--muted", dash: [1, 4] },
];
const HEIGHT = 180;

/** The numbers of the table, the oldest minute first. @param {HTMLTableElement} table */
function read(table) {
  const rows = [...table.tBodies[0].rows].reverse();
  const minutes = rows.map((row) => Date.parse(row.querySelector("time")?.dateTime ?? "") / 1000);
  const columns = LINES.map(({ name }) =>
    rows.map((row) => Number(row.querySelector(`[data-state="${name}"]`)?.getAttribute("data-count") ?? 0)),
  );
  return [minutes, ...columns];
}

/** @param {HTMLTableElement} table @param {HTMLElement} place */
function draw(table, place) {
  const styles = getComputedStyle(document.documentElement);
  const colour = (name) => styles.getPropertyValue(name).trim();
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
  const options = {
    width: place.clientWidth,
    height: HEIGHT,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    scales: { y: { range: (_, __, most) => [0, Math.max(most, 4)] } },
    cursor: { drag: { x: false, y: false } },
    axes: [{ ...axis, values: [[1, "{HH}:{mm}"]] }, { ...axis, size: 56, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] }],
    series: [
      { label: "minute (UTC)", value: "{HH}:{mm}" },
      ...LINES.map(({ name, colour: of, dash }) => ({ label: name, stroke: colour(of), width: 1.6, dash, points: { show: false } })),
    ],
  };
  place.replaceChildren();
  return new uPlot(options, read(table), place);
}

for (const place of document.querySelectorAll("[data-chart]")) {
  const table = document.getElementById(place.getAttribute("data-chart") ?? "");
  if (!(table instanceof HTMLTableElement) || !(place instanceof HTMLElement)) continue;
  place.hidden = false;
  let plot = draw(table, place);
  addEventListener("resize", () => plot.setSize({ width: place.clientWidth, height: HEIGHT }));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    plot.destroy();
    plot = draw(table, place);
  });
}
