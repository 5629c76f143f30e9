# A static binary on nothing: no shell, no package manager, an unprivileged user.
#   docker build -t brownout .
FROM rust:1.95-alpine AS build
# The TLS library is C and assembler: a compiler and the kernel's headers, no cmake.
RUN apk add --no-cache gcc musl-dev linux-headers
WORKDIR /src
COPY . .
RUN cargo build --profile dist --locked && mkdir -p /empty/report && cp target/dist/brownout /brownout

FROM scratch
COPY --from=build /brownout /brownout
# /report, where results go, belongs to the user; a folder mounted there must be writable for it.
COPY --from=build --chown=65532:65532 /empty /
USER 65532:65532
ENV BROWNOUT_CONFIG=/brownout.yaml BROWNOUT_OUT=/report BROWNOUT_ADMIN=0.0.0.0:8474
EXPOSE 4001 4002 4003 8474
# Asks the admin API, which `serve` has, and `run` with --admin 0.0.0.0:8474.
HEALTHCHECK --interval=2s --timeout=2s --start-period=1s --retries=15 CMD ["/brownout", "healthcheck"]
ENTRYPOINT ["/brownout"]
# The admin API has no password. It listens on all interfaces of the container: publish its port to
# loopback alone, -p 127.0.0.1:8474:8474.
CMD ["serve", "--allow-remote-admin"]
