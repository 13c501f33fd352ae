import { describe, expect, test } from "@jest/globals";
import { backward, isRecording, record } from "../../lib/autograd/tape.js";
import { type Device, openDevice } from "../../lib/device.js";
import { DisposedTensorError, HyperRouterError, ShapeError } from "../../lib/errors.js";
import { Parameter, requireGrad } from "../../lib/nn/parameter.js";
import { gelu } from "../../lib/ops/activation.js";
import { add, mul, scale } from "../../lib/ops/elementwise.js";
import { matmul } from "../../lib/ops/gemm.js";
import { mean, sum } from "../../lib/ops/reduce.js";
import { clone, concatRows, reshape, rows } from "../../lib/ops/view.js";
import { scope } from "../../lib/scope.js";
import { type FloatTensor, tensor, zeros } from "../../lib/tensor.js";

const device = openDevice("reference", { memoryLimitBytes: 1 << 28 });
const alive = (): number => device.memoryStats().tensors;

const values = (x: FloatTensor): number[] => Array.from(x.dataSync());

/** A parameter on the reference device. */
function parameter(numbers: number[], shape: readonly number[] = [numbers.length]): Parameter {
  return new Parameter(tensor(numbers, shape, device));
}

describe("gradients", () => {
  test("add up over uses, and over calls until they are zeroed", () => {
    const x = parameter([1, 2, 3]);
    const run = (): unknown => backward(() => sum(mul(x.value, x.value)));
    run();
    expect(values(x.gradient())).toEqual([2, 4, 6]);
    run();
    expect(values(x.gradient())).toEqual([4, 8, 12]);
    x.zeroGradient();
    expect(values(x.gradient())).toEqual([0, 0, 0]);
    x.dispose();
  });

  test("reach requireGrad inputs, not plain tensors and not frozen parameters", () => {
    scope(() => {
      const plain = tensor([2], [1], device);
      const x = tensor([3], [1], device);
      const leaf = requireGrad(x);
      const frozen = parameter([5]);
      frozen.trainable = false;
      backward(() => sum(mul(mul(plain, x), frozen.value)));
      expect(values(leaf.gradient())).toEqual([10]);
      expect(values(frozen.gradient())).toEqual([0]);
      expect(plain.leaf).toBeUndefined();
      for (const p of [x, leaf.gradient(), frozen]) p.dispose();
    });
  });

  test("stop at clone()", () => {
    const x = parameter([4]);
    backward(() => sum(mul(clone(x.value), x.value)));
    expect(values(x.gradient())).toEqual([4]);
    x.dispose();
  });

  test("reach parts of a parameter in their place", () => {
    const x = parameter([1, 2, 3, 4, 5, 6], [3, 2]);
    backward(() => {
      const last = rows(x.value, 2, 3);
      const both = rows(x.value, 1, 3);
      return add(sum(scale(last, 10)), sum(reshape(both, [4])));
    });
    expect(values(x.gradient())).toEqual([0, 0, 1, 1, 11, 11]);
    x.dispose();
  });

  test("reach parts of an activation in their place", () => {
    const x = parameter([1, 2, 3, 4], [2, 2]);
    backward(() => {
      const y = scale(x.value, 2);
      const flat = reshape(y, [4]);
      const joined = concatRows([rows(y, 1, 2), y, rows(y, 0, 1)]);
      return add(add(sum(flat), sum(rows(y, 0, 1))), sum(scale(joined, 10)));
    });
    expect(values(x.gradient())).toEqual([44, 44, 42, 42]);
    x.dispose();
  });

  test("a branch that the loss does not use costs nothing", () => {
    const x = parameter([1, 2]);
    let unusedRules = 0;
    backward(() => {
      const unused = scale(x.value, 3);
      record([unused], [zeros([2], device)], () => (unusedRules += 1));
      return sum(x.value);
    });
    expect(unusedRules).toBe(0);
    expect(values(x.gradient())).toEqual([1, 1]);
    x.dispose();
  });

  test("of a loss that is a parameter itself, or depends on none", () => {
    const x = parameter([7]);
    expect(values(backward(() => tensor([3], [1], device)))).toEqual([3]);
    expect(() => backward(() => scale(x.value, 1))).not.toThrow();
    expect(values(x.gradient())).toEqual([1]);
    x.dispose();
  });

  test("are bit for bit the same in every run and with any number of threads", () => {
    const run = (on: Device): Buffer =>
      scope(() => {
        const w = new Parameter(
          tensor(
            Float32Array.from({ length: 64 * 64 }, (_, i) => Math.sin(i)),
            [64, 64],
            on,
          ),
        );
        backward(() => mean(gelu(matmul(gelu(matmul(w.value, w.value)), w.value))));
        const bytes = Buffer.from(w.gradient().dataSync().buffer);
        w.dispose();
        return bytes;
      });
    const one = run(openDevice("cpu", { threads: 1 }));
    expect(run(openDevice("cpu", { threads: 1 }))).toEqual(one);
    expect(run(openDevice("cpu", { threads: 3 }))).toEqual(one);
  });
});

describe("backward", () => {
  test("returns what the function returned: the loss, or an object with more", () => {
    const x = parameter([1, 2]);
    const loss = backward(() => sum(x.value));
    expect(values(loss)).toEqual([3]);
    const result = backward(() => {
      const doubled = scale(x.value, 2);
      return { loss: sum(doubled), doubled, label: "step" };
    });
    expect(result.label).toBe("step");
    expect(values(result.doubled)).toEqual([2, 4]);
    for (const t of [loss, result.loss, result.doubled]) t.dispose();
    x.dispose();
  });

  test("results belong to the enclosing scope", () => {
    const x = parameter([1, 2]);
    const before = alive();
    scope(() => {
      backward(() => ({ loss: sum(x.value), more: [scale(x.value, 2)] }));
      expect(alive()).toBeGreaterThan(before);
    });
    // The gradient stays.
    expect(alive()).toBe(before + 1);
    x.dispose();
  });

  test("records inside only", () => {
    const x = parameter([1]);
    const seen: boolean[] = [isRecording()];
    backward(() => {
      seen.push(isRecording());
      return sum(x.value);
    });
    seen.push(isRecording());
    expect(seen).toEqual([false, true, false]);
    x.dispose();
  });

  test("scopes and `using` inside do not free what backward needs", () => {
    const x = parameter([1, 2, 3]);
    backward(() => {
      const y = scope(() => {
        const inner = scope(() => mul(x.value, x.value));
        return scale(inner, 3);
      });
      return sum(y);
    });
    expect(values(x.gradient())).toEqual([6, 12, 18]);
    x.dispose();
  });

  test("a tensor kept inside lives on", () => {
    const x = parameter([1, 2]);
    let kept: FloatTensor | undefined;
    backward(() => {
      kept = scale(x.value, 2).keep();
      return sum(kept);
    });
    expect(values(kept!)).toEqual([2, 4]);
    kept!.dispose();
    x.dispose();
  });

  test("a tensor that backward needs and that was disposed is named", () => {
    const x = parameter([1, 2]);
    const before = alive();
    const broken = (): unknown =>
      backward(() => {
        const y = scale(x.value, 2);
        const z = mul(y, y);
        y.dispose();
        return sum(z);
      });
    expect(broken).toThrow(DisposedTensorError);
    expect(alive()).toBe(before);
    x.dispose();
  });

  test("frees everything when the function throws, and can be called again", () => {
    const x = parameter([1, 2]);
    const before = alive();
    expect(() =>
      backward(() => {
        scale(x.value, 2);
        throw new Error("inside");
      }),
    ).toThrow("inside");
    expect(alive()).toBe(before);
    expect(isRecording()).toBe(false);
    backward(() => sum(x.value)).dispose();
    expect(values(x.gradient())).toEqual([1, 1]);
    x.dispose();
  });

  test("frees everything when a backward rule throws", () => {
    const x = parameter([1, 2]);
    const before = alive();
    const broken = (): unknown =>
      backward(() => {
        const y = scale(x.value, 2);
        const z = zeros([2], device);
        record([y], [z], () => {
          throw new Error("in the rule");
        });
        return sum(z);
      });
    expect(broken).toThrow("in the rule");
    expect(alive()).toBe(before);
    x.dispose();
  });

  test.each([
    [
      "a loss of two elements",
      (x: Parameter) => scale(x.value, 2),
      "the loss has shape [2], expected one element",
    ],
    ["no loss", () => ({}), "the loss is no tensor"],
    ["nothing", () => undefined, "the loss is no tensor"],
    ["a promise", async () => undefined, "the loss is no tensor"],
  ])("refuses %s", (_, fn, says) => {
    const x = parameter([1, 2]);
    const before = alive();
    const run = (): unknown => backward(() => fn(x) as FloatTensor);
    expect(run).toThrow(ShapeError);
    expect(run).toThrow(`backward: ${says}`);
    expect(alive()).toBe(before);
    x.dispose();
  });

  test("refuses to be nested", () => {
    const x = parameter([1]);
    const nested = (): unknown => backward(() => backward(() => sum(x.value)));
    expect(nested).toThrow(HyperRouterError);
    expect(nested).toThrow(
      "inside of another backward()\n  fix: compute both losses in one call and add them",
    );
    expect(isRecording()).toBe(false);
    x.dispose();
  });
});
