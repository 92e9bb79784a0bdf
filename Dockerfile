# wxrelay in a container: a static binary, no shell. Targets: relay (default) and sim. Where the public registries and the
# module proxy cannot be reached, name others: --build-arg GOPROXY=... --build-arg GO_IMAGE=... --build-arg RUN_IMAGE=...
ARG GO_IMAGE=golang:1.26-bookworm
ARG RUN_IMAGE=gcr.io/distroless/static-debian12:nonroot

FROM ${GO_IMAGE} AS build
ARG GOPROXY=https://proxy.golang.org,direct
ARG GOSUMDB=sum.golang.org
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/ ./cmd/wxrelay ./cmd/wxsim

FROM ${RUN_IMAGE} AS sim
COPY --from=build /out/wxsim /wxsim
# gateway, operators (password: wxsim-operator), WeChat, its control, partner
EXPOSE 8080 8081 8082 8083 8084
ENTRYPOINT ["/wxsim", "-addr", "0.0.0.0:8080"]

FROM ${RUN_IMAGE} AS relay
COPY --from=build /out/wxrelay /wxrelay
EXPOSE 8080 8081
# Alive, not ready: a restart does not bring back a Redis that is away.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["/wxrelay", "health", "-c", "/etc/wxrelay/config.yml"]
ENTRYPOINT ["/wxrelay"]
CMD ["serve", "-c", "/etc/wxrelay/config.yml"]
