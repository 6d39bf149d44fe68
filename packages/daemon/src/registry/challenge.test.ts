import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { parseChallenges } from "./challenge.ts";

const parsed = (header: string | readonly string[] | undefined): readonly (readonly [string, Record<string, string>])[] =>
  parseChallenges(header).map(({ scheme, params }) => [scheme, Object.fromEntries(params)]);

suite("WWW-Authenticate", () => {
  const cases: readonly (readonly [string, readonly (readonly [string, Record<string, string>])[]])[] = [
    [
      'Bearer realm="https://a/t",service="s",scope="repository:x:pull"',
      [["bearer", { realm: "https://a/t", service: "s", scope: "repository:x:pull" }]],
    ],
    ['Basic realm="a, b", charset="UTF-8"', [["basic", { realm: "a, b", charset: "UTF-8" }]]],
    ["basic", [["basic", {}]]],
    ['BEARER Realm = "x" , SERVICE=y', [["bearer", { realm: "x", service: "y" }]]],
    [
      'Basic realm="x", Bearer realm="y",scope="z"',
      [
        ["basic", { realm: "x" }],
        ["bearer", { realm: "y", scope: "z" }],
      ],
    ],
    [
      'Negotiate, Basic realm="x"',
      [
        ["negotiate", {}],
        ["basic", { realm: "x" }],
      ],
    ],
    [
      'Negotiate YWJj/+==, Bearer realm="y"',
      [
        ["negotiate", {}],
        ["bearer", { realm: "y" }],
      ],
    ],
    ['Bearer realm="a\\"b\\\\c"', [["bearer", { realm: 'a"b\\c' }]]],
    [', ,Bearer realm="x",, service="y",', [["bearer", { realm: "x", service: "y" }]]],
    ['Bearer realm="x",realm="evil"', [["bearer", { realm: "x" }]]],
    ['Bearer realm="x', [["bearer", {}]]],
    ['realm="x"', []],
    ["", []],
    ["\u0000", []],
  ];
  for (const [header, challenges] of cases) {
    test(JSON.stringify(header), () => assert.deepEqual(parsed(header), challenges));
  }

  test("several lines are read one after the other", () => {
    assert.deepEqual(parsed(["Negotiate", 'Basic realm="x"']), [
      ["negotiate", {}],
      ["basic", { realm: "x" }],
    ]);
    assert.deepEqual(parsed(undefined), []);
  });

  test("any text is read in a time that grows with its length", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200 }), (text) => {
        assert.ok(parseChallenges(text).length <= 16);
      }),
    );
    const begunMs = performance.now();
    for (const piece of [",", "a ", 'a="', "a=", "a,", '\\"', "a=b,"]) parseChallenges(piece.repeat(20_000));
    assert.ok(performance.now() - begunMs < 2000);
  });
});
