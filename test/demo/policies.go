package main

// thiefManifest lets the thief into the lobby, and no further: it reaches the store's
// sidecars, which refuse whatever else it asks for. Without it the thief would have
// no way to the store at all, and its own sidecar would refuse the connection.
const thiefManifest = `
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: bookstore-lobby, namespace: bookstore}
spec:
  matches:
    - {name: lobby, pathRegex: /lobby, methods: [GET]}
    - {name: books-bought, pathRegex: /books-bought, methods: [GET]}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: bookthief-lobby-v1, namespace: bookstore}
spec:
  destination: {kind: ServiceAccount, name: bookstore, namespace: bookstore}
  rules: [{kind: HTTPRouteGroup, name: bookstore-lobby, matches: [lobby]}]
  sources: [{kind: ServiceAccount, name: bookthief, namespace: bookthief}]
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: bookthief-lobby-v2, namespace: bookstore}
spec:
  destination: {kind: ServiceAccount, name: bookstore-v2, namespace: bookstore}
  rules: [{kind: HTTPRouteGroup, name: bookstore-lobby, matches: [lobby]}]
  sources: [{kind: ServiceAccount, name: bookthief, namespace: bookthief}]
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: bookbuyer-counts-v1, namespace: bookstore}
spec:
  destination: {kind: ServiceAccount, name: bookstore, namespace: bookstore}
  rules: [{kind: HTTPRouteGroup, name: bookstore-lobby, matches: [books-bought]}]
  sources: [{kind: ServiceAccount, name: bookbuyer, namespace: bookbuyer}]
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: bookbuyer-counts-v2, namespace: bookstore}
spec:
  destination: {kind: ServiceAccount, name: bookstore-v2, namespace: bookstore}
  rules: [{kind: HTTPRouteGroup, name: bookstore-lobby, matches: [books-bought]}]
  sources: [{kind: ServiceAccount, name: bookbuyer, namespace: bookbuyer}]
`
