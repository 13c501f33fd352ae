// jest's realm on Node 20 and 22 lacks the symbols that `using` compiles to; take those of the main realm.
import vm from "node:vm";

for (const name of ["dispose", "asyncDispose"]) {
  if (!(name in Symbol))
    Object.defineProperty(Symbol, name, { value: vm.runInThisContext(`Symbol.${name}`) });
}
