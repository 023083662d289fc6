#!/bin/sh
# Lints the chart, renders it with every set of values, validates what comes out, and tries wrong
# values. VERSION and TOOLS (where helm and node_modules are) come from charts.mk. "charts.sh
# manifests" only writes the plain manifests anew.
set -eu
cd "$(dirname "$0")"
helm=$TOOLS/helm/helm
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export HOME="$out" # helm looks for plugins and repositories there

for values in values/*.yaml; do
    set=$(basename "$values" .yaml)
    {
        echo "# Rendered from docker/helm/convd with values/$set.yaml by \`make manifests\`."
        "$helm" template convd convd --namespace default -f "$values"
    } >"$out/$set.yaml"
    if [ "${1:-}" = manifests ]; then
        cp "$out/$set.yaml" ../kubernetes/
    else
        "$helm" lint --strict --quiet convd -f "$values"
        cmp "$out/$set.yaml" "../kubernetes/$set.yaml" || {
            echo "docker/kubernetes/$set.yaml is stale: make manifests" >&2
            exit 1
        }
    fi
done
[ "${1:-}" != manifests ] || exit 0

for key in version appVersion; do
    grep -qx "$key: $VERSION" convd/Chart.yaml || {
        echo "Chart.yaml: $key is not $VERSION, as in the Makefile" >&2
        exit 1
    }
done
"$helm" template other convd -f values/cpu.yaml --set autoscaling.by=none,service.type=NodePort \
    --set-json 'models={"from":"volume","volume":{"emptyDir":{}}}' >"$out/more.yaml"
node validate.mjs "$TOOLS/node_modules" "$out"/*.yaml

# A broken object is seen, by schemas of all three kinds.
for change in 's/containerPort: 8000/containerPort: many/' 's/minReplicaCount: 0/minReplicaCount: none/' \
    's/port: http$/port: 5/' 's/storageUri: .*/storageUri: 7/'; do
    for file in cpu keda queue kserve; do
        sed "$change" "$out/$file.yaml" >"$out/broken.yaml"
        cmp -s "$out/$file.yaml" "$out/broken.yaml" && continue
        if node validate.mjs "$TOOLS/node_modules" "$out/broken.yaml" >/dev/null 2>&1; then
            echo "not seen: $change in $file.yaml" >&2
            exit 1
        fi
        echo "seen: $change in $file.yaml"
        break
    done
done

# refused NAME SETTING...: the chart does not take it, and says which value is meant.
refused() {
    name=$1
    shift
    if "$helm" template convd convd "$@" >/dev/null 2>"$out/message"; then
        echo "taken: $*" >&2
        exit 1
    fi
    grep -q -- "$name" "$out/message" || {
        echo "$*: '$name' is not in the message:" >&2
        cat "$out/message" >&2
        exit 1
    }
    echo "refused: $*"
}
refused replicas --set replicas=many
refused replcias --set replcias=2
refused pullPolicy --set image.pullPolicy=Sometimes
refused max_queu --set settings.max_queu=1
refused drain_timeout --set settings.drain_timeout=1
refused claim --set models.from=claim
refused cpuPercent --set autoscaling.cpuPercent=0
refused wakeQuery --set autoscaling.by=keda,autoscaling.minReplicas=0
refused "autoscaling/by" --set autoscaling.by=cpu,autoscaling.minReplicas=0,autoscaling.keda.wakeQuery=x
refused "limits/cpu" --set resources.limits.cpu=two
refused storageUri --set kserve.inferenceService.enabled=true
refused mode --set kserve.inferenceService.minReplicas=0
