// Fails when lib/native-ops.gen.ts differs from what the built addon says of itself.
import { readStamp } from "./stamp.mjs";
import { expectedText, generatedFile } from "./gen-native-ops.mjs";

if (readStamp(generatedFile) !== (await expectedText())) {
  console.log("lib/native-ops.gen.ts is out of date with the ops of the addon.");
  process.exitCode = 1;
}
