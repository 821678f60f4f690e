#!/usr/bin/env python3
"""usage: container-images.py KUBERNETES OUT

Makes the container images that our cluster images run, as one OCI layout directory OUT, without a container engine: the control
plane from the programs in the directory KUBERNETES (of kubernetes-from-debian.sh), etcd, kube-proxy's tools, DNS, the pod network and
the demo from Debian's packages (of debian-parts.sh). Every image has the name that kubeadm or a manifest calls it by. The
same programs give the same digests. Kept under the cache by the checksum of all that goes in; the second time takes a second.
"""

import concurrent.futures
import fcntl
import hashlib
import io
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tarfile
import zlib

HERE = pathlib.Path(__file__).resolve().parent
KUBEFILES = HERE.parent / "kubefiles"
MEMBER = 1 << 20  # bytes in one gzip member; members are compressed side by side and read back as one stream
CREATED = "1970-01-01T00:00:00Z"
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


class Parts:
    """The unpacked Debian packages: where a path leads, and which libraries a program needs."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        machine = f"{os.uname().machine}-linux-gnu"
        self.libraries = [f"lib/{machine}", f"usr/lib/{machine}", "lib", "usr/lib"]
        versions = (self.root / "parts/versions").read_text().split("\n")
        self.versions = dict(line.split(" ") for line in versions if line)

    def find(self, path):
        """The path below the root, links followed as if the root were `/`."""
        here = self.root / path.lstrip("/")
        for _ in range(40):
            if not here.is_symlink():
                break
            target = os.readlink(here)
            here = self.root / target.lstrip("/") if target.startswith("/") else here.parent / target
        if not here.exists():
            sys.exit(f"container-images.py: no {path} in Debian's packages ({self.root})")
        return here

    def library(self, name):
        """Where the dynamic linker would find a library."""
        for directory in self.libraries:
            if (self.root / directory / name).exists():
                return f"{directory}/{name}"
        sys.exit(f"container-images.py: no library {name} in Debian's packages ({self.root})")

    def closure(self, path):
        """Every file that a program needs to start, itself and the dynamic linker too: paths below the root."""
        found, todo = set(), [path.lstrip("/")]
        while todo:
            here = todo.pop()
            if here in found:
                continue
            found.add(here)
            interpreter, needed = elf_needs(self.find(here).read_bytes())
            todo += [self.library(name) for name in needed]
            todo += [interpreter.lstrip("/")] if interpreter else []
        return found


def elf_needs(data):
    """The dynamic linker and the libraries that a 64-bit ELF file names (System V ABI, program headers and dynamic section)."""
    if data[:5] != b"\x7fELF\x02":
        return None, []
    offset, = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", data, offset + size * i) for i in range(count)]
    interpreter = next((text_at(data, h[2]) for h in headers if h[0] == 3), None)
    dynamic = next((h for h in headers if h[0] == 2), None)
    if dynamic is None:
        return interpreter, []
    entries = [struct.unpack_from("<QQ", data, dynamic[2] + at) for at in range(0, dynamic[5], 16)]
    names = dict(entries).get(5)
    load = next((h for h in headers if h[0] == 1 and h[3] <= names < h[3] + h[5]), None)
    return interpreter, [text_at(data, load[2] + names - load[3] + value) for tag, value in entries if tag == 1]


def text_at(data, offset):
    return data[offset : data.index(b"\0", offset)].decode()


class Image:
    """One layer with files, and how the container starts."""

    def __init__(self, parts, entrypoint=None, command=None):
        self.parts, self.entrypoint, self.command = parts, entrypoint, command
        self.entries = {"tmp": ("directory", 0o1777)}

    def put(self, path, content, mode=0o755):
        """A file from bytes or from a file of this machine."""
        content = content if isinstance(content, bytes) else pathlib.Path(content).read_bytes()
        self.entries[path.lstrip("/")] = ("file", mode, content)
        return self

    def link(self, path, target):
        self.entries[path.lstrip("/")] = ("link", target)
        return self

    def debian(self, *paths):
        """Programs or libraries of Debian at their own places, with all they need."""
        for path in paths:
            for file in self.parts.closure(path):
                self.put(file, self.parts.find(file))
        return self

    def busybox(self, *applets):
        self.put("bin/busybox", self.parts.find("bin/busybox"))
        for applet in applets:
            self.link(f"bin/{applet}", "busybox")
        return self

    def iptables(self):
        """The nft variant of iptables, Debian's own default, with its extensions."""
        extensions = f"{self.parts.libraries[1]}/xtables"
        self.debian("usr/sbin/xtables-nft-multi", *(f"{extensions}/{name}" for name in sorted(os.listdir(self.parts.root / extensions))))
        for family in ("iptables", "ip6tables"):
            for suffix in ("", "-save", "-restore"):
                self.link(f"usr/sbin/{family}{suffix}", "xtables-nft-multi")
        return self

    def tar(self):
        """The layer: sorted, with all parent directories, owned by root, as old as the epoch."""
        entries = dict(self.entries)
        for path in self.entries:
            for parent in list(pathlib.PurePosixPath(path).parents)[:-1]:
                entries.setdefault(str(parent), ("directory", 0o755))
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(entries):
                add(tar, path, *entries[path])
        return raw.getvalue()

    def config(self, diff_id):
        start = {"Env": [f"PATH={PATH}"]}
        if self.entrypoint:
            start["Entrypoint"] = self.entrypoint
        if self.command:
            start["Cmd"] = self.command
        return {
            "architecture": MACHINES[os.uname().machine],
            "os": "linux",
            "created": CREATED,
            "config": start,
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created": CREATED, "created_by": "sealift scripts/container-images.py"}],
        }


def add(tar, path, kind, value, content=None):
    header = tarfile.TarInfo(path)
    if kind == "link":
        header.type, header.linkname, header.mode = tarfile.SYMTYPE, value, 0o777
    elif kind == "directory":
        header.type, header.mode = tarfile.DIRTYPE, value
    else:
        header.mode, header.size = value, len(content)
    tar.addfile(header, io.BytesIO(content) if content is not None else None)


def gzip(raw, pool):
    """The bytes as one gzip stream of several members, compressed on all cores, the same on any number of them."""
    return b"".join(pool.map(gzip_member, (raw[at : at + MEMBER] for at in range(0, len(raw), MEMBER))))


def gzip_member(piece):
    # Level 4 takes half the time of 6, for a twentieth more bytes. wbits 31: a gzip header, without a time in it. zlib lets other
    # threads run meanwhile.
    squeezer = zlib.compressobj(4, zlib.DEFLATED, 31)
    return squeezer.compress(piece) + squeezer.flush()


class Layout:
    """An OCI image layout directory that is being written."""

    def __init__(self, root, pool):
        self.root, self.pool, self.manifests = pathlib.Path(root), pool, []
        (self.root / "blobs/sha256").mkdir(parents=True)

    def blob(self, media_type, data):
        digest = hashlib.sha256(data).hexdigest()
        (self.root / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def document(self, media_type, value):
        return self.blob(media_type, json.dumps(value, separators=(",", ":")).encode())

    def add(self, name, image):
        raw = image.tar()
        layer = self.blob("application/vnd.oci.image.layer.v1.tar+gzip", gzip(raw, self.pool))
        config = self.document("application/vnd.oci.image.config.v1+json", image.config(f"sha256:{hashlib.sha256(raw).hexdigest()}"))
        kind = "application/vnd.oci.image.manifest.v1+json"
        manifest = self.document(kind, {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]})
        self.manifests.append({**manifest, "annotations": {"org.opencontainers.image.ref.name": name}})
        print(f"{name:50} {len(raw) / 1e6:7.1f} MB, {layer['size'] / 1e6:6.1f} MB compressed", file=sys.stderr)

    def finish(self):
        kind = "application/vnd.oci.image.index.v1+json"
        index = {"schemaVersion": 2, "mediaType": kind, "manifests": self.manifests}
        (self.root / "index.json").write_text(json.dumps(index, indent=2) + "\n")
        (self.root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def images(kubernetes, parts):
    """Every image by its name."""
    version = (kubernetes / "version").read_text().strip()
    etcd = parts.versions["etcd-server"].split("+")[0].split("-")[0]
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        yield f"registry.k8s.io/{name}:{version}", Image(parts).put(f"usr/local/bin/{name}", kubernetes / name)
    yield f"registry.k8s.io/kube-proxy:{version}", kube_proxy(parts, kubernetes / "kube-proxy")
    yield f"registry.k8s.io/etcd:{etcd}-0", etcd_image(parts)
    yield "registry.k8s.io/pause:3.2", Image(parts, entrypoint=["/pause"]).put("pause", kubernetes / "pause")
    yield "registry.k8s.io/coredns:1.7.0", dns(parts)
    yield "docker.io/sealift/cni-routes:1.0", cni_routes(parts)
    yield "docker.io/sealift/demo:1.0", demo(parts)


def kube_proxy(parts, program):
    image = Image(parts).put("usr/local/bin/kube-proxy", program).iptables()
    image.debian("usr/sbin/conntrack", "usr/sbin/ipset", "bin/kmod").link("usr/sbin/modprobe", "../../bin/kmod")
    for name in ("protocols", "services"):
        image.put(f"etc/{name}", parts.find(f"etc/{name}"), 0o644)
    return image


def etcd_image(parts):
    image = Image(parts).put("etc/nsswitch.conf", b"hosts: files dns\n", 0o644)
    for file in parts.closure("usr/bin/etcd"):
        image.put("usr/local/bin/etcd" if file == "usr/bin/etcd" else file, parts.find(file))
    return image


def dns(parts):
    """No CoreDNS, which Debian has no package of, but a stand-in that kubeadm starts under its name."""
    image = Image(parts, entrypoint=["/dns.sh"]).debian("usr/sbin/dnsmasq", "usr/bin/curl", "usr/bin/jq")
    image.busybox("sh", "awk", "cat", "httpd", "mkdir", "mkfifo", "mv", "rm", "sleep", "sort")
    return image.put("dns.sh", KUBEFILES / "kubernetes/dns/dns.sh")


def cni_routes(parts):
    image = Image(parts, command=["/cni-routes.sh"]).debian("usr/bin/curl", "bin/ip").iptables()
    image.busybox("sh", "awk", "cat", "mkdir", "mv", "sleep", "sort")
    return image.put("cni-routes.sh", KUBEFILES / "kubernetes/cni-routes/cni-routes.sh")


def demo(parts):
    image = Image(parts, command=["/demo.sh"]).busybox("sh", "cat", "mkdir", "httpd")
    return image.put("demo.sh", KUBEFILES / "demo/demo.sh")


def cache_root():
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "sealift"


def fingerprint(kubernetes, parts):
    """Changes when an input does."""
    scripts = ["kubernetes/cni-routes/cni-routes.sh", "kubernetes/dns/dns.sh", "demo/demo.sh"]
    inputs = [pathlib.Path(__file__), *(KUBEFILES / script for script in scripts)]
    inputs += [parts.root / "parts/versions", *sorted(path for path in kubernetes.iterdir() if path.is_file())]
    total = hashlib.sha256(zlib.ZLIB_RUNTIME_VERSION.encode())
    for path in inputs:
        with path.open("rb") as file:
            total.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:12]


def make(made, kubernetes, parts):
    partial = made.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        layout = Layout(partial, pool)
        for name, image in images(kubernetes, parts):
            layout.add(name, image)
        layout.finish()
    partial.rename(made)


def main():
    if len(sys.argv) != 3 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    kubernetes, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    if not (kubernetes / "version").is_file():
        sys.exit(f"container-images.py: {kubernetes} was not filled by kubernetes-from-debian.sh (it has no file `version`)")
    found = subprocess.run([HERE / "debian-parts.sh"], stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode != 0:
        sys.exit(found.returncode)
    parts = Parts(found.stdout.strip())
    made = cache_root() / "container-images" / fingerprint(kubernetes, parts)
    made.parent.mkdir(parents=True, exist_ok=True)
    with open(made.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_dir():
            make(made, kubernetes, parts)
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(made, out, copy_function=link_or_copy)


def link_or_copy(source, target):
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


if __name__ == "__main__":
    main()
