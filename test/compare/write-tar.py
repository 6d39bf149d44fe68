"""Reads layers as JSON, writes the entries of each as a tar with Python's tarfile. Text is bytes as characters."""
import base64
import io
import json
import sys
import tarfile

TYPES = {
    "file": tarfile.REGTYPE,
    "directory": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "character": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
    "fifo": tarfile.FIFOTYPE,
}
FORMATS = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT, "ustar": tarfile.USTAR_FORMAT}


def text(value):
    return value.encode("latin-1").decode("utf-8", "surrogateescape")


def write(layer):
    options = {"format": FORMATS[layer["format"]], "encoding": "utf-8", "errors": "surrogateescape"}
    with tarfile.open(layer["target"], mode="w", **options) as tar:
        for entry in layer["entries"]:
            info = tarfile.TarInfo(text(entry["path"]))
            info.type = TYPES[entry["type"]]
            info.linkname = text(entry["link"])
            info.mode, info.uid, info.gid = entry["mode"], entry["uid"], entry["gid"]
            info.devmajor, info.devminor = entry["device"]
            info.mtime = int(entry["mtime"].split(".")[0])
            content = base64.b64decode(entry["content"])
            info.size = len(content)
            if layer["format"] == "pax":
                info.pax_headers = {"mtime": entry["mtime"]}
                for name, value in entry["xattrs"].items():
                    info.pax_headers["SCHILY.xattr." + text(name)] = text(value)
            tar.addfile(info, io.BytesIO(content))


for layer in json.load(sys.stdin):
    write(layer)
