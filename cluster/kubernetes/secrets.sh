#!/usr/bin/env bash
# Makes the namespace and its passwords, random ones; a password that exists is left alone. None is
# printed, or stands in a command line, or touches a disk here. Ray's token is KubeRay's to make.
set -euo pipefail

folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
namespace=sqtune

kubectl apply --filename "$folder/namespace.yaml"
for name in database-admin database-study database-tracking tracking tracking-session; do
  if kubectl --namespace "$namespace" get secret "$name" --output name > /dev/null 2>&1; then
    echo "secret/$name exists"
  else
    kubectl --namespace "$namespace" create secret generic "$name" \
      --from-file=password=<(openssl rand -hex 32 | tr -d '\n')
  fi
done
