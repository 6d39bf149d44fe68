/**
 * The test files that take longest, in the order in which they begin, so that no stage ends with one of them alone. What takes how
 * long, `npm test` says at its end.
 */
export const LONGEST: readonly string[] = [
  // parallel
  "test/compare/compare.slow.test.ts",
  "packages/formats/src/ext4/read/features.slow.test.ts",
  "test/fixtures/image-push.slow.test.ts",
  "test/fuzz/fuzz.slow.test.ts",
  "test/compare/determinism.slow.test.ts",
  "packages/daemon/src/content/kernel-directory.test.ts",
  "packages/daemon/src/host/apt.test.ts",
  "test/fixtures/images.slow.test.ts",
  "packages/formats/src/ext4/large.slow.test.ts",
  "packages/cli/src/images.test.ts",
  "packages/cli/src/cli.test.ts",
  "packages/daemon/src/agent/agent-build.test.ts",
  // guests
  "test/e2e/crash-matrix.test.ts",
  "test/e2e/crash.test.ts",
  "test/e2e/preboot.test.ts",
  "test/e2e/derived-images.test.ts",
  "test/e2e/first-run.test.ts",
  "test/e2e/network.test.ts",
  "test/e2e/registry.test.ts",
  "test/e2e/hostile-guest.test.ts",
  "packages/daemon/src/vmm/qemu/qemu.contract.test.ts",
  "test/e2e/two-processes.test.ts",
  "test/e2e/doctor.test.ts",
  "test/compare/kernels.guest.test.ts",
  "test/e2e/naming.test.ts",
  "test/e2e/docs.test.ts",
];
