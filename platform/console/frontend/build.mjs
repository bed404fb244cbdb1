// Bundles the console: one script for every page, one more for each page with a large library (src/pages), one
// stylesheet, one icon sprite. Django adds the hashes to the names.
import { mkdir, readdir, readFile, rm, writeFile, copyFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";
import * as sass from "sass";

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const OUT = at("../static/dist/");

// Every icon that a template or a script names; the build fails for one that does not exist.
const ICONS = JSON.parse(await readFile(at("src/icons.json"), "utf8"));

async function script(watch) {
  const pages = (await readdir(at("src/pages"))).filter((name) => name.endsWith(".ts"));
  const options = {
    entryPoints: [at("src/app.ts"), ...pages.map((name) => at(`src/pages/${name}`))],
    entryNames: "[name]",
    outdir: OUT,
    bundle: true,
    minify: true,
    target: ["chrome109", "firefox115", "safari16"],
    format: "iife",
    legalComments: "none",
    logLevel: "warning",
  };
  if (!watch) return esbuild.build(options);
  return (await esbuild.context(options)).watch();
}

async function style() {
  const { css } = sass.compile(at("src/app.scss"), {
    loadPaths: [at("node_modules")],
    quietDeps: true,
    // Bootstrap 5 is written with @import; it is the last version that will be.
    silenceDeprecations: ["import", "global-builtin", "color-functions", "if-function"],
  });
  const { code } = await esbuild.transform(css, {
    loader: "css",
    minify: true,
    target: ["chrome109", "firefox115", "safari16"],
  });
  await writeFile(`${OUT}app.css`, code);
}

async function sprite() {
  const symbols = await Promise.all(ICONS.map(symbol));
  await writeFile(
    `${OUT}icons.svg`,
    `<svg xmlns="http://www.w3.org/2000/svg">${symbols.join("")}</svg>\n`,
  );
}

async function symbol(name) {
  const svg = await readFile(at(`node_modules/bootstrap-icons/icons/${name}.svg`), "utf8");
  const body = svg.slice(svg.indexOf(">") + 1, svg.lastIndexOf("</svg>")).replace(/\s*\n\s*/g, "");
  return `<symbol id="${name}" viewBox="0 0 16 16">${body}</symbol>`;
}

const watch = process.argv.includes("--watch");
if (!watch) await rm(OUT, { recursive: true, force: true });
await mkdir(OUT, { recursive: true });
await Promise.all([script(watch), style(), sprite(), copyFile(at("src/favicon.svg"), `${OUT}favicon.svg`)]);
