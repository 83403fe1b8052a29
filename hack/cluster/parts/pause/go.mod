module github.com/openservicemesh/osm-operator/hack/cluster/parts/pause

go 1.26.0
