import { describe, expect, test } from "@jest/globals";

import { ConfigError } from "../../lib/errors.js";
import { type GateName, gateNames, gateOf, gates } from "../../lib/moe/gates.js";

describe("gateOf", () => {
  test("finds named gates and takes rows as they are", () => {
    expect(gateNames.map(gateOf)).toEqual(Object.values(gates));
    const own = { ...gates.smoe, balance: { weight: 0.1, perToken: true } };
    expect(gateOf(own)).toBe(own);
  });

  test("an unknown name suggests one, or lists all", () => {
    expect(() => gateOf("hyper_router" as GateName)).toThrow(ConfigError);
    expect(() => gateOf("hyper_router" as GateName)).toThrow('did you mean "hyper-router"?');
    expect(() => gateOf("x" as GateName)).toThrow(`use one of ${gateNames.join(", ")}`);
  });
});
