// Run under a limit on processes: more threads than the system grants are an error, not the end of the process.
import { openDevice } from "../../../lib/device.js";
import { tensor } from "../../../lib/tensor.js";

const device = openDevice("cpu", { threads: 1 });
const refused = [
  (): unknown => openDevice("cpu", { threads: 200 }),
  (): void => {
    device.setThreads(200);
  },
].map((attempt) => {
  try {
    attempt();
    return "granted";
  } catch (error) {
    return error instanceof Error ? error.name : "?";
  }
});
console.log(JSON.stringify({ refused, sum: [...(await tensor([1, 2], [2], device).data())] }));
