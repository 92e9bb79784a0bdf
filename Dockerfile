# wxrelay in a container: a static binary, no shell, not root. Targets: relay (default) and sim.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/ ./cmd/wxrelay ./cmd/wxsim

FROM gcr.io/distroless/static-debian12:nonroot AS sim
COPY --from=build /out/wxsim /wxsim
# gateway, operators (password: wxsim-operator), WeChat, its control, partner
EXPOSE 8080 8081 8082 8083 8084
ENTRYPOINT ["/wxsim", "-addr", "0.0.0.0:8080"]

FROM gcr.io/distroless/static-debian12:nonroot AS relay
COPY --from=build /out/wxrelay /wxrelay
EXPOSE 8080 8081
ENTRYPOINT ["/wxrelay"]
CMD ["serve", "-c", "/etc/wxrelay/config.yml"]
