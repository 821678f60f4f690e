"""Writes OCI image layouts by hand, for the findings that show what programs do with one."""
import gzip
import hashlib
import io
import json
import os
import tarfile

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."


class Layout:
    """A layout in a folder; `done` writes its index.json."""

    def __init__(self, folder):
        self.folder = folder
        self.manifests = []
        os.makedirs(folder + "/blobs/sha256", exist_ok=True)
        with open(folder + "/oci-layout", "w") as file:
            file.write('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, content, kind, **more):
        """Stores bytes, or JSON, and returns their descriptor."""
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        digest = hashlib.sha256(content).hexdigest()
        with open(self.folder + "/blobs/sha256/" + digest, "wb") as file:
            file.write(content)
        return dict(mediaType=kind, digest="sha256:" + digest, size=len(content), **more)

    def layer(self, files, tar=None, docker=False, **more):
        """A gzipped layer of files, or of a whole tar, as its descriptor and its diff id."""
        if tar is None:
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as archive:
                for name, text in files.items():
                    entry = tarfile.TarInfo(name)
                    entry.size = len(text)
                    archive.addfile(entry, io.BytesIO(text.encode()))
            tar = buffer.getvalue()
        kind = DOCKER + "image.rootfs.diff.tar.gzip" if docker else OCI + "layer.v1.tar+gzip"
        return self.blob(gzip.compress(tar, mtime=0), kind, **more), "sha256:" + hashlib.sha256(tar).hexdigest()

    def image(self, layers, tag=None, docker=False, architecture="amd64", variant=None):
        """An image; with a tag it stands in index.json."""
        config = {"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff for _, diff in layers]}}
        config.update({"variant": variant} if variant else {})
        config = self.blob(config, DOCKER + "container.image.v1+json" if docker else OCI + "config.v1+json")
        kind = DOCKER + "distribution.manifest.v2+json" if docker else OCI + "manifest.v1+json"
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer for layer, _ in layers]}
        return self.tagged(self.blob(manifest, kind), tag)

    def index(self, images, tag=None):
        """An index of (platform, image); with a tag it stands in index.json."""
        kind = OCI + "index.v1+json"
        manifests = [dict(image, platform=platform) for platform, image in images]
        return self.tagged(self.blob({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}, kind), tag)

    def tagged(self, descriptor, tag):
        if tag:
            self.manifests.append(dict(descriptor, annotations={"org.opencontainers.image.ref.name": tag}))
        return descriptor

    def done(self):
        with open(self.folder + "/index.json", "w") as file:
            json.dump({"schemaVersion": 2, "manifests": self.manifests}, file)
