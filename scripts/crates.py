#!/usr/bin/env python3
"""usage: crates.py licences|bom TARGET

Of the crates that go into sealift for the target (a triple, such as x86_64-unknown-linux-gnu), as Cargo.lock fixes them, build
scripts and tests left out:
  licences   prints which licence each is under, and the text of every licence, each once
  bom        prints an SBOM, CycloneDX 1.6, with versions, checksums and who needs whom
The same Cargo.lock gives the same answer; SOURCE_DATE_EPOCH is the time in a bill (default 0).
"""

import datetime
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import urllib.parse
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXTS = re.compile(r"(licen[sc]e|copying|notice|copyright|unlicense)", re.IGNORECASE)
NO_TEXTS = re.compile(r"\.(rs|c|h|py|go|json|toml|yml|yaml|html|sh)$", re.IGNORECASE)
LINE = "=" * 79


def crates(target):
    """The packages that end up in the binary, sealift first, then by name; and of each which others it needs."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root, needs, todo = metadata["resolve"]["root"], {}, [metadata["resolve"]["root"]]
    while todo:
        crate = todo.pop()
        if crate in needs:
            continue
        normal = [one["pkg"] for one in nodes[crate]["deps"] if any(kind["kind"] is None for kind in one["dep_kinds"])]
        # what a macro needs runs while compiling
        needs[crate] = [one for one in normal if not is_macro(packages[one])]
        todo += needs[crate]
    order = sorted(needs, key=lambda crate: (crate != root, packages[crate]["name"], packages[crate]["version"]))
    return [packages[crate] for crate in order], needs


def is_macro(package):
    return any("proc-macro" in target["kind"] for target in package["targets"])


def licence(package):
    """SPDX's way of writing it: some crates still write a slash for OR."""
    return re.sub(r"\s*/\s*", " OR ", package["license"] or "NOASSERTION")


def texts(package):
    """The texts of licences that a crate brings, those of C code in it too, by their path in it."""
    root, found = pathlib.Path(package["manifest_path"]).parent, {}
    for directory, below, files in os.walk(root):
        below[:] = sorted(one for one in below if one not in ("tests", "benches", "examples", "target", ".git"))
        for name in sorted(files):
            if TEXTS.match(name) and not NO_TEXTS.search(name):
                path = pathlib.Path(directory, name)
                text = path.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n").strip("\n")
                if text.strip():
                    found[str(path.relative_to(root))] = text
    return found


def licences(target):
    packages, _ = crates(target)
    out, where, text_of = [], {}, {}
    for package in packages[1:]:
        name = f"{package['name']} {package['version']}"
        brought = texts(package)
        note = "" if brought else "  (brings no text: those of its licences below, by " + (", ".join(package["authors"]) or "its authors") + ")"
        out.append(f"{name}: {licence(package)}{note}")
        for path, text in brought.items():
            key = " ".join(text.split())
            text_of.setdefault(key, text)
            where.setdefault(key, []).append(f"{name} ({path})")
    print(f"sealift contains {len(out)} crates of others, under these licences:\n\n" + "\n".join(out))
    for key, text in text_of.items():
        print(f"\n{LINE}\n" + "\n".join(where[key]) + f"\n{LINE}\n\n{text}")


def purl(package):
    return f"pkg:cargo/{package['name']}@{urllib.parse.quote(package['version'])}"


def component(package, kind, checksums):
    name, version = package["name"], package["version"]
    made = {"type": kind, "bom-ref": purl(package), "name": name, "version": version}
    if package["description"]:
        made["description"] = " ".join(package["description"].split())
    if (name, version) in checksums:
        made["hashes"] = [{"alg": "SHA-256", "content": checksums[name, version]}]
    made["licenses"] = [{"expression": licence(package)}]
    made["purl"] = purl(package)
    links = [("website", package["homepage"]), ("vcs", package["repository"]), ("documentation", package["documentation"])]
    links = [{"type": kind, "url": url} for kind, url in links if url]
    return made | ({"externalReferences": links} if links else {})


def bom(target):
    packages, needs = crates(target)
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    checksums = {(one["name"], one["version"]): one["checksum"] for one in lock["package"] if "checksum" in one}
    made = datetime.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), datetime.UTC)
    refs = {package["id"]: purl(package) for package in packages}
    bill = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": component(packages[0], "application", checksums),
            "properties": [{"name": "cargo:target", "value": target}],
        },
        "components": [component(package, "library", checksums) for package in packages[1:]],
        "dependencies": [{"ref": refs[package["id"]], "dependsOn": sorted({refs[one] for one in needs[package["id"]]})} for package in packages],
    }
    digest = hashlib.sha256(json.dumps(bill, sort_keys=True).encode()).hexdigest()
    bill["serialNumber"] = f"urn:uuid:{uuid.UUID(digest[:32], version=4)}"
    print(json.dumps(bill, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__.strip())
        sys.exit()
    if len(sys.argv) != 3 or sys.argv[1] not in ("licences", "bom"):
        sys.exit(__doc__.strip())
    {"licences": licences, "bom": bom}[sys.argv[1]](sys.argv[2])
