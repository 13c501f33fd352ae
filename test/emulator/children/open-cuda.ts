// Prints why the device cannot be opened.
import { openDevice } from "../../../lib/device.js";

try {
  console.log(openDevice("cuda").description);
} catch (error) {
  console.log((error as Error).message);
}
