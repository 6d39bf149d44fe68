"""Lists tars that come on standard input, each after its length; one line of JSON for each."""
import io
import json
import os
import struct
import sys
import tarfile


def text(name):
    return os.fsencode(name).decode("latin-1")


def listing(data):
    members = []
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
            for member in tar:
                members.append(
                    [text(member.name), member.type.decode("latin-1"), text(member.linkname), member.size, member.mode, member.uid, member.gid]
                )
    except Exception as error:  # whatever it is, it is what this reader says
        return {"members": members, "error": type(error).__name__}
    return {"members": members, "error": None}


while True:
    head = sys.stdin.buffer.read(4)
    if len(head) < 4:
        break
    (length,) = struct.unpack("<I", head)
    answer = json.dumps(listing(sys.stdin.buffer.read(length)))
    sys.stdout.write(answer + "\n")
    sys.stdout.flush()
