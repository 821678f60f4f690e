#!/bin/bash
# usage: release.sh [--key FILE [--public FILE] [--password-file FILE]] [--allow-dirty] [DIR]
#   Makes what is handed out of sealift, for this machine's architecture, in DIR (default target/release-files):
#     sealift-VERSION-linux-ARCH.tar.gz   the static binary, man pages, completions of shells, documents, licences
#     sealift_VERSION-1_ARCH.deb          the same as a Debian package
#     sealift-VERSION-linux-ARCH.cdx.json SBOM (CycloneDX 1.6) of the crates in the binary
#     SHA256SUMS                          of these
#     SHA256SUMS.oci.tar                  with --key: SHA256SUMS as an image that sealift has signed; loaded, verified and unpacked anew
#   The same commit gives the same files, byte by byte, with the same Rust and C library. Needs Rust, git, python3 and xz; the first time
#   cargo-deb is compiled.
#     --key FILE            sign with this key, of `sealift key generate`; its password comes from --password-file or $COSIGN_PASSWORD
#     --public FILE         its public half, to verify with (default: FILE with .pub in place of .key)
#     --allow-dirty         also of a tree with changes that are not committed
#   SEALIFT names a built sealift to pack instead of building one.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=common.sh
. "$here/common.sh"
start=$PWD
cd "$here/.."

out=target/release-files key='' public='' password=() dirty=no built=${SEALIFT:-}

# from_start PATH: a path that was given, as it is from here.
from_start() { case $1 in /*) echo "$1" ;; *) echo "$start/$1" ;; esac; }

positional=no
while [ $# -gt 0 ]; do
  case $1 in
    --key | --public | --password-file)
      [ -f "${2:-}" ] || die "$1 needs a file that is there, not \`${2:-}\`"
      case $1 in
        --key) key=$(from_start "$2") ;;
        --public) public=$(from_start "$2") ;;
        *) password=(--password-file "$(from_start "$2")") ;;
      esac
      shift 2 ;;
    --allow-dirty) dirty=yes; shift ;;
    -h | --help) usage "$0"; exit 0 ;;
    -*) usage "$0" >&2; exit 2 ;;
    *)
      [ $positional = no ] || { usage "$0" >&2; exit 2; }
      positional=yes out=$(from_start "$1")
      shift ;;
  esac
done
if [ -n "$key" ]; then
  public=${public:-${key%.key}.pub}
  [ -f "$public" ] || die "there is no $public to verify with: name the public half of the key with --public"
fi
if [ -n "$built" ]; then built=$(from_start "$built"); fi
case $(uname -m) in
  x86_64) arch=amd64 ;;
  aarch64) arch=arm64 ;;
  *) die "no name for the architecture $(uname -m)" ;;
esac
for tool in git python3 xz; do command -v $tool > /dev/null || die "there is no $tool"; done
target=$(rustc -vV 2> /dev/null | sed -n 's/^host: //p') || die "there is no Rust: see https://rustup.rs"
[ "$(git rev-parse --is-inside-work-tree 2> /dev/null)" = true ] || die "this is no git checkout: a release is of a commit"
changes=$(git status --porcelain)
[ -z "$changes" ] || [ $dirty = yes ] || die "the tree has changes that are not committed (--allow-dirty packs them too):"$'\n'"$changes"

version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
umask 022
stage=target/release-stage
name=sealift-$version-linux-$arch
deb=sealift_${version}-1_$arch.deb
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# build: the path of the binary. Paths of this machine stay out of it, and out of the messages of a panic.
build() {
  local remap
  remap="'--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo', '--remap-path-prefix=$PWD=/sealift'"
  cargo build --locked --profile dist --config "target.$target.rustflags = [$remap]" --target-dir target/release-build >&2
  echo "target/release-build/$target/dist/sealift"
}

# lay_out BINARY: puts into $stage what the Debian package (see Cargo.toml) and the archive are made of.
lay_out() {
  rm -rf "$stage"
  mkdir -p "$stage"/{man,completions}
  install -m 755 "$1" "$stage/sealift"
  "$stage/sealift" man "$stage/man"
  "$stage/sealift" completion bash > "$stage/completions/sealift.bash"
  "$stage/sealift" completion zsh > "$stage/completions/_sealift"
  "$stage/sealift" completion fish > "$stage/completions/sealift.fish"
  "$here/crates.py" licences "$target" > "$stage/THIRD-PARTY-LICENSES"
}

# archive: the tar, with one directory at its top.
archive() {
  local top=$work/$name
  mkdir "$top"
  cp -r "$stage/." "$top"
  cp LICENSE NOTICE README.md README.zh.md CHANGELOG.md SECURITY.md "$top"
  mkdir "$top/docs"
  cp docs/*.md "$top/docs"
  tar --create --directory "$work" --format=ustar --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
    --mtime="@$SOURCE_DATE_EPOCH" "$name" | gzip -9n > "$out/$name.tar.gz"
}

# checksums_image: SHA256SUMS in an image that carries its signature, and the proof that who gets it can verify it.
checksums_image() {
  local sealift=$stage/sealift image=sealift-release:${version//+/_} file=$out/SHA256SUMS.oci.tar
  mkdir "$work/context"
  cp "$out/SHA256SUMS" "$work/context"
  printf 'FROM scratch\nCOPY SHA256SUMS /\n' > "$work/context/Kubefile"
  maker() { SEALIFT_HOME=$work/home "$sealift" --quiet --store "$work/maker" "$@"; }
  taker() { SEALIFT_HOME=$work/home "$sealift" --quiet --store "$work/taker" "$@"; }
  maker build -t "$image" -f "$work/context/Kubefile" "$work/context" > /dev/null
  maker sign "$image" --key "$key" -a "version=$version" -a "commit=$(git rev-parse HEAD)" "${password[@]}" > /dev/null
  maker save -o "$file" "$image" > /dev/null
  taker load -i "$file" > /dev/null
  # by its name and version, since the key may have signed other images, and older releases
  taker verify "$image" --key "$public" --signed-as docker.io/library/sealift-release -a "version=$version" > /dev/null
  taker unpack "$image" "$work/unpacked" > /dev/null
  (cd "$out" && sha256sum --check --quiet --strict "$work/unpacked/SHA256SUMS")
}

mkdir -p "$out"
out=$(cd "$out" && pwd)
files=("$name.tar.gz" "$deb" "$name.cdx.json")
rm -f "${files[@]/#/$out/}" "$out"/SHA256SUMS{,.oci.tar}
packer=$("$here/cargo-deb.sh")
if [ -z "$built" ]; then
  say "==> compiling sealift $version"
  built=$(build)
fi
! LC_ALL=C ldd "$built" 2> /dev/null | grep -q '=>' || die "$built is not static"
say "==> man pages, completions, licences"
lay_out "$built"
say "==> $name.tar.gz"
archive
say "==> $deb"
"$packer" deb --quiet --no-build --no-strip --locked --target "$target" --output "$out/$deb" > /dev/null
say "==> $name.cdx.json"
"$here/crates.py" bom "$target" > "$out/$name.cdx.json"
(cd "$out" && sha256sum -- "${files[@]}" > SHA256SUMS)
if [ -n "$key" ]; then
  say "==> SHA256SUMS.oci.tar, signed and verified"
  checksums_image
else
  say "not signed: --key names the key to sign with"
fi
cat "$out/SHA256SUMS"
