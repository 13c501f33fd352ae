import { describe, expect, test } from "@jest/globals";
import { openDevice } from "../lib/device.js";
import { DisposedTensorError, DTypeError, ShapeError, ValueError } from "../lib/errors.js";
import { axpby, cast, fill } from "../lib/ops/elementwise.js";
import { clone, concatRows, reshape, rows } from "../lib/ops/view.js";
import { scope } from "../lib/scope.js";
import { empty, emptyLike, indices, tensor, zeros } from "../lib/tensor.js";

const device = openDevice("cpu", { threads: 2 });

/** Tensors that are alive, on all devices of this process. */
const alive = (): number => device.memoryStats().tensors;

describe("creation", () => {
  test("values go in and come out in row-major order", async () => {
    const t = tensor([1, 2, 3, 4, 5, 6], [2, 3], device);
    expect(t).toMatchObject({ shape: [2, 3], size: 6, dtype: "f32", isView: false });
    expect(await t.data()).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
    expect(t.dataSync()).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
    t.dispose();
  });

  test("the reference device holds float64", () => {
    const t = tensor([0.1], [1], openDevice("reference"));
    expect(t.dtype).toBe("f64");
    expect(t.dataSync()).toEqual(Float64Array.of(0.1));
    t.dispose();
  });

  test("zeros, indices and copies", () => {
    scope(() => {
      expect(zeros([2, 2], device).dataSync()).toEqual(new Float32Array(4));
      const ids = indices([3, -1, 2147483647], [3], device);
      expect(ids.dataSync()).toEqual(Int32Array.of(3, -1, 2147483647));
      expect(clone(ids).dataSync()).toEqual(ids.dataSync());
      expect(emptyLike(ids)).toMatchObject({ shape: [3], dtype: "i32", device });
    });
  });

  test("poisoned memory is NaN until it is written", () => {
    const t = empty("f32", [3], openDevice("cpu", { poison: true, threads: 1 }));
    expect(t.dataSync()).toEqual(Float32Array.of(NaN, NaN, NaN));
    t.dispose();
  });

  test("as many values as elements", () => {
    const cause = /tensor: 3 values do not fill shape \[2, 2\] of 4 elements\n {2}fix: pass as many values/;
    expect(() => tensor([1, 2, 3], [2, 2], device)).toThrow(ShapeError);
    expect(() => tensor([1, 2, 3], [2, 2], device)).toThrow(cause);
    expect(() => indices([1, 2, 3], [2, 2], device)).toThrow(cause);
  });

  test.each([1.5, NaN, 2147483648, -2147483649])("indices refuse %p", (value) => {
    expect(() => indices([0, value], [2], device)).toThrow(ValueError);
    expect(() => indices([0, value], [2], device)).toThrow(
      `values[1] is ${value}, which is no 32-bit integer`,
    );
  });

  test.each([[[]], [[0]], [[2, 0]], [[-1]], [[1.5]], [[NaN]], [[1, 1, 1, 1, 1, 1, 1]]])(
    "shape %p is refused",
    (shape) => {
      expect(() => empty("f32", shape, device)).toThrow(ValueError);
    },
  );

  test("an unknown dtype is refused", () => {
    expect(() => empty("f8" as "f32", [1], device)).toThrow(DTypeError);
    expect(() => empty("f8" as "f32", [1], device)).toThrow(
      '"f8" is not a dtype; expected f32, f64, bf16, f16 or i32',
    );
  });
});

describe("set", () => {
  test("copies the array before it returns", () => {
    const t = zeros([3], device);
    const values = Float32Array.of(1, 2, 3);
    t.set(values);
    values.fill(9);
    expect(t.dataSync()).toEqual(Float32Array.of(1, 2, 3));
    t.dispose();
  });

  test("takes the typed array of its dtype and size only", () => {
    scope(() => {
      const t = zeros([2], device);
      const wrong = (values: unknown) => () => t.set(values as Float32Array);
      expect(wrong(new Float32Array(3))).toThrow(ShapeError);
      expect(wrong(new Float64Array(1))).toThrow(DTypeError);
      expect(wrong(new Int32Array(2))).toThrow('"values" is not the typed array of dtype f32');
      expect(wrong(new Uint8Array(8))).toThrow(DTypeError);
      expect(wrong([1, 2])).toThrow(ValueError);
      expect(t.dataSync()).toEqual(new Float32Array(2));
      const half = cast(t, "bf16");
      half.set(Uint16Array.of(0x3f80, 0xc000));
      expect(cast(half, "f32").dataSync()).toEqual(Float32Array.of(1, -2));
    });
  });
});

describe("item", () => {
  test("reads the only element", async () => {
    const t = tensor([2.5], [1], device);
    expect(await t.item()).toBe(2.5);
    t.dispose();
  });

  test("refuses more than one", async () => {
    const t = zeros([2], device);
    await expect(t.item()).rejects.toThrow("item: the tensor has shape [2], expected one element");
    t.dispose();
  });
});

describe("views", () => {
  test("share memory with their base and outlive it", () => {
    const base = tensor([0, 1, 2, 3, 4, 5], [6], device);
    const view = base.view([2, 2], 1);
    fill(view, 9);
    expect(base.dataSync()).toEqual(Float32Array.of(0, 9, 9, 9, 9, 5));
    const live = device.memoryStats().liveBytes;
    base.dispose();
    expect(device.memoryStats().liveBytes).toBe(live);
    expect(view.dataSync()).toEqual(Float32Array.of(9, 9, 9, 9));
    expect(view.isView).toBe(true);
    view.dispose();
    expect(device.memoryStats().liveBytes).toBeLessThan(live);
  });

  test("reshape, rows and concatRows", () => {
    scope(() => {
      const t = tensor([1, 2, 3, 4, 5, 6], [3, 2], device);
      expect(reshape(t, [2, 3]).shape).toEqual([2, 3]);
      expect(rows(t, 1, 3).dataSync()).toEqual(Float32Array.of(3, 4, 5, 6));
      expect(rows(rows(t, 1, 3), 1, 2).dataSync()).toEqual(Float32Array.of(5, 6));
      const joined = concatRows([rows(t, 2, 3), t, rows(t, 0, 1)]);
      expect(joined).toMatchObject({ shape: [5, 2] });
      expect(joined.dataSync()).toEqual(Float32Array.of(5, 6, 1, 2, 3, 4, 5, 6, 1, 2));
      const ids = concatRows([indices([1], [1], device), indices([2, 3], [2], device)]);
      expect(ids.dataSync()).toEqual(Int32Array.of(1, 2, 3));
    });
  });

  test("refuse what does not fit", () => {
    scope(() => {
      const t = zeros([3, 2], device);
      expect(() => t.view([4], 3)).toThrow(
        "a view of shape [4] from element 3 does not fit in a tensor of shape [3, 2]",
      );
      expect(() => t.view([1], -1)).toThrow(ShapeError);
      expect(() => t.view([1], 6)).toThrow(ShapeError);
      expect(() => reshape(t, [4])).toThrow(
        "[3, 2] does not reshape to [4]\n  fix: use a shape with 6 elements",
      );
      for (const [begin, end] of [
        [0, 4],
        [-1, 2],
        [2, 2],
        [2, 1],
        [0.5, 2],
        [NaN, 1],
      ] as const) {
        expect(() => rows(t, begin, end)).toThrow(ShapeError);
      }
      expect(() => concatRows([])).toThrow("there is nothing to concatenate");
      expect(() => concatRows([t, zeros([3, 3], device)])).toThrow("[3, 3] cannot be stacked on [3, 2]");
    });
  });

  test("of one memory cannot be input and output of an op", () => {
    scope(() => {
      const base = zeros([6], device);
      expect(() => {
        axpby(1, base.view([4], 0), 1, base.view([4], 2));
      }).toThrow(/"out" shares memory with "x"/);
    });
  });
});

describe("dispose", () => {
  test("frees once, whoever calls it and however often", () => {
    const before = alive();
    const t = zeros([10], device);
    expect(alive()).toBe(before + 1);
    expect(t.isDisposed).toBe(false);
    t.dispose();
    t.dispose();
    expect(t.isDisposed).toBe(true);
    expect(alive()).toBe(before);
  });

  test("afterwards every use is a DisposedTensorError", async () => {
    const t = zeros([2, 5], device);
    t.dispose();
    const uses = [
      () => t.handle,
      () => t.view([1]),
      () => t.dataSync(),
      () => t.set(new Float32Array(10)),
      () => clone(t),
    ];
    for (const use of uses) expect(use).toThrow(DisposedTensorError);
    await expect(t.data()).rejects.toThrow(
      /f32 tensor \[2, 5\] .* was freed, by dispose\(\) or when its scope ended/,
    );
  });

  test("does not disturb what is queued, or a read that is under way", async () => {
    const t = tensor([1, 2], [2], device);
    const copy = clone(t);
    const read = t.data();
    t.dispose();
    const other = tensor([7, 8], [2], device);
    expect(await read).toEqual(Float32Array.of(1, 2));
    expect(await copy.data()).toEqual(Float32Array.of(1, 2));
    copy.dispose();
    other.dispose();
  });
});
