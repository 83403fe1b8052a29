# The one image of this project: the static binary and nothing else. hack/images makes
# the same content without Docker. The sidecar is the stock Envoy image.
#
#   docker buildx build --platform linux/amd64,linux/arm64 -t openservicemesh/osm:dev .

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS
ARG TARGETARCH
WORKDIR /src

# The modules change less often than the code: they get a layer of their own.
COPY go.mod go.sum ./
RUN go mod download

COPY main.go ./
COPY api ./api
COPY config ./config
COPY controllers ./controllers
COPY internal ./internal
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags='-s -w' -o /osm .

FROM scratch
COPY --from=build /osm /osm
# Roots of public authorities, for certificate authorities outside of the cluster.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["/osm"]
