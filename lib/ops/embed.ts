import { record } from "../autograd/tape.js";
import { native } from "../native.js";
import { empty, type FloatTensor, type IndexTensor, type Shape } from "../tensor.js";
import { expectRank, rowsOf } from "./view.js";

/**
 * `scale · table[id - firstId]` for each id. Ids of other clusters (outside the table, below `vocabSize`) give
 * zero rows.
 *
 * @param ids Any shape, i32. An id outside `0 .. vocabSize - 1` is a `ValueError`, reported where a result is read.
 * @param table `[rows, width]`.
 * @returns `[...ids.shape, width]`.
 */
export function embed(
  ids: IndexTensor,
  table: FloatTensor,
  options: { scale?: number; firstId?: number; vocabSize?: number } = {},
): FloatTensor {
  expectRank("embed", "table", table, 2);
  const [numRows = 0, width = 0] = table.shape;
  const { scale = 1, firstId = 0, vocabSize = numRows } = options;
  const flatIds = ids.view([ids.size]);
  const out = empty(table.device.float, [...ids.shape, width] as Shape, table.device);
  native().ops.embed(flatIds.handle, table.handle, rowsOf(out).handle, firstId, vocabSize, scale);
  record([table], [out], (gradients) => {
    const dOut = gradients.of(out);
    if (!dOut || !gradients.wants(table)) return;
    const dTable = gradients.accumulator(table);
    native().ops.embedBackward(rowsOf(dOut).handle, flatIds.handle, dTable.handle, firstId, scale);
  });
  return out;
}
