import { describe, expect, test } from "@jest/globals";

import { backward } from "../../lib/autograd/tape.js";
import { remember } from "../../lib/nn/memory.js";
import { requireGrad } from "../../lib/nn/parameter.js";
import { sum } from "../../lib/ops/reduce.js";
import { openDevice } from "../../lib/device.js";
import { type FloatTensor, tensor } from "../../lib/tensor.js";

const device = openDevice("reference");

/** `[values.length, 1, 1]` */
function column(values: number[]): FloatTensor {
  return tensor(values, [values.length, 1, 1], device);
}

function remembered(memory: number[], hidden: number[], memLen: number, extLen = 0): number[] {
  const past = memory.length > 0 ? column(memory) : null;
  return [...(remember(past, column(hidden), memLen, extLen)?.dataSync() ?? [])];
}

describe("remember", () => {
  test.each([
    { memory: [], hidden: [1, 2, 3], memLen: 3, rows: [1, 2, 3] },
    { memory: [], hidden: [1, 2, 3], memLen: 2, rows: [2, 3] },
    { memory: [], hidden: [1, 2, 3], memLen: 9, rows: [1, 2, 3] },
    { memory: [1, 2, 3], hidden: [4, 5, 6], memLen: 3, rows: [4, 5, 6] },
    { memory: [1, 2], hidden: [3, 4], memLen: 3, rows: [2, 3, 4] },
    { memory: [1, 2, 3, 4], hidden: [5, 6], memLen: 4, rows: [3, 4, 5, 6] },
    { memory: [1, 2, 3], hidden: [4], memLen: 9, rows: [1, 2, 3, 4] },
    { memory: [1, 2, 3], hidden: [4, 5, 6], memLen: 0, rows: [] },
    { memory: [], hidden: [1, 2, 3], memLen: 3, extLen: 1, rows: [1, 2] },
    { memory: [1, 2], hidden: [3, 4], memLen: 3, extLen: 1, rows: [1, 2, 3] },
    { memory: [1, 2], hidden: [3], memLen: 2, extLen: 4, rows: [1, 2] },
    { memory: [], hidden: [3], memLen: 2, extLen: 4, rows: [] },
  ])("$memory and $hidden, memLen $memLen: $rows", ({ memory, hidden, memLen, extLen, rows }) => {
    expect(remembered(memory, hidden, memLen, extLen)).toEqual(rows);
  });

  test("gradients do not flow into the segments before", () => {
    const hidden = column([1, 2]);
    const leaf = requireGrad(hidden);
    backward(() => ({ loss: sum(hidden), memory: remember(column([9]), hidden, 3) }));
    expect([...leaf.gradient().dataSync()]).toEqual([1, 1]);
    expect(remember(null, hidden, 2)?.leaf).toBeUndefined();
  });
});
