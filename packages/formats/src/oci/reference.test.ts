import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { parseReference } from "./reference.ts";

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
    assert.deepEqual(parseReference("docker://alpine:3"), { transport: "docker", name: "alpine:3" });
    assert.deepEqual(parseReference("host:5000/a/b@sha256:00"), { transport: "docker", name: "host:5000/a/b@sha256:00" });
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
    const names = ["docker://", "docker:///x", "a b", "-alpine", "https://x/y", "a\nb", "a\u0000", `x${"y".repeat(5000)}`, "oci-archive:"];
    for (const text of [...bad, ...names])
      assert.throws(() => parseReference(text), { name: "OciError", code: "REFERENCE" }, JSON.stringify(text));
  });
});
