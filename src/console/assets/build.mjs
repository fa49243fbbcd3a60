// Bundles the console's scripts: `node build.mjs OUT`, with node_modules beside it (scripts/build-assets sees to that).
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const out = process.argv[2];
mkdirSync(out, { recursive: true });
const result = await build({
  entryPoints: ["console.js", "chart.js", "editor.js"],
  bundle: true,
  minify: true,
  format: "iife",
  target: ["chrome111", "firefox115", "safari16.4"],
  charset: "utf8",
  legalComments: "none",
  metafile: true,
  outdir: out,
  logLevel: "warning",
});
writeFileSync(join(out, "chart.css"), readFileSync("node_modules/uplot/dist/uPlot.min.css"));

// Which packages are in a bundle is what esbuild says, not what package.json hopes.
const packages = new Map();
for (const input of [...Object.keys(result.metafile.inputs), "node_modules/uplot/dist/uPlot.min.css"]) {
  const name = input.match(/node_modules\/((?:@[^/]+\/)?[^/]+)\//)?.[1];
  if (name) packages.set(name, join("node_modules", name));
}
let notice = "Software of others in the console's scripts. Made by scripts/build-assets; do not edit.\n";
for (const [name, place] of [...packages].sort(([a], [b]) => (a < b ? -1 : 1))) {
  const { version, license } = JSON.parse(readFileSync(join(place, "package.json"), "utf8"));
  if (license !== "MIT") throw new Error(`${name} has the license ${license}: is it allowed?`);
  const file = readdirSync(place).find((file) => /^licen[cs]e/i.test(file));
  if (!file) throw new Error(`${name} has no text of its license`);
  notice += `\n${"=".repeat(78)}\n${name} ${version} (${license})\n${"=".repeat(78)}\n${readFileSync(join(place, file), "utf8").trim()}\n`;
}
writeFileSync(join(out, "THIRD-PARTY.txt"), notice);

for (const name of ["console.js", "chart.js", "editor.js", "chart.css"]) {
  const content = readFileSync(join(out, name));
  const packed = gzipSync(content, { level: 9 });
  packed[9] = 255; // The operating system on which it was made is nobody's business.
  writeFileSync(join(out, `${name}.gz`), packed);
  console.log(`${name}: ${content.length} bytes, ${packed.length} gzipped`);
}
