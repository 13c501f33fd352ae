// Three projects, one for each addon: `cpu` runs everything that needs no CUDA backend, `emulated` and `cuda` run what
// must hold on a GPU. A project whose addon is not here is left out; test/cuda-addons.test.ts says why.
import { cudaAddons } from "./scripts/cuda-addons.mjs";

const common = {
  testEnvironment: "node",
  modulePathIgnorePatterns: ["<rootDir>/build/", "<rootDir>/dist/"],
  extensionsToTreatAsEsm: [".ts"],
  transform: { "\\.ts$": "<rootDir>/scripts/jest-transform.mjs" },
  moduleNameMapper: { "^(\\.{1,2}/.*)\\.js$": "$1" },
  moduleFileExtensions: ["ts", "js", "mjs", "cjs", "json", "node"],
  setupFiles: ["<rootDir>/scripts/jest-setup.mjs"],
};

const onCuda = ["<rootDir>/test/cuda/**/*.test.ts", "<rootDir>/test/golden-parity-*.test.ts"];
const addons = cudaAddons();

export default {
  projects: [
    {
      ...common,
      displayName: "cpu",
      testMatch: ["<rootDir>/test/**/*.test.ts"],
      testPathIgnorePatterns: ["<rootDir>/test/(cuda|emulator)/"],
      globals: { hyperrouterTest: { addons } },
    },
    ...addons
      .filter(({ missing }) => missing === "")
      .map(({ name, binding }) => ({
        ...common,
        displayName: name,
        testMatch: name === "emulated" ? [...onCuda, "<rootDir>/test/emulator/**/*.test.ts"] : onCuda,
        globals: { hyperrouterTest: { binding } },
      })),
  ],
  maxWorkers: 2,
  testTimeout: 120_000,
};
