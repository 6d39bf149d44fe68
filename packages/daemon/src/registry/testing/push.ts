/** Fills a registry by its own HTTP API, with no code of the product. */
import assert from "node:assert/strict";
import { MEDIA_TYPES } from "@kiln/formats/oci";
import { digestOf, type TestImage } from "./pulling.ts";

export interface PushTarget {
  /** `http://host:port` */
  readonly url: string;
  readonly repository: string;
  /** Of the login, where there is one. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** Pushes blobs and manifest under a tag. */
export const pushImage = async (target: PushTarget, tag: string, image: TestImage): Promise<void> => {
  const { url, repository, headers = {} } = target;
  for (const [digest, bytes] of image.blobs) {
    if (digest === image.digest) continue;
    const begun = await fetch(`${url}/v2/${repository}/blobs/uploads/`, { method: "POST", headers });
    assert.equal(begun.status, 202);
    const place = new URL(begun.headers.get("location") ?? "", url);
    place.searchParams.set("digest", digest);
    const body = new Uint8Array(bytes);
    const put = await fetch(place, { method: "PUT", headers: { ...headers, "content-type": "application/octet-stream" }, body });
    assert.equal(put.status, 201);
  }
  await pushManifest(target, tag, { mediaType: MEDIA_TYPES.manifest, bytes: image.manifest });
};

export const pushManifest = async (
  { url, repository, headers = {} }: PushTarget,
  reference: string,
  { mediaType, bytes }: { readonly mediaType: string; readonly bytes: Buffer },
): Promise<void> => {
  const answer = await fetch(`${url}/v2/${repository}/manifests/${reference}`, {
    method: "PUT",
    headers: { ...headers, "content-type": mediaType },
    body: new Uint8Array(bytes),
  });
  assert.equal(answer.status, 201, await answer.text());
  assert.equal(answer.headers.get("docker-content-digest"), digestOf(bytes));
};
