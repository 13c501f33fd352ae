import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "@jest/globals";
import { openDevice } from "../lib/device.js";
import { add } from "../lib/ops/elementwise.js";
import { scope } from "../lib/scope.js";
import { type FloatTensor, tensor, zeros } from "../lib/tensor.js";

// A device of this file's own: tensors that other files left to the garbage collector do not count.
const device = openDevice("cpu", { threads: 1, memoryLimitBytes: 12_345_678 });
const make = (): FloatTensor => zeros([4], device);
/** Tensors of {@link make} that are alive. */
const alive = (): number => device.memoryStats().liveBytes / bytesOfOne;
const bytesOfOne = bytesOf(make);

function bytesOf(create: () => FloatTensor): number {
  const t = create();
  const { liveBytes } = device.memoryStats();
  t.dispose();
  return liveBytes - device.memoryStats().liveBytes;
}

describe("scope", () => {
  test("frees what was created inside, except what is returned", () => {
    const before = alive();
    let inner: FloatTensor | undefined;
    const kept = scope(() => {
      inner = make();
      return add(inner, inner);
    });
    expect(inner!.isDisposed).toBe(true);
    expect(kept.isDisposed).toBe(false);
    expect(alive()).toBe(before + 1);
    kept.dispose();
  });

  test("finds returned tensors in arrays and plain objects, even circular ones", () => {
    interface Nested {
      list: FloatTensor[];
      deep: { t: FloatTensor };
      self?: Nested;
    }
    const result = scope(() => {
      const nested: Nested = { list: [make(), make()], deep: { t: make() } };
      nested.self = nested;
      return nested;
    });
    const tensors = [...result.list, result.deep.t];
    expect(tensors.map((t) => t.isDisposed)).toEqual([false, false, false]);
    for (const t of tensors) t.dispose();
  });

  test("what an inner scope returns belongs to the outer one", () => {
    let passedOn: FloatTensor | undefined;
    scope(() => {
      passedOn = scope(make);
      expect(passedOn.isDisposed).toBe(false);
    });
    expect(passedOn!.isDisposed).toBe(true);
  });

  test("a tensor of an outer scope that an inner one returns stays with the outer one", () => {
    const result = scope(() => {
      const t = make();
      expect(scope(() => t)).toBe(t);
      return t;
    });
    expect(result.isDisposed).toBe(false);
    result.dispose();
  });

  test("frees everything when the function throws", () => {
    const before = alive();
    expect(() =>
      scope(() => {
        make();
        scope(make);
        throw new Error("inside");
      }),
    ).toThrow("inside");
    expect(alive()).toBe(before);
  });

  test("a tensor disposed by hand is not freed again", () => {
    const before = alive();
    scope(() => {
      const t = make();
      t.dispose();
      make();
    });
    expect(alive()).toBe(before);
  });

  test("a view keeps the memory that its base gave up", () => {
    const view = scope(() => tensor([1, 2, 3, 4], [4], device).view([2], 2));
    expect(view.dataSync()).toEqual(Float32Array.of(3, 4));
    view.dispose();
  });
});

describe("keep", () => {
  test("takes a tensor out of its scope", () => {
    const t = scope(() => {
      const kept = make().keep();
      return { isKept: () => kept, size: kept.size };
    }).isKept();
    expect(t.isDisposed).toBe(false);
    t.dispose();
  });

  test("also from inside an inner scope", () => {
    let t: FloatTensor | undefined;
    scope(() => {
      const own = make();
      scope(() => own.keep());
      t = own;
    });
    expect(t!.isDisposed).toBe(false);
    t!.dispose();
  });

  test("outside of any scope it changes nothing", () => {
    const t = make();
    expect(t.keep()).toBe(t);
    t.dispose();
  });
});

describe("using", () => {
  test("frees at the end of the block", () => {
    let seen: FloatTensor;
    {
      using t = make();
      seen = t;
      expect(t.isDisposed).toBe(false);
    }
    expect(seen.isDisposed).toBe(true);
  });

  test("frees when the block throws", () => {
    let seen: FloatTensor | undefined;
    expect(() => {
      using t = make();
      seen = t;
      throw new Error("inside");
    }).toThrow("inside");
    expect(seen!.isDisposed).toBe(true);
  });
});

describe("async scopes", () => {
  test("end when the promise settles", async () => {
    let inner: FloatTensor | undefined;
    const result = await scope(async () => {
      inner = make();
      await sleep(1);
      expect(inner.isDisposed).toBe(false);
      return [make()];
    });
    expect(inner!.isDisposed).toBe(true);
    expect(result[0]!.isDisposed).toBe(false);
    result[0]!.dispose();
  });

  test("free everything when the promise rejects", async () => {
    const before = alive();
    const failing = scope(async () => {
      make();
      await sleep(1);
      make();
      throw new Error("later");
    });
    await expect(failing).rejects.toThrow("later");
    expect(alive()).toBe(before);
  });

  test("interleaved scopes never mix their tensors", async () => {
    const before = alive();
    const worker = (id: number): Promise<number> =>
      scope(async () => {
        const own: FloatTensor[] = [];
        for (let i = 0; i < 10; i++) {
          own.push(tensor([id], [1], device));
          await sleep((id * 7 + i) % 3);
          if (i % 3 === 0) {
            await scope(async () => {
              make();
              await sleep(1);
            });
          }
          expect(own.every((t) => !t.isDisposed)).toBe(true);
        }
        const values = await Promise.all(own.map((t) => t.item()));
        return values.reduce((a, b) => a + b);
      });
    expect(await Promise.all([1, 2, 3, 4, 5].map(worker))).toEqual([10, 20, 30, 40, 50]);
    expect(alive()).toBe(before);
  });

  test("a sync scope inside an async one frees at its own end", async () => {
    await scope(async () => {
      const before = alive();
      await sleep(1);
      scope(() => {
        make();
      });
      expect(alive()).toBe(before);
    });
  });

  test("callbacks outside of the scope do not create into it", async () => {
    let outside: FloatTensor | undefined;
    const timer = sleep(2).then(() => (outside = make()));
    await scope(async () => {
      await sleep(10);
    });
    await timer;
    expect(outside!.isDisposed).toBe(false);
    outside!.dispose();
  });
});
