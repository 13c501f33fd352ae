// Loads the addon that HYPERROUTER_BINDING names and prints how that went.
import type { HyperRouterError } from "../../../lib/errors.js";
import { native } from "../../../lib/native.js";

try {
  native();
  console.log("loaded");
} catch (error) {
  const { name, reason, fix } = error as HyperRouterError;
  console.log(`${name}\n${reason}\n${fix}`);
}
