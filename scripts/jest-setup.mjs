import vm from "node:vm";

// jest's realm on Node 20 and 22 lacks the symbols that `using` compiles to; take those of the main realm.
for (const name of ["dispose", "asyncDispose"]) {
  if (!(name in Symbol))
    Object.defineProperty(Symbol, name, { value: vm.runInThisContext(`Symbol.${name}`) });
}

// The addon of the project (jest.config.js).
const { binding } = globalThis.hyperrouterTest;
if (binding !== undefined) process.env.HYPERROUTER_BINDING ??= binding;
