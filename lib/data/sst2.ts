/** The SST-2 sentiment task: tab-separated sentences and labels, as in GLUE. */

import { wordFormat } from "./text-format.js";

export interface LabelledSentence {
  readonly sentence: string;
  /** 1 positive, 0 negative. */
  readonly label: number;
}

/** Lower-cased words between `<CLS>` and `<S>`; the published vocabulary puts `<eos>` (the padding) at id 0. */
export const sst2Format = wordFormat({ lowerCase: true, begin: "<CLS>", end: "<S>" });

/** Rows of an SST-2 file after its header. Rows whose second column is no label, as in test.tsv, are left out. */
export function parseSst2(tsv: string): LabelledSentence[] {
  const rows: LabelledSentence[] = [];
  for (const line of tsv.split(/\r?\n/).slice(1)) {
    const [sentence, label] = line.split("\t");
    if (sentence !== undefined && (label === "0" || label === "1"))
      rows.push({ sentence, label: Number(label) });
  }
  return rows;
}
