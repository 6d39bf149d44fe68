import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { dockerName, familiarName, parseReference } from "./reference.ts";

suite("image references", () => {
  test("a layout is a directory and perhaps a tag", () => {
    assert.deepEqual(parseReference("oci:./layout"), { transport: "oci", directory: "./layout", tag: null });
    assert.deepEqual(parseReference("oci:/a b/l:v1.0"), { transport: "oci", directory: "/a b/l", tag: "v1.0" });
    assert.deepEqual(parseReference("oci:l:docker.io/library/x:1"), { transport: "oci", directory: "l", tag: "docker.io/library/x:1" });
  });

  test("packages have versions, and the essential ones are asked for by a word", () => {
    assert.deepEqual(parseReference("deb:busybox-static"), {
      transport: "deb",
      packages: [{ name: "busybox-static", version: null }],
      essential: false,
    });
    assert.deepEqual(parseReference("deb:libstdc++6=12.2.0-14+deb12u1,g++,+essential"), {
      transport: "deb",
      packages: [
        { name: "libstdc++6", version: "12.2.0-14+deb12u1" },
        { name: "g++", version: null },
      ],
      essential: true,
    });
  });

  test("archives and names of registries are understood, whoever can fetch them", () => {
    assert.deepEqual(parseReference("oci-archive:x.tar"), { transport: "oci-archive", file: "x.tar" });
    assert.deepEqual(parseReference("docker-archive:x.tar"), { transport: "docker-archive", file: "x.tar" });
    const digest = `sha256:${"0".repeat(64)}`;
    const names: readonly [string, string, string][] = [
      ["alpine", "docker.io/library/alpine:latest", "alpine:latest"],
      ["docker://alpine:3", "docker.io/library/alpine:3", "alpine:3"],
      ["index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"],
      ["a/b:1", "docker.io/a/b:1", "a/b:1"],
      ["docker.io/localhost/x:1", "docker.io/localhost/x:1", "docker.io/localhost/x:1"],
      ["docker.io/docker.io/x/y:1", "docker.io/docker.io/x/y:1", "docker.io/docker.io/x/y:1"],
      ["library/oci:1", "docker.io/library/oci:1", "library/oci:1"],
      [`alpine@${digest}`, `docker.io/library/alpine@${digest}`, `alpine@${digest}`],
      [`localhost/x:1@${digest}`, `localhost/x:1@${digest}`, `localhost/x:1@${digest}`],
      ["127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest", "127.0.0.1:5000/a/b/c:latest"],
      ["[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"],
      ["Host/x", "Host/x:latest", "Host/x:latest"],
      ["registry.example/a__b/c--d.e", "registry.example/a__b/c--d.e:latest", "registry.example/a__b/c--d.e:latest"],
    ];
    for (const [text, name, familiar] of names) {
      const parsed = parseReference(text);
      assert.ok(parsed.transport === "docker", text);
      assert.equal(dockerName(parsed), name);
      assert.equal(familiarName(name), familiar);
      assert.deepEqual(parseReference(name), parsed, "the written-out name means the same");
    }
  });

  test("everything else is refused", () => {
    const bad = [
      "",
      "oci:",
      "oci::tag",
      "oci:dir:",
      "oci:dir:a b",
      "deb:",
      "deb:+essential",
      "deb:a,a",
      "deb:-x",
      "deb:Upper",
      "deb:x=",
      "deb:x=-1",
      "deb:xy;id",
    ];
    const names = [
      ...["docker://x:", "x:-a", "x@sha256:00", "x@md5:00", "a//b", "a/B", "host:port/x", "x_-y", "y".repeat(256)],
      ...["docker://", "docker:///x", "a b", "-alpine", "https://x/y", "a\nb", "a\u0000", `x${"y".repeat(5000)}`, "oci-archive:"],
    ];
    for (const text of [...bad, ...names])
      assert.throws(() => parseReference(text), { name: "OciError", code: "REFERENCE" }, JSON.stringify(text));
  });
});
