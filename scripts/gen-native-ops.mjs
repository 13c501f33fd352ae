// npm run gen: writes lib/native-ops.gen.ts, the types of the addon's ops, from what the addon says of itself.
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { isMain, main, root } from "./command.mjs";

export const generatedFile = join(root, "lib", "native-ops.gen.ts");

const camelCase = (name) => name.replace(/_([a-z0-9])/g, (_, letter) => letter.toUpperCase());

function parameter({ name, kind, optional, type }) {
  const types = {
    tensor: optional ? "Handle | null" : "Handle",
    integer: "number",
    number: "number",
    boolean: "boolean",
  };
  return `${camelCase(name)}: ${kind === "enum" ? type : types[kind]}`;
}

/** Which tensors an op writes, as one sentence. */
function effects(params) {
  const names = (access) =>
    params.filter((param) => param.access === access).map(({ name }) => camelCase(name));
  const [written, updated] = [names("out").join(", "), names("inout").join(", ")];
  if (!updated) return `Writes ${written}.`;
  return written ? `Writes ${written}; updates ${updated}.` : `Updates ${updated}.`;
}

/** The TypeScript text for the value of `describeOps()`. */
export async function generate(ops) {
  const enums = new Map(
    ops
      .flatMap(({ params }) => params)
      .filter(({ kind }) => kind === "enum")
      .map((e) => [e.type, e.values]),
  );
  const types = [...enums].map(
    ([type, values]) => `export type ${type} = ${values.map((v) => `"${v}"`).join(" | ")};`,
  );
  const methods = ops.map(
    ({ name, params }) =>
      `/** ${effects(params)} */\n${camelCase(name)}(${params.map(parameter).join(", ")}): void;`,
  );
  const text = [
    "// Generated from the addon's op table by `npm run gen`. Do not edit.",
    'import type { Handle } from "./native.js";',
    "",
    ...types,
    "",
    "/** The ops of the addon, arguments in wire order. Shapes and meaning: ops/*.h. */",
    `export interface NativeOps {\n${methods.join("\n\n")}\n}`,
  ].join("\n");
  const { format, resolveConfig } = await import("prettier");
  return format(text, { ...(await resolveConfig(generatedFile)), parser: "typescript" });
}

/** The text that lib/native-ops.gen.ts must hold. Needs the built addon. */
export function expectedText() {
  const addon = createRequire(import.meta.url)(join(root, "build", "Release", "hyperrouter.node"));
  return generate(addon.describeOps());
}

if (isMain(import.meta.url)) {
  await main(async () => {
    const { buildNative } = await import("./build-native.mjs");
    const { withLock } = await import("./stamp.mjs");
    withLock(() => buildNative());
    writeFileSync(generatedFile, await expectedText());
  });
}
