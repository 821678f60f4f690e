#!/bin/bash
# usage: kustomize-image-pattern.sh
#   The `name` of an entry under `images:` is a regular expression for `kubectl kustomize` 1.37.1 (kustomize 5.8.1).
#   Expected: the name of an image, as the manual has it. The dots of a host's name are dots.
#   Seen: `name: k8s.example.org/app` also changes the tag of k8s-example.org/app, another registry; `name: mirror/(app|db)` changes both.
#   It matters: a site's overlay moves images that it does not name, and the image that is wanted then is not among those that were packed.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
helm_and_kubectl 37 2.0.0
cd "$work"
mkdir overlay
# image NAME IMAGE: the image after `images: [{name: NAME, newTag: "2"}]`
image() {
  printf '{apiVersion: v1, kind: Pod, metadata: {name: pod}, spec: {containers: [{name: c, image: "%s"}]}}\n' "$2" > overlay/pod.yaml
  printf 'resources: [pod.yaml]\nimages: [{name: "%s", newTag: "2"}]\n' "$1" > overlay/kustomization.yaml
  "$work/v37/kubectl" kustomize overlay | sed -n 's/^ *- image: //p'
}
same "the image that is named" "$(image k8s.example.org/app k8s.example.org/app:1)" k8s.example.org/app:2
same "an image of another registry" "$(image k8s.example.org/app k8s-example.org/app:1)" k8s-example.org/app:2
saw "name: k8s.example.org/app makes k8s-example.org/app:1 k8s-example.org/app:2"
same "two in one" "$(image 'mirror/(app|db)' mirror/db:1)" mirror/db:2
saw "name: mirror/(app|db) makes mirror/db:1 mirror/db:2"
