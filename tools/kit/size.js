/** Prints what each file of the kit weighs on the wire, compressed with brotli at its best, and fails over the budget. */
"use strict";
const { readFileSync, readdirSync } = require("node:fs");
const { brotliCompressSync } = require("node:zlib");

const BUDGET = 25 * 1024; // bytes, all scripts together
const folder = process.argv[2];
let whole = 0;
for (const name of readdirSync(folder).filter((each) => each.endsWith(".js")).sort()) {
  const { length } = brotliCompressSync(readFileSync(`${folder}/${name}`));
  whole += length;
  console.log(`${String(length).padStart(6)}  ${name}`);
}
console.log(`${String(whole).padStart(6)}  the whole kit; the budget is ${BUDGET}`);
if (!whole || whole > BUDGET) {
  console.error(whole ? `The kit is ${whole - BUDGET} bytes over its budget.` : `There is no kit in ${folder}.`);
  process.exit(1);
}
