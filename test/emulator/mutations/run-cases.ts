// node --import ./scripts/typescript.mjs test/emulator/mutations/run-cases.ts dtype op...: the cases of some ops on the
// emulated GPUs. Ends with status 1 and one line at the first thing that is wrong.
import { openDevice } from "../../../lib/device.js";
import type { ProductDType } from "../../../lib/dtype.js";
import { agreement, disagreement, referenceOutputs } from "../../support/agreement.js";
import { refuseContent } from "../../support/content-refusal.js";
import { emulated } from "../../support/emulator.js";
import type { OpCases } from "../../support/op-case.js";
import { loadFamilies, OpCall } from "../../support/op-harness.js";

const [dtype, ...ops] = process.argv.slice(2) as [ProductDType, ...string[]];
const [drawn, late, early] = emulated(dtype);
const reference = openDevice("reference", { poison: true, dtype });

/** What is wrong with a table's op, in one line; "": nothing. */
function fault(table: OpCases): string {
  for (const call of OpCall.all(table)) {
    const expected = referenceOutputs(call, reference);
    for (const [device, equivalent] of [
      [drawn, late],
      [late, early],
      [early, drawn],
    ] as const) {
      const found = JSON.stringify(disagreement(call, device, equivalent, expected));
      if (found !== JSON.stringify(agreement(device))) return `${call.caseName}: ${found}`;
    }
  }
  for (const { name, change, error, says } of table.badContent ?? []) {
    const { read, written } = refuseContent(table, change, drawn);
    if (read.error !== error || !read.message.includes(says)) return `${name}: ${read.error} ${read.message}`;
    if (written.length > 0) return `${name}: wrote ${written.join(", ")}`;
  }
  return "";
}

const tables = [...(await loadFamilies()).values()].flatMap((family) => family.ops);
for (const op of ops) {
  const table = tables.find((candidate) => candidate.op === op);
  if (!table) throw new Error(`there are no cases of "${op}"`);
  const found = fault(table);
  if (found === "") continue;
  console.log(`${op}, ${found}`);
  process.exit(1);
}
