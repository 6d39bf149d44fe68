import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { proxyFor } from "./proxies.ts";

const proxy = (url: string, env: Record<string, string>): string | null => proxyFor(new URL(url), env);
const PROXY = "http://proxy:3128";

suite("the proxy of an address", () => {
  test("is the one of its scheme, in lower case first, else the one for all", () => {
    assert.equal(proxy("https://r/", {}), null);
    assert.equal(proxy("https://r/", { HTTPS_PROXY: PROXY }), PROXY);
    assert.equal(proxy("http://r/", { HTTPS_PROXY: PROXY }), null);
    assert.equal(proxy("http://r/", { HTTP_PROXY: PROXY }), PROXY);
    assert.equal(proxy("https://r/", { HTTPS_PROXY: "http://upper", https_proxy: "http://lower" }), "http://lower");
    assert.equal(proxy("https://r/", { ALL_PROXY: "socks5://proxy:1080" }), "socks5://proxy:1080");
    assert.equal(proxy("https://r/", { HTTPS_PROXY: "proxy:3128" }), PROXY);
    assert.equal(proxy("https://r/", { HTTPS_PROXY: "", ALL_PROXY: "" }), null);
  });

  test("the loopback has none", () => {
    for (const host of ["localhost", "127.0.0.1:5000", "[::1]:5000"])
      assert.equal(proxy(`http://${host}/`, { HTTP_PROXY: PROXY, HTTPS_PROXY: PROXY }), null);
  });

  const exempt: readonly (readonly [string, string, boolean])[] = [
    ["*", "https://r.example/", true],
    ["example", "https://r.example/", true],
    [".example", "https://r.example/", true],
    ["*.example", "https://r.example/", true],
    ["r.example", "https://r.example/", true],
    ["R.Example.", "https://r.example/", true],
    ["ample", "https://r.example/", false],
    ["x.r.example", "https://r.example/", false],
    ["a, example ,b", "https://r.example/", true],
    ["r.example:443", "https://r.example/", true],
    ["r.example:5000", "https://r.example/", false],
    ["r.example:5000", "https://r.example:5000/", true],
    ["10.0.0.0/8", "http://10.1.2.3/", true],
    ["10.0.0.0/8", "http://11.1.2.3/", false],
    ["10.1.2.3", "http://10.1.2.3:5000/", true],
    ["1.2.3", "http://10.1.2.3/", false],
    ["fd00::/8", "http://[fd00::1]/", true],
    ["[fd00::1]:80", "http://[fd00::1]/", true],
    ["10.0.0.0/99", "http://10.1.2.3/", false],
    ["", "https://r.example/", false],
  ];
  for (const [noProxy, url, isExempt] of exempt) {
    test(`NO_PROXY=${JSON.stringify(noProxy)} ${isExempt ? "exempts" : "does not exempt"} ${url}`, () => {
      const env = { ALL_PROXY: PROXY };
      assert.equal(proxy(url, { ...env, NO_PROXY: noProxy }), isExempt ? null : PROXY);
      assert.equal(proxy(url, { ...env, no_proxy: noProxy }), isExempt ? null : PROXY);
    });
  }

  test("a value that is no address is an error that does not repeat it", () => {
    for (const value of ["http://user:secret@", "ftp://secret", "http://[secret"]) {
      assert.throws(
        () => proxy("https://r/", { HTTPS_PROXY: value }),
        (error: Error) => /HTTPS_PROXY/.test(error.message) && !error.message.includes("secret"),
      );
    }
  });
});
