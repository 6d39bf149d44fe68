import type { SimRegistry } from "../world/registry.ts";

/** Few, so that they collide. They share a layer. */
export const REGISTRY_IMAGES = ["registry.test/one", "registry.test/two"] as const;
export const IMAGES: readonly string[] = [...REGISTRY_IMAGES, "deb:fake"];

const put = (registry: SimRegistry, reference: string, version: number): void =>
  void registry.put(reference, { layers: ["a base", `${reference} ${version}`], command: ["sleep", "3600"] });

/** What is in the registry when a program begins. */
export const stock = (registry: SimRegistry): void => {
  for (const reference of IMAGES) put(registry, reference, 0);
};

/** A name leads from one content to another, and back: so a pull may find what it had before. */
export class Moves {
  readonly #versions = new Map<string, number>();

  move(registry: SimRegistry, reference: string): void {
    const version = ((this.#versions.get(reference) ?? 0) + 1) % 2;
    this.#versions.set(reference, version);
    put(registry, reference, version);
  }
}
