# syntax=docker/dockerfile:1

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked && cp target/release/edgeway /edgeway

FROM debian:bookworm-slim
# ca-certificates: the roots that cloud brokers' certificates are checked against.
# dialout owns the serial ports of most systems; give the ports themselves with `--device`.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 1883 --user-group --groups dialout --home-dir /var/lib/edgeway --create-home edgeway \
    && install -d -o edgeway -g edgeway /etc/edgeway
COPY --from=build /edgeway /usr/local/bin/edgeway
COPY --from=build /build/config/edgeway.yaml /etc/edgeway/edgeway.yaml
USER edgeway
WORKDIR /var/lib/edgeway
VOLUME /var/lib/edgeway
# MQTT, MQTT over TLS, MQTT over WebSocket, the status page, webhooks
EXPOSE 1883 8883 9001 8080 8081
STOPSIGNAL SIGTERM
CMD ["edgeway", "run", "-c", "/etc/edgeway/edgeway.yaml"]
