import { defineConfig } from "eslint/config";
import tseslint from "typescript-eslint";

const coreRules = {
  eqeqeq: ["error", "always", { null: "ignore" }],
  "no-var": "error",
  "object-shorthand": "error",
  "prefer-const": "error",
};

export default defineConfig(
  { ignores: ["build/", "dist/", "coverage/", "docs/", "runs/", ".cache/", "lib/native-ops.gen.ts"] },
  { linterOptions: { reportUnusedDisableDirectives: "error" }, rules: coreRules },
  { files: ["**/*.js", "**/*.mjs"], rules: { "no-unused-vars": "error" } },
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { project: "./tsconfig.json", tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/consistent-type-imports": ["error", { fixStyle: "separate-type-imports" }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      // Loops over shapes and typed arrays know their bounds; noUncheckedIndexedAccess does not.
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/no-unnecessary-condition": ["error", { allowConstantLoopConditions: true }],
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      // An interface may ask for a promise of what is at hand.
      "@typescript-eslint/require-await": "off",
      "@typescript-eslint/restrict-template-expressions": [
        "error",
        { allowNumber: true, allowBoolean: true },
      ],
      "@typescript-eslint/switch-exhaustiveness-check": [
        "error",
        { considerDefaultExhaustiveForUnions: true },
      ],
    },
  },
);
