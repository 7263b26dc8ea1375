# Envoy with all that it reads: configuration, descriptors of the API, the OpenAPI document, the page for people.
#   docker build -f deploy/docker/envoy.Dockerfile -t movierec-envoy:dev .
# In production, ENVOY_IMAGE names an image of your own by its digest. It needs bash, sleep and cat.
ARG ENVOY_IMAGE=envoyproxy/envoy:v1.40-latest
FROM ${ENVOY_IMAGE}
COPY deploy/envoy/descriptor.binpb deploy/envoy/openapi.json deploy/envoy/unique_fields.lua \
  deploy/envoy/compose.yaml deploy/envoy/compose-sharded.yaml deploy/envoy/kubernetes.yaml deploy/envoy/entrypoint.sh /etc/movierec/
COPY deploy/envoy/sds /etc/movierec/sds
COPY console /etc/movierec/console
USER 10001:10001
EXPOSE 8080 50152 50153 50154
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
  CMD ["/etc/movierec/entrypoint.sh", "live"]
ENTRYPOINT ["/etc/movierec/entrypoint.sh", "run", "--disable-hot-restart", "--log-level", "warning"]
CMD ["--config-path", "/etc/movierec/compose.yaml", "--concurrency", "2"]
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="movierec-envoy" \
  org.opencontainers.image.description="movierec: edge and mesh" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}" \
  org.opencontainers.image.licenses="Apache-2.0"
