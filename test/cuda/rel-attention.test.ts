import { expect, test } from "@jest/globals";
import { openDevice } from "../../lib/device.js";
import { referenceOutputs } from "../support/agreement.js";
import { cudaDevice } from "../support/cuda.js";
import { differences, OpCall } from "../support/op-harness.js";
import family from "../ops/rel-attention.cases.js";

test("the gradients of a batch of several groups", () => {
  // A group has at most 1024 blocks of queries; here each element of the batch is one.
  const sizes = { qLen: 1, kLen: 2, batch: 1030, heads: 1, dHead: 2 };
  const [, backward] = family.ops;
  const call = OpCall.of({ ...backward!, cases: { "two groups": sizes } }, "two groups");
  const expected = referenceOutputs(call, openDevice("reference", { poison: true }));
  expect(differences(call, call.run(cudaDevice()), expected)).toEqual([]);
});
