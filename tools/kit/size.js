/**
 * Prints what the kit weighs, compressed with brotli at its best: each file as it is written and as a bundler would ship it
 * (minified), and the whole minified kit in one. Fails when that is over the budget.
 *
 * node size.js KIT_FOLDER, with terser beside it in node_modules.
 */
"use strict";
const { readFileSync, readdirSync } = require("node:fs");
const { createRequire } = require("node:module");
const { brotliCompressSync, constants } = require("node:zlib");

const BUDGET = 25 * 1024; // bytes, the whole kit minified, in one
const [folder, modules] = process.argv.slice(2);
const { minify } = createRequire(`${process.cwd()}/${modules}/`)("terser");
const weigh = (text) => brotliCompressSync(text, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: Buffer.byteLength(text) } }).length;
const row = (name, ...figures) => console.log(...figures.map((figure) => String(figure).padStart(9)), "", name);

async function main() {
  const names = readdirSync(folder).filter((each) => each.endsWith(".js")).sort();
  let [written, whole] = [0, ""];
  row("", "written", "minified");
  for (const name of names) {
    const text = readFileSync(`${folder}/${name}`, "utf8");
    const { code } = await minify(text, { module: /^(import|export) /m.test(text) });
    row(name, weigh(text), weigh(code));
    written += weigh(text);
    whole += code;
  }
  const weight = weigh(whole);
  row(`the whole kit; the budget for it, minified, is ${BUDGET}`, written, weight);
  if (names.length && weight <= BUDGET) return;
  console.error(names.length ? `The kit is ${weight - BUDGET} bytes over its budget.` : `There is no kit in ${folder}.`);
  process.exitCode = 1;
}

void main();
