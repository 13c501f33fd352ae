// One TypeScript file to JavaScript, without type checks: for jest and for running bench/ and examples/.
import ts from "typescript";

const compilerOptions = {
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.ESNext,
  verbatimModuleSyntax: true,
  inlineSourceMap: true,
  inlineSources: true,
};

export function transpile(source, fileName) {
  return ts.transpileModule(source, { fileName, compilerOptions }).outputText;
}
