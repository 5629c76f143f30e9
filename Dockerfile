# A static binary on nothing: no shell, no package manager, an unprivileged user.
FROM rust:1.95-alpine AS build
RUN apk add --no-cache musl-dev gcc make cmake perl
WORKDIR /src
COPY . .
RUN cargo build --profile dist --locked && mkdir -p /empty/report && cp target/dist/brownout /brownout

FROM scratch
COPY --from=build /brownout /brownout
# /report is where results go; mount a folder there to keep them.
COPY --from=build --chown=65532:65532 /empty/report /report
USER 65532:65532
ENV BROWNOUT_CONFIG=/brownout.yaml BROWNOUT_OUT=/report BROWNOUT_ADMIN=0.0.0.0:8474
EXPOSE 4001 4002 4003 8474
HEALTHCHECK --interval=2s --timeout=2s --start-period=1s --retries=15 CMD ["/brownout", "healthcheck"]
ENTRYPOINT ["/brownout"]
CMD ["serve"]
